//! Finding a place near a stream's end without reading the stream: windows from the end, each larger than the one
//! before. Where that would hold too much in memory, the stream is read from its start, and only places are kept.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::message::Message;
use crate::store::{Cursor, Entry, Page, ReadError, Stream};

/// The first look where nothing says how many are wanted, in entries.
const FIRST: usize = 256;
/// How much more each further look takes.
const GROWTH: usize = 8;
/// Beyond so many entries a window is not held in memory.
const LAST: usize = FIRST * GROWTH * GROWTH;

/// Where to begin reading so that the last `count` entries that match, and no more, stand before `end`.
///
/// # Errors
/// When the stream cannot be read.
pub fn last_matching(
    stream: &dyn Stream,
    count: usize,
    end: Cursor,
    matches: &mut dyn FnMut(&Message) -> bool,
) -> Result<Cursor, ReadError> {
    if count == 0 {
        return Ok(end);
    }
    // Where everything matches, the first look is enough.
    let mut size = count;
    while size <= LAST {
        let page = stream.last(size)?;
        let entries = before(&page, end).iter().map(|entry| (entry.at, &entry.message));
        // What is damaged and can still be shown is one of them.
        let damaged = page.damage.iter().filter_map(|damage| Some((damage.at, damage.shown.as_deref()?)));
        let all = entries.chain(damaged.filter(|(at, _)| *at < end));
        let mut places: Vec<Cursor> = all.filter(|(_, message)| matches(message)).map(|(at, _)| at).collect();
        places.sort_unstable();
        if let Some(first) = places.len().checked_sub(count) {
            return Ok(places[first]);
        }
        if page.entries.len() < size {
            return Ok(Cursor::START);
        }
        size *= GROWTH;
    }
    let mut places = VecDeque::new();
    forward(stream, Cursor::START, end, &mut |entry| {
        if matches(&entry.message) {
            places.push_back(entry.at);
            if places.len() > count {
                places.pop_front();
            }
        }
    })?;
    Ok(places.front().copied().unwrap_or(end))
}

/// Where to begin reading so that everything since `time` is read, and little before it.
///
/// # Errors
/// When the stream cannot be read.
pub fn since(stream: &dyn Stream, time: Timestamp) -> Result<Cursor, ReadError> {
    let mut size = FIRST;
    while size <= LAST {
        let page = stream.last(size)?;
        // What a hand wrote may carry any time, so the boundary is where all before it are older.
        let older = page.entries.iter().position(|entry| entry.message.ts >= time);
        match older {
            Some(0) if page.entries.len() == size => size *= GROWTH,
            Some(at) => return Ok(page.entries[at].at),
            None => return Ok(page.next),
        }
    }
    Ok(Cursor::START)
}

fn before(page: &Page, end: Cursor) -> &[Entry] {
    let len = page.entries.partition_point(|entry| entry.at < end);
    &page.entries[..len]
}

/// Reads from `from` to `end`, page by page.
fn forward(
    stream: &dyn Stream,
    from: Cursor,
    end: Cursor,
    see: &mut dyn FnMut(&Entry),
) -> Result<(), ReadError> {
    let mut from = from;
    while from < end {
        let page = stream.read(from, PAGE)?;
        if page.next == from {
            break;
        }
        from = page.next;
        before(&page, end).iter().for_each(&mut *see);
    }
    Ok(())
}

/// Entries that are held at once where a stream is read through.
pub const PAGE: usize = 1024;

#[cfg(all(test, feature = "testkit"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testkit::MemoryStore;
    use crate::{Draft, Durability, Kind, ProjectId, Store, StreamKey};
    use std::sync::Arc;

    fn stream(entries: usize) -> (Arc<dyn Stream>, Vec<Entry>) {
        let key = StreamKey::project(ProjectId::parse("p").unwrap());
        let stream = MemoryStore::new().open(&key).unwrap();
        let drafts =
            (0..entries).map(|n| Draft::new(Kind::FACT, key.project.clone(), None, n.to_string())).collect();
        let entries = stream.append(drafts, Durability::None).unwrap();
        (stream, entries)
    }

    #[test]
    fn the_last_that_match_are_found_however_far_back_they_stand() {
        let (stream, all) = stream(40_000);
        let end = stream.end().unwrap();
        for (count, divisor) in [
            (1, 1),
            (20, 1),
            (20, 7),
            (3, 1000),
            (2, 20_000),
            (39, 1000),
            (40, 1000),
            (41, 1000),
            (30_000, 1),
        ] {
            let mut matches =
                |message: &Message| message.content.body.parse::<usize>().unwrap() % divisor == 0;
            let from = last_matching(&*stream, count, end, &mut matches).unwrap();
            let wanted = all.iter().filter(|entry| matches(&entry.message)).count().min(count);
            let found = all.iter().filter(|entry| entry.at >= from && matches(&entry.message)).count();
            assert_eq!(found, wanted, "the last {count} of each {divisor}th");
        }
        assert_eq!(last_matching(&*stream, 0, end, &mut |_| true).unwrap(), end);
        let middle = all[20_000].at;
        assert_eq!(last_matching(&*stream, 1, middle, &mut |_| true).unwrap(), all[19_999].at);
    }

    #[test]
    fn reading_begins_at_the_first_that_is_new_enough() {
        let (stream, all) = stream(1000);
        for n in [0, 1, 500, 999] {
            assert_eq!(since(&*stream, all[n].message.ts).unwrap(), all[n].at, "{n}");
        }
        let later = all[999].message.ts + std::time::Duration::from_secs(1);
        assert_eq!(since(&*stream, later).unwrap(), stream.end().unwrap());
    }
}
