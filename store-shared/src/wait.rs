//! Waiting for a sync that somebody makes, or making it: each wait is bounded, so that a leader that was stopped holds
//! nobody up.

use std::time::Duration;

use crate::commit::{Log, lead};
#[cfg(any(loom, shuttle))]
use crate::model::{sleep_on, wake_all};
#[cfg(not(any(loom, shuttle)))]
use crate::os::{sleep_on, wake_all};
use crate::page::Bell;

/// Nobody waits for a leader longer than this, or four times what a sync takes.
const PATIENCE: Duration = Duration::from_millis(50);

/// Returns once everything before `end` is on disk.
///
/// # Errors
/// Those of the log: then nothing is acknowledged.
pub fn ensure_synced<L: Log>(log: &L, end: u64) -> Result<(), L::Error> {
    let mut waiting = Waiting::begins();
    let mut sleeps_on = None;
    loop {
        let Some(page) = log.page()? else { return Ok(()) };
        let syncs = L::syncs(&page);
        if syncs.synced() >= end {
            return Ok(());
        }
        let mut led = Ok(());
        if log.lead_alone(&page, || led = lead(log, &page, end))? {
            // The lock is free by now: who is woken looks for it.
            ring(&syncs.bell);
            led?;
            continue;
        }
        let patience = PATIENCE.max(Duration::from_nanos(syncs.cost_ns().saturating_mul(4)));
        let left = waiting.left(patience);
        if left.is_zero() {
            log.alone(end)?;
            continue;
        }
        // First it is said that somebody sleeps, then everything is looked at once more: who freed the lock in between
        // did not ring.
        match sleeps_on.take() {
            None => sleeps_on = Some(syncs.bell.about_to_sleep()),
            Some(epoch) => sleep_on(&syncs.bell.epoch, epoch, left),
        }
    }
}

/// How long somebody has waited.
#[cfg(not(any(loom, shuttle)))]
struct Waiting(std::time::Instant);

#[cfg(not(any(loom, shuttle)))]
impl Waiting {
    fn begins() -> Self {
        Self(std::time::Instant::now())
    }

    fn left(&mut self, patience: Duration) -> Duration {
        patience.saturating_sub(self.0.elapsed())
    }
}

/// Time does not pass in a model: whoever has looked often enough has waited long enough.
#[cfg(any(loom, shuttle))]
struct Waiting(u32);

#[cfg(any(loom, shuttle))]
impl Waiting {
    fn begins() -> Self {
        Self(4)
    }

    fn left(&mut self, patience: Duration) -> Duration {
        self.0 = self.0.saturating_sub(1);
        if self.0 > 0 { patience } else { Duration::ZERO }
    }
}

/// Wakes whoever sleeps on this bell.
pub fn ring(bell: &Bell) {
    if bell.ring() {
        wake_all(&bell.epoch);
    }
}
