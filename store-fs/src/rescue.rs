//! A failed sync is final: the system reports an error of writing back once for each open file and may then call the lost
//! pages clean, so that a second sync "succeeds" over lost data. What stands above the synced cursor is therefore
//! written again into a new file, and the stream goes on there (`docs/formats/bus-file.md`, "A failed sync").

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use run_agent_core::Timestamp;
use run_agent_core::store::AppendError;
use run_agent_store_shared::wait::ring;

use crate::append::nanos;
use crate::files::{self, Archive, Bus, archive_path, rescue_path};
use crate::lock::{LockFile, Memory};
use crate::os;
use crate::page::Control;
use crate::read::WINDOW;
use crate::scan::{self, Ends, Found, Source};
use crate::store::FsStream;
use crate::tail::OpenBus;

impl FsStream {
    /// Writes everything from `from` on again, with the lock held. If that fails too, nothing more is taken.
    pub(crate) fn rescue_held(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        control: &Arc<Control>,
        memory: &Memory,
        from: u64,
        why: &str,
    ) -> Result<Memory, AppendError> {
        self.write_again(lock, open, control, memory, from).map_err(|again| {
            // Nothing that is appended from here on could be promised anything.
            let synced = memory.synced.min(from);
            let _ = lock.remember(&Memory { refused: true, synced, ..memory.clone() });
            control.page().poison.store(1, SeqCst);
            ring(&control.page().syncs.bell);
            let what = format!("cannot be synced ({why}), and what was to be synced cannot be written again");
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
                let (control, memory) = self.control_held(lock, open, memory)?;
                if !memory.refused {
                    return Ok(());
                }
                let from = control.page().syncs.doubtful_from().min(memory.synced);
                self.write_again(lock, open, &control, &memory, from)
                    .map_err(|e| self.append_error("still cannot be written again after a failed sync", e))?;
            }
            Ok(())
        })
    }

    /// Steps F1 to F5. Archives are replaced by copies of themselves. The active file is cut where its copy begins before
    /// the copy takes its place, so that at no moment two files hold the same entries; a crash in between is finished by
    /// [`FsStream::finish_rescue`].
    fn write_again(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        control: &Control,
        memory: &Memory,
        from: u64,
    ) -> io::Result<Memory> {
        for archive in self.archives(memory.base).map_err(io::Error::other)?.iter() {
            if archive.end() > from {
                self.copy(&Bus::archived(archive)?, 0)?;
                std::fs::rename(rescue_path(&self.bus, archive.base), &archive.path)?;
            }
        }
        let mut next = memory.clone();
        if let Some(bus) = open.as_ref() {
            next.base = from.clamp(memory.base, memory.end);
            let left = next.base - memory.base;
            next.file = self.copy(&self.held_bus(bus, memory, memory.len()), left)?;
            os::sync_folder(&self.folder)?;
            // Whoever finds the file cut, also after a power cut, learns from the line that the copy belongs there.
            lock.remember(memory)?;
            lock.file().sync_data()?;
            bus.file.set_len(left)?;
            if left == 0 {
                // Without an archive nothing else tells afterwards that it is the same stream.
                lock.remember(&next)?;
            }
            self.take_the_place(memory.base, next.base)?;
        }
        *open = None;
        let sync_at = nanos(Timestamp::now());
        let next = Memory { synced: memory.end, sync_at, behind: 0, refused: false, ..next };
        lock.remember(&next)?;
        self.keep_open(open).map_err(io::Error::other)?;
        let page = control.page();
        page.syncs.rescued(from, memory.end);
        page.syncs.syncing.clear();
        page.syncs.lone.clear();
        page.poison.store(0, SeqCst);
        Ok(next)
    }

    /// Copies a file from byte `at` on to its rescue file, which is synced. Every entry of the copy verifies. Which file
    /// that is.
    fn copy(&self, bus: &Bus, at: u64) -> io::Result<u64> {
        let copy = rescue_path(&self.bus, bus.base + at);
        let bytes = self.verified(bus, at)?;
        let mut options = OpenOptions::new();
        let mut file = os::open(&copy, options.write(true).create(true).truncate(true))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(os::look_at(&file)?.number())
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

    /// The file that began at `began` was cut at `base`, where the copy begins.
    fn take_the_place(&self, began: u64, base: u64) -> io::Result<()> {
        // A file of which nothing is left has no archive.
        if base > began {
            sync_the_cut(&os::open_to_read(&self.bus)?)?;
            os::rename_new(&self.bus, &archive_path(&self.bus, began))?;
        }
        std::fs::rename(rescue_path(&self.bus, base), &self.bus)?;
        os::sync_folder(&self.folder)
    }

    /// A writer died between the cut and the end of a rescue: the copy takes its place now. `None` when there is none for
    /// the file `number`, which has `len` bytes.
    pub(crate) fn finish_rescue(
        &self,
        memory: &Memory,
        number: u64,
        len: u64,
    ) -> Result<Option<Memory>, AppendError> {
        let finish = || -> io::Result<Option<Memory>> {
            let archives = files::archives(&self.bus)?;
            let began = archives.last().map_or(0, Archive::end);
            // The line tells of the file that was cut, which is still there or archived; or already of the copy.
            let was_cut = number == memory.file;
            let archived = archives.last().is_some_and(|a| a.base == memory.base && a.number == memory.file);
            let base = match (was_cut, archived) {
                (true, _) => memory.base + len,
                (false, true) => began,
                (false, false) => memory.base,
            };
            let Ok(copy) = os::look(&rescue_path(&self.bus, base)) else { return Ok(None) };
            let of_the_line = was_cut || archived || copy.number() == memory.file;
            let belongs = of_the_line && base + copy.len == memory.end;
            // Where it was cut; in its place is nothing, but for the file that was just made.
            if !belongs || base.checked_sub(began) != Some(len) {
                return Ok(None);
            }
            self.take_the_place(began, base)?;
            Ok(Some(Memory { base, file: copy.number(), ..memory.clone() }))
        };
        finish().map_err(|e| {
            self.append_error("was being written again after a failed sync, and that cannot be finished", e)
        })
    }
}

/// A file that is an archive from here on must not be longer after a power cut than it is now: entries would be in it and in
/// the copy. What is left of it was synced before, so that an error can only be one of what was cut off, which is told once.
fn sync_the_cut(file: &File) -> io::Result<()> {
    file.sync_all().or_else(|_| file.sync_all())
}
