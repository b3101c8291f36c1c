//! What survives a power cut, and what happens when a sync fails. Syncs are made without the append lock, so that others
//! append meanwhile; only what they came to is written down under it.
//!
//! **A failed sync is final.** The system reports an error of writing back once for each open file and may then call
//! the lost pages clean, so that a second sync "succeeds" over lost data. What stands above the synced cursor is
//! therefore written again into a new file, and the stream goes on there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use run_agent_core::store::AppendError;
use run_agent_core::{Cursor, Durability, Timestamp};

use crate::append::{Held, nanos};
use crate::files::{self, Bus, archive_path, rescue_path};
use crate::lock::{LockFile, Memory};
use crate::os;
use crate::read::WINDOW;
use crate::scan::{self, Ends, Found, Source};
use crate::store::FsStream;
use crate::tail::OpenBus;

impl FsStream {
    pub(crate) fn count_sync(&self) {
        self.counters.syncs.fetch_add(1, Relaxed);
    }

    /// Is it this appender's turn to sync?
    pub(crate) fn is_due(
        &self,
        memory: &Memory,
        durability: Durability,
        messages: u64,
        now: Timestamp,
    ) -> bool {
        match durability {
            Durability::None => false,
            Durability::Always => true,
            Durability::Interval => {
                let every = u64::try_from(self.options.sync_every.as_nanos()).unwrap_or(u64::MAX);
                // A clock that was set back makes the last sync one of the future: nothing is known of it.
                let since = nanos(now).checked_sub(memory.sync_at);
                since.is_none_or(|since| since >= every)
                    || memory.behind.saturating_add(messages) >= self.options.sync_messages
            }
        }
    }

    /// Syncs what was appended up to `end`, which the bus file `bus` held at its end; `before` is the stream as it was.
    pub(crate) fn sync_appended(
        &self,
        lock: &LockFile,
        bus: &OpenBus,
        end: u64,
        before: &Memory,
    ) -> Result<(), AppendError> {
        self.count_sync();
        if let Err(error) = self.sync_through(&bus.file, before) {
            return self.held(lock, |lock| self.rescue(lock, before, end, &error));
        }
        // It is on disk. That others learn of it saves them work and nothing else, so nobody waits for it.
        if lock.try_lock().is_ok_and(|free| free) {
            let held = Held::new(lock);
            let memory = lock.recall().ok().and_then(|(memory, _)| memory);
            if let Some(memory) = memory.filter(|m| m.incarnation == before.incarnation && m.synced < end) {
                let _ = lock.remember(&Memory { synced: end, ..memory });
            }
            drop(held);
        }
        Ok(())
    }

    /// Syncs everything from the synced cursor to the end of `file`, the active one.
    pub(crate) fn sync_through(&self, file: &File, memory: &Memory) -> io::Result<()> {
        if memory.synced < memory.base {
            let archives = self.archives(memory.base).map_err(io::Error::other)?;
            for archive in archives.iter().filter(|archive| archive.end() > memory.synced) {
                self.count_sync();
                os::open_to_read(&archive.path)?.sync_data()?;
            }
        }
        file.sync_data()?;
        // The name of a file of which nothing was synced so far may not be on disk either.
        if memory.synced > memory.base { Ok(()) } else { self.sync_names() }
    }

    fn sync_names(&self) -> io::Result<()> {
        os::sync_folder(&self.folder)?;
        self.folder.parent().map_or(Ok(()), os::sync_folder)
    }

    /// Makes everything survive that stands there now.
    pub(crate) fn sync_all(&self) -> Result<Cursor, AppendError> {
        let end = self.find_end().map_err(|source| self.unreadable(source))?;
        let memory = Memory::peek(&self.lock)
            .map_err(|e| self.append_error("has a lock file that cannot be read", e))?;
        if memory.synced >= end.get() {
            return Ok(end);
        }
        // Others append while this syncs: only what was there is promised.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.take_lock(&mut writer)?;
        let held = Held::new(&lock);
        let looked = self.look_under_lock(&lock, &mut writer.bus).and_then(|memory| {
            let sync_at = nanos(Timestamp::now());
            self.written_down(&lock, Memory { sync_at, behind: 0, ..memory })
        });
        drop(held);
        let memory = looked?;
        if let Some(bus) = &writer.bus {
            self.sync_appended(&lock, bus, memory.end, &memory)?;
        }
        Ok(Cursor::new(memory.end))
    }

    /// The caller's sync failed, of what stands between the synced cursor as it was `before` and `end`. Another
    /// writer's sync says nothing about that: it may have come after the error was told. Only a rescue does.
    fn rescue(
        &self,
        lock: &LockFile,
        before: &Memory,
        end: u64,
        error: &io::Error,
    ) -> Result<(), AppendError> {
        let mut open = None;
        let memory = self.look_under_lock(lock, &mut open)?;
        if memory.incarnation != before.incarnation {
            let error = io::Error::new(error.kind(), error.to_string());
            return Err(self.append_error("was replaced while it was synced, and that failed", error));
        }
        if memory.rescued_from <= before.synced && memory.rescued_to >= end {
            return Ok(());
        }
        self.rescue_held(lock, &mut open, &memory, before.synced, error).map(drop)
    }

    /// Writes everything from `from` on again, with the lock held. If that fails too, nothing more is taken.
    pub(crate) fn rescue_held(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        memory: &Memory,
        from: u64,
        error: &io::Error,
    ) -> Result<Memory, AppendError> {
        self.write_again(lock, open, memory, from).map_err(|again| {
            // Nothing that is appended from here on could be promised anything.
            let synced = memory.synced.min(from);
            let _ = lock.remember(&Memory { refused: true, synced, ..memory.clone() });
            let what =
                format!("cannot be synced ({error}), and what was to be synced cannot be written again");
            self.append_error(&what, again)
        })
    }

    /// After a check that found no damage: writes again what could not be, and takes messages again if that works now.
    ///
    /// # Errors
    /// When the system still cannot write or sync.
    pub(crate) fn take_up_again(&self) -> Result<(), AppendError> {
        self.with_lock(|lock, open| {
            let memory = self.look_under_lock(lock, open)?;
            if memory.refused {
                self.write_again(lock, open, &memory, memory.synced)
                    .map_err(|e| self.append_error("still cannot be written again after a failed sync", e))?;
            }
            Ok(())
        })
    }

    /// Archives are replaced by copies of themselves. The active file is cut where its copy begins before the copy takes
    /// its place, so that at no moment two files hold the same entries; a crash in between is finished by
    /// [`FsStream::finish_rescue`].
    fn write_again(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        memory: &Memory,
        from: u64,
    ) -> io::Result<Memory> {
        for archive in self.archives(memory.base).map_err(io::Error::other)?.iter() {
            if archive.end() > from {
                let copy = self.copy(&Bus::archived(archive)?, 0)?;
                std::fs::rename(copy, &archive.path)?;
            }
        }
        let base = from.max(memory.base);
        if let Some(bus) = open.as_ref() {
            self.copy(&self.held_bus(bus, memory, memory.len()), base - memory.base)?;
            os::sync_folder(&self.folder)?;
            bus.file.set_len(base - memory.base)?;
            self.take_the_place(memory, base)?;
        }
        *open = None;
        self.keep_open(open).map_err(io::Error::other)?;
        let file = open.as_ref().map_or(memory.file, |bus| bus.number);
        let (synced, sync_at) = (memory.end, nanos(Timestamp::now()));
        let (rescued_from, rescued_to) = (from, memory.end);
        let next = Memory {
            base,
            file,
            synced,
            sync_at,
            behind: 0,
            rescued_from,
            rescued_to,
            refused: false,
            ..memory.clone()
        };
        lock.remember(&next)?;
        Ok(next)
    }

    /// Copies a file from byte `at` on to its rescue file, which is synced. Every entry of the copy verifies.
    fn copy(&self, bus: &Bus, at: u64) -> io::Result<std::path::PathBuf> {
        let copy = rescue_path(&self.bus, bus.base + at);
        let bytes = self.verified(bus, at)?;
        let mut options = OpenOptions::new();
        let mut file = os::open(&copy, options.write(true).create(true).truncate(true))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(copy)
    }

    /// The bytes from `at` on, every entry of which verifies.
    fn verified(&self, bus: &Bus, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while at + (bytes.len() as u64) < bus.len {
            let more = self.window(bus, at + bytes.len() as u64, WINDOW).map_err(io::Error::other)?;
            if more.is_empty() {
                break;
            }
            bytes.extend_from_slice(&more);
        }
        let source = Source { key: &self.key, origin: bus.base + at, ends: Ends::Sealed, legacy: None };
        let scan = scan::forward(&bytes, source, usize::MAX);
        match scan.found.iter().find(|found| matches!(found, Found::Damage { .. })) {
            Some(damaged) => {
                Err(io::Error::other(format!("what is still in memory is damaged: {damaged:?}")))
            }
            None => Ok(bytes),
        }
    }

    fn take_the_place(&self, memory: &Memory, base: u64) -> io::Result<()> {
        // A file of which nothing is left has no archive.
        if base > memory.base {
            os::rename_new(&self.bus, &archive_path(&self.bus, memory.base))?;
        }
        std::fs::rename(rescue_path(&self.bus, base), &self.bus)?;
        os::sync_folder(&self.folder)
    }

    /// A writer died between the cut and the end of a rescue: the copy takes its place now. False when there is none.
    pub(crate) fn finish_rescue(&self, memory: &Memory, len: u64) -> Result<bool, AppendError> {
        let finish = || -> io::Result<bool> {
            // Cut, and not renamed yet; or renamed, and then the place is empty but for the file that was just made.
            let archived =
                files::archives(&self.bus)?.iter().any(|a| a.base == memory.base && a.number == memory.file);
            let base = match (archived, files::archives(&self.bus)?.last()) {
                (true, Some(archive)) if len == 0 => archive.end(),
                (true, _) => return Ok(false),
                (false, _) => memory.base + len,
            };
            // One that is left from another time ends elsewhere.
            match os::look(&rescue_path(&self.bus, base)) {
                Ok(seen) if base + seen.len == memory.end => {}
                Ok(_) | Err(_) => return Ok(false),
            }
            if archived {
                std::fs::rename(rescue_path(&self.bus, base), &self.bus)?;
            } else {
                self.take_the_place(memory, base)?;
            }
            Ok(true)
        };
        finish().map_err(|e| {
            self.append_error("was being written again after a failed sync, and that cannot be finished", e)
        })
    }
}
