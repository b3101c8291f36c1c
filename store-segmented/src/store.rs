//! The store and its streams: which files belong to a stream, and what a handle holds.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::{
    AppendError, Condition, Mended, OpenError, Options, Page, ReadError, Report, Stats, StreamVersion,
};
use run_agent_core::{Cursor, Draft, Durability, Entry, Message, MsgId, Store, Stream, StreamKey};
use run_agent_store_shared::lock::LockFile;

use crate::append::Writer;
use crate::block::Meta;
use crate::control::Control;
use crate::look::Reader;
use crate::segment::{self, Segment};
use crate::version;

/// Streams as folders of segments below one root.
#[derive(Debug)]
pub struct SegmentedStore {
    layout: Layout,
    options: Options,
}

impl SegmentedStore {
    #[must_use]
    pub fn new(layout: Layout, options: Options) -> Self {
        Self { layout, options }
    }
}

impl Store for SegmentedStore {
    fn open(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError> {
        let folder = self.layout.segments(key);
        if !folder.parent().is_some_and(std::path::Path::is_dir) {
            let what = if key.task.is_some() { "task" } else { "project" };
            return Err(OpenError::NotFound { what, key: key.clone() });
        }
        Ok(Arc::new(SegmentedStream {
            key: key.clone(),
            folder,
            options: self.options.clone(),
            incarnation: AtomicU64::new(0),
            meta: Mutex::default(),
            control: Mutex::default(),
            writer: Mutex::default(),
            active: Mutex::default(),
            leader: Mutex::default(),
            reader: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    fn version(&self, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
        version::of(&self.layout.segments(key), key)
    }

    fn place(&self, key: &StreamKey) -> PathBuf {
        self.layout.segments(key)
    }

    fn remove(&self, key: &StreamKey) -> io::Result<bool> {
        match std::fs::remove_dir_all(self.layout.segments(key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
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
pub(crate) struct SegmentedStream {
    pub(crate) key: StreamKey,
    pub(crate) folder: PathBuf,
    pub(crate) options: Options,
    /// The incarnation that this handle's cursors belong to; 0 until it has looked at a stream that has one. It never
    /// moves on from there.
    pub(crate) incarnation: AtomicU64,
    pub(crate) meta: Mutex<Option<Arc<Meta>>>,
    pub(crate) control: Mutex<Option<Arc<Control>>>,
    pub(crate) writer: Mutex<Writer>,
    /// The segment that this handle last wrote to. A leader syncs it while others write.
    pub(crate) active: Mutex<Option<Arc<Segment>>>,
    /// The lock of leaders; the mutex is for the threads of this process.
    pub(crate) leader: Mutex<Option<LockFile>>,
    pub(crate) reader: Mutex<Reader>,
    pub(crate) counters: Counters,
}

impl SegmentedStream {
    pub(crate) fn read_error(&self, what: &str, source: io::Error) -> ReadError {
        ReadError::Io { key: self.key.clone(), what: format!("{} {what}", self.folder.display()), source }
    }

    pub(crate) fn append_error(&self, what: &str, source: io::Error) -> AppendError {
        AppendError::Io { key: self.key.clone(), what: format!("{} {what}", self.folder.display()), source }
    }

    pub(crate) fn unreadable(&self, source: ReadError) -> AppendError {
        AppendError::Read { key: self.key.clone(), source }
    }
}

impl Stream for SegmentedStream {
    fn key(&self) -> &StreamKey {
        &self.key
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Relaxed)
    }

    fn append(&self, batch: Vec<Draft>, durability: Durability) -> Result<Vec<Entry>, AppendError> {
        self.append_gated(None, batch, durability).map(Option::unwrap_or_default)
    }

    fn restore(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        self.restore_all(batch)
    }

    fn append_if(
        &self,
        seen: Cursor,
        condition: &mut dyn Condition,
        batch: Vec<Draft>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        self.append_gated(Some((seen, condition)), batch, durability)
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
        Ok(Cursor::new(self.view()?.map_or(0, |view| view.tail.lsn)))
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

    /// The next append mends all that can be mended; here it need not be waited for.
    fn repair(&self) -> Result<Vec<Mended>, AppendError> {
        if segment::list(&self.folder).is_ok_and(|bases| bases.is_empty()) {
            return Ok(Vec::new());
        }
        self.with_lock(|_, _| Ok(Vec::new()))
    }

    fn stats(&self) -> Result<Stats, ReadError> {
        let cannot = |error| self.read_error("cannot be looked at", error);
        let bases = segment::list(&self.folder).map_err(cannot)?;
        let active = self.view()?.map_or(0, |view| view.tail.offset);
        let mut bytes = 0;
        for base in &bases {
            // One that was removed a moment ago takes nothing.
            bytes += std::fs::metadata(segment::log_path(&self.folder, *base)).map_or(0, |meta| meta.len());
        }
        Ok(Stats {
            appended_messages: self.counters.messages.load(Relaxed),
            appended_bytes: self.counters.bytes.load(Relaxed),
            syncs: self.counters.syncs.load(Relaxed),
            lock_waits: self.counters.lock_waits.load(Relaxed),
            lock_timeouts: self.counters.lock_timeouts.load(Relaxed),
            active_bytes: active,
            bytes,
            files: bases.len() as u64,
        })
    }
}
