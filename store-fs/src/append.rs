//! Appending under the lock, step by step as `docs/formats/bus-file.md` numbers them.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{OnceLock, PoisonError};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use run_agent_core::message::{BODY_MAX, FIELDS_MAX};
use run_agent_core::store::{AppendError, Condition, ReadError};
use run_agent_core::{Cursor, Draft, Durability, Entry, Kind, Message, MsgId, Timestamp};
use run_agent_store_shared::wait::ensure_synced;

use crate::commit::Asked;
use crate::lock::{LockError, LockFile, Memory};
use crate::markdown::Prepared;
use crate::os;
use crate::store::FsStream;
use crate::tail::{FEED_ENTRIES, OpenBus};

/// What a handle keeps open between appends.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    lock: Option<LockFile>,
    pub(crate) bus: Option<OpenBus>,
}

/// Counts the messages of this process.
static SEQUENCE: AtomicU32 = AtomicU32::new(1);

type Gate<'a> = (Cursor, &'a mut dyn Condition);

/// What an append came to, before it is synced.
struct Appended<'a> {
    entries: Vec<Entry>,
    /// What is to be synced before anything is acknowledged, and up to where.
    due: Option<(Asked<'a>, u64)>,
}

impl FsStream {
    pub(crate) fn append_locked(
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
        self.append_ready(gate, batch.into_iter().map(Ready::new).collect(), durability)
    }

    /// Messages with the ids and times that another store gave them.
    pub(crate) fn restore_locked(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        if let Some(large) = batch.iter().find(|message| message.content.body.len() > BODY_MAX) {
            return Err(AppendError::TooLarge { bytes: large.content.body.len(), max: BODY_MAX });
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.append_ready(None, batch.into_iter().map(Ready::given).collect(), Durability::None).map(drop)
    }

    fn append_ready(
        &self,
        gate: Option<Gate<'_>>,
        batch: Vec<Ready>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        let appended = self.with_lock(|lock, open| self.append_held(lock, open, gate, batch, durability))?;
        let Some(Appended { entries, due }) = appended else { return Ok(None) };
        if let Some((asked, end)) = due {
            ensure_synced(&asked, end)?;
        }
        Ok(Some(entries))
    }

    /// Runs `act` with the lock held.
    pub(crate) fn with_lock<T>(
        &self,
        act: impl FnOnce(&LockFile, &mut Option<OpenBus>) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.take_lock(&mut writer)?;
        let held = Held::new(&lock);
        let result = act(&lock, &mut writer.bus);
        drop(held);
        writer.lock = Some(lock);
        result
    }

    /// Steps 1 and 2.
    pub(crate) fn take_lock(&self, writer: &mut Writer) -> Result<LockFile, AppendError> {
        loop {
            let lock = match writer.lock.take() {
                Some(lock) => lock,
                None => LockFile::open(&self.lock).map_err(|e| self.append_error("cannot be locked", e))?,
            };
            self.wait_for(&lock)?;
            if lock
                .is_in_place()
                .map_err(|e| self.append_error("has a lock file that cannot be looked at", e))?
            {
                return Ok(lock);
            }
        }
    }

    fn wait_for(&self, lock: &LockFile) -> Result<(), AppendError> {
        match lock.lock(self.options.lock_timeout) {
            Ok(waited) => {
                self.counters.lock_waits.fetch_add(u64::from(waited), Relaxed);
                Ok(())
            }
            Err(LockError::TimedOut(holder)) => {
                self.counters.lock_timeouts.fetch_add(1, Relaxed);
                let (key, waited) = (self.key.clone(), self.options.lock_timeout);
                Err(AppendError::LockTimeout { key, waited, holder })
            }
            Err(LockError::Io(error)) => Err(self.append_error("cannot be locked", error)),
        }
    }

    /// Steps 3 to 6, with the lock held.
    fn append_held(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        gate: Option<Gate<'_>>,
        batch: Vec<Ready>,
        durability: Durability,
    ) -> Result<Option<Appended<'_>>, AppendError> {
        let mut memory = self.look_to_write(lock, open)?;
        let current = self.adopt(&memory);
        if let Some((seen, condition)) = gate {
            current.map_err(|source| self.unreadable(source))?;
            if !self.ask(open.as_ref(), &memory, seen, condition)? {
                return Ok(None);
            }
        }
        let (bytes, mut entries) = seal(&memory, batch)?;
        let Some(last_ts) = entries.last().map(|entry| entry.message.ts) else {
            return Ok(Some(Appended { entries, due: None }));
        };
        // Ids of other writers say nothing of the order.
        let own = entries.iter().map(|entry| &entry.message.id).filter(|id| id.time().is_some());
        let newest = own.max().cloned().max(memory.last.clone());
        let (count, len) = (entries.len() as u64, bytes.len() as u64);
        let mut control = None;
        if self.is_due(&memory, durability, count, last_ts) {
            let (page, made_good) = self.control_held(lock, open, memory)?;
            (control, memory) = (Some(page), made_good);
        }
        if memory.len() > 0 && memory.len().saturating_add(len) > self.options.rotate_bytes {
            memory = match self.rotate_held(lock, open, memory.clone(), durability) {
                Ok(rotated) => rotated,
                // Nothing was moved: a message is worth more than a short file. If a sync failed at it and could not be made
                // good, nothing is taken.
                Err(_) if open.is_some() => self.look_to_write(lock, open)?,
                Err(error) => return Err(error),
            };
        }
        let Some(bus) = open.as_ref() else { return Ok(None) };
        let behind = self.write(&bus.file, &bytes, lock, &memory)?;
        let (end, stands) = (memory.end + len, memory.base + behind);
        let due = control.and_then(|page| self.ask_sync(open, &page, &memory, stands));
        if stands == end {
            // Who begins to sync says so: others need not as well.
            let sync_at = if due.is_some() { nanos(last_ts) } else { memory.sync_at };
            let behind = if due.is_some() { 0 } else { memory.behind.saturating_add(count) };
            // What was written is acknowledged by the file itself: a line that stays behind costs the next writer a look.
            let _ = lock.remember(&Memory { end, last: newest, sync_at, behind, ..memory });
        } else {
            // Somebody wrote without the lock in between: the entries stand further on. The line stays as it is, so
            // that the next writer reads what came.
            let further = stands.saturating_sub(end);
            for entry in &mut entries {
                entry.at = Cursor::new(entry.at.get() + further);
                entry.next = Cursor::new(entry.next.get() + further);
            }
        }
        self.counters.messages.fetch_add(count, Relaxed);
        self.counters.bytes.fetch_add(len, Relaxed);
        Ok(Some(Appended { entries, due: due.map(|asked| (asked, stands)) }))
    }

    /// A handle that was opened before the stream had an incarnation takes its first one. `Err`: the stream is another
    /// one than the handle's cursors belong to; the handle keeps its own, so that its next read says so.
    fn adopt(&self, memory: &Memory) -> Result<(), ReadError> {
        match self.incarnation.compare_exchange(0, memory.incarnation, Relaxed, Relaxed) {
            Ok(_) => Ok(()),
            Err(had) if had == memory.incarnation => Ok(()),
            Err(had) => Err(ReadError::Incarnation { key: self.key.clone(), had, now: memory.incarnation }),
        }
    }

    /// Feeds a condition with what came since its caller looked.
    fn ask(
        &self,
        open: Option<&OpenBus>,
        memory: &Memory,
        seen: Cursor,
        condition: &mut dyn Condition,
    ) -> Result<bool, AppendError> {
        let bus = open.map(|bus| self.held_bus(bus, memory, memory.len()));
        let mut from = seen;
        loop {
            let page = self
                .read_through(from, FEED_ENTRIES, || Ok(bus.clone()))
                .map_err(|source| self.unreadable(source))?;
            for entry in &page.entries {
                condition.see(entry);
            }
            if page.next == from {
                return Ok(condition.agrees());
            }
            from = page.next;
        }
    }

    /// Step 5: one write. What the system cut short is undone. Returns where in the file the bytes end.
    fn write(
        &self,
        mut bus: &File,
        bytes: &[u8],
        lock: &LockFile,
        memory: &Memory,
    ) -> Result<u64, AppendError> {
        let error = loop {
            match bus.write(bytes) {
                // An appending write leaves the file's own position behind what it wrote.
                Ok(n) if n == bytes.len() => {
                    // Where the system does not tell, it is where it was to be.
                    return Ok(bus.stream_position().unwrap_or(memory.len() + n as u64));
                }
                Ok(n) => {
                    let what = format!("took only {n} of {} bytes (is the disk full?)", bytes.len());
                    break self.append_error(&what, io::ErrorKind::WriteZero.into());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break self.append_error("cannot be written", error),
            }
        };
        // A reader may have seen a first entry of the batch: what stands there next is another stream to it.
        let end = memory.len();
        if os::look_at(bus).is_ok_and(|seen| seen.len > end) && bus.set_len(end).is_ok() {
            let incarnation = Memory::next_incarnation(memory.incarnation);
            let _ = lock.remember(&Memory { incarnation, ..memory.clone() });
        }
        Err(error)
    }
}

/// A message on its way in.
struct Ready {
    content: Draft,
    /// What another store gave it.
    given: Option<(MsgId, Timestamp)>,
    /// `None` where the header cannot be known before the id is.
    prepared: Option<Prepared>,
}

impl Ready {
    fn new(content: Draft) -> Self {
        let own_issue = content.kind == Kind::ISSUE && content.issue.is_none();
        let prepared = (!own_issue).then(|| Prepared::new(&content));
        Self { content, given: None, prepared }
    }

    fn given(message: Message) -> Self {
        let Message { id, ts, content } = message;
        let prepared = Some(Prepared::new(&content));
        Self { content, given: Some((id, ts)), prepared }
    }
}

/// Step 4: ids, times and bytes.
fn seal(memory: &Memory, batch: Vec<Ready>) -> Result<(Vec<u8>, Vec<Entry>), AppendError> {
    let mut bytes = Vec::with_capacity(512);
    let mut entries = Vec::with_capacity(batch.len());
    let mut newest = memory.last.as_ref().and_then(MsgId::time);
    for Ready { mut content, given, prepared } in batch {
        let is_new = given.is_none();
        let (id, ts) = given.unwrap_or_else(|| {
            let ts = after(newest, Timestamp::now());
            newest = Some(ts);
            (MsgId::new(ts, process_id(), SEQUENCE.fetch_add(1, Relaxed)), ts)
        });
        if is_new && content.kind == Kind::ISSUE && content.issue.is_none() {
            content.issue = Some(id.clone());
        }
        let at = Cursor::new(memory.end + bytes.len() as u64);
        let prepared = prepared.unwrap_or_else(|| Prepared::new(&content));
        let fields = prepared.finish(&mut bytes, &content.body, &id, ts);
        if fields > FIELDS_MAX {
            return Err(AppendError::FieldsTooLarge { bytes: fields, max: FIELDS_MAX });
        }
        let next = Cursor::new(memory.end + bytes.len() as u64);
        entries.push(Entry { at, next, message: Message { id, ts, content } });
    }
    Ok((bytes, entries))
}

/// Asked for once: it is a system call. This program never forks without starting another one.
fn process_id() -> u32 {
    static ID: OnceLock<u32> = OnceLock::new();
    *ID.get_or_init(std::process::id)
}

/// The clock's time, or the next moment behind the newest entry where the clock stands still or was set back.
fn after(newest: Option<Timestamp>, now: Timestamp) -> Timestamp {
    match newest {
        Some(newest) if now <= newest => {
            Timestamp::from_nanosecond(newest.as_nanosecond().saturating_add(1)).unwrap_or(newest)
        }
        _ => now,
    }
}

pub(crate) fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// A lock that is held: while it is, no signal may end this thread between two steps. It is freed at the end.
pub(crate) struct Held<'a> {
    lock: &'a LockFile,
    before: Option<SigSet>,
}

impl<'a> Held<'a> {
    /// For a lock that was just taken.
    pub(crate) fn new(lock: &'a LockFile) -> Self {
        let mut before = SigSet::empty();
        let mut all = SigSet::all();
        for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL] {
            all.remove(fault);
        }
        let blocked = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&all), Some(&mut before));
        Self { lock, before: blocked.ok().map(|()| before) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.unlock();
        if let Some(mut before) = self.before.take() {
            // A write beyond a limit on file sizes is an error that is told; its signal would end the process in silence.
            before.add(Signal::SIGXFSZ);
            let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_gives_the_next_moment() {
        let t = |n| Timestamp::from_nanosecond(n).unwrap();
        assert_eq!(after(None, t(5)), t(5));
        assert_eq!(after(Some(t(4)), t(5)), t(5));
        assert_eq!(after(Some(t(5)), t(5)), t(6));
        assert_eq!(after(Some(t(3_600_000_000_000)), t(5)), t(3_600_000_000_001));
    }
}
