//! What was folded last, in the order in which it was, for all who watch: each reads it at a pace of its own, and what the
//! ring holds is bounded whatever they do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use run_agent_core::world::Change;
use run_agent_core::{Entry, Message, StreamKey};
use tokio::sync::watch;

/// Events that are kept, at the most …
const EVENTS_MAX: usize = 16_384;
/// … and the sum of what they hold, in bytes.
const BYTES_MAX: usize = 32 << 20;

/// Something that was folded, or what became of a stream.
#[derive(Debug)]
pub struct Event {
    /// Counts all events of this server, from 1.
    pub seq: u64,
    pub key: StreamKey,
    pub what: What,
    /// The message as JSON, made for the first who wants it.
    text: OnceLock<Arc<str>>,
}

#[derive(Debug)]
pub enum What {
    Appended {
        entry: Box<Entry>,
        changes: Vec<Change>,
    },
    /// The stream is another one now: what was told of it may not hold.
    Replaced,
    /// Its task or project was deleted.
    Gone,
}

impl Event {
    /// The message as clients get it.
    pub fn text(&self) -> Option<Arc<str>> {
        let What::Appended { entry, .. } = &self.what else { return None };
        let text = self.text.get_or_init(|| serde_json::to_string(&entry.message).unwrap_or_default().into());
        Some(text.clone())
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::Appended { entry, changes } => held(&entry.message) * 2 + changes.len() * 512 + 1024,
            What::Replaced | What::Gone => 256,
        }
    }
}

/// What a message says, in bytes.
pub(crate) fn held(message: &Message) -> usize {
    let content = &message.content;
    let of_meta = |meta: &BTreeMap<String, String>| {
        meta.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>()
    };
    let links =
        content.links.iter().map(|link| link.url.len() + link.label.as_ref().map_or(0, String::len) + 64);
    let parents =
        content.parents.iter().map(|parent| parent.msg_id.as_str().len() + of_meta(&parent.meta) + 64);
    content.body.len() + of_meta(&content.meta) + links.sum::<usize>() + parents.sum::<usize>()
}

/// Why a reader cannot go on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FellBehind;

#[derive(Debug)]
pub struct Ring {
    /// Tells this server's numbers from those of the one before.
    pub epoch: u64,
    held: Mutex<Held>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Held {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl Ring {
    pub(super) fn new() -> Self {
        let epoch = run_agent_core::Timestamp::now().as_microsecond().unsigned_abs();
        Self { epoch, held: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// The number of the newest event.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// To be woken by events that come.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Only the thread that folds calls this.
    pub(super) fn push(&self, key: &StreamKey, what: What) {
        let seq = self.newest() + 1;
        let event = Arc::new(Event { seq, key: key.clone(), what, text: OnceLock::new() });
        let mut held = self.held();
        held.bytes += event.bytes();
        held.events.push_back(event);
        while held.events.len() > EVENTS_MAX || held.bytes > BYTES_MAX {
            let Some(oldest) = held.events.pop_front() else { break };
            held.bytes -= oldest.bytes();
        }
        drop(held);
        self.newest.send_replace(seq);
    }

    /// The events behind `seq`, at most `limit` of them.
    ///
    /// # Errors
    /// When some of them are not held any more.
    pub fn since(&self, seq: u64, limit: usize) -> Result<Vec<Arc<Event>>, FellBehind> {
        let held = self.held();
        let Some(first) = held.events.front().map(|event| event.seq) else {
            return if seq >= self.newest() { Ok(Vec::new()) } else { Err(FellBehind) };
        };
        let skip = (seq + 1).checked_sub(first).ok_or(FellBehind)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(held.events.iter().skip(skip).take(limit).cloned().collect())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use run_agent_core::ProjectId;

    use super::*;

    fn numbers(ring: &Ring, seq: u64) -> Result<Vec<u64>, FellBehind> {
        Ok(ring.since(seq, usize::MAX)?.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn a_reader_gets_each_event_once_or_is_told_that_it_fell_behind() {
        let ring = Ring::new();
        assert_eq!(numbers(&ring, 0), Ok(vec![]));
        let key = StreamKey::project(ProjectId::parse("p").unwrap());
        for _ in 0..3 {
            ring.push(&key, What::Gone);
        }
        assert_eq!(numbers(&ring, 0), Ok(vec![1, 2, 3]));
        assert_eq!(numbers(&ring, 2), Ok(vec![3]));
        assert_eq!(numbers(&ring, 3), Ok(vec![]));
        for _ in 0..EVENTS_MAX {
            ring.push(&key, What::Gone);
        }
        assert_eq!(numbers(&ring, 2), Err(FellBehind));
        assert_eq!(numbers(&ring, 3).unwrap().len(), EVENTS_MAX);
    }
}
