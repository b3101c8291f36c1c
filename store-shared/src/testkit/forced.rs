//! A store in which every append has the same durability, whatever its caller asks for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use run_agent_core::store::{
    AppendError, Condition, Mended, OpenError, Page, ReadError, Report, Stats, StreamVersion,
};
use run_agent_core::{Cursor, Draft, Durability, Entry, Message, MsgId, Store, Stream, StreamKey};

#[derive(Debug)]
pub struct Forced {
    pub store: Arc<dyn Store>,
    pub durability: Durability,
}

#[derive(Debug)]
struct ForcedStream {
    stream: Arc<dyn Stream>,
    durability: Durability,
}

impl Store for Forced {
    fn open(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError> {
        Ok(Arc::new(ForcedStream { stream: self.store.open(key)?, durability: self.durability }))
    }
    fn version(&self, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
        self.store.version(key)
    }
    fn remove(&self, key: &StreamKey) -> std::io::Result<bool> {
        self.store.remove(key)
    }
    fn place(&self, key: &StreamKey) -> PathBuf {
        self.store.place(key)
    }
}

impl Stream for ForcedStream {
    fn key(&self) -> &StreamKey {
        self.stream.key()
    }
    fn incarnation(&self) -> u64 {
        self.stream.incarnation()
    }
    fn append(&self, batch: Vec<Draft>, _: Durability) -> Result<Vec<Entry>, AppendError> {
        self.stream.append(batch, self.durability)
    }
    fn restore(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        self.stream.restore(batch)
    }
    fn append_if(
        &self,
        seen: Cursor,
        condition: &mut dyn Condition,
        batch: Vec<Draft>,
        _: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        self.stream.append_if(seen, condition, batch, self.durability)
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
        self.stream.repair()
    }
    fn stats(&self) -> Result<Stats, ReadError> {
        self.stream.stats()
    }
}
