//! The world with what lists need of it: which task was active last, which run is newest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use run_agent_core::store::StreamVersion;
use run_agent_core::world::{Change, Project, Task};
use run_agent_core::{Cursor, Message, MsgId, ProjectId, RunId, StreamKey, TaskId, Timestamp, World};
use serde::{Deserialize, Serialize};

/// How far a stream was folded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub incarnation: u64,
    /// The gap before the next entry.
    pub cursor: Cursor,
    /// The last entry that was folded, and the gap before it.
    pub last: Option<(Cursor, MsgId)>,
    /// What the stream looked like before it was read: while it looks like that, nothing is new.
    pub version: Option<StreamVersion>,
    /// What the stream takes on the disk, where somebody asked since it was folded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Stretches that could not be read, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub files: u64,
    pub bytes: u64,
}

/// Newest activity first; by name where two are alike.
type Order = BTreeSet<(Reverse<Option<Timestamp>>, TaskId)>;

#[derive(Debug, Default)]
pub struct State {
    pub world: World,
    places: HashMap<StreamKey, Place>,
    lists: BTreeMap<ProjectId, Lists>,
    /// Streams that could not be read at the last look, and why.
    pub unreadable: BTreeMap<StreamKey, String>,
}

#[derive(Debug, Default)]
struct Lists {
    tasks: Order,
    /// Where each task stands in the order.
    listed: HashMap<TaskId, Option<Timestamp>>,
    runs: BTreeMap<RunId, TaskId>,
    /// How many runs of each task are listed.
    counted: HashMap<TaskId, usize>,
    active: BTreeSet<TaskId>,
}

impl Lists {
    fn remove(&mut self, task: &TaskId) {
        if let Some(at) = self.listed.remove(task) {
            self.tasks.remove(&(Reverse(at), task.clone()));
        }
        if self.counted.remove(task).is_some_and(|count| count > 0) {
            self.runs.retain(|_, of| of != task);
        }
        self.active.remove(task);
    }
}

impl State {
    #[must_use]
    pub fn project(&self, project: &ProjectId) -> Option<&Project> {
        self.world.project(project).filter(|_| self.lists.contains_key(project))
    }

    #[must_use]
    pub fn task(&self, project: &ProjectId, task: &TaskId) -> Option<&Task> {
        self.world.task(project, task).filter(|task| !task.deleted)
    }

    #[must_use]
    pub fn place(&self, key: &StreamKey) -> Option<&Place> {
        self.places.get(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &StreamKey> {
        self.places.keys()
    }

    /// The streams of a project.
    pub(super) fn places(&self, project: &ProjectId) -> impl Iterator<Item = (&StreamKey, &Place)> {
        self.places.iter().filter(move |(key, _)| key.project == *project)
    }

    /// Notes what the stream takes, if it was not folded since that was asked for at this place.
    pub(super) fn note_size(&mut self, key: &StreamKey, cursor: Cursor, size: Size) {
        if let Some(place) = self.places.get_mut(key).filter(|place| place.cursor == cursor) {
            place.size = Some(size);
        }
    }

    /// The tasks of a project, newest activity first.
    pub fn tasks(&self, project: &ProjectId) -> impl DoubleEndedIterator<Item = (&TaskId, &Task)> {
        let lists = self.lists.get(project);
        let found = self.world.project(project);
        lists
            .into_iter()
            .flat_map(|lists| &lists.tasks)
            .filter_map(move |(_, id)| Some((id, &**found?.tasks.get(id)?)))
    }

    /// The runs of a project, newest first.
    pub fn runs(&self, project: &ProjectId) -> impl Iterator<Item = (&RunId, &TaskId)> {
        let lists = self.lists.get(project);
        lists.into_iter().flat_map(|lists| lists.runs.iter().rev())
    }

    #[must_use]
    pub fn count_runs(&self, project: &ProjectId) -> usize {
        self.lists.get(project).map_or(0, |lists| lists.runs.len())
    }

    #[must_use]
    pub fn count_tasks(&self, project: &ProjectId) -> usize {
        self.lists.get(project).map_or(0, |lists| lists.tasks.len())
    }

    /// Which task of which project a run belongs to.
    #[must_use]
    pub fn find_run(&self, run: &RunId) -> Option<(&ProjectId, &TaskId)> {
        self.lists.iter().find_map(|(project, lists)| lists.runs.get(run).map(|task| (project, task)))
    }

    /// Tasks with a loop or run that has not ended.
    pub fn active(&self) -> impl Iterator<Item = (&ProjectId, &TaskId)> {
        self.lists.iter().flat_map(|(project, lists)| lists.active.iter().map(move |task| (project, task)))
    }

    /// When anything last happened in a project.
    #[must_use]
    pub fn last_activity(&self, project: &ProjectId) -> Option<Timestamp> {
        let tasks = self.lists.get(project).and_then(|lists| lists.tasks.first()).and_then(|(at, _)| at.0);
        self.world.project(project).and_then(|own| own.thread.last_activity).max(tasks)
    }

    /// A project that is there, though nothing of it was read yet.
    pub(super) fn add_project(&mut self, project: &ProjectId) -> bool {
        self.world.projects.entry(project.clone()).or_default();
        let is_new = !self.lists.contains_key(project);
        self.lists.entry(project.clone()).or_default();
        is_new
    }

    /// Folds in one entry. What it changed, where somebody is told.
    pub(super) fn apply(
        &mut self,
        key: &StreamKey,
        at: Cursor,
        message: &Message,
        tell: bool,
    ) -> Vec<Change> {
        let applied = self.world.apply(key, at, message);
        if tell { self.world.changes(key, message, &applied) } else { Vec::new() }
    }

    /// True for a stream that was not known.
    pub(super) fn set_place(&mut self, key: &StreamKey, place: Place) -> bool {
        self.unreadable.remove(key);
        match &key.task {
            Some(task) => self.list(&key.project, task),
            None => {
                self.add_project(&key.project);
            }
        }
        self.places.insert(key.clone(), place).is_none()
    }

    /// Puts a task where it belongs in the lists.
    fn list(&mut self, project: &ProjectId, id: &TaskId) {
        self.add_project(project);
        let Some(lists) = self.lists.get_mut(project) else { return };
        let Some(task) = self.world.task(project, id).filter(|task| !task.deleted) else {
            lists.remove(id);
            return;
        };
        let now = task.thread.last_activity;
        match lists.listed.insert(id.clone(), now) {
            Some(before) if before == now => {}
            Some(before) => {
                lists.tasks.remove(&(Reverse(before), id.clone()));
                lists.tasks.insert((Reverse(now), id.clone()));
            }
            None => {
                lists.tasks.insert((Reverse(now), id.clone()));
            }
        }
        if task.ralph.is_open() || task.active().next().is_some() {
            lists.active.insert(id.clone());
        } else {
            lists.active.remove(id);
        }
        let count = task.runs.len();
        let before = lists.counted.insert(id.clone(), count).unwrap_or_default();
        let mut list = |run: &&RunId| lists.runs.insert((*run).clone(), id.clone()).is_none();
        // Nearly always nothing came, or one run that is newer than all others: what came is always among the newest.
        let mut came = task.runs.keys().rev().take(2).filter(&mut list).count();
        if came < 2 && before + came == count {
            return;
        }
        came += task.runs.keys().filter(&mut list).count();
        // A walk over the runs of all tasks: only where some of this one's are gone.
        if before + came != count {
            lists.runs.retain(|run, of| of != id || task.runs.contains_key(run));
        }
    }

    /// The stream is gone.
    pub(super) fn remove(&mut self, key: &StreamKey) {
        self.places.remove(key);
        self.unreadable.remove(key);
        match &key.task {
            Some(task) => {
                if let Some(project) = self.world.projects.get_mut(&key.project) {
                    project.tasks.remove(task);
                }
                if let Some(lists) = self.lists.get_mut(&key.project) {
                    lists.remove(task);
                }
            }
            None => {
                self.world.projects.remove(&key.project);
                self.lists.remove(&key.project);
                self.places.retain(|known, _| known.project != key.project);
                self.unreadable.retain(|known, _| known.project != key.project);
            }
        }
    }

    /// What was folded of the stream is of one that is no more.
    pub(super) fn forget(&mut self, key: &StreamKey) {
        self.places.remove(key);
        let Some(project) = self.world.projects.get_mut(&key.project) else { return };
        match &key.task {
            Some(task) => {
                project.tasks.remove(task);
                if let Some(lists) = self.lists.get_mut(&key.project) {
                    lists.remove(task);
                }
            }
            None => {
                project.thread = run_agent_core::world::Thread::default();
                project.created = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use run_agent_core::Cause;
    use run_agent_core::event::{Deletion, Event, RunEnd, RunIntent, Scope};

    use super::*;

    fn run(n: i64) -> RunId {
        RunId::new(Timestamp::from_second(n).unwrap(), 1, 1)
    }

    /// Folds in what made some runs and deleted others, and what the list has then.
    fn fold(state: &mut State, at: &mut u32, came: &[i64], gone: &[i64]) -> Vec<RunId> {
        let project = ProjectId::parse("p").unwrap();
        let key = StreamKey::task(project.clone(), TaskId::parse("task-20260101-000000-t").unwrap());
        let deletion = || Deletion { by: "user".to_owned(), reason: "old".to_owned() };
        let made = |n| [(n, Event::RunIntent(RunIntent::default())), (n, Event::RunEnd(RunEnd::default()))];
        let events = came.iter().copied().flat_map(made);
        for (n, event) in events.chain(gone.iter().map(|n| (*n, Event::RunDeleted(deletion())))) {
            *at += 1;
            let scope = Scope { project: project.clone(), task: key.task.clone(), run: Some(run(n)) };
            let content = event.draft(&scope, &Cause::Process("exit".to_owned()), "");
            let ts = Timestamp::from_second(i64::from(*at)).unwrap();
            let message = Message { id: MsgId::new(ts, 1, *at), ts, content };
            state.apply(&key, Cursor::new(u64::from(*at)), &message, false);
        }
        state.set_place(&key, Place::default());
        assert_eq!(
            state.count_runs(&project),
            state.task(&project, key.task.as_ref().unwrap()).unwrap().runs.len()
        );
        state.runs(&project).map(|(run, _)| run.clone()).collect()
    }

    #[test]
    fn the_list_of_runs_is_right_however_many_came_and_went_at_once() {
        let (mut state, mut at) = (State::default(), 0);
        let listed = |runs: &[i64]| runs.iter().map(|n| run(*n)).collect::<Vec<_>>();
        assert_eq!(fold(&mut state, &mut at, &[1, 2, 3], &[]), listed(&[3, 2, 1]));
        assert_eq!(fold(&mut state, &mut at, &[4], &[]), listed(&[4, 3, 2, 1]));
        assert_eq!(fold(&mut state, &mut at, &[5], &[2]), listed(&[5, 4, 3, 1]));
        assert_eq!(fold(&mut state, &mut at, &[6, 7], &[1]), listed(&[7, 6, 5, 4, 3]));
        assert_eq!(fold(&mut state, &mut at, &[8, 9, 10], &[3]), listed(&[10, 9, 8, 7, 6, 5, 4]));
        assert_eq!(fold(&mut state, &mut at, &[], &[4, 10]), listed(&[9, 8, 7, 6, 5]));
    }
}
