//! When which stream is looked at: those that somebody rang for at once, active ones every second, all of them every half
//! minute.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use run_agent_core::store::StreamVersion;
use run_agent_core::{ProjectId, StreamKey, TaskId};

use super::Live;
use super::fold::Tell;

/// What other tools write to active streams is seen so soon.
const ACTIVE_EVERY: Duration = Duration::from_secs(1);
/// What is written to others, and whatever was missed.
const ALL_EVERY: Duration = Duration::from_secs(30);
/// A process that looked for the doorbell before it was there does not ring for so long.
const SECOND_LOOK: Duration = Duration::from_millis(1500);
/// Processes and streams of active tasks are compared so often.
const SETTLE_EVERY: Duration = Duration::from_secs(2);
/// Projections are written so often, if they changed.
const KEEP_EVERY: Duration = Duration::from_secs(300);
/// However quiet it is, it looks so often whether it is to end: a wake-up may be lost with its page.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Within a tick of a file system's clock a second change leaves the same time. Where a tick is longer than most are, the
/// next look at all streams makes good what was missed.
const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_secs(4);
/// Below so many streams a second thread costs more than it saves.
const STREAMS_PER_THREAD: usize = 64;

/// When what is next.
struct Due {
    active: Instant,
    all: Instant,
    settle: Instant,
    keep: Instant,
}

/// The folders whose names are known.
#[derive(Default)]
struct Folders {
    seen: HashMap<PathBuf, Seen>,
}

/// When a folder had last changed as its names were listed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    changed: SystemTime,
    /// No later change can have left the same time, however coarse the file system's clock is.
    is_sure: bool,
}

impl Live {
    /// Knows everything that is there, then goes on until [`Live::stop`]. For a thread of its own.
    pub fn follow(self: &Arc<Self>) {
        let mut folders = Folders::default();
        self.work.renew();
        self.load();
        self.look_at_all(&mut folders, Tell::Nobody);
        self.ready.send_replace(true);
        let now = Instant::now();
        let mut due =
            Due { active: now + ACTIVE_EVERY, all: now + SECOND_LOOK, settle: now, keep: now + KEEP_EVERY };
        let mut renew = now + LOOK_UP;
        while !self.stops.load(Relaxed) {
            let next = due.active.min(due.all).min(due.settle);
            let left = next.saturating_duration_since(Instant::now()).min(LOOK_UP);
            let rung = self.work.wait_for_appends(left);
            let wanted = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            for key in &wanted {
                self.fold(key, Tell::All);
            }
            if !rung.is_empty() {
                self.look_at_rung(&rung, &mut folders);
            }
            if Instant::now() >= renew {
                renew = Instant::now() + LOOK_UP;
                // The page was deleted or made anew: what was appended meanwhile rang nobody.
                if self.work.renew() {
                    due.all = due.all.min(Instant::now() + SECOND_LOOK);
                }
            }
            self.look_at_due(&mut due, &mut folders);
        }
        self.keep();
    }

    /// Ends [`Live::follow`].
    pub fn stop(&self) {
        self.stops.store(true, Relaxed);
        self.work.wake();
    }

    fn look_at_due(&self, due: &mut Due, folders: &mut Folders) {
        let now = Instant::now();
        let active: Vec<(ProjectId, TaskId)> =
            self.state().active().map(|(project, task)| (project.clone(), task.clone())).collect();
        if now >= due.settle {
            for (project, task) in &active {
                self.work.settle(project, task);
            }
            due.settle = Instant::now() + if active.is_empty() { ALL_EVERY } else { SETTLE_EVERY };
        }
        if now >= due.active {
            for (project, task) in active.iter().cloned() {
                self.fold(&StreamKey::task(project, task), Tell::All);
            }
            due.active = Instant::now() + if active.is_empty() { ALL_EVERY } else { ACTIVE_EVERY };
        }
        if now >= due.all {
            self.work.renew();
            self.look_at_all(folders, Tell::All);
            due.all = Instant::now() + ALL_EVERY;
        }
        if now >= due.keep {
            self.keep();
            due.keep = Instant::now() + KEEP_EVERY;
        }
        // What became active since the last look is looked at within its time, not within half a minute.
        if !active.is_empty() || self.state().active().next().is_some() {
            due.active = due.active.min(Instant::now() + ACTIVE_EVERY);
            due.settle = due.settle.min(Instant::now() + SETTLE_EVERY);
        }
    }

    fn look_at_rung(&self, rung: &[usize], folders: &mut Folders) {
        let counters = self.counters();
        let known: Vec<StreamKey> =
            rung.iter().filter_map(|counter| counters.get(counter)).flatten().cloned().collect();
        drop(counters);
        let before = self.ring.newest();
        for key in &known {
            self.fold(key, Tell::All);
        }
        // Nobody's news: a stream that is not known yet.
        if known.len() < rung.len() || self.ring.newest() == before {
            for key in self.new_streams(folders) {
                self.fold(&key, Tell::All);
            }
        }
    }

    /// All streams, and those that are not there any more.
    fn look_at_all(&self, folders: &mut Folders, tell: Tell) {
        let mut keys: Vec<StreamKey> = self.state().keys().cloned().collect();
        folders.seen.retain(|_, seen| seen.is_sure);
        keys.extend(self.new_streams(folders));
        let keys = self.changed(keys);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads =
            if tell == Tell::Nobody { threads.min(keys.len() / STREAMS_PER_THREAD).max(1) } else { 1 };
        std::thread::scope(|scope| {
            for share in keys.chunks(keys.len().div_ceil(threads).max(1)) {
                scope.spawn(|| share.iter().for_each(|key| self.fold(key, tell)));
            }
        });
    }

    /// Those of the streams that do not look as when they were folded last.
    fn changed(&self, mut keys: Vec<StreamKey>) -> Vec<StreamKey> {
        keys.sort_by(|a, b| a.project.cmp(&b.project));
        let mut changed = Vec::new();
        for of_project in keys.chunk_by(|a, b| a.project == b.project) {
            let Some(project) = of_project.first().map(|key| &key.project) else { continue };
            let (own, of_tasks): (Vec<_>, Vec<_>) = of_project.iter().partition(|key| key.task.is_none());
            let tasks: Vec<&TaskId> = of_tasks.iter().filter_map(|key| key.task.as_ref()).collect();
            let versions = self.store.versions(project, &tasks);
            let state = self.state();
            let is_same = |key: &StreamKey, version: &Option<StreamVersion>| {
                version.is_some() && state.place(key).is_some_and(|place| place.version == *version)
            };
            let looked_at = of_tasks.into_iter().zip(&versions);
            let other = looked_at.filter(|(key, version)| !is_same(key, version)).map(|(key, _)| key);
            changed.extend(own.into_iter().chain(other).cloned());
        }
        changed
    }

    /// Streams of folders that came since they were last listed.
    fn new_streams(&self, folders: &mut Folders) -> Vec<StreamKey> {
        let mut found = Vec::new();
        let root = self.layout.root().to_owned();
        let mut projects: Vec<ProjectId> = self.state().world.projects.keys().cloned().collect();
        if folders.changed(&root) {
            projects = names(&root).iter().filter_map(|name| ProjectId::parse(name).ok()).collect();
        }
        for project in projects {
            let folder = self.layout.project(&project);
            if !folders.changed(&folder) {
                continue;
            }
            self.state.write().unwrap_or_else(PoisonError::into_inner).add_project(&project);
            let own = StreamKey::project(project.clone());
            let tasks = names(&folder).into_iter().filter_map(|name| TaskId::parse(&name).ok());
            let keys = std::iter::once(own).chain(tasks.map(|task| StreamKey::task(project.clone(), task)));
            let state = self.state();
            found.extend(keys.filter(|key| state.place(key).is_none()));
        }
        found
    }
}

impl Folders {
    /// True at the first look, and when something was made or removed in it since the last one.
    fn changed(&mut self, folder: &std::path::Path) -> bool {
        let Ok(changed) = folder.metadata().and_then(|meta| meta.modified()) else { return true };
        if self.seen.get(folder).is_some_and(|seen| seen.changed == changed) {
            return false;
        }
        let age = changed.elapsed().unwrap_or_default();
        if age > TICK {
            self.seen.insert(folder.to_owned(), Seen { changed, is_sure: age > COARSE_TICK });
        } else {
            self.seen.remove(folder);
        }
        true
    }
}

/// The names of the folders in a folder; links are none.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
