//! A store in memory, stricter than the real ones: its cursors are neither dense nor byte offsets, it panics on a
//! cursor that it never gave, and it checks that a condition is used as the trait says.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::id::MsgId;
use crate::message::{BODY_MAX, Draft, FIELDS_MAX, Kind, Message};
use crate::store::{
    AppendError, Condition, Cursor, Durability, Entry, OpenError, Page, ReadError, Report, Stats, Store,
    Stream, StreamKey, StreamVersion,
};

#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    streams: Arc<Mutex<BTreeMap<StreamKey, Arc<MemoryStream>>>>,
}

#[derive(Debug)]
struct MemoryStream {
    key: StreamKey,
    entries: Mutex<Vec<Entry>>,
    /// The newest time of the ids that another store gave.
    restored: Mutex<Option<Timestamp>>,
    grown: Condvar,
}

/// The gap before the `index`-th entry: increasing, with holes that tell an invented cursor from a given one.
fn gap(index: usize) -> Cursor {
    let n = index as u64;
    Cursor::new(n * 17 + n % 5)
}

fn index_of(cursor: Cursor) -> usize {
    let guess = usize::try_from(cursor.get() / 17).unwrap_or(usize::MAX);
    assert_eq!(gap(guess), cursor, "{cursor:?} is a cursor that this store never gave");
    guess
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn open(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.entry(key.clone()).or_insert_with(|| {
            Arc::new(MemoryStream {
                key: key.clone(),
                entries: Mutex::default(),
                restored: Mutex::default(),
                grown: Condvar::new(),
            })
        });
        Ok(stream.clone())
    }

    fn version(&self, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = streams.get(key).map_or(0, |stream| stream.lock().len());
        Ok(Some(StreamVersion::new(&format!("1.{entries}"))))
    }

    fn place(&self, key: &StreamKey) -> PathBuf {
        PathBuf::from("memory").join(key.to_string())
    }

    fn remove(&self, key: &StreamKey) -> io::Result<bool> {
        Ok(self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some())
    }
}

impl MemoryStream {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entries: &mut Vec<Entry>, batch: Vec<Draft>) -> Result<Vec<Entry>, AppendError> {
        if let Some(large) = batch.iter().find(|d| d.body.len() > BODY_MAX) {
            return Err(AppendError::TooLarge { bytes: large.body.len(), max: BODY_MAX });
        }
        for draft in &batch {
            // As strict as a text format that needs two bytes for a byte.
            let map =
                |meta: &BTreeMap<String, String>| meta.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
            let bytes = map(&draft.meta)
                + draft.parents.iter().map(|p| p.msg_id.as_str().len() + map(&p.meta)).sum::<usize>();
            if bytes * 2 > FIELDS_MAX {
                return Err(AppendError::FieldsTooLarge { bytes, max: FIELDS_MAX });
            }
        }
        let from = entries.len();
        for mut content in batch {
            let index = entries.len();
            // A clock that hardly moves and sometimes steps back: ids must increase all the same.
            let nanos = 1_790_000_000_000_000_000 + i128::try_from(index).unwrap_or_default();
            // Behind what was restored, too.
            let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
            let nanos = restored.map_or(nanos, |newest| {
                nanos.max(newest.as_nanosecond() + 1 + i128::try_from(index).unwrap_or_default())
            });
            let ts = Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::UNIX_EPOCH);
            let id = MsgId::new(ts, 1, 1);
            if content.kind == Kind::ISSUE && content.issue.is_none() {
                content.issue = Some(id.clone());
            }
            entries.push(Entry {
                at: gap(index),
                next: gap(index + 1),
                message: Message { id, ts, content },
            });
        }
        self.grown.notify_all();
        Ok(entries[from..].to_vec())
    }
}

impl Stream for MemoryStream {
    fn key(&self) -> &StreamKey {
        &self.key
    }

    fn incarnation(&self) -> u64 {
        1
    }

    fn append(&self, batch: Vec<Draft>, _: Durability) -> Result<Vec<Entry>, AppendError> {
        self.push(&mut self.lock(), batch)
    }

    fn restore(&self, batch: Vec<Message>) -> Result<(), AppendError> {
        let mut entries = self.lock();
        for message in batch {
            let index = entries.len();
            let mut restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner);
            *restored = restored.max(message.id.time());
            entries.push(Entry { at: gap(index), next: gap(index + 1), message });
        }
        self.grown.notify_all();
        Ok(())
    }

    fn append_if(
        &self,
        seen: Cursor,
        condition: &mut dyn Condition,
        batch: Vec<Draft>,
        _: Durability,
    ) -> Result<Option<Vec<Entry>>, AppendError> {
        let mut entries = self.lock();
        for entry in entries.get(index_of(seen)..).unwrap_or_default() {
            condition.see(entry);
        }
        if condition.agrees() { self.push(&mut entries, batch).map(Some) } else { Ok(None) }
    }

    fn read(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        let entries = self.lock();
        let page: Vec<Entry> =
            entries.get(index_of(from)..).unwrap_or_default().iter().take(limit).cloned().collect();
        let next = page.last().map_or(from, |e| e.next);
        Ok(Page { entries: page, damage: Vec::new(), next })
    }

    fn last(&self, count: usize) -> Result<Page, ReadError> {
        let entries = self.lock();
        let from = entries.len().saturating_sub(count);
        Ok(Page { entries: entries[from..].to_vec(), damage: Vec::new(), next: gap(entries.len()) })
    }

    fn find(&self, id: &MsgId) -> Result<Cursor, ReadError> {
        let unknown = || ReadError::UnknownId { key: self.key.clone(), id: id.clone() };
        self.lock().iter().find(|e| e.message.id == *id).map(|e| e.next).ok_or_else(unknown)
    }

    fn end(&self) -> Result<Cursor, ReadError> {
        Ok(gap(self.lock().len()))
    }

    fn flush(&self) -> Result<Cursor, AppendError> {
        Ok(gap(self.lock().len()))
    }

    fn wait(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError> {
        let wanted = index_of(cursor);
        let entries = self.lock();
        if entries.len() <= wanted {
            // Early or late is allowed: a wake-up is a hint.
            drop(self.grown.wait_timeout(entries, timeout));
        }
        Ok(())
    }

    fn rotate(&self) -> Result<(), AppendError> {
        Ok(())
    }

    fn verify(&self) -> Result<Report, ReadError> {
        Ok(Report { entries: self.lock().len() as u64, damage: Vec::new() })
    }

    fn stats(&self) -> Result<Stats, ReadError> {
        let entries = self.lock();
        Ok(Stats { appended_messages: entries.len() as u64, ..Stats::default() })
    }
}
