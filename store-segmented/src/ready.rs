//! Messages on their way in: encoded as far as that goes without the lock, then given ids, times and frames under it.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use run_agent_core::message::FIELDS_MAX;
use run_agent_core::store::AppendError;
use run_agent_core::{Cursor, Draft, Entry, Kind, Message, MsgId, StreamKey, Timestamp};

use crate::frame::{self, Batch, Head};
use crate::os;
use crate::page::Tail;
use crate::payload::{self, Id};
use crate::segment::Segment;

/// Counts the messages of this process.
static SEQUENCE: AtomicU32 = AtomicU32::new(1);

/// Numbers that no other handle gives, one a batch.
#[derive(Debug, Default)]
pub(crate) struct Nonces(Option<u64>);

impl Nonces {
    pub(crate) fn next(&mut self) -> io::Result<u64> {
        let last = match self.0 {
            Some(last) => last,
            None => os::random()?,
        };
        let next = last.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0 = Some(next);
        Ok(next)
    }
}

/// A message on its way in.
struct Item {
    content: Draft,
    id: Id,
    /// The time that another store gave it.
    given: Option<Timestamp>,
}

/// Messages on their way in, encoded but for what only the lock tells.
pub(crate) struct Ready {
    items: Vec<(Item, std::ops::Range<usize>)>,
    payloads: Vec<u8>,
}

impl Ready {
    pub(crate) fn new(key: &StreamKey, batch: Vec<Draft>) -> Result<Self, AppendError> {
        let own = || Id::Own { process: process_id(), sequence: SEQUENCE.fetch_add(1, Relaxed) };
        Self::encode(key, batch.into_iter().map(|content| Item { content, id: own(), given: None }).collect())
    }

    pub(crate) fn given(key: &StreamKey, batch: Vec<Message>) -> Result<Self, AppendError> {
        let item = |Message { id, ts, content }| Item { content, id: Id::of(&id, ts), given: Some(ts) };
        Self::encode(key, batch.into_iter().map(item).collect())
    }

    /// The same for a stream that was written under another name.
    pub(crate) fn of(self, key: &StreamKey) -> Result<Self, AppendError> {
        Self::encode(key, self.items.into_iter().map(|(item, _)| item).collect())
    }

    fn encode(key: &StreamKey, batch: Vec<Item>) -> Result<Self, AppendError> {
        let mut payloads = Vec::with_capacity(batch.iter().map(|item| item.content.body.len() + 256).sum());
        let mut items = Vec::with_capacity(batch.len());
        for item in batch {
            let start = payloads.len();
            let fields = payload::encode(&mut payloads, key, &item.id, &item.content);
            if fields > FIELDS_MAX {
                return Err(AppendError::FieldsTooLarge { bytes: fields, max: FIELDS_MAX });
            }
            items.push((item, start..payloads.len()));
        }
        Ok(Self { items, payloads })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn frames_len(&self) -> u64 {
        self.items.iter().map(|(_, range)| frame::len_of(range.len()) as u64).sum()
    }

    /// Step 4: ids, times and frames. Returns the entries and the end behind them.
    pub(crate) fn seal(
        self,
        frames: &mut Vec<u8>,
        segment: &Segment,
        tail: &Tail,
        durable: u64,
        nonce: u64,
    ) -> (Vec<Entry>, Tail) {
        frames.clear();
        let mut next = *tail;
        let count = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        let batch = Batch { first: tail.lsn, count, nonce };
        let mut entries = Vec::with_capacity(self.items.len());
        for (Item { mut content, id, given }, range) in self.items {
            let ts = given.unwrap_or_else(|| after(next.ts, Timestamp::now()));
            let boot = os::boot_tag();
            let head = Head { seal: false, lsn: next.lsn, offset: next.offset, batch, ts, durable, boot };
            frame::encode(frames, segment.salt(), &head, &self.payloads[range]);
            let id: MsgId = id.at(ts);
            if given.is_none() && content.kind == Kind::ISSUE && content.issue.is_none() {
                content.issue = Some(id.clone());
            }
            let (at, behind) = (Cursor::new(next.lsn), Cursor::new(next.lsn + 1));
            entries.push(Entry { at, next: behind, message: Message { id, ts, content } });
            next = Tail {
                offset: tail.offset + frames.len() as u64,
                lsn: next.lsn + 1,
                ts: next.ts.max(ts),
                ..next
            };
        }
        (entries, next)
    }
}

/// Asked for once: it is a system call. This program never forks without starting another one.
fn process_id() -> u32 {
    static ID: OnceLock<u32> = OnceLock::new();
    *ID.get_or_init(std::process::id)
}

/// The clock's time, or the next moment behind the newest message where the clock stands still or was set back.
fn after(newest: Timestamp, now: Timestamp) -> Timestamp {
    if now > newest {
        return now;
    }
    Timestamp::from_nanosecond(newest.as_nanosecond().saturating_add(1)).unwrap_or(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_gives_the_next_moment() {
        let t = |n| Timestamp::from_nanosecond(n).unwrap();
        assert_eq!(after(t(4), t(5)), t(5));
        assert_eq!(after(t(5), t(5)), t(6));
        assert_eq!(after(t(3_600_000_000_000), t(5)), t(3_600_000_000_001));
    }
}
