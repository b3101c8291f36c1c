//! Moving a root's events to another store (`docs/formats/migration.md`). Which stores these are is the caller's, as is the
//! switch: nothing that is done here changes what counts.

mod copy;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use run_agent_core::store::{AppendError, Damage, OpenError, ReadError, StreamVersion};
use run_agent_core::{Store, StreamKey};

use crate::below::IsLink;
use crate::tree::{TaskName, Tree};
use crate::{failpoint, files};

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("cannot list what the root holds")]
    List(#[source] io::Error),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Link(#[from] IsLink),
    #[error("{place} holds something else than what {key} begins with (message {number} differs)")]
    Other { key: StreamKey, place: String, number: u64 },
    #[error("{place} gives message {number} of {key} back in another form than it was given")]
    Unlike { key: StreamKey, place: String, number: u64 },
    #[error("{place} is damaged: {what}")]
    Target { place: String, what: String },
    #[error("cannot sync {place}")]
    Sync { place: String, source: io::Error },
}

/// What was copied of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Copied {
    messages: u64,
    /// What the source could not give.
    damage: Vec<Damage>,
}

/// The copies of a root's streams in another store, as far as they are made.
#[derive(Debug)]
pub struct Migration<'a> {
    tree: &'a Tree,
    target: &'a dyn Store,
    copied: BTreeMap<StreamKey, (Option<StreamVersion>, Copied)>,
}

impl<'a> Migration<'a> {
    #[must_use]
    pub fn new(tree: &'a Tree, target: &'a dyn Store) -> Self {
        Self { tree, target, copied: BTreeMap::new() }
    }

    /// Copies each stream that is not copied as it is now. Returns how many were copied.
    ///
    /// # Errors
    /// With the first stream that cannot be copied. What was copied stays, and the next call goes on there.
    pub fn copy_all(&mut self, seen: &mut dyn FnMut(&StreamKey)) -> Result<u64, MigrateError> {
        let mut count = 0;
        let streams = streams(self.tree).map_err(MigrateError::List)?;
        // What was deleted meanwhile is no part of it.
        self.copied.retain(|key, _| streams.contains(key));
        for key in streams {
            let version = self.tree.store.version(&key).ok().flatten();
            if version.is_some() && self.copied.get(&key).is_some_and(|(known, _)| *known == version) {
                continue;
            }
            seen(&key);
            match copy::copy(self.tree, self.target, &key)? {
                Some(copied) => drop(self.copied.insert(key, (version, copied))),
                None => drop(self.copied.remove(&key)),
            }
            count += 1;
            failpoint::here("migrate.copied");
        }
        Ok(count)
    }

    /// How many streams and messages the copies hold.
    #[must_use]
    pub fn count(&self) -> (u64, u64) {
        let messages = self.copied.values().map(|(_, copied)| copied.messages).sum();
        (self.copied.len() as u64, messages)
    }

    /// What could not be read, and is in no copy.
    pub fn damage(&self) -> impl Iterator<Item = (&StreamKey, &Damage)> {
        self.copied
            .iter()
            .flat_map(|(key, (_, copied))| copied.damage.iter().map(move |damage| (key, damage)))
    }
}

/// Removes what `store` holds of every stream of the root. Returns of how many it held something.
///
/// # Errors
/// When something cannot be removed.
pub fn drop_all(tree: &Tree, store: &dyn Store) -> io::Result<u64> {
    let mut count = 0;
    for key in streams(tree)? {
        if store.remove(&key)? {
            count += 1;
            failpoint::here("migrate.dropped");
        }
    }
    Ok(count)
}

/// Every stream of the root.
fn streams(tree: &Tree) -> io::Result<Vec<StreamKey>> {
    let mut keys = Vec::new();
    for project in tree.projects()? {
        keys.push(StreamKey::project(project.clone()));
        let tasks = match tree.tasks(&project) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            tasks => tasks?,
        };
        keys.extend(tasks.into_iter().map(|task| TaskName { project: project.clone(), task }.key()));
    }
    Ok(keys)
}

/// How soon a lock is tried again that others hold shared.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Takes the lock that whoever has the root's store open holds shared. `false`: not within this time.
///
/// # Errors
/// When the system fails.
pub fn take_alone(lock: &File, wait: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + wait;
    while !files::try_lock(lock)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(TRY_AGAIN.min(left));
    }
    Ok(true)
}

/// The processes that hold a lock on this file, as far as the system tells, in words.
#[must_use]
pub fn holders(path: &Path) -> String {
    let mut told: Vec<String> = files::holders(path).into_iter().map(process).collect();
    if told.is_empty() {
        return "a process that the system does not name".to_owned();
    }
    let more = told.len().saturating_sub(HOLDERS_TOLD);
    told.truncate(HOLDERS_TOLD);
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told.join(", ")
}

const HOLDERS_TOLD: usize = 8;

fn process(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let name = words.first().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned());
    let verb = words.get(1).map(|word| format!(" {word}")).unwrap_or_default();
    format!("process {pid} ({}{verb})", name.unwrap_or_default())
}
