//! Group commit: many appenders, also in different processes, share one sync (`docs/formats/segment.md`, "Sync").
//!
//! Nothing is acknowledged that was not synced by a file that would have been told of a failure. The lock of leaders only
//! saves work: whoever has waited too long for a leader syncs by itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use run_agent_core::store::AppendError;
use run_agent_core::{Cursor, Durability, Timestamp};

use crate::control::Control;
use crate::lock::LockFile;
use crate::os;
use crate::page::{Page, Tail};
use crate::segment::Segment;
use crate::store::SegmentedStream;

/// Nobody waits for a leader longer than this, or four times what a sync takes.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a leader waits for others at the most.
const LINGER_MAX: Duration = Duration::from_micros(300);
/// How often it looks whether they have come.
const LINGER_LOOK: Duration = Duration::from_micros(40);

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
                let since = nanos(tail.ts).checked_sub(page.sync_at.load(Relaxed));
                let behind = tail.lsn.saturating_sub(page.sync_to.load(Relaxed));
                let due = since.is_none_or(|since| since >= every) || behind >= self.options.sync_messages;
                if due {
                    begins(page, tail);
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
        self.ensure_synced(view.tail.lsn)?;
        Ok(Cursor::new(view.tail.lsn))
    }

    /// Returns once everything before `end` is on disk.
    pub(crate) fn ensure_synced(&self, end: u64) -> Result<(), AppendError> {
        let began = Instant::now();
        let mut sleeps_on = None;
        loop {
            let found =
                self.control().map_err(|e| self.append_error("has a page that cannot be looked at", e))?;
            let control = match found {
                Some(control) if control.is_writable() && control.page().poison.load(Relaxed) == 0 => control,
                // Lost, not to be written, or refused: what the lock's holder makes of it.
                Some(_) | None => self.with_lock(|_, control| Ok(control.clone()))?,
            };
            let page = control.page();
            if page.synced() >= end {
                return Ok(());
            }
            if self.try_to_lead(&control, end)? {
                continue;
            }
            let patience = PATIENCE.max(Duration::from_nanos(page.cost_ns().saturating_mul(4)));
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                self.sync_alone(end)?;
                continue;
            }
            // First it is said that somebody sleeps, then everything is looked at once more: who freed the lock in between
            // did not ring.
            match sleeps_on.take() {
                None => sleeps_on = Some(page.sync_bell.about_to_sleep()),
                Some(epoch) => os::sleep_on(&page.sync_bell.epoch, epoch, left),
            }
        }
    }

    /// True when this thread led.
    fn try_to_lead(&self, control: &Arc<Control>, end: u64) -> Result<bool, AppendError> {
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
        let led = match lock.try_lock().map_err(cannot)? {
            Some(held) => {
                let led = self.lead(control, end);
                drop(held);
                Some(led)
            }
            None => None,
        };
        *leader = Some(lock);
        drop(leader);
        let Some(result) = led else { return Ok(false) };
        if control.page().sync_bell.ring() {
            os::wake_all(&control.page().sync_bell.epoch);
        }
        result.map(|()| true)
    }

    fn lead(&self, control: &Arc<Control>, end: u64) -> Result<(), AppendError> {
        let page = control.page();
        if let Some(left) = page.syncing.get() {
            // Whoever set it held the lock that is held here: it died between its sync and what came of it.
            return self.rescue(left.from, left.to, "its leader died in it");
        }
        if page.synced() >= end {
            return Ok(());
        }
        linger(page);
        let tail = page
            .tail()
            .ok_or_else(|| self.append_error("has a damaged page", std::io::ErrorKind::InvalidData.into()))?;
        if tail.lsn < end {
            let gone =
                std::io::Error::new(std::io::ErrorKind::NotFound, "what was appended is not there any more");
            return Err(self.append_error("was replaced while it was synced", gone));
        }
        let segment = self.active(control, tail.base)?;
        let from = page.synced();
        if page.still_goes_on(segment.under_way) {
            return self.rescue(from, tail.lsn, "another sync's outcome is unknown");
        }
        begins(page, &tail);
        page.set_syncing(from, tail.lsn);
        match self.sync(page, &segment, tail.lsn.saturating_sub(from)) {
            Ok(()) => {
                page.raise_synced(tail.lsn);
                page.syncing.clear();
                Ok(())
            }
            Err(error) => self.rescue(from, tail.lsn, &error.to_string()),
        }
    }

    fn sync(&self, page: &Page, segment: &Segment, messages: u64) -> std::io::Result<()> {
        self.counters.syncs.fetch_add(1, Relaxed);
        let began = Instant::now();
        segment.file.sync_data()?;
        page.note_sync(messages, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// No leader has come to an end in time: under the append lock, where nobody else does so.
    fn sync_alone(&self, end: u64) -> Result<(), AppendError> {
        let rung = self.with_lock(|_, control| {
            let page = control.page();
            if page.synced() < end {
                let tail = self.tail_held(page)?;
                let segment = self.active(control, tail.base)?;
                self.sync_lone(control, &segment, &tail)?;
            }
            Ok(page.sync_bell.ring().then(|| control.clone()))
        })?;
        if let Some(control) = rung {
            os::wake_all(&control.page().sync_bell.epoch);
        }
        Ok(())
    }

    /// Syncs up to the end with the append lock held. False when that could not be trusted, and everything was written
    /// again into a new segment.
    pub(crate) fn sync_lone(
        &self,
        control: &Arc<Control>,
        segment: &Segment,
        tail: &Tail,
    ) -> Result<bool, AppendError> {
        let page = control.page();
        let from = page.synced();
        if page.still_goes_on(segment.under_way) {
            let from = page.syncing.get().map_or(from, |other| other.from.min(from));
            self.rescue_held(control, from, "another sync's outcome is unknown")?;
            return Ok(false);
        }
        begins(page, tail);
        page.set_lone(from, tail.lsn.max(1));
        match self.sync(page, segment, tail.lsn.saturating_sub(from)) {
            Ok(()) => {
                page.raise_synced(tail.lsn);
                page.lone.clear();
                Ok(true)
            }
            Err(error) => self.rescue_held(control, from, &error.to_string()).map(|()| false),
        }
    }
}

/// A sync begins, of everything up to the end.
fn begins(page: &Page, tail: &Tail) {
    page.sync_at.store(nanos(Timestamp::now()), Relaxed);
    page.sync_to.fetch_max(tail.lsn, Relaxed);
}

/// Gives those a moment who usually share a sync. It sleeps: on a busy machine they need the processor.
fn linger(page: &Page) {
    let limit = LINGER_MAX.min(Duration::from_nanos(page.cost_ns() / 8));
    let began = Instant::now();
    loop {
        let waiting = page.tail().map_or(0, |tail| tail.lsn.saturating_sub(page.synced()));
        let left = limit.saturating_sub(began.elapsed());
        if waiting >= page.group() || left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LINGER_LOOK));
    }
}

impl SegmentedStream {
    /// Forgets which segment it wrote to: the set of segments was changed.
    pub(crate) fn forget_active(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
