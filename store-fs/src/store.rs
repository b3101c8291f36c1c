//! The store and its streams: which files belong to a stream, and what a handle holds.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::{
    AppendError, Condition, Mended, OpenError, Options, Page, ReadError, Report, Stats, StreamVersion,
};
use run_agent_core::{
    Cursor, Draft, Durability, Entry, Message, MsgId, ProjectId, Store, Stream, StreamKey, TaskId,
};

use crate::append::Writer;
use crate::files::{self, Archive};
use crate::os;
use crate::page::Control;
use crate::version;
use crate::wake::Wake;

/// Streams as markdown files below one root.
#[derive(Debug)]
pub struct FsStore {
    layout: Layout,
    options: Options,
}

impl FsStore {
    #[must_use]
    pub fn new(layout: Layout, options: Options) -> Self {
        Self { layout, options }
    }
}

impl Store for FsStore {
    fn open(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError> {
        let (folder, stem) = self.layout.stream(key);
        if !folder.is_dir() {
            let what = if key.task.is_some() { "task" } else { "project" };
            return Err(OpenError::NotFound { what, key: key.clone() });
        }
        let lock = folder.join(format!("{stem}.lock"));
        Ok(Arc::new(FsStream {
            layout: self.layout.clone(),
            key: key.clone(),
            bus: self.layout.bus_file(key),
            page: self.layout.sync_page(key),
            lock,
            folder,
            options: self.options.clone(),
            incarnation: AtomicU64::new(0),
            writer: Mutex::default(),
            control: Mutex::default(),
            leader: Mutex::default(),
            archives: Mutex::default(),
            legacy: Mutex::default(),
            confirmed: Mutex::default(),
            wake: Mutex::default(),
            fruitless: AtomicU64::new(0),
            counters: Counters::default(),
        }))
    }

    fn version(&self, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
        version::of(&self.layout, key)
    }

    fn versions(&self, project: &ProjectId, tasks: &[&TaskId]) -> Vec<Option<StreamVersion>> {
        version::of_many(&self.layout, project, tasks)
    }

    fn place(&self, key: &StreamKey) -> PathBuf {
        self.layout.bus_file(key)
    }

    fn remove(&self, key: &StreamKey) -> io::Result<bool> {
        // Disposable: what comes in its place later is of another incarnation.
        let _ = std::fs::remove_file(self.layout.sync_page(key));
        files::remove_all(&self.layout.bus_file(key))
    }

    fn watched_file(&self, key: &StreamKey) -> Option<PathBuf> {
        Some(self.layout.bus_file(key))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) lock_waits: AtomicU64,
    pub(crate) lock_timeouts: AtomicU64,
}

/// One stream's files, and what this handle keeps open.
#[derive(Debug)]
pub(crate) struct FsStream {
    pub(crate) layout: Layout,
    pub(crate) key: StreamKey,
    pub(crate) folder: PathBuf,
    pub(crate) bus: PathBuf,
    pub(crate) lock: PathBuf,
    /// Where the page of the syncs is.
    pub(crate) page: PathBuf,
    pub(crate) options: Options,
    /// The incarnation that this handle's cursors belong to; 0 until it has looked at a stream that has one. It never
    /// moves on from there.
    pub(crate) incarnation: AtomicU64,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) control: Mutex<Option<Arc<Control>>>,
    /// The lock of leaders is the page's; the mutex is for the threads of this process.
    pub(crate) leader: Mutex<()>,
    /// The archives as they were last seen.
    pub(crate) archives: Mutex<Option<Arc<[Archive]>>>,
    /// Where lines of the oldest form were read up to, and the number of the line there.
    pub(crate) legacy: Mutex<Option<(u64, u64)>>,
    /// Damage that was looked at while nobody wrote.
    pub(crate) confirmed: Mutex<BTreeSet<(Cursor, Cursor)>>,
    pub(crate) wake: Mutex<Option<Wake>>,
    /// The file's length when a waiter last found nothing whole behind its cursor.
    pub(crate) fruitless: AtomicU64,
    pub(crate) counters: Counters,
}

impl FsStream {
    pub(crate) fn read_error(&self, what: &str, source: io::Error) -> ReadError {
        ReadError::Io { key: self.key.clone(), what: format!("{} {what}", self.bus.display()), source }
    }

    pub(crate) fn append_error(&self, what: &str, source: io::Error) -> AppendError {
        AppendError::Io { key: self.key.clone(), what: format!("{} {what}", self.bus.display()), source }
    }
}

impl Stream for FsStream {
    fn key(&self) -> &StreamKey {
        &self.key
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Relaxed)
    }

    fn append(&self, batch: Vec<Draft>, durability: Durability) -> Result<Vec<Entry>, AppendError> {
        self.append_locked(None, batch, durability).map(Option::unwrap_or_default)
    }

    fn restore(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        self.restore_locked(batch)
    }

    fn append_if(
        &self,
        seen: Cursor,
        condition: &mut dyn Condition,
        batch: Vec<Draft>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        self.append_locked(Some((seen, condition)), batch, durability)
    }

    fn read(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        self.read_from(from, limit)
    }

    fn last(&self, count: usize) -> Result<Page, ReadError> {
        self.read_last(count)
    }

    fn find(&self, id: &MsgId) -> Result<Cursor, ReadError> {
        self.find_id(id)
    }

    fn end(&self) -> Result<Cursor, ReadError> {
        self.find_end()
    }

    fn flush(&self) -> Result<Cursor, AppendError> {
        self.sync_all()
    }

    fn wait(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError> {
        self.wait_for_growth(cursor, timeout)
    }

    fn rotate(&self) -> Result<(), AppendError> {
        self.rotate_now()
    }

    fn verify(&self) -> Result<Report, ReadError> {
        self.check()
    }

    fn repair(&self) -> Result<Vec<Mended>, AppendError> {
        self.mend()
    }

    fn stats(&self) -> Result<Stats, ReadError> {
        let archives = self.look_for_archives()?;
        let active = match os::look(&self.bus) {
            Ok(seen) => Some(seen.len),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.read_error("cannot be looked at", error)),
        };
        Ok(Stats {
            appended_messages: self.counters.messages.load(Relaxed),
            appended_bytes: self.counters.bytes.load(Relaxed),
            syncs: self.counters.syncs.load(Relaxed),
            lock_waits: self.counters.lock_waits.load(Relaxed),
            lock_timeouts: self.counters.lock_timeouts.load(Relaxed),
            active_bytes: active.unwrap_or(0),
            bytes: archives.iter().map(|archive| archive.len).sum::<u64>() + active.unwrap_or(0),
            files: archives.len() as u64 + u64::from(active.is_some()),
        })
    }
}
