//! A store whose appends ring the root's doorbell (`docs/formats/doorbell.md`), whichever store it is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::{
    AppendError, Condition, Mended, OpenError, Page, ReadError, Report, Stats, StreamVersion,
};
use run_agent_core::{
    Cursor, Draft, Durability, Entry, Message, MsgId, ProjectId, Store, Stream, StreamKey, TaskId,
};
use run_agent_store_shared::doorbell::{Ringer, counter_of};

#[derive(Debug)]
pub(crate) struct Ringing {
    store: Arc<dyn Store>,
    ringer: Arc<Ringer>,
}

#[derive(Debug)]
struct RingingStream {
    stream: Arc<dyn Stream>,
    ringer: Arc<Ringer>,
    counter: usize,
}

impl Ringing {
    pub(crate) fn new(store: Arc<dyn Store>, layout: &Layout) -> Self {
        Self { store, ringer: Arc::new(Ringer::new(layout.doorbell())) }
    }
}

/// The counter that stands for a stream.
pub(crate) fn counter(key: &StreamKey) -> usize {
    counter_of(key.project.as_str(), key.task.as_ref().map_or("", TaskId::as_str))
}

impl Store for Ringing {
    fn open(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError> {
        let (stream, ringer) = (self.store.open(key)?, self.ringer.clone());
        Ok(Arc::new(RingingStream { stream, ringer, counter: counter(key) }))
    }
    fn version(&self, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
        self.store.version(key)
    }
    fn place(&self, key: &StreamKey) -> PathBuf {
        self.store.place(key)
    }
    fn remove(&self, key: &StreamKey) -> io::Result<bool> {
        let removed = self.store.remove(key);
        self.ringer.ring(counter(key));
        removed
    }
    fn watched_file(&self, key: &StreamKey) -> Option<PathBuf> {
        self.store.watched_file(key)
    }
    fn versions(&self, project: &ProjectId, tasks: &[&TaskId]) -> Vec<Option<StreamVersion>> {
        self.store.versions(project, tasks)
    }
}

impl RingingStream {
    fn rings<T>(&self, appended: Result<T, AppendError>) -> Result<T, AppendError> {
        if appended.is_ok() {
            self.ringer.ring(self.counter);
        }
        appended
    }
}

impl Stream for RingingStream {
    fn key(&self) -> &StreamKey {
        self.stream.key()
    }
    fn incarnation(&self) -> u64 {
        self.stream.incarnation()
    }
    fn append(&self, batch: Vec<Draft>, durability: Durability) -> Result<Vec<Entry>, AppendError> {
        self.rings(self.stream.append(batch, durability))
    }
    fn append_if(
        &self,
        seen: Cursor,
        condition: &mut dyn Condition,
        batch: Vec<Draft>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        self.rings(self.stream.append_if(seen, condition, batch, durability))
    }
    fn restore(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        self.rings(self.stream.restore(batch))
    }
    fn read(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        self.stream.read(from, limit)
    }
    fn last(&self, count: usize) -> Result<Page, ReadError> {
        self.stream.last(count)
    }
    fn find(&self, id: &MsgId) -> Result<Cursor, ReadError> {
        self.stream.find(id)
    }
    fn end(&self) -> Result<Cursor, ReadError> {
        self.stream.end()
    }
    fn flush(&self) -> Result<Cursor, AppendError> {
        self.stream.flush()
    }
    fn wait(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError> {
        self.stream.wait(cursor, timeout)
    }
    fn rotate(&self) -> Result<(), AppendError> {
        self.stream.rotate()
    }
    fn verify(&self) -> Result<Report, ReadError> {
        self.stream.verify()
    }
    fn repair(&self) -> Result<Vec<Mended>, AppendError> {
        self.rings(self.stream.repair())
    }
    fn stats(&self) -> Result<Stats, ReadError> {
        self.stream.stats()
    }
}
