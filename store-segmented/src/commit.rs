//! Who syncs a stream, and for whom: the protocol is the one of all stores; what is synced here is the active segment
//! (`docs/formats/segment.md`, "Sync").

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, TryLockError};

use run_agent_core::store::AppendError;
use run_agent_core::{Cursor, Durability, Timestamp};
use run_agent_store_shared::commit::{Failed, Log, sync_lone};
use run_agent_store_shared::lock::LockFile;
use run_agent_store_shared::page::{Syncs, UnderWay};
use run_agent_store_shared::wait::{ensure_synced, ring};

use crate::control::Control;
use crate::page::{Ends, Page, Tail};
use crate::segment::Segment;
use crate::store::SegmentedStream;

fn nanos(ts: Timestamp) -> u64 {
    u64::try_from(ts.as_nanosecond()).unwrap_or_default()
}

impl SegmentedStream {
    /// Is it this appender's turn to sync? Under `interval` who finds so says so at once: others need not as well.
    pub(crate) fn is_due(&self, page: &Page, durability: Durability, tail: &Tail) -> bool {
        match durability {
            Durability::None => false,
            Durability::Always => true,
            Durability::Interval => {
                let every = u64::try_from(self.options.sync_every.as_nanos()).unwrap_or(u64::MAX);
                // A clock that was set back makes the last sync one of the future: nothing is known of it.
                let since = nanos(tail.ts).checked_sub(page.syncs.sync_at.load(Relaxed));
                let behind = tail.lsn.saturating_sub(page.syncs.sync_to.load(Relaxed));
                let due = since.is_none_or(|since| since >= every) || behind >= self.options.sync_messages;
                if due {
                    page.syncs.begins(nanos(Timestamp::now()), tail.lsn);
                }
                due
            }
        }
    }

    /// Makes everything survive that stands there now.
    pub(crate) fn sync_all(&self) -> Result<Cursor, AppendError> {
        let Some(view) = self.view().map_err(|source| self.unreadable(source))? else {
            return Ok(Cursor::START);
        };
        ensure_synced(self, view.tail.lsn)?;
        Ok(Cursor::new(view.tail.lsn))
    }

    /// Syncs up to the end with the append lock held. False when that could not be trusted, and everything was written
    /// again into a new segment.
    pub(crate) fn sync_held(
        &self,
        control: &Arc<Control>,
        segment: &Arc<Segment>,
        tail: &Tail,
    ) -> Result<bool, AppendError> {
        match sync_lone(self, control, segment, tail.lsn) {
            Ok(()) => Ok(true),
            Err(failed) => self.rescue_held(control, failed.from, &failed.why).map(|()| false),
        }
    }

    /// Forgets which segment it wrote to: the set of segments was changed.
    pub(crate) fn forget_active(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Log for SegmentedStream {
    type Page = Arc<Control>;
    type Files = Arc<Segment>;
    type Error = AppendError;

    fn page(&self) -> Result<Option<Arc<Control>>, AppendError> {
        let found =
            self.control().map_err(|e| self.append_error("has a page that cannot be looked at", e))?;
        match found {
            Some(control) if control.is_writable() && control.page().poison.load(Relaxed) == 0 => {
                Ok(Some(control))
            }
            // Lost, not to be written, or refused: what the lock's holder makes of it.
            Some(_) | None => self.with_lock(|_, control| Ok(Some(control.clone()))),
        }
    }

    fn syncs(control: &Arc<Control>) -> &Syncs {
        &control.page().syncs
    }

    fn lead_alone(&self, _: &Arc<Control>, lead: impl FnOnce()) -> Result<bool, AppendError> {
        let mut leader = match self.leader.try_lock() {
            Ok(leader) => leader,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let cannot = |e| self.append_error("has a sync lock that cannot be taken", e);
        let lock = match leader.take() {
            Some(lock) if lock.is_in_place().map_err(cannot)? => lock,
            Some(_) | None => LockFile::open(&self.folder.join("sync.lock")).map_err(cannot)?,
        };
        let leads = lock.try_lock().map_err(cannot)?;
        if leads {
            let held = lock.held();
            lead();
            drop(held);
        }
        *leader = Some(lock);
        Ok(leads)
    }

    fn wanted(&self, control: &Arc<Control>) -> u64 {
        control.page().tail().map_or(0, |tail| tail.lsn)
    }

    fn files(&self, control: &Arc<Control>) -> Result<(Arc<Segment>, u64), AppendError> {
        let tail = self.tail_held(control.page())?;
        Ok((self.active(control, tail.base)?, tail.lsn))
    }

    fn under_way(segment: &Arc<Segment>) -> UnderWay {
        segment.under_way
    }

    fn sync(&self, segment: &Arc<Segment>, _: u64) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Relaxed);
        segment.file.sync_data()
    }

    fn rescue(&self, failed: &Failed) -> Result<(), AppendError> {
        self.with_lock(|_, control| {
            if control.page().syncs.was_rescued(failed.from, failed.to) {
                return Ok(());
            }
            self.rescue_held(control, failed.from, &failed.why)
        })
    }

    fn alone(&self, end: u64) -> Result<(), AppendError> {
        let control = self.with_lock(|_, control| {
            let page = control.page();
            if page.syncs.synced() < end {
                let tail = self.tail_held(page)?;
                if tail.lsn < end {
                    let gone =
                        io::Error::new(io::ErrorKind::NotFound, "what was appended is not there any more");
                    return Err(self.append_error("was replaced while it was synced", gone));
                }
                let segment = self.active(control, tail.base)?;
                self.sync_held(control, &segment, &tail)?;
            }
            Ok(control.clone())
        })?;
        ring(&control.page().syncs.bell);
        Ok(())
    }
}
