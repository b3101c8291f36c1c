//! Appending under the lock, step by step as `docs/formats/bus-file.md` numbers them.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use run_agent_core::message::{BODY_MAX, FIELDS_MAX};
use run_agent_core::store::{AppendError, Condition, ReadError};
use run_agent_core::{Cursor, Draft, Durability, Entry, Kind, Message, MsgId, Timestamp};

use crate::lock::{LockError, LockFile, Memory};
use crate::markdown::{self, DecodeError, EDGE};
use crate::os;
use crate::read::{Bus, ENTRY_MAX};
use crate::store::FsStream;

/// What a handle keeps open between appends.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    lock: Option<LockFile>,
    bus: Option<(File, u64)>,
}

/// Counts the messages of this process.
static SEQUENCE: AtomicU32 = AtomicU32::new(1);

/// Entries that a condition is fed from at once: a bound on memory.
const FEED_ENTRIES: usize = 1024;

type Gate<'a> = (Cursor, &'a mut dyn Condition);

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
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.take_lock(&mut writer)?;
        let signals = block_signals();
        let result = self.append_held(&lock, &mut writer.bus, gate, batch, durability);
        lock.unlock();
        unblock_signals(signals);
        writer.lock = Some(lock);
        result
    }

    /// Steps 1 and 2.
    fn take_lock(&self, writer: &mut Writer) -> Result<LockFile, AppendError> {
        loop {
            let lock = match writer.lock.take() {
                Some(lock) => lock,
                None => LockFile::open(&self.lock).map_err(|e| self.append_error("cannot be locked", e))?,
            };
            match lock.lock(self.options.lock_timeout) {
                Ok(waited) => self.counters.lock_waits.fetch_add(u64::from(waited), Relaxed),
                Err(LockError::TimedOut(holder)) => {
                    self.counters.lock_timeouts.fetch_add(1, Relaxed);
                    let (key, waited) = (self.key.clone(), self.options.lock_timeout);
                    return Err(AppendError::LockTimeout { key, waited, holder });
                }
                Err(LockError::Io(error)) => return Err(self.append_error("cannot be locked", error)),
            };
            if lock
                .is_in_place()
                .map_err(|e| self.append_error("has a lock file that cannot be looked at", e))?
            {
                return Ok(lock);
            }
        }
    }

    /// Steps 3 to 6, with the lock held.
    fn append_held(
        &self,
        lock: &LockFile,
        open: &mut Option<(File, u64)>,
        gate: Option<Gate<'_>>,
        batch: Vec<Draft>,
        durability: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        let (bus, mut memory) = self.open_for_append(lock, open)?;
        let current = self.adopt(&memory);
        if let Some((seen, condition)) = gate {
            if let Err(source) = current {
                return Err(AppendError::Read { key: self.key.clone(), source });
            }
            let bus = Bus { file: bus, len: memory.end - memory.base, base: memory.base };
            if !self.ask(&bus, seen, condition)? {
                return Ok(None);
            }
        }
        let (bytes, mut entries) = seal(&memory, batch)?;
        if entries.is_empty() {
            return Ok(Some(entries));
        }
        let behind = self.write(bus, &bytes, lock, &memory)?;
        if durability != Durability::None {
            self.counters.syncs.fetch_add(1, Relaxed);
            bus.sync_data().map_err(|e| self.append_error("was written but cannot be synced", e))?;
        }
        let end = memory.end + bytes.len() as u64;
        if memory.base + behind == end {
            memory.end = end;
            memory.last = entries.last().map(|entry| entry.message.id.clone());
            // What was written is acknowledged by the file itself: a line that stays behind costs the next writer a look.
            let _ = lock.remember(&memory);
        } else {
            // Somebody wrote without the lock in between: the entries stand further on. The line stays as it is, so
            // that the next writer reads what came.
            let further = (memory.base + behind).saturating_sub(end);
            for entry in &mut entries {
                entry.at = Cursor::new(entry.at.get() + further);
                entry.next = Cursor::new(entry.next.get() + further);
            }
        }
        self.counters.messages.fetch_add(entries.len() as u64, Relaxed);
        self.counters.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(Some(entries))
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

    /// Step 3: the bus file, and a memory that is true of it.
    fn open_for_append<'o>(
        &self,
        lock: &LockFile,
        open: &'o mut Option<(File, u64)>,
    ) -> Result<(&'o File, Memory), AppendError> {
        let remembered =
            lock.recall().map_err(|e| self.append_error("has a lock file that cannot be read", e))?;
        // A file that is open already is still the stream's only if the path names it.
        let known = match open.as_ref().map(|(_, inode)| (*inode, os::look(&self.bus))) {
            None => None,
            Some((inode, Ok(seen))) => (seen.inode() == inode).then_some((inode, seen.len)),
            Some((_, Err(error))) if error.kind() == io::ErrorKind::NotFound => None,
            Some((_, Err(error))) => return Err(self.append_error("cannot be looked at", error)),
        };
        let (inode, len) = match known {
            Some(known) => known,
            None => {
                let file =
                    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.bus);
                let file = file.map_err(|e| self.append_error("cannot be opened", e))?;
                let seen = os::look_at(&file).map_err(|e| self.append_error("cannot be looked at", e))?;
                *open = Some((file, seen.inode()));
                (seen.inode(), seen.len)
            }
        };
        let Some((file, _)) = open else { unreachable!("it was opened above") };
        let memory = match remembered {
            Some(memory)
                if memory.inode == inode
                    && memory.base + len == memory.end
                    && is_edge(file, &memory, len) =>
            {
                return Ok((file, memory));
            }
            Some(memory)
                if memory.inode == inode && memory.base + len > memory.end && is_edge(file, &memory, len) =>
            {
                self.catch_up(file, memory, len)?
            }
            Some(memory) => {
                // Cut, emptied, edited or replaced from outside: cursors that readers hold mean other places now.
                let incarnation = Memory::next_incarnation(memory.incarnation);
                let base = memory.base;
                self.catch_up(file, Memory { incarnation, base, end: base, inode, last: memory.last }, len)?
            }
            None => {
                let incarnation = Memory::next_incarnation(0);
                self.catch_up(file, Memory { incarnation, inode, ..Memory::NEW }, len)?
            }
        };
        // Also when nothing is appended: the next writer need not read it again, and readers learn of the incarnation.
        lock.remember(&memory).map_err(|e| self.append_error("has a lock file that cannot be written", e))?;
        Ok((file, memory))
    }

    /// Reads what stands behind the remembered end, and moves a torn tail away. What is no entry and can never become
    /// one stays where it is, as damage.
    fn catch_up(&self, file: &File, mut memory: Memory, len: u64) -> Result<Memory, AppendError> {
        let bus = Bus { file, len, base: memory.base };
        let mut from = Cursor::new(memory.end);
        loop {
            let page = self
                .read_bus(&bus, from, FEED_ENTRIES)
                .map_err(|source| AppendError::Read { key: self.key.clone(), source })?;
            if page.next == from {
                break;
            }
            from = page.next;
            memory.last = memory.last.max(page.entries.into_iter().next_back().map(|entry| entry.message.id));
        }
        let at = from.get() - memory.base;
        memory.end = memory.base + len;
        if at == len {
            return Ok(memory);
        }
        // No entry is longer: what does not end within that is no torn one.
        let take = usize::try_from(len - at).unwrap_or(usize::MAX).min(ENTRY_MAX);
        let mut tail = vec![0; take];
        file.read_exact_at(&mut tail, at).map_err(|e| self.append_error("cannot be read", e))?;
        let whole_tail = take as u64 == len - at;
        if whole_tail && markdown::decode(&tail, &self.key) == Err(DecodeError::Incomplete) {
            self.move_torn_tail(file, at, &tail)?;
            memory.end = memory.base + at;
        } else if !ends_with_newline(file, len) {
            // Somebody wrote by hand and left the last line without an end: an edge begins a line of its own.
            let mut bus = file;
            bus.write_all(b"\n").map_err(|e| self.append_error("cannot be written", e))?;
            memory.end += 1;
        }
        Ok(memory)
    }

    /// A writer died in the middle of its entry: nothing of it was acknowledged, and nothing is thrown away.
    fn move_torn_tail(&self, file: &File, at: u64, tail: &[u8]) -> Result<(), AppendError> {
        let stamp = run_agent_core::text::stamp(Timestamp::now());
        let torn = self.bus.with_extension(format!("md.torn-{stamp}-{at}"));
        let kept = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&torn);
        kept.and_then(|mut kept| kept.write_all(tail).and_then(|()| kept.sync_data()))
            .map_err(|e| self.append_error("has a torn tail that cannot be kept aside", e))?;
        file.set_len(at).map_err(|e| self.append_error("has a torn tail that cannot be cut off", e))
    }

    /// Feeds a condition with what came since its caller looked.
    fn ask(
        &self,
        bus: &Bus<&File>,
        seen: Cursor,
        condition: &mut dyn Condition,
    ) -> Result<bool, AppendError> {
        let mut from = seen;
        loop {
            let page = self
                .read_bus(bus, from, FEED_ENTRIES)
                .map_err(|source| AppendError::Read { key: self.key.clone(), source })?;
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
                    return bus.stream_position().map_err(|e| self.append_error("cannot be looked at", e));
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
        let end = memory.end - memory.base;
        if os::look_at(bus).is_ok_and(|seen| seen.len > end) && bus.set_len(end).is_ok() {
            let incarnation = Memory::next_incarnation(memory.incarnation);
            let _ = lock.remember(&Memory { incarnation, ..memory.clone() });
        }
        Err(error)
    }

    pub(crate) fn sync_all(&self) -> Result<Cursor, AppendError> {
        let end = self.find_end().map_err(|source| AppendError::Read { key: self.key.clone(), source })?;
        match File::open(&self.bus) {
            Ok(file) => {
                self.counters.syncs.fetch_add(1, Relaxed);
                file.sync_data().map_err(|e| self.append_error("cannot be synced", e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.append_error("cannot be opened", error)),
        }
        Ok(end)
    }
}

/// Step 4: ids, times and bytes.
fn seal(memory: &Memory, batch: Vec<Draft>) -> Result<(Vec<u8>, Vec<Entry>), AppendError> {
    let mut bytes = Vec::new();
    let mut entries = Vec::with_capacity(batch.len());
    let mut newest = memory.last.as_ref().and_then(MsgId::time);
    for mut content in batch {
        let ts = after(newest, Timestamp::now());
        newest = Some(ts);
        let id = MsgId::new(ts, std::process::id(), SEQUENCE.fetch_add(1, Relaxed));
        if content.kind == Kind::ISSUE && content.issue.is_none() {
            content.issue = Some(id.clone());
        }
        let at = Cursor::new(memory.end + bytes.len() as u64);
        let message = Message { id, ts, content };
        let fields = markdown::encode(&mut bytes, &message);
        if fields > FIELDS_MAX {
            return Err(AppendError::FieldsTooLarge { bytes: fields, max: FIELDS_MAX });
        }
        entries.push(Entry { at, next: Cursor::new(memory.end + bytes.len() as u64), message });
    }
    Ok((bytes, entries))
}

/// Is the remembered end still one? The byte before it ends a line, and what follows begins an entry. A file that was
/// edited in place fails this.
fn is_edge(file: &File, memory: &Memory, len: u64) -> bool {
    let end = memory.end - memory.base;
    if end > 0 && !ends_with_newline(file, end) {
        return false;
    }
    let mut edge = [0; EDGE.len()];
    let follows = usize::try_from(len.saturating_sub(end)).unwrap_or(usize::MAX).min(edge.len());
    file.read_exact_at(&mut edge[..follows], end).is_ok() && EDGE.starts_with(&edge[..follows])
}

fn ends_with_newline(file: &File, end: u64) -> bool {
    let mut byte = [0];
    end > 0 && file.read_exact_at(&mut byte, end - 1).is_ok() && byte[0] == b'\n'
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

/// While the lock is held, a signal must not end this thread between two steps.
fn block_signals() -> Option<SigSet> {
    let mut before = SigSet::empty();
    let mut faults = SigSet::all();
    for fault in [
        nix::sys::signal::SIGSEGV,
        nix::sys::signal::SIGBUS,
        nix::sys::signal::SIGFPE,
        nix::sys::signal::SIGILL,
    ] {
        faults.remove(fault);
    }
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&faults), Some(&mut before)).ok().map(|()| before)
}

fn unblock_signals(before: Option<SigSet>) {
    if let Some(before) = before {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
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
