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

/// Messages on their way in: whole frames but for their heads, which only the lock tells.
pub(crate) struct Ready {
    items: Vec<Item>,
    frames: Vec<u8>,
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
        Self::encode(key, self.items)
    }

    fn encode(key: &StreamKey, items: Vec<Item>) -> Result<Self, AppendError> {
        let mut frames = Vec::with_capacity(items.iter().map(|item| item.content.body.len() + 256).sum());
        for item in &items {
            let fields = frame::blank(&mut frames, |out| payload::encode(out, key, &item.id, &item.content));
            if fields > FIELDS_MAX {
                return Err(AppendError::FieldsTooLarge { bytes: fields, max: FIELDS_MAX });
            }
        }
        Ok(Self { items, frames })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn frames_len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Step 4: ids, times and heads. Returns the entries, the frames, and the end behind them.
    pub(crate) fn seal(
        self,
        segment: &Segment,
        tail: &Tail,
        durable: u64,
        nonce: u64,
    ) -> (Vec<Entry>, Vec<u8>, Tail) {
        let Self { items, mut frames } = self;
        let mut next = *tail;
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let batch = Batch { first: tail.lsn, count, nonce };
        let (boot, now) = (os::boot_tag(), Timestamp::now());
        let mut entries = Vec::with_capacity(items.len());
        let mut rest = frames.as_mut_slice();
        for Item { mut content, id, given } in items {
            let ts = given.unwrap_or_else(|| after(next.ts, now));
            let head = Head { seal: false, lsn: next.lsn, offset: next.offset, batch, ts, durable, boot };
            let len = frame::len_at(rest);
            let (frame, behind) = rest.split_at_mut(len);
            frame::fill(frame, segment.salt(), &head);
            rest = behind;
            let id: MsgId = id.at(ts);
            if given.is_none() && content.kind == Kind::ISSUE && content.issue.is_none() {
                content.issue = Some(id.clone());
            }
            let (at, behind) = (Cursor::new(next.lsn), Cursor::new(next.lsn + 1));
            entries.push(Entry { at, next: behind, message: Message { id, ts, content } });
            next = Tail { offset: next.offset + len as u64, lsn: next.lsn + 1, ts: next.ts.max(ts), ..next };
        }
        (entries, frames, next)
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
