//! What the processes of a power cut do: writers, and who looks at the stream afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use run_agent_core::store::{Page, Stream};
use run_agent_core::{Cursor, Draft, Durability, Kind, Message};

use super::super::survive::{self, Promise};

/// The ids in a file, one a line; none where there is no file.
pub(super) fn ids(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What a writer posts as its `n`-th message, some of it larger than a page.
fn body(writer: &str, n: u64) -> String {
    let line = format!("{writer} {n}\n---\n");
    let len = if n % 7 == 3 { 5_000 } else { 40 + usize::try_from(n * 37 % 700).unwrap_or_default() };
    line.repeat(1 + len / line.len())
}

/// The writer and the number of a message of these writers; `None` for one of somebody else.
fn named(message: &Message) -> Option<(&str, u64)> {
    let (writer, n) = message.content.body.lines().next()?.split_once(' ')?;
    Some((writer, n.parse().ok()?))
}

/// Posts until it is killed or nothing can be written any more, and says what was acknowledged.
pub(super) fn write(stream: &dyn Stream, writer: &str, lies: bool) {
    let key = stream.key().clone();
    let mut next = 0;
    let _ = std::io::stdout().write_all(b"\n");
    for n in 0u64.. {
        let count = if n % 5 == 4 { 3 } else { 1 };
        let drafts = (next..next + count).map(|number| {
            Draft::new(Kind::FACT, key.project.clone(), key.task.clone(), body(writer, number))
        });
        // Some in between that nobody is told anything of.
        let durability = if lies || n % 4 == 3 { Durability::None } else { Durability::Always };
        let Ok(entries) = stream.append(drafts.collect(), durability) else { return };
        next += count;
        if durability == Durability::Always || lies {
            let lines: String = entries.iter().map(|entry| format!("acked {}\n", entry.message.id)).collect();
            if std::io::stdout().write_all(lines.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Everything that was acknowledged is there, each writer's messages are a first part of what it posted, byte for byte, and
/// what was there after the power cut before is as it was.
pub(super) fn check(
    open: &dyn Fn() -> Arc<dyn Stream>,
    acknowledged: &[String],
    seen: &[String],
    holes: bool,
) -> Result<Vec<String>, String> {
    let read = || open().read(Cursor::START, usize::MAX).map_err(|error| format!("reading: {error}"));
    let page = read()?;
    let found: Vec<&str> = page.entries.iter().map(|entry| entry.message.id.as_str()).collect();
    if !found.iter().zip(seen).all(|(one, other)| one == other) || found.len() < seen.len() {
        return Err(format!(
            "{} messages that were seen before, acknowledged as durable, are gone or others",
            seen.len()
        ));
    }
    let places: BTreeMap<&str, usize> = found.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    if places.len() < found.len() {
        return Err(format!("of {} messages some are there twice", found.len()));
    }
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !places.contains_key(id.as_str())).collect();
    if !lost.is_empty() {
        return Err(format!(
            "{} of {} messages were acknowledged as durable and are lost, the first of them {}; {} are there",
            lost.len(),
            acknowledged.len(),
            lost[0],
            found.len()
        ));
    }
    let kept = acknowledged
        .iter()
        .filter_map(|id| places.get(id.as_str()))
        .max()
        .map_or(seen.len(), |last| last + 1);
    first_parts(&page, holes, kept)?;
    let posted: Vec<Message> = page.entries.into_iter().map(|entry| entry.message).collect();
    survive::check(Promise { posted: &posted, kept, holes }, open)?;
    Ok(read()?.entries.into_iter().map(|entry| entry.message.id.as_str().to_owned()).collect())
}

fn first_parts(page: &Page, holes: bool, kept: usize) -> Result<(), String> {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for (place, entry) in page.entries.iter().enumerate() {
        let Some((writer, n)) = named(&entry.message) else {
            others.insert(entry.message.content.body.as_str());
            continue;
        };
        if entry.message.content.body != body(writer, n) {
            return Err(format!("{entry:?} is not what was posted"));
        }
        let wanted = next.entry(writer).or_default();
        if n != *wanted && !(holes && n > *wanted && place >= kept && !page.damage.is_empty()) {
            return Err(format!("{entry:?} stands where message {wanted} of {writer} belongs"));
        }
        *wanted = n + 1;
    }
    let known = others.iter().all(|body| *body == "after the power cut");
    if known { Ok(()) } else { Err(format!("nobody posted any of {others:?}")) }
}
