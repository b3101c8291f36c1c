//! What this store keeps in the shared page: where the stream ends, told to all processes without a lock
//! (`docs/formats/segment.md`, "ctl"). Nobody ever waits for a process that stopped in the middle of it.

use jiff::Timestamp;
use run_agent_store_shared::sync::{AtomicU64, Ordering, fence};

use Ordering::{Acquire, Relaxed, Release, SeqCst};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"RUNACTL1");

/// The selector, padded, and two records.
pub(crate) const OWN: usize = 24;
pub(crate) type Page = run_agent_store_shared::page::Page<OWN>;

const SELECTOR: usize = 0;
const RECORDS: usize = 8;
const RECORD_LEN: usize = 8;
/// Where a page's own words begin, in its bytes.
const OWN_AT: usize = 64;

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

/// Which set of segments a page tells of. What was opened or listed for another one may have lost its name since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) incarnation: u64,
    generation: u64,
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

    fn of(words: [u64; 6], sum: u64, selector: u64) -> Option<Self> {
        let [sequence, base, offset, lsn, seconds, nanos] = words;
        if sequence != selector || sum != check(words) {
            return None;
        }
        let seconds = i64::from_le_bytes(seconds.to_le_bytes());
        let ts = Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
        Some(Self { base, offset, lsn, ts })
    }
}

/// Where among a page's own words the record begins that a selector names.
fn record_of(selector: u64) -> usize {
    RECORDS + RECORD_LEN * usize::from(selector & 1 == 1)
}

fn fill(record: &[AtomicU64], words: [u64; 6]) {
    for (place, word) in record.iter().zip(words) {
        place.store(word, Relaxed);
    }
    record[6].store(check(words), Relaxed);
}

/// The tail in the bytes of a page that was read and not mapped. `None` also when it was being written.
pub(crate) fn tail_in(bytes: &[u8]) -> Option<Tail> {
    let word = |at: usize| crate::frame::u64_at(bytes, OWN_AT + 8 * at);
    let selector = word(SELECTOR);
    let at = record_of(selector);
    Tail::of([0, 1, 2, 3, 4, 5].map(|n| word(at + n)), word(at + 6), selector)
}

/// The end of the stream, in its page.
pub(crate) trait Ends {
    /// `None` when the page is damaged.
    fn tail(&self) -> Option<Tail>;

    /// For who holds the append lock.
    fn publish(&self, tail: &Tail);

    /// As it is at this moment, or was a moment ago.
    fn set(&self) -> Set;

    /// For who holds the append lock: does the page say what there is? It does not when its last writer died while it
    /// changed the set of segments.
    fn is_whole(&self) -> bool;

    /// For who holds the append lock: `change`s the set of segments and publishes the end that it gives; what `settle` does
    /// belongs to it. Whoever dies or fails within leaves a page that is not whole, and readers who see what was before
    /// or what is there now.
    fn change_segments<E>(
        &self,
        change: impl FnOnce() -> Result<Tail, E>,
        settle: impl FnOnce(),
    ) -> Result<Tail, E>;

    /// The segments of a set, which `list` gives, and the end in it. `None` while the set changes.
    fn look<S: AsRef<[u64]>, E>(
        &self,
        list: impl FnOnce(Set) -> Result<S, E>,
    ) -> Result<Option<(S, Tail)>, E>;
}

impl Ends for Page {
    fn tail(&self) -> Option<Tail> {
        loop {
            let selector = self.own[SELECTOR].load(Acquire);
            let record = &self.own[record_of(selector)..];
            let words = [0, 1, 2, 3, 4, 5].map(|n: usize| record[n].load(Relaxed));
            let sum = record[6].load(Relaxed);
            fence(Acquire);
            if self.own[SELECTOR].load(Relaxed) == selector {
                return Tail::of(words, sum, selector);
            }
            // Somebody published meanwhile: that is progress, and the next try is as likely to succeed.
            #[cfg(any(loom, shuttle))]
            run_agent_store_shared::model::thread::yield_now();
        }
    }

    fn publish(&self, tail: &Tail) {
        let next = self.own[SELECTOR].load(Acquire).wrapping_add(1);
        // Whoever reads a word of what follows also sees that the selector has moved since its last look.
        fence(Release);
        fill(&self.own[record_of(next)..], tail.words(next));
        self.own[SELECTOR].store(next, Release);
    }

    fn set(&self) -> Set {
        Set { incarnation: self.incarnation.load(Relaxed), generation: self.generation.load(Relaxed) }
    }

    fn is_whole(&self) -> bool {
        self.recover.load(Relaxed) == 0 && self.tail().is_some()
    }

    fn change_segments<E>(
        &self,
        change: impl FnOnce() -> Result<Tail, E>,
        settle: impl FnOnce(),
    ) -> Result<Tail, E> {
        self.recover.store(1, SeqCst);
        let tail = change()?;
        self.generation.fetch_add(1, SeqCst);
        self.publish(&tail);
        settle();
        self.recover.store(0, SeqCst);
        Ok(tail)
    }

    fn look<S: AsRef<[u64]>, E>(
        &self,
        list: impl FnOnce(Set) -> Result<S, E>,
    ) -> Result<Option<(S, Tail)>, E> {
        let set = self.set();
        let segments = list(set)?;
        let Some(tail) = self.tail() else { return Ok(None) };
        let same = self.set() == set;
        Ok((same && segments.as_ref().binary_search(&tail.base).is_ok()).then_some((segments, tail)))
    }
}

#[cfg(all(test, any(loom, shuttle)))]
mod models;
