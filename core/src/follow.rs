//! History becomes live, written once for every store and every reader: read what is there from a cursor, then wait
//! at its end, and never lose or repeat an entry where the two meet.

use std::sync::Arc;
use std::time::Duration;

use crate::id::MsgId;
use crate::store::{Cursor, Entry, OpenError, Page, ReadError, Store, Stream, StreamKey};

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    Start,
    /// With the last `n` entries.
    Last(usize),
    /// Behind the entry with this id.
    After(MsgId),
    /// Behind everything that is there now.
    End,
}

/// A reader that knows its place. Dropping it costs nothing; taking it up again by the last id loses nothing.
#[derive(Debug)]
pub struct Follow {
    store: Arc<dyn Store>,
    stream: Arc<dyn Stream>,
    cursor: Cursor,
    last: Option<MsgId>,
}

/// Entries that one call hands out at the most: a bound on memory, not on progress. With fewer the end was reached.
pub const PAGE_ENTRIES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Follow {
    /// # Errors
    /// When the stream is not there, or `from` names a message that it does not hold.
    pub fn open(store: Arc<dyn Store>, key: &StreamKey, from: From) -> Result<Self, FollowError> {
        let stream = store.open(key)?;
        let (cursor, last) = match from {
            From::Start => (Cursor::START, None),
            From::End | From::Last(0) => {
                // The last id is where reading is taken up again should the stream be replaced.
                let page = stream.last(1)?;
                (page.next, page.entries.last().map(|entry| entry.message.id.clone()))
            }
            From::After(id) => (stream.find(&id)?, Some(id)),
            From::Last(count) => {
                let page = stream.last(count)?;
                (page.entries.first().map_or(page.next, |e| e.at), None)
            }
        };
        Ok(Self { store, stream, cursor, last })
    }

    /// Goes on where an earlier reader stood: at `cursor` of the incarnation that `stream` reads, behind the entry `last`.
    #[must_use]
    pub fn resume(store: Arc<dyn Store>, stream: Arc<dyn Stream>, cursor: Cursor, last: MsgId) -> Self {
        Self { store, stream, cursor, last: Some(last) }
    }

    /// Which incarnation of the stream it reads. A change says that the stream was replaced from outside: what was
    /// handed out stays what it was, but what stands before may have changed.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.stream.incarnation()
    }

    #[must_use]
    pub fn stream(&self) -> &Arc<dyn Stream> {
        &self.stream
    }

    /// The gap before the next entry that this reader has not handed out.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// What is there and was not handed out yet. Empty at the end of the stream.
    ///
    /// # Errors
    /// When the system fails, or the stream was replaced by one that does not hold the last entry that was handed
    /// out.
    pub fn ready(&mut self) -> Result<Page, FollowError> {
        let page = match self.stream.read(self.cursor, PAGE_ENTRIES) {
            Err(ReadError::Incarnation { .. }) => {
                self.take_up_again()?;
                self.stream.read(self.cursor, PAGE_ENTRIES)?
            }
            other => other?,
        };
        self.cursor = page.next;
        if let Some(entry) = page.entries.last() {
            self.last = Some(entry.message.id.clone());
        }
        Ok(page)
    }

    /// As [`Follow::ready`], but sleeps up to `timeout` when nothing is there. May return an empty page early.
    ///
    /// # Errors
    /// As [`Follow::ready`].
    pub fn wait(&mut self, timeout: Duration) -> Result<Page, FollowError> {
        let page = self.ready()?;
        if !page.is_empty() || timeout.is_zero() {
            return Ok(page);
        }
        match self.stream.wait(self.cursor, timeout) {
            // `ready` takes it up.
            Ok(()) | Err(ReadError::Incarnation { .. }) => self.ready(),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts an entry as handed out that the caller got in another way: from a conditional append that it made, or
    /// that fed it. Such entries must come in order and begin at this reader's cursor.
    pub fn note(&mut self, entry: &Entry) {
        if entry.at >= self.cursor {
            self.cursor = entry.next;
            self.last = Some(entry.message.id.clone());
        }
    }

    fn take_up_again(&mut self) -> Result<(), FollowError> {
        self.stream = self.store.open(self.stream.key())?;
        self.cursor = match &self.last {
            Some(id) => self.stream.find(id)?,
            None => Cursor::START,
        };
        Ok(())
    }
}
