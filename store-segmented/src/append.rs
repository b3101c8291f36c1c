//! Appending under the lock, step by step as `docs/formats/segment.md` numbers them.

use std::cell::Cell;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use run_agent_core::message::BODY_MAX;
use run_agent_core::store::{AppendError, Condition};
use run_agent_core::{Cursor, Draft, Durability, Entry, Message};
use run_agent_store_shared::lock::{LockError, LockFile};
use run_agent_store_shared::os::wake_all;
use run_agent_store_shared::wait::ensure_synced;

use crate::control::Control;
use crate::index::{self, Indexed, STRIDE};
use crate::os;
use crate::page::{Ends, Page, Tail};
use crate::ready::{Nonces, Ready};
use crate::segment::{FIRST, Segment};
use crate::store::SegmentedStream;

/// What a handle keeps between appends.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    lock: Option<LockFile>,
    nonces: Nonces,
    /// How far the index of the active segment was seen to be complete.
    indexed: Option<Indexed>,
}

/// What a condition is fed at once.
const FEED_ENTRIES: usize = 1024;
/// How much is reserved at once, at the least and at the most.
const RESERVE_MIN: u64 = 16 * 1024;
const RESERVE_MAX: u64 = 4 * 1024 * 1024;

type Gate<'a> = (Cursor, &'a mut dyn Condition);

/// What an append came to, before it is synced.
struct Appended {
    entries: Vec<Entry>,
    /// Up to where everything is to be synced before anything is acknowledged.
    due: Option<u64>,
    /// Somebody sleeps until the stream grows.
    ring: bool,
}

impl SegmentedStream {
    pub(crate) fn append_gated(
        &self,
        gate: Option<Gate<'_>>,
        batch: Vec<Draft>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        if let Some(large) = batch.iter().find(|draft| draft.body.len() > BODY_MAX) {
            return Err(AppendError::TooLarge { bytes: large.body.len(), max: BODY_MAX });
        }
        if batch.is_empty() && gate.is_none() {
            return Ok(Some(Vec::new()));
        }
        // Whatever can be done before the lock is taken is: others wait for it.
        self.append_ready(gate, Ready::new(&self.key, batch)?, durability)
    }

    /// Messages with the ids and times that another store gave them.
    pub(crate) fn restore_all(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        if let Some(large) = batch.iter().find(|message| message.content.body.len() > BODY_MAX) {
            return Err(AppendError::TooLarge { bytes: large.content.body.len(), max: BODY_MAX });
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.append_ready(None, Ready::given(&self.key, batch)?, Durability::None).map(drop)
    }

    fn append_ready(
        &self,
        gate: Option<Gate<'_>>,
        ready: Ready,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        let mut rung = None;
        let appended = self.with_lock(|writer, control| {
            let appended = self.append_held(writer, control, gate, ready, durability)?;
            if appended.as_ref().is_some_and(|appended| appended.ring) {
                rung = Some(control.clone());
            }
            Ok(appended)
        })?;
        if let Some(control) = rung {
            wake_all(&control.page().tail_bell.epoch);
        }
        let Some(Appended { entries, due, .. }) = appended else { return Ok(None) };
        if let Some(end) = due {
            ensure_synced(self, end)?;
        }
        Ok(Some(entries))
    }

    /// Runs `act` with the lock held and the page whole.
    pub(crate) fn with_lock<T>(
        &self,
        act: impl FnOnce(&mut Writer, &Arc<Control>) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        self.with_bare_lock(|writer| {
            let control = self.control_held()?;
            act(writer, &control)
        })
    }

    /// Runs `act` with the lock held, whatever there is.
    pub(crate) fn with_bare_lock<T>(
        &self,
        act: impl FnOnce(&mut Writer) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        block_size_signal();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let lock = match writer.lock.take() {
                Some(lock) => lock,
                None => self.open_lock().map_err(|e| self.append_error("cannot be locked", e))?,
            };
            let held = match lock.lock(self.options.lock_timeout) {
                Ok(waited) => {
                    self.counters.lock_waits.fetch_add(u64::from(waited), Relaxed);
                    lock.held()
                }
                Err(LockError::TimedOut(holder)) => {
                    self.counters.lock_timeouts.fetch_add(1, Relaxed);
                    let (key, waited) = (self.key.clone(), self.options.lock_timeout);
                    return Err(AppendError::LockTimeout { key, waited, holder });
                }
                Err(LockError::Io(error)) => return Err(self.append_error("cannot be locked", error)),
            };
            if lock.is_in_place().map_err(|e| self.append_error("has a lock that cannot be looked at", e))? {
                let result = act(&mut writer);
                drop(held);
                writer.lock = Some(lock);
                return result;
            }
        }
    }

    fn open_lock(&self) -> io::Result<LockFile> {
        let open = || {
            os::no_link(&self.folder)?;
            LockFile::open(&self.folder.join("append.lock"))
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match std::fs::create_dir(&self.folder) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    Ok(()) | Err(_) => {}
                }
                open()
            }
            other => other,
        }
    }

    /// The page, whole, for who holds the lock: what dead writers left is made good first.
    fn control_held(&self) -> Result<Arc<Control>, AppendError> {
        let found =
            self.control().map_err(|e| self.append_error("has a page that cannot be looked at", e))?;
        let control = match found {
            Some(control) if !control.is_writable() => {
                let denied = io::ErrorKind::PermissionDenied.into();
                return Err(self.append_error("has a page that may only be read", denied));
            }
            Some(control) if control.page().poison.load(Relaxed) > 0 => {
                let what = "refuses messages: a sync failed and what it was for could not be written again; see `run-agent store verify`";
                return Err(AppendError::Unsupported { key: self.key.clone(), what });
            }
            Some(control) if control.page().is_whole() => control,
            other => self.recover(other.as_deref())?,
        };
        if let Some(left) = control.page().syncs.lone.get() {
            // Nobody but the holder of this lock sets it: who did is dead.
            self.rescue_held(&control, left.from, "its writer died in it")?;
        }
        Ok(control)
    }

    /// Where the stream ends, for who holds the lock.
    pub(crate) fn tail_held(&self, page: &Page) -> Result<Tail, AppendError> {
        page.tail().ok_or_else(|| self.append_error("has a damaged page", io::ErrorKind::InvalidData.into()))
    }

    /// Steps 2 to 9.
    fn append_held(
        &self,
        writer: &mut Writer,
        control: &Arc<Control>,
        gate: Option<Gate<'_>>,
        ready: Ready,
        durability: Durability,
    ) -> Result<Option<Appended>, AppendError> {
        let page = control.page();
        let mut tail = self.tail_held(page)?;
        let incarnation = page.incarnation.load(Relaxed);
        let current = self.adopt(incarnation);
        if let Some((seen, condition)) = gate {
            current.map_err(|source| self.unreadable(source))?;
            if !self.ask(seen, condition)? {
                return Ok(None);
            }
        }
        if ready.is_empty() {
            return Ok(Some(Appended { entries: Vec::new(), due: None, ring: false }));
        }
        let meta = self.meta(incarnation).map_err(|source| self.unreadable(source))?;
        let ready = if meta.key == self.key { ready } else { ready.of(&meta.key)? };
        let len = ready.frames_len();
        if tail.offset > FIRST && tail.offset.saturating_add(len) > self.options.rotate_bytes {
            tail = match self.rotate_held(control, &tail) {
                Ok(rotated) => rotated,
                // Nothing was moved: a message is worth more than a short segment.
                Err(_) if page.recover.load(Relaxed) == 0 && page.poison.load(Relaxed) == 0 => tail,
                Err(error) => return Err(error),
            };
        }
        let segment = match self.active(control, tail.base) {
            Ok(segment) => segment,
            // Somebody deleted it, or nothing of its header is left: the stream goes on in another one.
            Err(_) if self.is_lost(tail.base) => {
                let control = self.recover(Some(control))?;
                return self.append_held(writer, &control, None, ready, durability);
            }
            Err(error) => return Err(error),
        };
        let nonce = writer.nonces.next().map_err(|e| self.append_error("got no random number", e))?;
        let (entries, frames, next) = ready.seal(&segment, &tail, page.syncs.synced(), nonce);
        self.write(&segment, &frames, tail.offset)?;
        page.publish(&next);
        let due = self.is_due(page, durability, &next);
        if tail.offset / STRIDE != next.offset / STRIDE {
            // Derived: what is missing in it costs readers a longer walk.
            let _ = index::complete(&self.folder, &segment, &frames, tail.offset, &mut writer.indexed);
        }
        self.counters.messages.fetch_add(entries.len() as u64, Relaxed);
        self.counters.bytes.fetch_add(len, Relaxed);
        Ok(Some(Appended { entries, due: due.then_some(next.lsn), ring: page.tail_bell.ring() }))
    }

    /// Feeds a condition with what came since its caller looked.
    fn ask(&self, seen: Cursor, condition: &mut dyn Condition) -> Result<bool, AppendError> {
        let mut from = seen;
        loop {
            let page = self.read_from(from, FEED_ENTRIES).map_err(|source| self.unreadable(source))?;
            for entry in &page.entries {
                condition.see(entry);
            }
            if page.next == from {
                return Ok(condition.agrees());
            }
            from = page.next;
        }
    }

    /// The segment that is written to, open for that.
    pub(crate) fn active(&self, control: &Control, base: u64) -> Result<Arc<Segment>, AppendError> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let set = Some(control.page().set());
        if let Some(known) = &*active
            && known.base() == base
            && known.set == set
        {
            return Ok(known.clone());
        }
        let opened = Segment::open(&self.folder, base, true).and_then(|found| {
            found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its header is damaged"))
        });
        let mut segment = opened.map_err(|e| self.append_error("has a segment that cannot be opened", e))?;
        segment.set = set;
        // Looked at behind the opening: of a failure that was told before, this file knows nothing.
        segment.under_way = control.page().syncs.under_way();
        let segment = Arc::new(segment);
        *active = Some(segment.clone());
        Ok(segment)
    }

    fn is_lost(&self, base: u64) -> bool {
        match Segment::open(&self.folder, base, false) {
            Ok(found) => found.is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Steps 6 and 7.
    fn write(&self, segment: &Segment, frames: &[u8], at: u64) -> Result<(), AppendError> {
        let end = at + frames.len() as u64;
        self.reserve(segment, end).map_err(|e| self.append_error("has no room (is the disk full?)", e))?;
        segment.file.write_all_at(frames, at).map_err(|error| {
            // So that nobody who looks for the end without the page takes what was refused for written.
            let _ = segment.file.write_all_at(&[0; 8], at);
            self.append_error("cannot be written", error)
        })
    }

    fn reserve(&self, segment: &Segment, end: u64) -> io::Result<()> {
        if end <= segment.reserved.load(Relaxed) {
            return Ok(());
        }
        let len = segment.len()?;
        if end > len {
            let chunk = len.clamp(RESERVE_MIN, RESERVE_MAX);
            let wanted = (len + chunk).min(self.options.rotate_bytes).max(end).next_multiple_of(4096);
            // What would do for later is not insisted on.
            os::reserve(&segment.file, len, wanted).or_else(|_| os::reserve(&segment.file, len, end))?;
        }
        segment.reserved.store(segment.len()?, Relaxed);
        Ok(())
    }
}

/// A write beyond a limit on file sizes is an error that is told; its signal would end the process in silence.
fn block_size_signal() {
    thread_local! {
        static BLOCKED: Cell<bool> = const { Cell::new(false) };
    }
    BLOCKED.with(|blocked| {
        if !blocked.replace(true) {
            let mut signals = SigSet::empty();
            signals.add(Signal::SIGXFSZ);
            let _ = signals.thread_block();
        }
    });
}
