//! The store trait: what everything above relies on, and all that it may rely on.
//!
//! A **store** holds **streams**, one for each project and one for each task. A stream is an append-only sequence of
//! messages with a definite order that every reader sees alike, in every process.
//!
//! ```text
//!   cursor      0        c1        c2        c3 = end
//!               |  m1    |   m2    |   m3    |
//! ```
//!
//! **Cursors.** A [`Cursor`] names a gap: the place before an entry, or the end. It is opaque (a byte offset here, a
//! sequence number there) and ordered like the entries; `Cursor::START` is before the first entry. Cursors stay valid
//! across rotation. They belong to one *incarnation* of a stream: when a stream was migrated, repaired or replaced
//! from outside, its incarnation changes and a handle of the old one answers [`ReadError::Incarnation`]: resume by
//! message id. A conditional append through such a handle fails in the same way, since its caller's knowledge is of
//! another stream. Outside the process a cursor is written `<incarnation>.<n>`.
//!
//! **Order and visibility.** `append` gives ids and times under the stream's append lock: ids increase strictly
//! within a stream, also when the clock steps back. A batch is contiguous. Once `append` returned, every later `read` of
//! any process sees all of it, and it is never changed or reordered. A reader may see a first part of a batch a moment
//! before the rest, and a crash may leave a first part alone: nothing may depend on a later entry of a batch to
//! understand an earlier one.
//!
//! **Readers never take the writers' lock to make progress**, and a reader that dies or stops holds nobody up.
//!
//! **Durability.** What an append acknowledges is visible at once and survives the death of any process.
//! [`Durability`] says what it survives beyond that. `flush` makes everything up to a cursor as safe as `always`.
//!
//! **Conditional append** is how "exactly once, however many look" is done: the caller names the cursor up to which
//! it has read and a [`Condition`]. The store feeds the entries since then to the condition *while it holds the
//! append lock*, and appends only if it then agrees. Nothing can come between the last entry that the condition saw
//! and the batch. A busy stream cannot starve the caller, since there is no retry.
//!
//! **Versions.** [`Store::version`] tells from outside, without opening a stream or reading an entry, whether anything
//! changed since an earlier look: whoever takes a version, then reads, and later gets an equal version, would read the
//! same again. The other way round nothing is promised: a version may differ although no entry does. Where a store
//! cannot tell, as a moment after a change that a clock's tick may hide, there is no version.
//!
//! **Damage is a value.** A reader reports what it cannot read with its place, and goes on behind it.
//!
//! **Edge values.** An empty batch appends nothing and acknowledges nothing. `read` with limit 0 returns no entry and
//! `next == from`. A cursor beyond the end reads nothing. `last(0)` is empty with `next` at the end. `wait` may
//! return early or late: a wake-up is a hint, and whoever wakes reads again from its cursor.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{MsgId, ProjectId, TaskId};
use crate::message::{Draft, Message};

/// The gap before an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Cursor(u64);

impl Cursor {
    /// Before the first entry of every stream.
    pub const START: Self = Self(0);

    /// For stores alone: what the number means is theirs.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Which stream: a task's, or its project's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    pub project: ProjectId,
    pub task: Option<TaskId>,
}

impl StreamKey {
    #[must_use]
    pub fn project(project: ProjectId) -> Self {
        Self { project, task: None }
    }

    #[must_use]
    pub fn task(project: ProjectId, task: TaskId) -> Self {
        Self { project, task: Some(task) }
    }
}

impl std::fmt::Display for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.task {
            Some(task) => write!(f, "{}/{task}", self.project),
            None => write!(f, "{}", self.project),
        }
    }
}

/// What an acknowledged append survives, beyond the death of any process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The page cache: nothing beyond.
    #[default]
    None,
    /// A power cut, but for the last moments: synced when the last sync is older than the store's interval.
    Interval,
    /// A power cut.
    Always,
}

/// What a stream looks like from outside. Opaque: it is compared with another one of the same stream, and kept as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamVersion(Box<str>);

impl StreamVersion {
    /// For stores alone: what the text means is theirs. It has no blanks and no control characters.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A message with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The gap before it.
    pub at: Cursor,
    /// The gap after it: where to go on.
    pub next: Cursor,
    pub message: Message,
}

/// A stretch of a stream that cannot be read. What stands before and after it can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub at: Cursor,
    pub next: Cursor,
    /// For people: the file and offset, or whatever names the place in this store.
    pub place: String,
    pub what: String,
    /// What can still be made of it, for people alone: nobody acts on it.
    pub shown: Option<Box<Message>>,
}

/// What a read found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub damage: Vec<Damage>,
    /// Where to go on.
    pub next: Cursor,
}

impl Page {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.damage.is_empty()
    }
}

/// Decides about a conditional append, under the append lock. It must be quick and must not touch the stream.
pub trait Condition {
    /// An entry that the caller had not read yet, in order, each once.
    fn see(&mut self, entry: &Entry);
    /// After the last of them: append, or not?
    fn agrees(&mut self) -> bool;
}

/// What a stream can tell about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Of this handle, as far as the counters go: a process knows what it did itself.
    pub appended_messages: u64,
    pub appended_bytes: u64,
    pub syncs: u64,
    pub lock_waits: u64,
    pub lock_timeouts: u64,
    /// What is written to now, and would be rotated.
    pub active_bytes: u64,
    /// What the stream takes on disk, and in how many files.
    pub bytes: u64,
    pub files: u64,
}

/// What a check of a whole stream found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub damage: Vec<Damage>,
}

/// A damage that was mended, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// For people, as [`Damage::place`].
    pub place: String,
    pub what: String,
}

/// What the operator may set (`storage` in the configuration), for every store that keeps files of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long an append waits for the lock.
    pub lock_timeout: Duration,
    /// A file or segment of this size is rotated by the next append.
    pub rotate_bytes: u64,
    /// `interval`: whoever appends and finds the last sync older than this syncs …
    pub sync_every: Duration,
    /// … or with so many messages behind.
    pub sync_messages: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(10),
            rotate_bytes: 64 * 1024 * 1024,
            sync_every: Duration::from_millis(200),
            sync_messages: 256,
        }
    }
}

/// A place where streams live.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Opens a stream. Its folder must exist; the stream itself is made by the first append.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] when the project or task is not there.
    fn open(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError>;

    /// What the stream looks like now, at the cost of a look at its outside. Equal to an earlier one only if nothing
    /// was appended, changed or replaced since that one was taken. `None`: this cannot be told now.
    ///
    /// # Errors
    /// [`ReadError::Gone`] when the project or task is not there; otherwise when the system fails.
    fn version(&self, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError>;

    /// What names the stream to people and agents: `JRUN_MESSAGE_BUS`, prompts, messages. Nothing is read through it.
    fn place(&self, key: &StreamKey) -> PathBuf;

    /// Removes all that this store has of the stream, of which no handle is used any more. `false`: it had nothing. What
    /// else lies in the project's or task's folder stays.
    ///
    /// # Errors
    /// When something cannot be removed; what was not yet stays.
    fn remove(&self, key: &StreamKey) -> io::Result<bool>;

    /// The file that every append to the stream changes, where there is one: whoever sleeps on many things can watch it
    /// with the others. `None`: only [`Stream::wait`] tells of appends.
    fn watched_file(&self, _key: &StreamKey) -> Option<PathBuf> {
        None
    }

    /// [`Store::version`] of many tasks of one project, for whoever looks at all of them; `None` also where one cannot
    /// be looked at.
    fn versions(&self, project: &ProjectId, tasks: &[&TaskId]) -> Vec<Option<StreamVersion>> {
        let version = |task: &&TaskId| {
            let key = StreamKey::task(project.clone(), (*task).clone());
            self.version(&key).ok().flatten()
        };
        tasks.iter().map(version).collect()
    }
}

/// One incarnation of one stream. All methods may be called from several threads at once.
pub trait Stream: Send + Sync + std::fmt::Debug {
    fn key(&self) -> &StreamKey;

    /// Which incarnation this handle's cursors belong to; 0 for one that has not looked at its stream yet.
    fn incarnation(&self) -> u64;

    /// Appends a batch and returns it with ids, times and places.
    ///
    /// # Errors
    /// When it fails nothing was acknowledged, and a reader may see none of it or (after a failed sync only) all.
    fn append(&self, batch: Vec<Draft>, durability: Durability) -> Result<Vec<Entry>, AppendError>;

    /// Appends a batch if `condition` agrees after it has seen every entry from `seen` on. `None`: it did not agree.
    ///
    /// # Errors
    /// As [`Stream::append`]; besides, when the entries since `seen` cannot be read.
    fn append_if(
        &self,
        seen: Cursor,
        condition: &mut dyn Condition,
        batch: Vec<Draft>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError>;

    /// Appends messages that another store gave their ids and times, as they are, for a migration alone: it keeps their
    /// order, gives none twice, and is the only writer. Ids that are given later come behind the newest of this tool's
    /// form, as ever.
    ///
    /// # Errors
    /// As [`Stream::append`], with the durability `none`.
    fn restore(&self, batch: Vec<Message>) -> Result<(), AppendError>;

    /// Reads forward from a cursor, at most `limit` entries. An empty page whose `next` is `from` is the end, and one of
    /// fewer entries than `limit` reached what was the end when it was read.
    ///
    /// # Errors
    /// When the stream is of another incarnation, or the system fails. Damage is not an error.
    fn read(&self, from: Cursor, limit: usize) -> Result<Page, ReadError>;

    /// The last `count` entries, in order, without reading the whole stream.
    ///
    /// # Errors
    /// As [`Stream::read`].
    fn last(&self, count: usize) -> Result<Page, ReadError>;

    /// The gap *after* the entry with this id: where whoever has seen it goes on.
    ///
    /// # Errors
    /// [`ReadError::UnknownId`] when no entry has this id.
    fn find(&self, id: &MsgId) -> Result<Cursor, ReadError>;

    /// The gap after the last whole entry.
    ///
    /// # Errors
    /// As [`Stream::read`].
    fn end(&self) -> Result<Cursor, ReadError>;

    /// Makes what stands before the returned cursor survive a power cut.
    ///
    /// # Errors
    /// When the system cannot sync.
    fn flush(&self) -> Result<Cursor, AppendError>;

    /// Sleeps until something may stand behind `cursor`, or the time is up. Event-driven; a hint.
    ///
    /// # Errors
    /// As [`Stream::read`].
    fn wait(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError>;

    /// Starts a new file, segment or whatever this store rotates, whatever its size.
    ///
    /// # Errors
    /// [`AppendError::Unsupported`] from a store that does not rotate.
    fn rotate(&self) -> Result<(), AppendError>;

    /// Reads and checks everything.
    ///
    /// # Errors
    /// As [`Stream::read`].
    fn verify(&self) -> Result<Report, ReadError>;

    /// Mends what [`Stream::verify`] finds, as far as that loses nothing: every entry that could be read before is read
    /// afterwards, and bytes that are taken away are kept beside. On a stream without damage nothing changes. The stream
    /// may be of another incarnation afterwards. A store whose next append mends all that can be mended has nothing to
    /// do here.
    ///
    /// # Errors
    /// As [`Stream::append`].
    fn repair(&self) -> Result<Vec<Mended>, AppendError> {
        Ok(Vec::new())
    }

    /// # Errors
    /// As [`Stream::read`].
    fn stats(&self) -> Result<Stats, ReadError>;
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("no such {what}: {key}")]
    NotFound { what: &'static str, key: StreamKey },
    #[error("cannot open stream {key}: {what}")]
    Io { key: StreamKey, what: String, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error(
        "the body has {bytes} bytes and a message takes at most {max}; post the payload as an attachment"
    )]
    TooLarge { bytes: usize, max: usize },
    #[error(
        "the fields of the message (meta, parents, links) have {bytes} bytes and may have {max}; put the payload into the body"
    )]
    FieldsTooLarge { bytes: usize, max: usize },
    #[error(
        "waited {waited:?} for the append lock of {key}, which is held by {holder}; try again, or see what it does"
    )]
    LockTimeout { key: StreamKey, waited: Duration, holder: String },
    #[error("cannot append to {key}: {what}")]
    Io { key: StreamKey, what: String, source: io::Error },
    #[error("cannot append to {key}: {what}")]
    Unsupported { key: StreamKey, what: &'static str },
    #[error("cannot read {key} before appending to it")]
    Read {
        key: StreamKey,
        #[source]
        source: ReadError,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(
        "stream {key} was replaced since its cursor was taken (incarnation {had}, now {now}); resume by message id"
    )]
    Incarnation { key: StreamKey, had: u64, now: u64 },
    #[error("the stream of {key} is gone: {place} was deleted")]
    Gone { key: StreamKey, place: String },
    #[error("no message {id} in {key}")]
    UnknownId { key: StreamKey, id: MsgId },
    #[error("cannot read {key}: {what}")]
    Io { key: StreamKey, what: String, source: io::Error },
}
