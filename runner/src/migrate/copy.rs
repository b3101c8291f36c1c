//! The copy of one stream: what the target has of it is held against the source, the rest is appended, and both are read and
//! folded once more. Doing it again comes to the same, wherever it was interrupted.

use std::collections::VecDeque;
use std::fs::File;

use run_agent_core::store::{Damage, OpenError, ReadError};
use run_agent_core::{Cursor, Message, Store, Stream, StreamKey, World};

use super::{Copied, MigrateError};
use crate::failpoint;
use crate::tree::Tree;

/// Messages that are read at once, and text that is appended at once: bounds on memory.
const PAGE_ENTRIES: usize = 1024;
const BATCH_ENTRIES: usize = 512;
const BATCH_BYTES: usize = 1024 * 1024;

/// Reads a stream forward, message by message.
struct Walk<'a> {
    stream: &'a dyn Stream,
    at: Cursor,
    ready: VecDeque<Message>,
    damage: Vec<Damage>,
}

impl<'a> Walk<'a> {
    fn new(stream: &'a dyn Stream) -> Self {
        Self { stream, at: Cursor::START, ready: VecDeque::new(), damage: Vec::new() }
    }

    fn next(&mut self) -> Result<Option<Message>, ReadError> {
        while self.ready.is_empty() {
            let page = self.stream.read(self.at, PAGE_ENTRIES)?;
            self.damage.extend(page.damage);
            if page.next == self.at {
                return Ok(None);
            }
            self.at = page.next;
            self.ready.extend(page.entries.into_iter().map(|entry| entry.message));
        }
        Ok(self.ready.pop_front())
    }
}

/// `None`: the project or task is gone.
pub(super) fn copy(tree: &Tree, target: &dyn Store, key: &StreamKey) -> Result<Option<Copied>, MigrateError> {
    tree.no_link(&target.place(key))?;
    match copy_there(&*tree.store, target, key) {
        Err(MigrateError::Open(OpenError::NotFound { .. }) | MigrateError::Read(ReadError::Gone { .. })) => {
            Ok(None)
        }
        copied => copied.map(Some),
    }
}

fn copy_there(from: &dyn Store, to: &dyn Store, key: &StreamKey) -> Result<Copied, MigrateError> {
    let (source, copy) = (from.open(key)?, to.open(key)?);
    let place = to.place(key);
    // Before anything is read: whoever reads a bus that was cut takes it as it is, and then nothing tells of that any more.
    let mut damage = source.verify()?.damage;
    let mut old = Walk::new(&*source);
    let mut messages = same_beginning(&mut old, &mut Walk::new(&*copy), key, &place.display().to_string())?;
    messages += append_rest(&mut old, &*copy)?;
    if messages > 0 {
        copy.flush()?;
        if let Some(folder) = place.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| MigrateError::Sync { place: folder.display().to_string(), source })?;
        }
    }
    compare(from, to, key, messages)?;
    let met = old.damage.into_iter().filter(|stretch| !damage.contains(stretch)).collect::<Vec<_>>();
    damage.extend(met);
    Ok(Copied { messages, damage })
}

/// Passes over what the copy holds, which must be what the source begins with.
fn same_beginning(
    old: &mut Walk<'_>,
    new: &mut Walk<'_>,
    key: &StreamKey,
    place: &str,
) -> Result<u64, MigrateError> {
    let mut number = 0;
    while let Some(message) = new.next()? {
        if old.next()?.as_ref() != Some(&message) {
            return Err(MigrateError::Other { key: key.clone(), place: place.to_owned(), number });
        }
        number += 1;
    }
    match new.damage.first() {
        Some(damage) => Err(MigrateError::Target { place: damage.place.clone(), what: damage.what.clone() }),
        None => Ok(number),
    }
}

fn append_rest(old: &mut Walk<'_>, copy: &dyn Stream) -> Result<u64, MigrateError> {
    let (mut count, mut batch, mut bytes) = (0, Vec::new(), 0);
    loop {
        let message = old.next()?;
        let is_over = message.is_none();
        if let Some(message) = message {
            bytes += message.content.body.len();
            batch.push(message);
        }
        if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES || (is_over && !batch.is_empty()) {
            count += batch.len() as u64;
            copy.restore(std::mem::take(&mut batch))?;
            bytes = 0;
            failpoint::here("migrate.half");
        }
        if is_over {
            return Ok(count);
        }
    }
}

/// Reads both once more, each by a handle of its own, and folds them: so many messages must be alike, and so must be what
/// they come to. The source may have grown meanwhile.
fn compare(from: &dyn Store, to: &dyn Store, key: &StreamKey, messages: u64) -> Result<(), MigrateError> {
    let (source, copy) = (from.open(key)?, to.open(key)?);
    let (mut old, mut new) = (Walk::new(&*source), Walk::new(&*copy));
    let (mut of_old, mut of_new) = (World::new(), World::new());
    let unlike = |number| MigrateError::Unlike {
        key: key.clone(),
        place: to.place(key).display().to_string(),
        number,
    };
    for number in 0..messages {
        let (one, other) = (old.next()?, new.next()?);
        let (Some(one), Some(other)) = (one, other) else { return Err(unlike(number)) };
        if one != other {
            return Err(unlike(number));
        }
        // Places differ from store to store.
        let _ = of_old.apply(key, Cursor::new(number), &one);
        let _ = of_new.apply(key, Cursor::new(number), &other);
    }
    if new.next()?.is_some() || of_old != of_new {
        return Err(unlike(messages));
    }
    Ok(())
}
