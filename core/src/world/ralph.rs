//! The Ralph loop's state, as the stream tells it: who drives it, what it waits for, its counters, how it ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Ignored;
use crate::event::{
    DoneRejected, Event, LoopBudget, LoopEnd, LoopOutcome, LoopStart, RunEnd, RunOutcome, Stopping,
};
use crate::id::{RunId, TaskId};
use crate::message::Message;
use crate::plan::reason;
use crate::policy::agents::is_own_fault;
use crate::policy::budget::Spent;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ralph {
    pub state: RalphState,
    /// The newest driver; whether it lives is not the stream's to know.
    pub driver: Option<Box<LoopStart>>,
    /// Restarts since the counters were last set back.
    pub restarts: u32,
    /// Root runs that failed in a row.
    pub failures: u32,
    /// How long the newest of them lasted, in ms; bounded.
    pub failed_ms: Vec<u64>,
    /// How often the breaker opened since a root run last did well.
    pub trips: u32,
    /// The root run after whose end the breaker opened last.
    pub tripped_at: Option<RunId>,
    /// Agents that are passed over for a while.
    pub degraded: BTreeMap<String, Degraded>,
    /// The newest that was said of the budget since the counters were last set back.
    pub budget: Option<Box<LoopBudget>>,
    /// What the task's whole tree had used when they were.
    pub spent_before: Spent,
    /// The part of it that is the task's own.
    pub own_before: Spent,
    /// DONEs that were rejected since the counters were last set back.
    pub rejections: u32,
    /// The newest of them, while no root run has been told of it.
    pub rejected: Option<Box<DoneRejected>>,
    /// Root runs of the task so far: the number of the newest.
    pub attempts: u32,
    /// The newest root run.
    pub last_root: Option<RunId>,
    /// A stop of the whole task that was asked for and has not come to its end.
    pub stopping: Option<Box<StopRequest>>,
    /// A root run that was stopped on request since this driver took the loop: the loop ends with it.
    pub stopped_root: Option<RunId>,
    /// The counters were set back and no root run was started since: the next one is no restart.
    pub fresh: bool,
    /// The newest root run was no attempt at the work, so that the next one is no restart.
    pub unspent: bool,
    /// The loop's own time in ms up to the newest loop event: waiting and the machine's sleep are not in it.
    pub active_ms: u64,
}

/// An agent that failed for reasons of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    pub error_class: String,
    pub until: Timestamp,
    /// The run that showed it.
    pub run: Option<RunId>,
    /// So often in a row for this class, without a run of the agent's that did well in between.
    pub times: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    pub at: Timestamp,
    pub how: Stopping,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RalphState {
    /// No loop ever ran here.
    #[default]
    Never,
    Driven {
        since: Timestamp,
    },
    BackingOff {
        since: Timestamp,
        delay_ms: u64,
        reason: String,
    },
    Waiting {
        since: Timestamp,
        reason: String,
        runs: Vec<RunId>,
        until: Option<Timestamp>,
    },
    Blocked {
        since: Timestamp,
        reason: String,
        tasks: Vec<TaskId>,
        hopeless: bool,
    },
    /// The breaker is open.
    Cooling {
        since: Timestamp,
        cooldown_ms: u64,
    },
    Ended {
        at: Timestamp,
        outcome: LoopOutcome,
        reason: String,
    },
}

impl Ralph {
    /// True once a root run was started since the counters were last set back.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.attempts > 0 && !self.fresh
    }

    /// True between a driver's start and the loop's end, whether or not the driver still lives.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.state {
            RalphState::Never | RalphState::Ended { .. } => false,
            RalphState::Driven { .. }
            | RalphState::BackingOff { .. }
            | RalphState::Waiting { .. }
            | RalphState::Blocked { .. }
            | RalphState::Cooling { .. } => true,
        }
    }

    /// True of a stop that the budget asked for, not a person.
    #[must_use]
    pub fn is_stop_of_budget(&self, stopping: &Stopping) -> bool {
        self.budget.as_ref().is_some_and(|told| told.percent == 100 && told.limit == stopping.by)
    }

    fn must_be_open(&self) -> Result<(), Ignored> {
        if self.is_open() { Ok(()) } else { Err(Ignored::LoopEnded) }
    }

    /// Folds in one event of the loop's own.
    pub(super) fn apply(&mut self, message: &Message, event: Event) -> Result<(), Ignored> {
        let at = message.ts;
        match event {
            Event::LoopStart(start) => self.started(start, at),
            Event::LoopStopping(how) => self.stopping = Some(Box::new(StopRequest { at, how })),
            Event::LoopEnd(end) => self.ended(end, at)?,
            Event::LoopRestart(restart) => {
                self.must_be_open()?;
                self.active_ms = restart.active_ms;
                self.state = RalphState::Driven { since: at };
            }
            Event::LoopBackoff(backoff) => {
                self.must_be_open()?;
                self.active_ms = backoff.active_ms;
                self.state =
                    RalphState::BackingOff { since: at, delay_ms: backoff.delay_ms, reason: backoff.reason };
            }
            Event::LoopWaiting(waiting) => {
                self.must_be_open()?;
                self.active_ms = waiting.active_ms;
                self.state = RalphState::Waiting {
                    since: at,
                    reason: waiting.reason,
                    runs: waiting.runs,
                    until: waiting.until,
                };
            }
            Event::LoopBlocked(blocked) => {
                self.must_be_open()?;
                self.state = RalphState::Blocked {
                    since: at,
                    reason: blocked.reason,
                    tasks: blocked.waits_for,
                    hopeless: blocked.hopeless,
                };
            }
            Event::LoopBreaker(breaker) => {
                self.must_be_open()?;
                self.trips = breaker.trips;
                self.tripped_at.clone_from(&self.last_root);
                self.state = RalphState::Cooling { since: at, cooldown_ms: breaker.cooldown_ms };
            }
            Event::AgentDegraded(degraded) => {
                let (error_class, run) = (degraded.error_class, message.content.run.clone());
                let before =
                    self.degraded.get(&degraded.agent).filter(|known| known.error_class == error_class);
                let times = before.map_or(1, |known| known.times.saturating_add(1));
                let degraded_now = Degraded { error_class, until: degraded.until, run, times };
                self.degraded.insert(degraded.agent, degraded_now);
            }
            Event::LoopBudget(budget) => {
                self.must_be_open()?;
                self.budget = Some(Box::new(budget));
            }
            Event::DoneRejected(rejected) => {
                self.rejections = self.rejections.saturating_add(1);
                self.rejected = Some(Box::new(rejected));
            }
            Event::ProjectCreated(_)
            | Event::TaskCreated(_)
            | Event::TaskUpdated(_)
            | Event::TaskDeleted(_)
            | Event::RunDeleted(_)
            | Event::RunIntent(_)
            | Event::RunStart(_)
            | Event::RunEnd(_)
            | Event::RunStopping(_)
            | Event::RunParked(_)
            | Event::RunIdle(_)
            | Event::RunStuck(_)
            | Event::RunActive(_)
            | Event::RunUsage(_)
            | Event::RunRetrying(_)
            | Event::ChildLink(_)
            | Event::Done(_)
            | Event::DoneCleared(_)
            | Event::VerifyStart(_)
            | Event::VerifyStop(_)
            | Event::SupervisorRestart(_)
            | Event::Posted => {}
        }
        Ok(())
    }

    fn started(&mut self, start: LoopStart, at: Timestamp) {
        self.state = RalphState::Driven { since: at };
        self.stopping = None;
        self.stopped_root = None;
        self.active_ms = start.active_ms;
        if start.fresh {
            self.reset();
            let cost = start.base_cost_usd.unwrap_or_default();
            self.spent_before = Spent { tokens: start.base_tokens.unwrap_or(0), cost };
        }
        self.driver = Some(Box::new(start));
    }

    fn ended(&mut self, end: LoopEnd, at: Timestamp) -> Result<(), Ignored> {
        // A stop of a task that never had a loop ends here too.
        if !self.is_open() && self.stopping.is_none() {
            return Err(Ignored::LoopEnded);
        }
        // A driver that was interrupted leaves a stop that was asked for to whoever asked.
        if end.reason != reason::INTERRUPTED {
            self.stopping = None;
        }
        self.active_ms = end.active_ms;
        self.state = RalphState::Ended { at, outcome: end.outcome, reason: end.reason };
        Ok(())
    }

    /// Sets the counters back, as `resume` does.
    pub(super) fn reset(&mut self) {
        self.restarts = 0;
        self.did_well();
        self.degraded.clear();
        self.budget = None;
        self.rejections = 0;
        self.unspent = false;
        self.active_ms = 0;
        self.fresh = true;
    }

    /// The row of failures is over.
    fn did_well(&mut self) {
        self.failures = 0;
        self.failed_ms.clear();
        self.trips = 0;
        self.tripped_at = None;
    }

    /// A root run was intended.
    pub(super) fn root_made(&mut self, id: &RunId, attempt: u32, at: Timestamp) {
        // Counted by what was started, not by what was announced.
        if self.has_begun() && !self.unspent {
            self.restarts = self.restarts.saturating_add(1);
        }
        self.attempts = self.attempts.max(attempt);
        self.fresh = false;
        self.unspent = false;
        self.rejected = None;
        self.last_root = Some(id.clone());
        if self.is_open() {
            self.state = RalphState::Driven { since: at };
        }
    }

    /// A root run ended.
    pub(super) fn root_ended(&mut self, id: &RunId, agent: &str, outcome: RunOutcome, end: &RunEnd) {
        match outcome {
            RunOutcome::Completed => {
                self.degraded.remove(agent);
                self.did_well();
            }
            RunOutcome::Failed if end.error_class.as_deref().is_some_and(is_own_fault) => self.unspent = true,
            RunOutcome::Failed => {
                // A run that lasted was not one of a row of quick failures.
                if end.duration_ms.is_some_and(|ms| ms > LONG_RUN_MS) {
                    self.did_well();
                }
                self.failures = self.failures.saturating_add(1);
                if self.failed_ms.len() == FAILED_MAX {
                    self.failed_ms.remove(0);
                }
                // Of a run whose supervisor was lost it is not known: it counts as one that lasted.
                self.failed_ms.push(end.duration_ms.unwrap_or(u64::MAX));
            }
            RunOutcome::Stopped => self.stopped_root = Some(id.clone()),
        }
    }
}

/// More failures in a row than the breaker of any sensible configuration looks at.
const FAILED_MAX: usize = 100;

/// A failure after so long starts the row of failures anew (spec, section 5).
const LONG_RUN_MS: u64 = 120_000;
