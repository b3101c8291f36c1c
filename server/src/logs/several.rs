//! The runs of a task, or of all tasks, on their way to one client: which of them are told, and how far each was.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use run_agent_core::world::{Change, Run, RunRow};
use run_agent_core::{ProjectId, RunId, StreamKey, TaskId, Timestamp};
use tokio::sync::watch;

use super::growth::Growth;
use super::place::{At, Places};
use super::run::{RunLog, Went};
use super::told::Teller;
use super::{Name, Step};
use crate::live::ring::{Event, What};
use crate::live::{Live, State};
use crate::sse;

/// An end that other tools wrote is known after so long at the latest (`docs/server.md`): until then a client's id
/// says of each run that ended whether it was told.
const KNOWN_AFTER: Duration = Duration::from_secs(45);
/// So many runs are told side by side, and so many names an id has at the most; others wait until one of them has ended.
const SIDE_BY_SIDE: usize = 128;
/// So many runs that were told to their ends an id names at the most, but for those that ended after one that was not.
const NAMED_TOLD: usize = 128;
/// Events that are taken in at once.
const PAGE: usize = 512;

#[derive(Debug)]
pub(super) struct Several {
    growth: Arc<Growth>,
    /// None: of all.
    task: Option<(ProjectId, TaskId)>,
    places: Places,
    open: BTreeMap<RunId, Open>,
    /// Runs that are to be told, with their ends.
    waiting: BTreeMap<RunId, (Name, Option<Timestamp>)>,
    /// Everything up to this event was taken in. None: what is there was not looked at yet.
    seq: Option<u64>,
    /// The run that was told last: the next one is next.
    last: Option<RunId>,
    begins: bool,
    /// The client named a place that is none.
    lost: bool,
}

#[derive(Debug)]
struct Open {
    log: RunLog,
    /// It had ended when it was begun.
    is_past: bool,
    grown: watch::Receiver<u64>,
    /// There may be more though nothing changed.
    more: bool,
}

impl Several {
    pub(super) fn new(growth: Arc<Growth>, task: Option<(ProjectId, TaskId)>, last: Option<&str>) -> Self {
        let place = last.map(Places::parse);
        let lost = place == Some(None);
        // Of a task everything is told. Nobody wants that of all tasks: there it is what goes on.
        let all = || if task.is_some() { Timestamp::UNIX_EPOCH } else { Timestamp::now() };
        let places = place.flatten().unwrap_or_else(|| Places::new(all()));
        Self {
            growth,
            task,
            places,
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            seq: None,
            last: None,
            begins: true,
            lost,
        }
    }

    fn concerns(&self, key: &StreamKey) -> bool {
        match &self.task {
            Some((project, task)) => key.project == *project && key.task.as_ref() == Some(task),
            None => key.task.is_some(),
        }
    }

    /// Takes in which runs there are. False: the task was deleted.
    fn take_in(&mut self, live: &Live) -> bool {
        loop {
            let Some(Ok(events)) = self.seq.map(|seq| live.ring.since(seq, PAGE)) else {
                self.look(live);
                continue;
            };
            if events.is_empty() {
                break;
            }
            self.seq = events.last().map(|event| event.seq);
            if events.iter().any(|event| self.concerns(&event.key) && !self.heard(event)) {
                // Whatever was known of the stream may not hold.
                self.look(live);
            }
        }
        let state = live.state();
        self.settle(&state);
        self.task.as_ref().is_none_or(|(project, task)| state.task(project, task).is_some())
    }

    /// False: the world is to be looked at.
    fn heard(&mut self, event: &Event) -> bool {
        let What::Appended { changes, .. } = &event.what else { return false };
        let Some(task) = &event.key.task else { return true };
        for change in changes {
            if let Change::Run(row) = change {
                let RunRow { run_id: run, end_time, .. } = &**row;
                let name = Name { project: event.key.project.clone(), task: task.clone(), run: run.clone() };
                self.consider(name, *end_time);
            }
        }
        true
    }

    /// Looks at all runs that there are.
    fn look(&mut self, live: &Live) {
        let state = live.state();
        // Events behind this one are not in the state.
        self.seq = Some(live.ring.newest());
        let each = |seen: &mut Self, project: &ProjectId, task: &TaskId, run: &RunId, known: &Run| {
            let end = known.end().map(|(_, at)| at);
            if end.is_none_or(|at| at >= seen.places.since) || seen.places.at.contains_key(run) {
                let name = Name { project: project.clone(), task: task.clone(), run: run.clone() };
                seen.consider(name, end);
            }
        };
        match self.task.clone() {
            Some((project, task)) => {
                for (run, known) in state.task(&project, &task).iter().flat_map(|task| task.runs.iter()) {
                    each(self, &project, &task, run, known);
                }
            }
            None => {
                for (project, tasks) in state.world.projects.iter().map(|(id, project)| (id, &project.tasks))
                {
                    for (task, known) in tasks.iter().filter(|(_, task)| !task.deleted) {
                        known.runs.iter().for_each(|(run, known)| each(self, project, task, run, known));
                    }
                }
            }
        }
    }

    /// A run that is to be told, unless it is or was.
    fn consider(&mut self, name: Name, end: Option<Timestamp>) {
        let was_begun = self.places.at.contains_key(&name.run);
        let is_over = end.is_some_and(|at| at < self.places.since) && !was_begun;
        if is_over || self.places.told.contains(&name.run) || self.open.contains_key(&name.run) {
            return;
        }
        self.waiting.insert(name.run.clone(), (name, end));
    }

    /// Moves on what need not be named any more: runs that ended long ago, all of which were told.
    fn settle(&mut self, state: &State) {
        let end_of = |project: &ProjectId, task: &TaskId, run: &RunId| {
            state.task(project, task)?.runs.get(run)?.end().map(|(_, at)| at)
        };
        let begun = self.open.values().map(|open| open.log.name());
        let begun = begun.filter_map(|name| end_of(&name.project, &name.task, &name.run));
        let untold = self.waiting.values().filter_map(|(_, end)| *end).chain(begun).min();
        let told = self.places.told.iter().filter_map(|run| {
            let (project, task) = state.find_run(run)?;
            end_of(project, task, run)
        });
        let mut told: Vec<Timestamp> = told.collect();
        told.sort_unstable();
        // Whatever happens, an id has an end.
        let enough = told.len().checked_sub(NAMED_TOLD).and_then(|at| told.get(at)).copied();
        let long_ago = Timestamp::now().checked_sub(KNOWN_AFTER).unwrap_or(Timestamp::UNIX_EPOCH);
        let since = enough.map_or(long_ago, |end| end.max(long_ago));
        let since = untold.map_or(since, |end| end.min(since));
        if since > self.places.since {
            self.places.since = Places::new(since).since;
            let since = self.places.since;
            self.places.told.retain(|run| {
                let found = state.find_run(run).and_then(|(project, task)| end_of(project, task, run));
                found.is_some_and(|end| end >= since)
            });
        }
    }

    /// Begins runs that wait: those that are active, and one that has ended, the first that did.
    fn begin(&mut self, live: &Live) {
        while self.open.len() < SIDE_BY_SIDE {
            let past = || {
                let ended = self.waiting.iter().filter_map(|(run, (_, end))| Some(((*end)?, run)));
                ended.min().filter(|_| !self.open.values().any(|open| open.is_past)).map(|(_, run)| run)
            };
            let active = || self.waiting.iter().find(|(_, (_, end))| end.is_none()).map(|(run, _)| run);
            let Some(run) = active().or_else(past).cloned() else { break };
            let Some((name, end)) = self.waiting.remove(&run) else { break };
            let at = self.places.at.get(&run).copied().unwrap_or_default();
            let grown = self.growth.watch(&name);
            let log = RunLog::new(live, name, at);
            self.open.insert(run, Open { log, is_past: end.is_some(), grown, more: true });
        }
    }

    /// Tells of one run. None when it has nothing new.
    fn tell(&mut self, live: &Live, run: &RunId, again: &mut Option<Duration>) -> Option<String> {
        let open = self.open.get_mut(run)?;
        if !open.more && !open.grown.has_changed().unwrap_or(true) {
            return None;
        }
        open.grown.mark_unchanged();
        let mut text = String::new();
        let others = self.places.but(run);
        let went = open.log.tell(live, &mut text, &|at| format!("{others}{}", Places::rest(run, at)));
        let at = open.log.at();
        match went {
            Went::On => open.more = true,
            Went::UpToNow(soon) => {
                open.more = soon.is_some();
                *again = again.or(soon);
            }
            Went::ToTheEnd | Went::Failed => {
                self.places.told.insert(run.clone());
                self.open.remove(run);
                self.places.at.remove(run);
                // With it goes what the client is to remember of it.
                sse::id(&mut text, &self.places.to_string());
                return Some(text);
            }
            Went::Gone => {
                self.open.remove(run);
                self.places.at.remove(run);
                // There is room for another one.
                *again = Some(Duration::ZERO);
                return None;
            }
        }
        if at == At::default() {
            self.places.at.remove(run);
        } else {
            self.places.at.insert(run.clone(), at);
        }
        Some(text).filter(|text| !text.is_empty())
    }
}

impl Teller for Several {
    fn next(&mut self, live: &Live) -> Step {
        let is_there = self.take_in(live);
        let mut text = String::new();
        if !is_there {
            sse::event(&mut text, "done", None, r#"{"why":"it was deleted"}"#);
            return Step::Last(text);
        }
        self.begin(live);
        if std::mem::take(&mut self.begins) {
            if self.lost {
                let why = r#"{"why":"the last id is not known; what follows begins anew"}"#;
                sse::event(&mut text, "reset", None, why);
            }
            // Before anything is told: a run that begins and ends while the client is away is not lost.
            let (waiting, open) = (&self.waiting, &self.open);
            self.places.at.retain(|run, _| waiting.contains_key(run) || open.contains_key(run));
            sse::id(&mut text, &self.places.to_string());
            return Step::Text(text);
        }
        let mut again = None;
        let after = self.last.as_ref().map_or(Unbounded, Excluded);
        let next = self.open.range::<RunId, _>((after, Unbounded)).map(|(run, _)| run);
        let order: Vec<RunId> = next.chain(self.open.keys()).take(self.open.len()).cloned().collect();
        for run in order {
            if let Some(text) = self.tell(live, &run, &mut again) {
                self.last = Some(run);
                return Step::Text(text);
            }
        }
        Step::Wait(again)
    }
}
