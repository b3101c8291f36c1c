//! What was: the events of several streams in one order, and the world as it stood at a moment. Read from the streams and
//! folded for whoever asks; nothing of it is kept.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use run_agent_core::store::{ReadError, Stream};
use run_agent_core::world::Change;
use run_agent_core::{Cursor, Entry, MsgId, ProjectId, StreamKey, TaskId, Timestamp, World};

use crate::error::Refused;
use crate::live::Live;

/// Entries of all streams together that are held at once.
const HELD_MAX: usize = 65_536;
/// Entries of one stream that are read at once, at the most.
const PAGE: usize = 512;

/// What is looked back at: one task, or a project with all its tasks.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) project: ProjectId,
    pub(crate) task: Option<TaskId>,
}

/// A moment: a time, or a message with all that came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    Time(Timestamp),
    Message(MsgId),
}

impl Moment {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::Time(time));
        }
        let id = MsgId::parse(text)
            .map_err(|_| Refused::bad("a moment is a message id or a time such as 2026-11-21T09:30:15Z"))?;
        Ok(Self::Message(id))
    }
}

/// An entry with what it changed.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) key: StreamKey,
    pub(crate) entry: Entry,
    pub(crate) changes: Vec<Change>,
}

/// Where in the one order of all streams an entry stands: by time, then by id.
type Rank = (Timestamp, MsgId);

fn rank(entry: &Entry) -> Rank {
    (entry.message.ts, entry.message.id.clone())
}

impl Scope {
    /// The streams that are there, the project's own first.
    pub(crate) fn streams(&self, live: &Live) -> Result<Vec<Arc<dyn Stream>>, Refused> {
        let keys: Vec<StreamKey> = match &self.task {
            Some(task) => vec![StreamKey::task(self.project.clone(), task.clone())],
            None => {
                let state = live.state();
                crate::routes::must_be_there(&state, &self.project)?;
                let tasks = state.tasks(&self.project);
                let tasks = tasks.map(|(id, _)| StreamKey::task(self.project.clone(), id.clone()));
                std::iter::once(StreamKey::project(self.project.clone())).chain(tasks).collect()
            }
        };
        let alone = keys.len() == 1;
        let mut streams = Vec::with_capacity(keys.len());
        for key in &keys {
            match live.stream(key) {
                Ok(stream) => streams.push(stream),
                // One of many that cannot be read hides no other; `status` names it.
                Err(_) if !alone => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(streams)
    }

    /// The world as it stood at a moment, with the last entry that it knows; without one, as it stands now.
    pub(crate) fn at(&self, live: &Live, moment: Option<&Moment>) -> Result<(World, Option<Rank>), Refused> {
        let mut streams = self.streams(live)?;
        let (mut world, mut last) = (World::new(), None::<Rank>);
        let mut until = |world: &mut World, stream: &dyn Stream, is_past: &dyn Fn(&Entry) -> bool| {
            let newest = fold(world, stream, is_past)?;
            last = std::mem::take(&mut last).max(newest.clone());
            Ok::<_, ReadError>(newest)
        };
        let bound = match moment {
            None => None,
            Some(Moment::Time(time)) => Some((*time, None)),
            Some(Moment::Message(id)) => {
                let (own, end) = place_of(&streams, id)?;
                // What came before it in its own stream came before it, whatever the clock said.
                let stream = streams.swap_remove(own);
                let newest = until(&mut world, &*stream, &|entry| entry.at >= end)?;
                newest.map(|(time, id)| (time, Some(id)))
            }
        };
        for stream in &streams {
            until(&mut world, &**stream, &|entry| match &bound {
                None => false,
                Some((time, None)) => entry.message.ts > *time,
                Some((time, Some(id))) => (entry.message.ts, &entry.message.id) > (*time, id),
            })?;
        }
        Ok((world, last))
    }

    /// The events behind a moment, with the changes that each made, at most `limit` of them; and whether there are more.
    pub(crate) fn events(
        &self,
        live: &Live,
        from: Option<&Moment>,
        limit: usize,
    ) -> Result<(Vec<Told>, bool), Refused> {
        let streams = self.streams(live)?;
        if let Some(Moment::Message(id)) = from {
            place_of(&streams, id)?;
        }
        let mut merged = Merged::new(streams)?;
        let (mut world, mut found) = (World::new(), Vec::new());
        let mut told = !matches!(from, Some(Moment::Message(_)));
        while let Some((key, entry)) = merged.next()? {
            let applied = world.apply(&key, entry.at, &entry.message);
            let is_wanted = match from {
                Some(Moment::Time(time)) => entry.message.ts >= *time,
                // It was seen; what comes after it is told.
                Some(Moment::Message(id)) => {
                    let behind = told;
                    told |= entry.message.id == *id;
                    behind
                }
                None => true,
            };
            if !is_wanted {
                continue;
            }
            if found.len() == limit {
                return Ok((found, true));
            }
            let changes = world.changes(&key, &entry.message, &applied);
            found.push(Told { key, entry, changes });
        }
        Ok((found, false))
    }
}

/// Which of the streams has a message, and the gap after it.
fn place_of(streams: &[Arc<dyn Stream>], id: &MsgId) -> Result<(usize, Cursor), Refused> {
    for (at, stream) in streams.iter().enumerate() {
        match stream.find(id) {
            Ok(next) => return Ok((at, next)),
            Err(ReadError::UnknownId { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::not_found(format!("there is no message {id} here")))
}

/// Folds a stream up to the first entry that is past; the last one that was not.
fn fold(
    world: &mut World,
    stream: &dyn Stream,
    is_past: &dyn Fn(&Entry) -> bool,
) -> Result<Option<Rank>, ReadError> {
    let (mut from, mut last) = (Cursor::START, None);
    loop {
        let page = stream.read(from, PAGE)?;
        for entry in &page.entries {
            if is_past(entry) {
                return Ok(last);
            }
            world.apply(stream.key(), entry.at, &entry.message);
            last = Some(rank(entry));
        }
        if page.next == from {
            return Ok(last);
        }
        from = page.next;
    }
}

/// Several streams in one order, each in its own.
struct Merged {
    streams: Vec<Ahead>,
    heads: BinaryHeap<Reverse<(Rank, usize)>>,
    page: usize,
}

/// What was read ahead of one stream.
struct Ahead {
    stream: Arc<dyn Stream>,
    from: Cursor,
    entries: VecDeque<Entry>,
}

impl Merged {
    fn new(streams: Vec<Arc<dyn Stream>>) -> Result<Self, ReadError> {
        let page = (HELD_MAX / streams.len().max(1)).clamp(1, PAGE);
        let ahead = |stream| Ahead { stream, from: Cursor::START, entries: VecDeque::new() };
        let streams: Vec<Ahead> = streams.into_iter().map(ahead).collect();
        let count = streams.len();
        let mut merged = Self { streams, heads: BinaryHeap::with_capacity(count), page };
        for at in 0..count {
            merged.show(at)?;
        }
        Ok(merged)
    }

    /// Puts a stream's next entry among the heads.
    fn show(&mut self, at: usize) -> Result<(), ReadError> {
        let ahead = &mut self.streams[at];
        while ahead.entries.is_empty() {
            let page = ahead.stream.read(ahead.from, self.page)?;
            if page.next == ahead.from {
                return Ok(());
            }
            ahead.from = page.next;
            ahead.entries.extend(page.entries);
        }
        if let Some(entry) = ahead.entries.front() {
            self.heads.push(Reverse((rank(entry), at)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(StreamKey, Entry)>, ReadError> {
        let Some(Reverse((_, at))) = self.heads.pop() else { return Ok(None) };
        let ahead = &mut self.streams[at];
        let found = ahead.entries.pop_front().map(|entry| (ahead.stream.key().clone(), entry));
        self.show(at)?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use run_agent_core::testkit::MemoryStore;
    use run_agent_core::{Draft, Durability, Kind, Store};

    use super::*;

    #[test]
    fn several_streams_are_told_in_one_order_and_each_in_its_own() {
        let store = MemoryStore::new();
        let project = ProjectId::parse("p").unwrap();
        let keys: Vec<StreamKey> = ["task-20261121-093000-a", "task-20261121-093000-b"]
            .map(|id| StreamKey::task(project.clone(), TaskId::parse(id).unwrap()))
            .to_vec();
        let streams: Vec<Arc<dyn Stream>> = keys.iter().map(|key| store.open(key).unwrap()).collect();
        for number in 0..50 {
            let at = number * 7 % 3 % 2;
            let draft = Draft::new(Kind::INFO, project.clone(), keys[at].task.clone(), number.to_string());
            streams[at].append(vec![draft], Durability::None).unwrap();
        }
        let mut posted: Vec<Rank> = streams
            .iter()
            .flat_map(|stream| stream.read(Cursor::START, 100).unwrap().entries)
            .map(|entry| rank(&entry))
            .collect();
        posted.sort();
        let mut merged = Merged::new(streams).unwrap();
        merged.page = 1;
        let mut told = Vec::new();
        while let Some((_, entry)) = merged.next().unwrap() {
            told.push(rank(&entry));
        }
        assert_eq!(told.len(), 50);
        assert_eq!(told, posted);
    }
}
