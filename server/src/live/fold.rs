//! Folding one stream from where it was left to its end.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use run_agent_core::StreamKey;
use run_agent_core::store::{OpenError, Page, ReadError, Stream};

use super::ring::What;
use super::{Live, Place};

/// Entries that are folded while nobody else may look.
const PAGE_ENTRIES: usize = 512;

#[derive(Debug, thiserror::Error)]
pub(super) enum FoldError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Who is told of what is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    All,
    /// It is history, of which nobody can have heard.
    Nobody,
}

impl Live {
    /// Folds what is new. What cannot be read is kept as the reason.
    pub(super) fn fold(&self, key: &StreamKey, tell: Tell) {
        match self.fold_on(key, tell) {
            Ok(()) => {}
            Err(FoldError::Open(OpenError::NotFound { .. }) | FoldError::Read(ReadError::Gone { .. })) => {
                self.forget_stream(key);
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                let was_known = state.place(key).is_some();
                state.remove(key);
                drop(state);
                if was_known {
                    self.counters().entry(self.work.counter(key)).or_default().retain(|known| known != key);
                    self.ring.push(key, What::Gone);
                }
            }
            Err(error) => {
                self.forget_stream(key);
                tracing::warn!(stream = %key, %error, "a stream cannot be read");
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                state.unreadable.insert(key.clone(), error.to_string());
            }
        }
    }

    fn fold_on(&self, key: &StreamKey, tell: Tell) -> Result<(), FoldError> {
        // Before it is read: what comes in between makes the version doubtful, not wrong.
        let version = self.store.version(key)?;
        let place = self.state().place(key).cloned().unwrap_or_default();
        if version.is_some() && place.version == version {
            return Ok(());
        }
        let mut stream = self.stream(key)?;
        let Some(mut place) = check(&*stream, &place) else {
            self.forget_stream(key);
            stream = self.stream(key)?;
            return self.fold_anew(key, &*stream, tell, version);
        };
        place.size = None;
        loop {
            let page = match stream.read(place.cursor, PAGE_ENTRIES) {
                Err(ReadError::Incarnation { .. }) => {
                    self.forget_stream(key);
                    stream = self.stream(key)?;
                    return self.fold_anew(key, &*stream, tell, version);
                }
                other => other?,
            };
            let is_end = page.next == place.cursor;
            place.version = version.clone().filter(|_| is_end);
            place.incarnation = stream.incarnation();
            self.take_in(key, page, &mut place, tell);
            if is_end {
                return Ok(());
            }
        }
    }

    /// The stream is another one now: all of it is folded, and whoever watches it is told to look anew.
    fn fold_anew(
        &self,
        key: &StreamKey,
        stream: &dyn Stream,
        tell: Tell,
        version: Option<run_agent_core::store::StreamVersion>,
    ) -> Result<(), FoldError> {
        self.state.write().unwrap_or_else(PoisonError::into_inner).forget(key);
        let mut place = Place::default();
        loop {
            let page = stream.read(place.cursor, PAGE_ENTRIES)?;
            let is_end = page.next == place.cursor;
            place.version = version.clone().filter(|_| is_end);
            place.incarnation = stream.incarnation();
            self.take_in(key, page, &mut place, Tell::Nobody);
            if is_end {
                break;
            }
        }
        if tell == Tell::All {
            self.ring.push(key, What::Replaced);
        }
        Ok(())
    }

    /// World, place and ring move on together: whoever holds the state sees all three agree.
    fn take_in(&self, key: &StreamKey, page: Page, place: &mut Place, tell: Tell) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.folded.fetch_add(page.entries.len() as u64, Relaxed);
        place.damage.extend(page.damage.iter().map(|damage| format!("{}: {}", damage.place, damage.what)));
        for entry in page.entries {
            let changes = state.apply(key, entry.at, &entry.message, tell == Tell::All);
            place.last = Some((entry.at, entry.message.id.clone()));
            if tell == Tell::All {
                self.ring.push(key, What::Appended { entry: Box::new(entry), changes });
            }
        }
        place.cursor = page.next;
        if state.set_place(key, place.clone()) {
            drop(state);
            self.counters().entry(self.work.counter(key)).or_default().push(key.clone());
        }
    }
}

/// The place, if what was folded is still what the stream begins with.
fn check(stream: &dyn Stream, place: &Place) -> Option<Place> {
    let Some((at, id)) = &place.last else { return Some(Place::default()) };
    if stream.incarnation() == place.incarnation {
        return Some(place.clone());
    }
    // A handle that has not looked yet.
    let page = stream.read(*at, 1).ok()?;
    let same = page.entries.first().is_some_and(|entry| entry.at == *at && entry.message.id == *id);
    (same && stream.incarnation() == place.incarnation).then(|| place.clone())
}
