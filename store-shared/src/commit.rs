//! Group commit: many appenders, also in different processes, share one sync (`docs/formats/segment.md`, "Sync").
//!
//! Nothing is acknowledged that was not synced by a file that would have been told of a failure. The lock of leaders only
//! saves work: whoever has waited too long for a leader syncs by itself.

use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::page::{Syncs, UnderWay};

/// What a store tells of one stream, and does for it. Positions only increase; synced is everything before one.
pub trait Log {
    /// The page, open.
    type Page;
    /// What is synced with one call: open files.
    type Files;
    type Error;

    /// The page as it is now, made if it is gone. `None` when there is nothing to wait for any more.
    ///
    /// # Errors
    /// When there is none, or the stream takes nothing any more.
    fn page(&self) -> Result<Option<Self::Page>, Self::Error>;

    fn syncs(page: &Self::Page) -> &Syncs;

    /// Runs `lead` unless another one leads, in whatever process. True when it ran.
    ///
    /// # Errors
    /// When the lock of leaders cannot be taken.
    fn lead_alone(&self, page: &Self::Page, lead: impl FnOnce()) -> Result<bool, Self::Error>;

    /// Up to where a sync is wanted, as far as is known.
    fn wanted(&self, page: &Self::Page) -> u64;

    /// What makes everything up to some position safe when it is synced, and that position.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn files(&self, page: &Self::Page) -> Result<(Self::Files, u64), Self::Error>;

    /// The attempts that were under way when the youngest of these files had been opened: of a failure that was told
    /// before, it knows nothing.
    fn under_way(files: &Self::Files) -> UnderWay;

    /// Syncs what stands from `from` on.
    ///
    /// # Errors
    /// What the system says. It is final.
    fn sync(&self, files: &Self::Files, from: u64) -> io::Result<()>;

    /// Takes the append lock and writes everything again that the sync was for, unless that was done since.
    ///
    /// # Errors
    /// When that fails as well: from then on nothing more is taken.
    fn rescue(&self, failed: &Failed) -> Result<(), Self::Error>;

    /// Takes the append lock and syncs with [`sync_lone`], unless everything before `end` is synced by then.
    ///
    /// # Errors
    /// When the lock cannot be had, or the sync fails and cannot be made good.
    fn alone(&self, end: u64) -> Result<(), Self::Error>;
}

/// A sync failed, or what it came to is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub from: u64,
    pub to: u64,
    pub why: String,
}

const UNKNOWN: &str = "another sync's outcome is unknown";

/// For who holds the lock of leaders: one sync for everybody who waits.
///
/// # Errors
/// Those of the log. What waits is not acknowledged then.
pub fn lead<L: Log>(log: &L, page: &L::Page, end: u64) -> Result<(), L::Error> {
    let syncs = L::syncs(page);
    let rescue = |from, to, why: &str| {
        log.rescue(&Failed { from, to, why: why.to_owned() })?;
        // Nobody else sets this one while the lock is held.
        syncs.syncing.clear();
        Ok(())
    };
    if let Some(left) = syncs.syncing.get() {
        // Whoever set it held the lock that is held here: it died between its sync and what came of it.
        return rescue(left.from, left.to, "its leader died in it");
    }
    if syncs.synced() >= end {
        return Ok(());
    }
    linger(log, page);
    let (files, to) = log.files(page)?;
    if to < end {
        // Somebody writes it again at this moment.
        return log.alone(end);
    }
    let from = syncs.synced();
    if syncs.still_goes_on(L::under_way(&files)) {
        return rescue(from, to, UNKNOWN);
    }
    syncs.begins(now(), to);
    syncs.set_syncing(from, to);
    match timed(log, page, &files, from, to) {
        Ok(()) => {
            syncs.raise_synced(to);
            syncs.syncing.clear();
            Ok(())
        }
        Err(error) => rescue(from, to, &error.to_string()),
    }
}

/// For who holds the append lock: syncs up to `to`, whoever leads.
///
/// # Errors
/// [`Failed`], of which everything is to be written again before the lock is freed.
pub fn sync_lone<L: Log>(log: &L, page: &L::Page, files: &L::Files, to: u64) -> Result<(), Failed> {
    let syncs = L::syncs(page);
    if syncs.still_goes_on(L::under_way(files)) {
        return Err(Failed { from: syncs.doubtful_from(), to, why: UNKNOWN.to_owned() });
    }
    let from = syncs.synced();
    syncs.begins(now(), to);
    syncs.set_lone(from, to.max(1));
    match timed(log, page, files, from, to) {
        Ok(()) => {
            syncs.raise_synced(to);
            syncs.lone.clear();
            Ok(())
        }
        Err(error) => Err(Failed { from, to, why: error.to_string() }),
    }
}

fn timed<L: Log>(log: &L, page: &L::Page, files: &L::Files, from: u64, to: u64) -> io::Result<()> {
    let began = Instant::now();
    log.sync(files, from)?;
    let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    // Those who came while it went on would have shared it, had it begun a moment later: the next one is for them, and
    // for those of this one who come again.
    let group = log.wanted(page).max(to).saturating_sub(from);
    L::syncs(page).note_sync(group, took);
    Ok(())
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// Gives those a moment who usually share a sync. It sleeps: on a busy machine they need the processor.
#[cfg(not(any(loom, shuttle)))]
fn linger<L: Log>(log: &L, page: &L::Page) {
    use std::time::Duration;

    /// How long a leader waits for others at the most.
    const LONGEST: Duration = Duration::from_micros(300);
    /// How often it looks whether they have come.
    const LOOK: Duration = Duration::from_micros(40);

    let syncs = L::syncs(page);
    let limit = LONGEST.min(Duration::from_nanos(syncs.cost_ns() / 8));
    let began = Instant::now();
    loop {
        let waiting = log.wanted(page).saturating_sub(syncs.synced());
        let left = limit.saturating_sub(began.elapsed());
        // Near enough: an average of what ends in the middle of a message is seldom reached.
        if waiting >= syncs.group() - syncs.group() / 16 || left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Time does not pass in a model.
#[cfg(any(loom, shuttle))]
fn linger<L: Log>(_: &L, _: &L::Page) {}

#[cfg(all(test, loom))]
mod models;
