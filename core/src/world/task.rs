//! One task: its runs, its loop, its marker, and the status that they amount to.

mod counts;
mod fold;
mod shown;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::counts::RunCounts;
use super::change::TaskRow;
use super::evidence::Evidence;
use super::link::Link;
use super::ralph::{Ralph, RalphState};
use super::run::{Run, RunState, RunStatus};
use super::runs::Runs;
use super::thread::Thread;
use super::usage::{BudgetRow, Totals};
use crate::event::{LoopOutcome, TaskText};
use crate::id::{MsgId, RunId, TaskId};
use crate::plan::reason;
use crate::policy::watch::IDLE;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub thread: Thread,
    pub created: Option<(TaskText, Timestamp)>,
    pub deleted: bool,
    pub runs: Runs,
    /// How many runs there are of each status, and those that have not ended: kept at each change, so that a look costs
    /// the same at ten runs and at ten thousand.
    counts: RunCounts,
    active: Vec<RunId>,
    pub ralph: Ralph,
    /// The DONE marker, as the stream last told of it.
    pub done: Option<DoneMark>,
    /// Runs and tasks elsewhere in the project that this task's runs started, and whether they still run.
    pub links: BTreeMap<String, Link>,
    pub usage: Totals,
    /// The event that gave the task its status, and when.
    pub since: Option<(MsgId, Timestamp)>,
    /// Where the stream tells why.
    pub evidence: Evidence,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneMark {
    pub id: MsgId,
    pub at: Timestamp,
    /// A child run ended or posted after it.
    pub late_results: bool,
    /// A root run was started after it, to take late results in.
    pub root_started: bool,
}

/// One vocabulary everywhere; finer things are the status's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Created,
    Blocked,
    Queued,
    Running,
    Waiting,
    BackingOff,
    Completed,
    Failed,
    Stopped,
}

impl TaskStatus {
    pub const ALL: [Self; 9] = [
        Self::Created,
        Self::Blocked,
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::BackingOff,
        Self::Completed,
        Self::Failed,
        Self::Stopped,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::BackingOff => "backing_off",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Task {
    /// Runs that have not ended, in order of time.
    pub fn active(&self) -> impl Iterator<Item = (&RunId, &Run)> {
        self.active.iter().filter_map(|id| self.runs.get_key_value(id))
    }

    /// The root run that is active, if any: there is never a reason to start a second one.
    #[must_use]
    pub fn active_root(&self) -> Option<&RunId> {
        self.active().filter(|(_, run)| run.is_root()).map(|(id, _)| id).last()
    }

    /// `run` and every run below it, in order of time.
    #[must_use]
    pub fn with_descendants(&self, run: &RunId) -> Vec<RunId> {
        let mut tree = vec![run.clone()];
        let mut next = 0;
        while let Some(parent) = tree.get(next).cloned() {
            next += 1;
            for (id, child) in self.runs.iter() {
                // Parents that name each other in a circle, as a hand may write them, are taken once.
                if child.parent.as_ref() == Some(&parent) && !tree.contains(id) {
                    tree.push(id.clone());
                }
            }
        }
        tree.sort();
        tree
    }

    #[must_use]
    pub fn status(&self) -> TaskStatus {
        let running = self.counts.of(RunStatus::Running) > 0;
        let active = !self.active.is_empty();
        match &self.ralph.state {
            RalphState::Never => self.status_of_jobs(running, active),
            // A stop of jobs alone ended a loop that never was: what was started since tells the status.
            RalphState::Ended { at, .. }
                if self.ralph.driver.is_none()
                    && self.runs.values().next_back().is_some_and(|run| run.made > *at) =>
            {
                self.status_of_jobs(running, active)
            }
            // Its driver is gone, or has not looked yet: it starts nothing more.
            RalphState::Driven { .. } if !active && self.ralph.stopped_root.is_some() => TaskStatus::Stopped,
            RalphState::Driven { .. } if running => TaskStatus::Running,
            RalphState::Driven { .. } => TaskStatus::Queued,
            RalphState::BackingOff { .. } | RalphState::Cooling { .. } => TaskStatus::BackingOff,
            RalphState::Waiting { .. } => TaskStatus::Waiting,
            RalphState::Blocked { .. } => TaskStatus::Blocked,
            RalphState::Ended { .. } if running => TaskStatus::Running,
            RalphState::Ended { .. } if active => TaskStatus::Queued,
            RalphState::Ended { outcome, .. } => match outcome {
                LoopOutcome::Completed => TaskStatus::Completed,
                LoopOutcome::Failed => TaskStatus::Failed,
                LoopOutcome::Stopped => TaskStatus::Stopped,
            },
        }
    }

    fn status_of_jobs(&self, running: bool, active: bool) -> TaskStatus {
        if running {
            return TaskStatus::Running;
        }
        if active {
            return TaskStatus::Queued;
        }
        match self.runs.values().next_back().map(Run::status) {
            None => TaskStatus::Created,
            Some(RunStatus::Completed) => TaskStatus::Completed,
            Some(RunStatus::Stopped) => TaskStatus::Stopped,
            Some(RunStatus::Failed | RunStatus::Queued | RunStatus::Running) => TaskStatus::Failed,
        }
    }

    /// What the status does not say: why it waits, how it ended. Empty when there is nothing to add.
    #[must_use]
    pub fn reason(&self) -> String {
        self.why_so().text().into_owned()
    }

    fn why_so(&self) -> Reason<'_> {
        if self.ralph.stopping.is_some() {
            return Reason::Word("stopping");
        }
        match &self.ralph.state {
            RalphState::Driven { .. } if self.ralph.stopped_root.is_some() => {
                Reason::Word(reason::ROOT_STOPPED)
            }
            RalphState::Never | RalphState::Driven { .. } if self.is_idle() => Reason::Word(IDLE),
            RalphState::Never | RalphState::Driven { .. } if self.is_retrying() => {
                Reason::Word(reason::RETRYING)
            }
            // The loop decides what comes next, in a moment where its driver lives.
            RalphState::Driven { .. } if self.active.is_empty() && self.ralph.has_begun() => {
                Reason::Word(reason::BETWEEN_RUNS)
            }
            RalphState::Never | RalphState::Driven { .. } => {
                self.waits_for_slots().map_or(Reason::Word(""), Reason::Ahead)
            }
            RalphState::BackingOff { reason, .. }
            | RalphState::Waiting { reason, .. }
            | RalphState::Blocked { reason, .. } => Reason::Told(reason),
            RalphState::Cooling { .. } => Reason::Word("breaker"),
            RalphState::Ended { .. } if self.active().next().is_some() => {
                Reason::Word("runs go on without the loop")
            }
            RalphState::Ended { reason, .. } => Reason::Told(reason),
        }
    }

    /// Runs are active, and none of them gives a sign of life.
    fn is_idle(&self) -> bool {
        !self.active.is_empty() && self.active().all(|(_, run)| run.idle_since.is_some())
    }

    /// Runs are active, and all that give signs of life try calls to their APIs again.
    fn is_retrying(&self) -> bool {
        !self.active.is_empty()
            && self.active().all(|(_, run)| run.retrying.is_some() || run.idle_since.is_some())
    }

    /// When what the loop waits for is over, where that is known.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match &self.ralph.state {
            RalphState::Waiting { until, .. } => *until,
            RalphState::Never
            | RalphState::Driven { .. }
            | RalphState::BackingOff { .. }
            | RalphState::Blocked { .. }
            | RalphState::Cooling { .. }
            | RalphState::Ended { .. } => None,
        }
    }

    /// How many are before it, when nothing of it is at work and something waits for a slot.
    fn waits_for_slots(&self) -> Option<u32> {
        let at_work = self.counts.of(RunStatus::Running) > 0;
        if at_work { None } else { self.active().find_map(|(_, run)| run.state.ahead()) }
    }

    #[must_use]
    pub fn title(&self) -> &str {
        self.created.as_ref().map_or("", |(text, _)| text.title.as_str())
    }

    /// The run with this key, if one was ever made.
    #[must_use]
    pub fn run_with_key(&self, key: &str) -> Option<&RunId> {
        self.runs.iter().find(|(_, run)| run.key.as_deref() == Some(key)).map(|(id, _)| id)
    }

    /// How many runs there are of each status.
    #[must_use]
    pub fn run_counts(&self) -> BTreeMap<RunStatus, u32> {
        self.counts.to_map()
    }

    /// The task as lists show it.
    #[must_use]
    pub fn row(&self, id: &TaskId) -> TaskRow {
        TaskRow {
            task_id: id.clone(),
            status: self.status(),
            reason: self.reason(),
            title: self.title().to_owned(),
            done: self.done.is_some(),
            run_counts: self.run_counts(),
            restarts: self.ralph.restarts,
            since: self.since.as_ref().map(|(_, at)| *at),
            until: self.until(),
            usage: self.usage.row(),
            budget: self.ralph.budget.as_deref().map(BudgetRow::from),
        }
    }
}

impl RunState {
    /// How many wait for a slot before it.
    #[must_use]
    pub fn ahead(&self) -> Option<u32> {
        match self {
            Self::Queued { ahead, .. } => *ahead,
            Self::Running { .. } | Self::Ended { .. } => None,
        }
    }

    /// What a run that is parked waits for, in words.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        self.ahead().map(|ahead| Reason::Ahead(ahead).text().into_owned())
    }
}

/// Why a task is what it is, before it is put into words.
#[derive(Debug, Clone, Copy)]
enum Reason<'a> {
    Word(&'static str),
    /// As the stream tells it.
    Told(&'a str),
    /// So many wait for a slot before it.
    Ahead(u32),
}

impl<'a> Reason<'a> {
    fn text(self) -> Cow<'a, str> {
        match self {
            Self::Word(text) => Cow::Borrowed(text),
            Self::Told(text) => Cow::Borrowed(text),
            Self::Ahead(ahead) => Cow::Owned(format!("waiting for other agents, {ahead} ahead")),
        }
    }

    /// The same, of a task that may change.
    fn kept(self) -> Cow<'static, str> {
        match self {
            Self::Word(text) => Cow::Borrowed(text),
            Self::Told(_) | Self::Ahead(_) => Cow::Owned(self.text().into_owned()),
        }
    }
}
