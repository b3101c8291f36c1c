//! The shared page: where the stream ends, what is synced, and how that is told to all processes without a lock
//! (`docs/formats/segment.md`, "ctl"). Every word is an atomic of its own; nobody ever waits for a process that stopped
//! between two of them.

use jiff::Timestamp;

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"RUNACTL1");

/// Where the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The segment that is written to.
    pub(crate) base: u64,
    /// Where in it the next frame begins.
    pub(crate) offset: u64,
    /// The number of the next message.
    pub(crate) lsn: u64,
    /// The time of the last message; every later one is greater.
    pub(crate) ts: Timestamp,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Record {
    sequence: AtomicU64,
    base: AtomicU64,
    offset: AtomicU64,
    lsn: AtomicU64,
    seconds: AtomicU64,
    nanos: AtomicU64,
    check: AtomicU64,
    spare: AtomicU64,
}

/// A sync that is under way, or whose owner died in it.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Mark {
    from: AtomicU64,
    to: AtomicU64,
    attempt: AtomicU64,
}

/// What a mark says while it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) from: u64,
    pub(crate) to: u64,
    number: u64,
}

/// Which attempts to sync were under way at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UnderWay {
    syncing: Option<u64>,
    lone: Option<u64>,
}

#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Page {
    magic: AtomicU64,
    boot: [AtomicU64; 2],
    pub(crate) incarnation: AtomicU64,
    pub(crate) generation: AtomicU64,
    pub(crate) recover: AtomicU64,
    pub(crate) poison: AtomicU64,
    pad_a: [AtomicU64; 1],
    selector: AtomicU64,
    pad_b: [AtomicU64; 7],
    records: [Record; 2],
    synced: AtomicU64,
    pub(crate) syncing: Mark,
    pub(crate) lone: Mark,
    attempts: AtomicU64,
    pub(crate) sync_at: AtomicU64,
    pub(crate) sync_to: AtomicU64,
    group: AtomicU64,
    cost: AtomicU64,
    rescued_from: AtomicU64,
    rescued_to: AtomicU64,
    pad_c: [AtomicU64; 2],
    pub(crate) sync_bell: Bell,
    pad_d: [AtomicU64; 7],
    pub(crate) tail_bell: Bell,
}

#[cfg(not(loom))]
const _: () = {
    assert!(std::mem::offset_of!(Page, selector) == 64);
    assert!(std::mem::offset_of!(Page, records) == 128);
    assert!(std::mem::offset_of!(Page, synced) == 256);
    assert!(std::mem::offset_of!(Page, attempts) == 312);
    assert!(std::mem::offset_of!(Page, sync_bell) == 384);
    assert!(std::mem::offset_of!(Page, tail_bell) == 448);
};

/// What sleepers sleep on. Ringing costs nothing while nobody sleeps.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Bell {
    pub(crate) epoch: AtomicU32,
    sleepers: AtomicU32,
}

impl Bell {
    /// To be called before one looks whether there is anything to sleep for; the sleep is on the epoch returned.
    pub(crate) fn about_to_sleep(&self) -> u32 {
        let epoch = self.epoch.load(Acquire);
        self.sleepers.store(1, SeqCst);
        fence(SeqCst);
        epoch
    }

    /// After the change that sleepers sleep for. True when they are to be woken.
    pub(crate) fn ring(&self) -> bool {
        fence(SeqCst);
        if self.sleepers.load(SeqCst) == 0 {
            return false;
        }
        self.sleepers.store(0, SeqCst);
        self.epoch.fetch_add(1, AcqRel);
        true
    }
}

/// A cheap sum that tells a scribbled record from a written one.
fn check(words: [u64; 6]) -> u64 {
    words.iter().fold(0x9e37_79b9_7f4a_7c15, |sum, word| {
        (sum ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
    })
}

impl Tail {
    fn words(&self, sequence: u64) -> [u64; 6] {
        let nanos = self.ts.as_nanosecond();
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        let fraction = u64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
        let seconds = u64::from_le_bytes(seconds.to_le_bytes());
        [sequence, self.base, self.offset, self.lsn, seconds, fraction]
    }
}

impl Record {
    fn fill(&self, words: [u64; 6]) {
        let places = [&self.sequence, &self.base, &self.offset, &self.lsn, &self.seconds, &self.nanos];
        for (place, word) in places.into_iter().zip(words) {
            place.store(word, Relaxed);
        }
        self.check.store(check(words), Relaxed);
    }

    fn words(&self) -> ([u64; 6], u64) {
        let load = |word: &AtomicU64| word.load(Relaxed);
        let words =
            [&self.sequence, &self.base, &self.offset, &self.lsn, &self.seconds, &self.nanos].map(load);
        (words, load(&self.check))
    }

    fn tail(words: [u64; 6], sum: u64, selector: u64) -> Option<Tail> {
        let [sequence, base, offset, lsn, seconds, nanos] = words;
        if sequence != selector || sum != check(words) {
            return None;
        }
        let seconds = i64::from_le_bytes(seconds.to_le_bytes());
        let ts = Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
        Some(Tail { base, offset, lsn, ts })
    }
}

/// The tail in the bytes of a page that was read and not mapped. `None` also when it was being written.
pub(crate) fn tail_in(bytes: &[u8]) -> Option<Tail> {
    let word = |at: usize| crate::frame::u64_at(bytes, at);
    let selector = word(64);
    let at = 128 + 64 * usize::from(selector & 1 == 1);
    let words = [0, 8, 16, 24, 32, 40].map(|n| word(at + n));
    Record::tail(words, word(at + 48), selector)
}

impl Mark {
    pub(crate) fn get(&self) -> Option<Attempt> {
        let to = self.to.load(Acquire);
        (to > 0).then(|| Attempt { from: self.from.load(Acquire), to, number: self.attempt.load(Acquire) })
    }

    pub(crate) fn set(&self, attempts: &AtomicU64, from: u64, to: u64) {
        self.from.store(from, Release);
        self.attempt.store(attempts.fetch_add(1, AcqRel) + 1, Release);
        self.to.store(to, SeqCst);
    }

    pub(crate) fn clear(&self) {
        self.to.store(0, SeqCst);
    }
}

impl Page {
    /// What a new page holds. It is written as a whole before any process maps it.
    pub(crate) fn begin(&self, boot: [u64; 2], incarnation: u64, tail: &Tail, synced: u64) {
        self.magic.store(MAGIC, Relaxed);
        self.boot[0].store(boot[0], Relaxed);
        self.boot[1].store(boot[1], Relaxed);
        self.incarnation.store(incarnation, Relaxed);
        self.generation.store(1, Relaxed);
        self.synced.store(synced, Relaxed);
        self.publish(tail);
    }

    pub(crate) fn is_of(&self, boot: [u64; 2]) -> bool {
        self.magic.load(Relaxed) == MAGIC && self.boot.each_ref().map(|word| word.load(Relaxed)) == boot
    }

    /// Where the stream ends. `None` when the page is damaged.
    pub(crate) fn tail(&self) -> Option<Tail> {
        loop {
            let selector = self.selector.load(Acquire);
            let (words, sum) = self.records[usize::from(selector & 1 == 1)].words();
            fence(Acquire);
            if self.selector.load(Relaxed) == selector {
                return Record::tail(words, sum, selector);
            }
            // Somebody published meanwhile: that is progress, and the next try is as likely to succeed.
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }

    /// For who holds the append lock.
    pub(crate) fn publish(&self, tail: &Tail) {
        let next = self.selector.load(Acquire).wrapping_add(1);
        // Whoever reads a word of what follows also sees that the selector has moved since its last look.
        fence(Release);
        self.records[usize::from(next & 1 == 1)].fill(tail.words(next));
        self.selector.store(next, Release);
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Acquire)
    }

    pub(crate) fn raise_synced(&self, to: u64) {
        self.synced.fetch_max(to, AcqRel);
    }

    pub(crate) fn set_syncing(&self, from: u64, to: u64) {
        self.syncing.set(&self.attempts, from, to);
    }

    pub(crate) fn set_lone(&self, from: u64, to: u64) {
        self.lone.set(&self.attempts, from, to);
    }

    pub(crate) fn under_way(&self) -> UnderWay {
        let number = |mark: &Mark| mark.get().map(|attempt| attempt.number);
        UnderWay { syncing: number(&self.syncing), lone: number(&self.lone) }
    }

    /// Does an attempt still go on that went on then?
    pub(crate) fn still_goes_on(&self, then: UnderWay) -> bool {
        let now = self.under_way();
        (then.syncing.is_some() && now.syncing == then.syncing)
            || (then.lone.is_some() && now.lone == then.lone)
    }

    pub(crate) fn rescued(&self) -> (u64, u64) {
        (self.rescued_from.load(Acquire), self.rescued_to.load(Acquire))
    }

    pub(crate) fn set_rescued(&self, from: u64, to: u64) {
        self.rescued_to.store(0, Release);
        self.rescued_from.store(from, Release);
        self.rescued_to.store(to, Release);
    }

    /// How many messages one sync covers, on average.
    pub(crate) fn group(&self) -> u64 {
        self.group.load(Relaxed) / 16
    }

    /// What a sync costs on average, in nanoseconds.
    pub(crate) fn cost_ns(&self) -> u64 {
        self.cost.load(Relaxed)
    }

    /// Takes a sync into the averages. Two at once may lose one, which no average minds.
    pub(crate) fn note_sync(&self, messages: u64, cost_ns: u64) {
        let average = |old: u64, new: u64| if old == 0 { new } else { old - old / 8 + new / 8 };
        self.group.store(average(self.group.load(Relaxed), messages.saturating_mul(16)), Relaxed);
        self.cost.store(average(self.cost.load(Relaxed), cost_ns), Relaxed);
    }
}

#[cfg(all(test, loom))]
mod models;
