//! What the invariants know of a story: kept apart from the world, from the events alone, so that a fold which is wrong
//! is found.

use std::collections::{BTreeMap, BTreeSet};

use super::sim::{HERE, Pid, TaskNo};
use crate::event::{Event, LoopOutcome, RunOutcome};
use crate::id::{MsgId, RunId};
use crate::policy::agents::is_own_fault;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Runs whose starters know how they began.
    pub reported: BTreeSet<RunId>,
    /// Runs whose blocking command was killed: they work without a slot until they have one again.
    pub robbed: BTreeSet<RunId>,
    /// How often their agents were let go.
    pub let_go: BTreeMap<RunId, u32>,
    /// When their last signs of life were, on the counted clock; first of all that they were let go.
    pub alive_ms: BTreeMap<RunId, u64>,
    pub let_go_ms: BTreeMap<RunId, u64>,
    /// When runs were asked to stop, alone or with their task.
    pub asked_ms: BTreeMap<RunId, u64>,
    /// Drivers that had not started their loop when a stop of its task was asked for.
    pub told_to_stop: BTreeSet<Pid>,
    /// Since when a slot is free although somebody waits for one.
    pub free_since_ms: Option<u64>,
    pub tasks: BTreeMap<TaskNo, Told>,
    pub completed: Vec<(TaskNo, Option<MsgId>)>,
}

/// What a task's stream told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub stopping: bool,
    pub open: bool,
    pub runs: BTreeMap<RunId, ToldRun>,
    pub links: BTreeSet<String>,
    pub done: Option<MsgId>,
    pub restarts: u32,
    had_root: bool,
    fresh: bool,
    unspent: bool,
}

#[derive(Debug, Default)]
pub(super) struct ToldRun {
    pub root: bool,
    pub foreign: bool,
    pub key: Option<String>,
    pub parent: Option<RunId>,
    pub starts: u32,
    pub ends: u32,
    pub outcome: Option<RunOutcome>,
    /// A stop of it and of what is below it.
    pub stopping: bool,
    pub keeps_children: bool,
}

impl Told {
    pub(super) fn active(&self) -> impl Iterator<Item = (&RunId, &ToldRun)> {
        self.runs.iter().filter(|(_, run)| run.ends == 0)
    }

    pub(super) fn take(&mut self, id: &MsgId, run: Option<&RunId>, event: &Event) {
        if let Some(run) = run {
            self.take_run(run, event);
        }
        match event {
            Event::LoopStart(start) => {
                (self.open, self.stopping) = (true, false);
                if start.fresh {
                    self.reset();
                }
            }
            Event::LoopStopping(_) => self.stopping = true,
            Event::LoopEnd(end) => {
                self.open = false;
                if end.reason != "interrupted" || end.outcome != LoopOutcome::Stopped {
                    self.stopping = false;
                }
            }
            Event::Done(_) => self.done = Some(id.clone()),
            Event::DoneRejected(_) => self.done = None,
            Event::DoneCleared(cleared) => {
                self.done = None;
                if cleared.resume {
                    self.reset();
                }
            }
            Event::ChildLink(link) if link.ended => drop(self.links.remove(&link.key())),
            Event::ChildLink(link) => drop(self.links.insert(link.key())),
            _ => {}
        }
    }

    fn reset(&mut self) {
        (self.restarts, self.fresh, self.unspent) = (0, true, false);
    }

    fn take_run(&mut self, id: &RunId, event: &Event) {
        let run = self.runs.entry(id.clone()).or_default();
        match event {
            Event::RunIntent(intent) => {
                run.root = intent.attempt.is_some();
                run.foreign = intent.machine_id != HERE;
                run.key.clone_from(&intent.key);
                run.parent.clone_from(&intent.parent_run_id);
                if run.root {
                    self.restarts += u32::from(self.had_root && !self.fresh && !self.unspent);
                    (self.had_root, self.fresh, self.unspent) = (true, false, false);
                }
            }
            Event::RunStart(_) => run.starts += 1,
            Event::RunEnd(end) => {
                run.ends += 1;
                run.outcome = Some(end.status);
                let own_fault = end.error_class.as_deref().is_some_and(is_own_fault);
                self.unspent |= run.root && !run.stopping && end.status == RunOutcome::Failed && own_fault;
            }
            Event::RunStopping(stopping) => {
                (run.stopping, run.keeps_children) = (true, stopping.keep_children);
            }
            _ => {}
        }
    }
}
