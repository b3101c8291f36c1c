//! Who syncs a bus, and for whom: the protocol is the one of all stores, here in cursors (`docs/formats/bus-file.md`,
//! "Syncing"). Syncs are made without the append lock, so that others append meanwhile.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, TryLockError};

use run_agent_core::store::AppendError;
use run_agent_store_shared::commit::{Failed, Log, sync_lone};
use run_agent_store_shared::page::{Syncs, UnderWay};
use run_agent_store_shared::wait::ring;

use crate::lock::{LockFile, Memory};
use crate::os;
use crate::page::{Control, want, wanted};
use crate::store::FsStream;
use crate::tail::OpenBus;

/// A sync that somebody waits for, of the stream as it was under the lock.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    stream: &'a FsStream,
    file: Arc<File>,
    /// The cursor of the file's first byte.
    base: u64,
    incarnation: u64,
    under_way: UnderWay,
}

/// What is synced with one call.
#[derive(Debug)]
pub(crate) struct Files {
    archives: Vec<File>,
    bus: Arc<File>,
    /// Those whose names of these files may not be on disk either.
    folders: Vec<File>,
    under_way: UnderWay,
}

impl FsStream {
    /// Asks for a sync up to `end`, with the lock held.
    pub(crate) fn ask_sync<'a>(
        &'a self,
        open: &mut Option<OpenBus>,
        control: &Arc<Control>,
        memory: &Memory,
        end: u64,
    ) -> Option<Asked<'a>> {
        let bus = open.as_mut()?;
        let under_way = match &bus.under_way {
            Some((of, under_way)) if Arc::ptr_eq(of, control) => *under_way,
            // Looked at behind the opening: of a failure that was told before, this file knows nothing. What was made good
            // in between was so before the lock was taken, and then the path names another file.
            Some(_) | None => {
                let under_way = control.page().syncs.under_way();
                bus.under_way = Some((control.clone(), under_way));
                under_way
            }
        };
        want(control, end);
        let (base, incarnation) = (memory.base, memory.incarnation);
        Some(Asked { stream: self, file: bus.file.clone(), base, incarnation, under_way })
    }

    /// Syncs up to the end with the lock held. What could not be trusted was written again into a new file.
    pub(crate) fn sync_held(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        control: &Arc<Control>,
        memory: Memory,
    ) -> Result<Memory, AppendError> {
        let Some(asked) = self.ask_sync(open, control, &memory, memory.end) else { return Ok(memory) };
        let (files, _) = asked.files(control)?;
        match sync_lone(&asked, control, &files, memory.end) {
            Ok(()) => Ok(Memory { synced: memory.end, ..memory }),
            Err(failed) => self.rescue_held(lock, open, control, &memory, failed.from, &failed.why),
        }
    }
}

impl Log for Asked<'_> {
    type Page = Arc<Control>;
    type Files = Files;
    type Error = AppendError;

    /// Where the bus was replaced meanwhile, cursors mean other places: what stands there now is synced, all of it.
    fn page(&self) -> Result<Option<Arc<Control>>, AppendError> {
        let holds = |control: &Arc<Control>| {
            let page = control.page();
            let is_ours = control.is_writable() && page.incarnation.load(Relaxed) == self.incarnation;
            is_ours && page.poison.load(Relaxed) == 0
        };
        if let Some(control) = self.stream.control()?.filter(holds) {
            return Ok(Some(control));
        }
        self.stream.with_lock(|lock, open| {
            let memory = self.stream.look_to_write(lock, open)?;
            let (control, memory) = self.stream.control_held(lock, open, memory)?;
            if memory.incarnation == self.incarnation {
                return Ok(Some(control));
            }
            self.stream.sync_held(lock, open, &control, memory)?;
            Ok(None)
        })
    }

    fn syncs(control: &Arc<Control>) -> &Syncs {
        &control.page().syncs
    }

    fn lead_alone(&self, control: &Arc<Control>, lead: impl FnOnce()) -> Result<bool, AppendError> {
        // The threads of this process share the lock's file.
        let leading = match self.stream.leader.try_lock() {
            Ok(leading) => leading,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let leads = control.lock().try_lock();
        let leads = leads.map_err(|e| self.stream.append_error("has a page that cannot be locked", e))?;
        if leads {
            let held = control.lock().held();
            lead();
            drop(held);
        }
        drop(leading);
        Ok(leads)
    }

    fn wanted(&self, control: &Arc<Control>) -> u64 {
        wanted(control)
    }

    /// Not beyond this file: of one that began since, its own writers take care.
    fn files(&self, control: &Arc<Control>) -> Result<(Files, u64), AppendError> {
        let cannot = |e| self.stream.append_error("cannot be looked at to be synced", e);
        let end = self.base + os::look_at(&self.file).map_err(cannot)?.len;
        let syncs = &control.page().syncs;
        let (bus, under_way) = (self.file.clone(), self.under_way);
        let mut files = Files { archives: Vec::new(), bus, folders: Vec::new(), under_way };
        let synced = syncs.synced();
        // Of the file nothing was synced so far. All that a sync needs is open before it begins: who has no descriptor left
        // has not seen a sync fail.
        if synced <= self.base {
            files.folders = self.stream.folders().map_err(cannot)?;
        }
        if synced < self.base {
            let archives =
                self.stream.archives(self.base).map_err(|source| self.stream.unreadable(source))?;
            for archive in archives.iter().filter(|archive| archive.end() > synced) {
                files.archives.push(os::open_to_read(&archive.path).map_err(cannot)?);
            }
            files.under_way = syncs.under_way();
        }
        Ok((files, wanted(control).min(end)))
    }

    fn under_way(files: &Files) -> UnderWay {
        files.under_way
    }

    fn sync(&self, files: &Files, from: u64) -> io::Result<()> {
        for file in files.archives.iter().chain([&*files.bus]) {
            self.stream.counters.syncs.fetch_add(1, Relaxed);
            file.sync_data()?;
        }
        if from <= self.base {
            for folder in &files.folders {
                folder.sync_all()?;
            }
        }
        Ok(())
    }

    fn rescue(&self, failed: &Failed) -> Result<(), AppendError> {
        self.stream.with_lock(|lock, open| {
            let memory = self.stream.look_to_write(lock, open)?;
            let (control, memory) = self.stream.control_held(lock, open, memory)?;
            let replaced = memory.incarnation != self.incarnation;
            if !replaced && control.page().syncs.was_rescued(failed.from, failed.to) {
                return Ok(());
            }
            let from = if replaced { failed.from.min(memory.synced) } else { failed.from };
            self.stream.rescue_held(lock, open, &control, &memory, from, &failed.why).map(drop)
        })
    }

    fn alone(&self, end: u64) -> Result<(), AppendError> {
        let control = self.stream.with_lock(|lock, open| {
            let memory = self.stream.look_to_write(lock, open)?;
            let (control, memory) = self.stream.control_held(lock, open, memory)?;
            if memory.incarnation == self.incarnation && memory.synced < end {
                if memory.end < end {
                    let gone =
                        io::Error::new(io::ErrorKind::NotFound, "what was appended is not there any more");
                    return Err(self.stream.append_error("was cut while it was synced", gone));
                }
                self.stream.sync_held(lock, open, &control, memory)?;
            }
            Ok(control)
        })?;
        ring(&control.page().syncs.bell);
        Ok(())
    }
}
