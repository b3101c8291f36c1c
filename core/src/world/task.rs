//! One task: its runs, its loop, its marker, and the status that they amount to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::change::{Change, TaskRow};
use super::evidence::Evidence;
use super::link::Link;
use super::ralph::{Ralph, RalphState};
use super::run::{Run, RunState, RunStatus};
use super::thread::Thread;
use super::{Ignored, Totals};
use crate::event::{Done, Event, LoopOutcome, RunEnd, RunOutcome, TaskText};
use crate::id::{MsgId, RunId, TaskId};
use crate::message::Message;
use crate::plan::reason;
use crate::policy::watch::IDLE;
use crate::store::Cursor;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub thread: Thread,
    pub created: Option<(TaskText, Timestamp)>,
    pub deleted: bool,
    pub runs: BTreeMap<RunId, Run>,
    /// How many runs there are of each status, and those that have not ended: kept at each change, so that a look costs
    /// the same at ten runs and at ten thousand.
    counts: BTreeMap<RunStatus, u32>,
    active: BTreeSet<RunId>,
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
            for (id, child) in &self.runs {
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
        let running = self.counts.contains_key(&RunStatus::Running);
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
        if self.ralph.stopping.is_some() {
            return "stopping".to_owned();
        }
        match &self.ralph.state {
            RalphState::Driven { .. } if self.ralph.stopped_root.is_some() => reason::ROOT_STOPPED.to_owned(),
            RalphState::Never | RalphState::Driven { .. } if self.is_idle() => IDLE.to_owned(),
            // The loop decides what comes next, in a moment where its driver lives.
            RalphState::Driven { .. } if self.active.is_empty() && self.ralph.has_begun() => {
                reason::BETWEEN_RUNS.to_owned()
            }
            RalphState::Never | RalphState::Driven { .. } => self.waits_for_slots().unwrap_or_default(),
            RalphState::BackingOff { reason, .. }
            | RalphState::Waiting { reason, .. }
            | RalphState::Blocked { reason, .. } => reason.clone(),
            RalphState::Cooling { .. } => "breaker".to_owned(),
            RalphState::Ended { .. } if self.active().next().is_some() => {
                "runs go on without the loop".to_owned()
            }
            RalphState::Ended { reason, .. } => reason.clone(),
        }
    }

    /// Runs are active, and none of them gives a sign of life.
    fn is_idle(&self) -> bool {
        !self.active.is_empty() && self.active().all(|(_, run)| run.idle_since.is_some())
    }

    /// Nothing of it is at work, and something waits for a slot.
    fn waits_for_slots(&self) -> Option<String> {
        let at_work = self.counts.contains_key(&RunStatus::Running);
        if at_work { None } else { self.active().find_map(|(_, run)| run.state.waits_for()) }
    }

    #[must_use]
    pub fn title(&self) -> &str {
        self.created.as_ref().map_or("", |(text, _)| text.title.as_str())
    }

    /// Folds in the meaning of one message of this task's stream.
    pub(super) fn apply(
        &mut self,
        id: &TaskId,
        at: Cursor,
        message: &Message,
        event: &Event,
        changes: &mut Vec<Change>,
    ) -> Result<(), Ignored> {
        if let Event::Posted = event {
            self.note_late_post(message);
            return Ok(());
        }
        let before = self.row(id);
        let run_before = message.content.run.as_ref().and_then(|id| self.runs.get(id)).map(Run::status);
        let outcome = self.apply_lifecycle(message, event);
        if outcome.is_ok() {
            self.evidence.note_of_task(at, event);
            if let Some(run) = message.content.run.as_ref().and_then(|id| self.runs.get_mut(id)) {
                run.evidence.note_of_run(at, event);
            }
        }
        if let Some(id) = &message.content.run {
            self.count_run(id, run_before);
        }
        if let (Some(run), true) = (&message.content.run, outcome.is_ok()) {
            match self.runs.get(run) {
                Some(known) => changes.push(Change::Run(Box::new(known.row(id, run)))),
                None if matches!(event, Event::RunDeleted(_)) => {
                    changes.push(Change::RunDeleted { task: id.clone(), id: run.clone() });
                }
                None => {}
            }
        }
        let mut after = self.row(id);
        if after.status != before.status || after.reason != before.reason {
            self.since = Some((message.id.clone(), message.ts));
            after.since = Some(message.ts);
        }
        if after != before {
            changes.push(Change::Task(Box::new(after)));
        }
        outcome
    }

    fn apply_lifecycle(&mut self, message: &Message, event: &Event) -> Result<(), Ignored> {
        match event {
            Event::Posted => Ok(()),
            Event::ProjectCreated(_) => Err(Ignored::NotATask),
            Event::TaskCreated(text) | Event::TaskUpdated(text) => {
                let made = self.created.as_ref().map_or(message.ts, |(_, at)| *at);
                self.created = Some((text.clone(), made));
                Ok(())
            }
            Event::TaskDeleted(_) => {
                self.deleted = true;
                Ok(())
            }
            Event::RunDeleted(_) => {
                let id = run_of(message)?;
                match self.runs.get(id) {
                    Some(run) if run.is_active() => Err(Ignored::RunStarted),
                    Some(_) => {
                        self.runs.remove(id);
                        Ok(())
                    }
                    None => Err(Ignored::UnknownRun(id.clone())),
                }
            }
            Event::RunIntent(intent) => {
                let id = run_of(message)?;
                if self.runs.contains_key(id) {
                    return Err(Ignored::RunStarted);
                }
                self.runs.insert(id.clone(), Run::intended(message, intent));
                self.root_made(id, message.ts);
                Ok(())
            }
            Event::RunStart(start) => {
                let id = run_of(message)?;
                if !self.runs.contains_key(id) {
                    self.runs.insert(id.clone(), Run::started_without_intent(message, start));
                    self.root_made(id, message.ts);
                }
                self.run_event(message, event)
            }
            Event::RunEnd(end) => {
                self.run_event(message, event)?;
                self.run_ended(run_of(message)?.clone(), end);
                Ok(())
            }
            Event::RunUsage(usage) => {
                self.run_event(message, event)?;
                self.usage.add(usage);
                Ok(())
            }
            Event::RunStopping(_)
            | Event::RunParked(_)
            | Event::RunIdle(_)
            | Event::RunStuck(_)
            | Event::RunActive(_)
            | Event::RunRetrying(_) => self.run_event(message, event),
            Event::ChildLink(link) => {
                self.linked(message, link);
                Ok(())
            }
            Event::Done(done) => {
                self.done_found(message, done);
                Ok(())
            }
            Event::DoneRejected(_) => {
                self.done = None;
                self.ralph.apply(message, event)
            }
            Event::DoneCleared(cleared) => {
                self.done = None;
                if cleared.resume {
                    self.ralph.reset();
                }
                Ok(())
            }
            Event::LoopStart(_)
            | Event::LoopRestart(_)
            | Event::LoopBackoff(_)
            | Event::LoopBlocked(_)
            | Event::LoopWaiting(_)
            | Event::LoopBreaker(_)
            | Event::LoopBudget(_)
            | Event::LoopStopping(_)
            | Event::LoopEnd(_)
            | Event::AgentDegraded(_) => self.ralph.apply(message, event),
            Event::SupervisorRestart(_) if message.content.run.is_some() => self.run_event(message, event),
            // Told to people and to `why`; they move nothing by themselves.
            Event::VerifyStart(_) | Event::VerifyStop(_) | Event::SupervisorRestart(_) => Ok(()),
        }
    }

    fn run_event(&mut self, message: &Message, event: &Event) -> Result<(), Ignored> {
        let id = run_of(message)?;
        match self.runs.get_mut(id) {
            Some(run) => run.apply(id, message, event),
            None => Err(Ignored::UnknownRun(id.clone())),
        }
    }

    fn root_made(&mut self, id: &RunId, at: Timestamp) {
        let Some(attempt) = self.runs.get(id).and_then(|run| run.attempt) else { return };
        self.ralph.root_made(id, attempt, at);
        if let Some(done) = &mut self.done {
            done.root_started = true;
        }
    }

    fn run_ended(&mut self, id: RunId, end: &RunEnd) {
        let Some(run) = self.runs.get(&id) else { return };
        if run.is_root() {
            // Whatever it died of: a root that was to be stopped is not started again.
            let outcome = if run.stopping.is_some() { RunOutcome::Stopped } else { end.status };
            self.ralph.root_ended(&id, &run.agent, outcome, end);
        } else if let (None, Some(done)) = (&run.verify, &mut self.done) {
            done.late_results = true;
        }
    }

    /// The event may come long after the marker: what children did in between is late too.
    fn done_found(&mut self, message: &Message, done: &Done) {
        if self.done.is_some() {
            return;
        }
        let written = done.written.unwrap_or(message.ts);
        let is_late = |run: &Run| {
            let last = run.end().map(|(_, at)| at).max(run.last_post);
            !run.is_root() && run.verify.is_none() && last.is_some_and(|at| at > written)
        };
        let late_results = self.runs.values().any(is_late);
        self.done =
            Some(DoneMark { id: message.id.clone(), at: message.ts, late_results, root_started: false });
    }

    fn note_late_post(&mut self, message: &Message) {
        let Some(run) = message.content.run.as_ref().and_then(|id| self.runs.get_mut(id)) else { return };
        run.last_post = Some(message.ts);
        if let (false, Some(done)) = (run.is_root() || run.verify.is_some(), &mut self.done) {
            done.late_results = true;
        }
    }

    /// The run with this key, if one was ever made.
    #[must_use]
    pub fn run_with_key(&self, key: &str) -> Option<&RunId> {
        self.runs.iter().find(|(_, run)| run.key.as_deref() == Some(key)).map(|(id, _)| id)
    }

    /// Keeps the counts true of one run, which had this status before.
    fn count_run(&mut self, id: &RunId, before: Option<RunStatus>) {
        let run = self.runs.get(id);
        let now = run.map(Run::status);
        if run.is_some_and(Run::is_active) {
            self.active.insert(id.clone());
        } else {
            self.active.remove(id);
        }
        if now == before {
            return;
        }
        if let Some(before) = before
            && let Some(count) = self.counts.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&before);
            }
        }
        if let Some(now) = now {
            *self.counts.entry(now).or_insert(0) += 1;
        }
    }

    /// How many runs there are of each status.
    #[must_use]
    pub fn run_counts(&self) -> &BTreeMap<RunStatus, u32> {
        &self.counts
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
            run_counts: self.counts.clone(),
            restarts: self.ralph.restarts,
            since: self.since.as_ref().map(|(_, at)| *at),
        }
    }
}

fn run_of(message: &Message) -> Result<&RunId, Ignored> {
    message.content.run.as_ref().ok_or(Ignored::NoRun)
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
        self.ahead().map(|ahead| format!("waiting for other agents, {ahead} ahead"))
    }
}
