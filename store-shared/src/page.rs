//! The shared page: what is synced, who syncs, and how that is told to all processes without a lock
//! (`docs/formats/segment.md`, "ctl"). Every word is an atomic of its own; nobody ever waits for a process that stopped
//! between two of them.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// A page with `OWN` words between its head and the words of the syncs, which mean what the store says.
#[derive(Debug)]
#[repr(C)]
pub struct Page<const OWN: usize> {
    magic: AtomicU64,
    boot: [AtomicU64; 2],
    pub incarnation: AtomicU64,
    pub generation: AtomicU64,
    pub recover: AtomicU64,
    pub poison: AtomicU64,
    pad: AtomicU64,
    pub own: [AtomicU64; OWN],
    pub syncs: Syncs,
    pub tail_bell: Bell,
}

/// What all processes know of the syncs of a stream, in positions of that stream.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Syncs {
    synced: AtomicU64,
    pub syncing: Mark,
    pub lone: Mark,
    attempts: AtomicU64,
    pub sync_at: AtomicU64,
    pub sync_to: AtomicU64,
    group: AtomicU64,
    cost: AtomicU64,
    rescued_from: AtomicU64,
    rescued_to: AtomicU64,
    pad_a: [AtomicU64; 2],
    pub bell: Bell,
    pad_b: [AtomicU64; 7],
}

/// A sync that is under way, or whose owner died in it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Mark {
    from: AtomicU64,
    to: AtomicU64,
    attempt: AtomicU64,
}

/// What a mark says while it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub from: u64,
    pub to: u64,
    number: u64,
}

/// Which attempts to sync were under way at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnderWay {
    syncing: Option<u64>,
    lone: Option<u64>,
}

/// What sleepers sleep on. Ringing costs nothing while nobody sleeps.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bell {
    pub epoch: AtomicU32,
    sleepers: AtomicU32,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = {
    assert!(std::mem::offset_of!(Page<0>, own) == 64);
    assert!(std::mem::offset_of!(Page<24>, syncs) == 256);
    assert!(std::mem::offset_of!(Page<24>, tail_bell) == 448);
    assert!(std::mem::offset_of!(Syncs, attempts) == 56);
    assert!(std::mem::offset_of!(Syncs, bell) == 128);
};

impl<const OWN: usize> Default for Page<OWN> {
    fn default() -> Self {
        let word = || AtomicU64::new(0);
        Self {
            magic: word(),
            boot: [word(), word()],
            incarnation: word(),
            generation: word(),
            recover: word(),
            poison: word(),
            pad: word(),
            own: std::array::from_fn(|_| word()),
            syncs: Syncs::default(),
            tail_bell: Bell::default(),
        }
    }
}

impl<const OWN: usize> Page<OWN> {
    /// What a new page holds. It is written as a whole before any process maps it.
    pub fn begin(&self, magic: u64, boot: [u64; 2], incarnation: u64, synced: u64) {
        self.magic.store(magic, Relaxed);
        self.boot[0].store(boot[0], Relaxed);
        self.boot[1].store(boot[1], Relaxed);
        self.incarnation.store(incarnation, Relaxed);
        self.generation.store(1, Relaxed);
        self.syncs.synced.store(synced, Relaxed);
    }

    pub fn is_of(&self, magic: u64, boot: [u64; 2]) -> bool {
        self.magic.load(Relaxed) == magic && self.boot.each_ref().map(|word| word.load(Relaxed)) == boot
    }
}

impl Bell {
    /// To be called before one looks whether there is anything to sleep for; the sleep is on the epoch returned.
    pub fn about_to_sleep(&self) -> u32 {
        let epoch = self.epoch.load(Acquire);
        self.sleepers.store(1, SeqCst);
        fence(SeqCst);
        epoch
    }

    /// Sleeps on the epoch, in `sleep`, unless that is `there` for which one sleeps.
    ///
    /// # Errors
    /// Those of `there`.
    pub fn sleep_unless<E>(
        &self,
        there: impl FnOnce() -> Result<bool, E>,
        sleep: impl FnOnce(&AtomicU32, u32),
    ) -> Result<(), E> {
        let epoch = self.about_to_sleep();
        if !there()? {
            sleep(&self.epoch, epoch);
        }
        Ok(())
    }

    /// After the change that sleepers sleep for. True when they are to be woken.
    #[must_use]
    pub fn ring(&self) -> bool {
        fence(SeqCst);
        if self.sleepers.load(SeqCst) == 0 {
            return false;
        }
        self.sleepers.store(0, SeqCst);
        self.epoch.fetch_add(1, AcqRel);
        true
    }
}

impl Mark {
    pub fn get(&self) -> Option<Attempt> {
        let to = self.to.load(Acquire);
        (to > 0).then(|| Attempt { from: self.from.load(Acquire), to, number: self.attempt.load(Acquire) })
    }

    fn set(&self, attempts: &AtomicU64, from: u64, to: u64) {
        self.from.store(from, Release);
        self.attempt.store(attempts.fetch_add(1, AcqRel) + 1, Release);
        self.to.store(to, SeqCst);
    }

    pub fn clear(&self) {
        self.to.store(0, SeqCst);
    }
}

impl Syncs {
    pub fn synced(&self) -> u64 {
        self.synced.load(Acquire)
    }

    pub fn raise_synced(&self, to: u64) {
        self.synced.fetch_max(to, AcqRel);
    }

    pub fn set_syncing(&self, from: u64, to: u64) {
        self.syncing.set(&self.attempts, from, to);
    }

    pub fn set_lone(&self, from: u64, to: u64) {
        self.lone.set(&self.attempts, from, to);
    }

    pub fn under_way(&self) -> UnderWay {
        let number = |mark: &Mark| mark.get().map(|attempt| attempt.number);
        UnderWay { syncing: number(&self.syncing), lone: number(&self.lone) }
    }

    /// Does an attempt still go on that went on then?
    pub fn still_goes_on(&self, then: UnderWay) -> bool {
        let now = self.under_way();
        (then.syncing.is_some() && now.syncing == then.syncing)
            || (then.lone.is_some() && now.lone == then.lone)
    }

    /// The lowest position that an attempt is for, or that is not synced.
    pub fn doubtful_from(&self) -> u64 {
        let marks = [self.syncing.get(), self.lone.get()];
        marks.iter().flatten().map(|mark| mark.from).fold(self.synced(), u64::min)
    }

    /// A sync begins, of everything up to `to`; `now` in nanoseconds since 1970.
    pub fn begins(&self, now: u64, to: u64) {
        self.sync_at.store(now, Relaxed);
        self.sync_to.fetch_max(to, Relaxed);
    }

    /// Was what stands between these written again since it was there?
    pub fn was_rescued(&self, from: u64, to: u64) -> bool {
        self.rescued_from.load(Acquire) <= from && self.rescued_to.load(Acquire) >= to
    }

    /// Everything between these was written again, and is synced.
    pub fn rescued(&self, from: u64, to: u64) {
        self.rescued_to.store(0, Release);
        self.rescued_from.store(from, Release);
        self.rescued_to.store(to, Release);
        self.raise_synced(to);
    }

    /// How many positions one sync covers, on average.
    pub fn group(&self) -> u64 {
        self.group.load(Relaxed) / 16
    }

    /// What a sync costs on average, in nanoseconds.
    pub fn cost_ns(&self) -> u64 {
        self.cost.load(Relaxed)
    }

    /// Takes a sync into the averages. Two at once may lose one, which no average minds.
    pub fn note_sync(&self, positions: u64, cost_ns: u64) {
        let average = |old: u64, new: u64| if old == 0 { new } else { old - old / 8 + new / 8 };
        self.group.store(average(self.group.load(Relaxed), positions.saturating_mul(16)), Relaxed);
        self.cost.store(average(self.cost.load(Relaxed), cost_ns), Relaxed);
    }
}
