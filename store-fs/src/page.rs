//! The page in which all processes see what is synced of a stream, and who syncs (`docs/formats/bus-file.md`,
//! "Syncing"). It is made with the first sync; anybody may delete it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::{Arc, PoisonError};

use run_agent_core::store::AppendError;
use run_agent_store_shared::os::{boot, unfit};
use run_agent_store_shared::page::{Page, UnderWay};
use run_agent_store_shared::page_file::PageFile;

use crate::lock::{LockFile, Memory};
use crate::store::FsStream;
use crate::tail::OpenBus;

const MAGIC: u64 = u64::from_le_bytes(*b"RUNASYNC");
const OWN: usize = 8;
const WANTED: usize = 0;

/// The page, mapped.
pub(crate) type Control = PageFile<OWN>;

/// A sync is wanted of everything before this cursor.
pub(crate) fn wanted(control: &Control) -> u64 {
    control.page().own[WANTED].load(Acquire)
}

pub(crate) fn want(control: &Control, end: u64) {
    control.page().own[WANTED].fetch_max(end, AcqRel);
}

impl FsStream {
    /// The page, if it is in its place, and of this start of the machine.
    pub(crate) fn control(&self) -> Result<Option<Arc<Control>>, AppendError> {
        let look = || -> io::Result<Option<Arc<Control>>> {
            let mut known = self.control.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(control) = &*known
                && control.is_in_place()?
            {
                return Ok(Some(control.clone()));
            }
            *known = Control::open(&self.page, MAGIC)?.map(Arc::new);
            Ok(known.clone())
        };
        look().map_err(|e| self.no_page(e))
    }

    /// For who holds the lock: the page of this incarnation, and what the line remembers with what the page knows. What
    /// dead writers left is made good first.
    pub(crate) fn control_held(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        memory: Memory,
    ) -> Result<(Arc<Control>, Memory), AppendError> {
        let holds = |control: &Arc<Control>| {
            let page = control.page();
            page.incarnation.load(Relaxed) == memory.incarnation && page.syncs.synced() <= memory.end
        };
        let (control, memory) = match self.control()? {
            Some(control) if !control.is_writable() => {
                return Err(self.no_page(io::ErrorKind::PermissionDenied.into()));
            }
            Some(control) if holds(&control) => (control, memory),
            old => self.make_page(lock, memory, old.as_deref())?,
        };
        let syncs = &control.page().syncs;
        let memory = Memory { synced: memory.synced.max(syncs.synced()), ..memory };
        let memory = match syncs.lone.get() {
            // Nobody but the holder of this lock sets it: who did is dead.
            Some(left) => {
                self.rescue_held(lock, open, &control, &memory, left.from, "its writer died in it")?
            }
            None => memory,
        };
        Ok((control, memory))
    }

    fn make_page(
        &self,
        lock: &LockFile,
        memory: Memory,
        old: Option<&Control>,
    ) -> Result<(Arc<Control>, Memory), AppendError> {
        let boot = boot();
        let doubtful = match old {
            Some(old) => old.page().syncs.under_way() != UnderWay::default(),
            // Somebody deleted it, perhaps while a sync failed.
            None => memory.page == boot[0],
        };
        // First: a page that is lost must be known to have been there.
        let before = memory.clone();
        let memory = self.written_down(lock, Memory { page: boot[0], ..memory })?;
        let page = Page::default();
        let synced = memory.synced.min(memory.end);
        page.begin(MAGIC, boot, memory.incarnation, synced);
        page.poison.store(u64::from(memory.refused), Relaxed);
        if doubtful && synced < memory.end {
            page.syncs.set_syncing(synced, memory.end);
        }
        let control = self.put_in_place(&page).map_err(|e| {
            let _ = lock.remember(&before);
            self.no_page(e)
        })?;
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
        Ok((control, memory))
    }

    fn put_in_place(&self, page: &Page<OWN>) -> io::Result<Arc<Control>> {
        let folder = self.page.parent().unwrap_or(&self.folder);
        let made = match Control::make(&self.page, page) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                Control::make(&self.page, page)?
            }
            other => other?,
        };
        if let Some(kind) = unfit(folder)? {
            let what = format!("{kind} does not share a page between the machines that mount it");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        Ok(Arc::new(made))
    }

    fn no_page(&self, error: io::Error) -> AppendError {
        let what = format!("cannot be synced without a page at {}", self.page.display());
        self.append_error(&what, error)
    }
}
