//! The Ralph loop as a pure function: given the world, the marker and the driver's clock, what is to be done next?
//!
//! The driver gathers, folds, asks, does the one [`Step`], and asks again. All that the plan remembers is in the
//! stream, so a driver that was killed is followed by one that goes on in the same place.

mod budget;
mod done;
mod restart;

use jiff::Timestamp;

use crate::event::{
    AgentDegraded, Event, LoopBlocked, LoopBudget, LoopEnd, LoopOutcome, LoopRestart, LoopWaiting,
};
use crate::id::{RunId, TaskId};
use crate::policy::agents::{Choice, Pool, choose, is_usage_limit};
use crate::policy::budget::Spent;
use crate::policy::{LoopPolicy, OnDependencyFailure, Session};
use crate::world::{Link, Marker, Ralph, RalphState, Run, Task};

/// All that the plan looks at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub task: &'a Task,
    pub marker: Marker,
    pub policy: &'a LoopPolicy,
    pub pool: &'a Pool,
    /// The tasks that this one depends on and that are not completed.
    pub unmet: &'a [Dependency],
    /// What the task's whole tree has used, ever.
    pub spent: Spent,
    pub clock: Clock,
    /// Wall time; only what the stream gives as a time is compared with it.
    pub now: Timestamp,
}

/// The driver's clock, which stops while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// The loop's own time, over all drivers.
    pub active_ms: u64,
    /// Since the newest root run ended.
    pub since_root_ms: u64,
    /// What the driver has been waiting for, and since when.
    pub waiting: Option<Waiting>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub ms: u64,
}

impl Clock {
    fn waited_ms(&self, reason: &str) -> u64 {
        self.waiting.filter(|waiting| waiting.reason == reason).map_or(0, |waiting| waiting.ms)
    }
}

/// A task that has to be completed first, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    pub task: TaskId,
    pub state: Unmet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// It may still be completed. What it is at changes all the time, and is told by its own stream.
    Open,
    /// It ended without; its status and reason.
    Failed(String),
    Missing,
    /// It depends on this task, by way of these.
    Cycle(Vec<TaskId>),
}

impl std::fmt::Display for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let task = &self.task;
        match &self.state {
            Unmet::Open => write!(f, "{task} is not completed yet"),
            Unmet::Failed(how) => write!(f, "{task} is {how}"),
            Unmet::Missing => write!(f, "{task} does not exist"),
            Unmet::Cycle(by) => {
                let by: Vec<&str> = by.iter().map(TaskId::as_str).collect();
                write!(f, "{task} depends on this task: {}", by.join(" -> "))
            }
        }
    }
}

impl Dependency {
    /// Nothing but a person can make it complete.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        match self.state {
            Unmet::Open => false,
            Unmet::Failed(_) | Unmet::Missing | Unmet::Cycle(_) => true,
        }
    }
}

/// What is to be done. The driver does it and looks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start the root agent. `event` goes into the same append as the run's intent.
    StartRoot {
        attempt: u32,
        agent: String,
        why: Start,
        event: Option<LoopRestart>,
        previous: Option<RunId>,
        /// The conversation that it takes up.
        session: Option<String>,
    },
    /// A stop was asked for: see that these runs, and what was started elsewhere, are stopped, and wait for their ends.
    StopRuns { runs: Vec<RunId>, elsewhere: Vec<Link> },
    /// Wait for these to end. `reason` is none for a root run. `event` is due if given.
    WaitRuns {
        runs: Vec<RunId>,
        elsewhere: Vec<Link>,
        reason: Option<&'static str>,
        event: Option<Event>,
        look_again_ms: Option<u64>,
    },
    /// Wait so long, or until something happens. `event` is due if given.
    Pause { ms: u64, event: Option<Event> },
    /// As [`Step::Pause`], for what is no time of the loop's own.
    Hold { reason: &'static str, ms: Option<u64>, event: Option<Event> },
    /// The agent of this run failed for reasons of its own: say so.
    Degrade { run: RunId, event: AgentDegraded },
    /// Say this of the budget.
    TellBudget(LoopBudget),
    /// The budget is used up, and what runs is to stop: ask for it, in the name of the limit.
    StopForBudget { limit: &'static str },
    /// Run this verify command, under this key.
    Verify { command: String, key: String, previous: Option<RunId> },
    /// The verify command that this run was failed: DONE does not count.
    Reject { run: RunId, command: String, exit_code: i32 },
    /// The loop is over.
    End(LoopEnd),
}

/// Why a root run is started; the preamble says it to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    First,
    /// The run before ended without DONE.
    Again {
        why: String,
    },
    /// DONE was there, and a verify command failed.
    Rejected {
        command: String,
        exit_code: i32,
        output: String,
    },
    /// A person took the task up again.
    Resumed,
    /// DONE stands, but children ended or posted after it.
    CatchUp,
}

/// Reasons of [`LoopEnd`], as they stand in the stream.
pub mod reason {
    pub const DONE: &str = "done";
    pub const EXHAUSTED: &str = "exhausted";
    pub const CHILDREN: &str = "children";
    pub const STOPPED: &str = "stopped";
    pub const ROOT_STOPPED: &str = "root_stopped";
    pub const INTERRUPTED: &str = "interrupted";
    pub const DONE_NOT_A_FILE: &str = "done_not_a_file";
    /// A task that this one depends on failed, is missing, or depends on this one.
    pub const DEPENDENCY: &str = "dependency";
    /// The breaker opened once too often.
    pub const BREAKER: &str = "breaker";
    /// DONE was rejected once too often.
    pub const VERIFY: &str = "verify";
    /// No agent is left that may be started.
    pub const NO_AGENT: &str = "no_agent";
    /// Of an end, and of a wait for what runs then: the budget is used up.
    pub const BUDGET: &str = "budget";
    /// Of a wait: children of the task that is done.
    pub const WAIT_CHILDREN: &str = "children";
    /// Of a wait: children of the root run before, when the next one is due.
    pub const WAIT_RESTART: &str = "children before the restart";
    /// Of a wait: a blocking question of the newest root run.
    pub const WAIT_QUESTION: &str = "question";
    /// Of a wait: every agent is passed over for a while.
    pub const WAIT_AGENTS: &str = "agents";
    /// Of a wait: as `agents`, and the first that comes back is one whose account's limit is reached.
    pub const WAIT_USAGE_LIMIT: &str = "usage_limit";
    /// Of a wait: as many loops as the root allows are driven.
    pub const WAIT_LOOPS: &str = "loops";
    /// Of a loop that is driven, between the end of a run and the next step.
    pub const BETWEEN_RUNS: &str = "between runs";
    /// Of a task whose runs' calls to their APIs fail and are tried again.
    pub const RETRYING: &str = "retrying";
    /// How the reason of a run begins that reached its own time limit.
    pub const TIME_LIMIT: &str = "time limit";

    /// Does a loop that failed for this reason count as one that gave up, as opposed to one that could not go on?
    #[must_use]
    pub fn is_giving_up(reason: &str) -> bool {
        matches!(reason, EXHAUSTED | BREAKER | VERIFY | NO_AGENT | BUDGET)
    }
}

/// What the loop does next.
#[must_use]
pub fn next(look: Look<'_>) -> Step {
    budget::keep_within(look, within_any_budget(look))
}

fn within_any_budget(look: Look<'_>) -> Step {
    let Look { task, marker, .. } = look;
    let active: Vec<RunId> = task.active().map(|(id, _)| id.clone()).collect();
    let elsewhere: Vec<Link> = task.open_links().map(|(_, link)| link.clone()).collect();

    if let Some(stopping) = &task.ralph.stopping {
        return if !(active.is_empty() && elsewhere.is_empty()) {
            Step::StopRuns { runs: active, elsewhere }
        } else if task.ralph.is_stop_of_budget(&stopping.how) {
            end(look, LoopOutcome::Failed, reason::BUDGET)
        } else {
            end(look, LoopOutcome::Stopped, reason::STOPPED)
        };
    }
    if task.ralph.stopped_root.is_some() {
        return end(look, LoopOutcome::Stopped, reason::ROOT_STOPPED);
    }
    if let Some(root) = task.active_root() {
        // Also one that an earlier driver started: it is joined, never doubled.
        let runs = vec![root.clone()];
        return Step::WaitRuns {
            runs,
            elsewhere: Vec::new(),
            reason: None,
            event: None,
            look_again_ms: None,
        };
    }
    let stands = matches!((marker, &task.done), (Marker::Present { .. }, Some(_)));
    if let (false, Some(verifying)) = (stands, still_verifying(task)) {
        return verifying;
    }
    if marker == Marker::NotAFile {
        return end(look, LoopOutcome::Failed, reason::DONE_NOT_A_FILE);
    }
    if let (Marker::Present { .. }, Some(done)) = (marker, &task.done) {
        return done::after(look, done, active, elsewhere);
    }
    restart::without_done(look, active, elsewhere)
}

/// A verify command whose DONE is gone says nothing any more, but it is the loop's own: nothing begins beside it, and the
/// loop does not end before it.
fn still_verifying(task: &Task) -> Option<Step> {
    let runs: Vec<RunId> =
        task.active().filter(|(_, run)| run.verify.is_some()).map(|(id, _)| id.clone()).collect();
    let wait = Step::WaitRuns { runs, elsewhere: Vec::new(), reason: None, event: None, look_again_ms: None };
    matches!(&wait, Step::WaitRuns { runs, .. } if !runs.is_empty()).then_some(wait)
}

/// The agent that the next root run is started with.
fn pick<'a>(look: Look<'a>) -> Choice<'a> {
    let ralph = &look.task.ralph;
    let last = ralph.last_root.as_ref().and_then(|id| look.task.runs.get(id)).map(|run| run.agent.as_str());
    choose(look.pool, &ralph.degraded, last, ralph.attempts, look.now)
}

fn start_root(look: Look<'_>, agent: &str, why: Start) -> Step {
    let ralph = &look.task.ralph;
    let attempt = ralph.attempts + 1;
    let words = match &why {
        Start::First | Start::Resumed => None,
        Start::Again { why } => Some(why.clone()),
        Start::Rejected { command, exit_code, .. } => {
            Some(format!("DONE was rejected: `{command}` ended with {exit_code}"))
        }
        Start::CatchUp => Some("late results of children".to_owned()),
    };
    let event = words.map(|reason| LoopRestart {
        attempt,
        reason,
        previous_run_id: ralph.last_root.clone(),
        active_ms: look.clock.active_ms,
    });
    let session = session(look, agent);
    Step::StartRoot {
        attempt,
        agent: agent.to_owned(),
        why,
        event,
        previous: ralph.last_root.clone(),
        session,
    }
}

/// The conversation of the root run before, where the next one takes it up. One that was too long already, or that its
/// agent does not know, is left.
fn session(look: Look<'_>, agent: &str) -> Option<String> {
    let last = look.task.ralph.last_root.as_ref().and_then(|id| look.task.runs.get(id))?;
    let class = last.end().and_then(|(end, _)| end.error_class.as_deref());
    let lost = matches!(class, Some("context_too_long" | "usage" | "unknown"));
    let resumes = look.policy.session == Session::Resume && last.agent == agent && !lost;
    last.session_id.as_deref().filter(|_| resumes).map(str::to_owned)
}

fn wait_runs(
    look: Look<'_>,
    reason: &'static str,
    runs: Vec<RunId>,
    elsewhere: Vec<Link>,
    look_again_ms: Option<u64>,
) -> Step {
    let named = runs.iter().chain(elsewhere.iter().filter_map(|link| link.child.child_run_id.as_ref()));
    // Said once a wait: each end of a run is told by its own event.
    let event = waiting_event(look, reason, named.take(NAMED_MAX).cloned().collect(), None);
    Step::WaitRuns { runs, elsewhere, reason: Some(reason), event, look_again_ms }
}

/// The event of a wait, unless the stream tells of this wait already.
fn waiting_event(
    look: Look<'_>,
    reason: &'static str,
    runs: Vec<RunId>,
    until: Option<Timestamp>,
) -> Option<Event> {
    let said = matches!(&look.task.ralph.state, RalphState::Waiting { reason: r, .. } if r == reason);
    let active_ms = look.clock.active_ms;
    (!said).then(|| Event::LoopWaiting(LoopWaiting { reason: reason.to_owned(), runs, until, active_ms }))
}

fn wait_for_agents(look: Look<'_>, until: Timestamp, class: &str) -> Step {
    let ms = until.duration_since(look.now).as_millis();
    let reason = if is_usage_limit(class) { reason::WAIT_USAGE_LIMIT } else { reason::WAIT_AGENTS };
    let event = waiting_event(look, reason, Vec::new(), Some(until));
    Step::Hold { reason, ms: Some(u64::try_from(ms).unwrap_or(0)), event }
}

/// Instead of a start that is due: as many loops are driven as the root allows.
#[must_use]
pub fn wait_for_loops(look: Look<'_>, again_ms: u64) -> Step {
    let event = waiting_event(look, reason::WAIT_LOOPS, Vec::new(), None);
    Step::Hold { reason: reason::WAIT_LOOPS, ms: Some(again_ms), event }
}

/// Instead of a start that is due: the budget of a task for which this one works is used up. To stop what runs is that
/// task's to do.
#[must_use]
pub fn end_without_budget(look: Look<'_>) -> Step {
    budget::wait_or_end(look)
}

/// Nothing is started before what the task depends on is completed.
fn wait_for_dependencies(look: Look<'_>) -> Option<Step> {
    let first = look.unmet.iter().find(|dependency| dependency.is_hopeless()).or(look.unmet.first())?;
    if first.is_hopeless() && look.policy.on_dependency_failure == OnDependencyFailure::Fail {
        return Some(end(look, LoopOutcome::Failed, reason::DEPENDENCY));
    }
    let waits_for: Vec<TaskId> = look.unmet.iter().map(|dependency| dependency.task.clone()).collect();
    let why = look.unmet.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let said = matches!(&look.task.ralph.state, RalphState::Blocked { reason, .. } if *reason == why);
    let hopeless = first.is_hopeless();
    let event = (!said).then_some(Event::LoopBlocked(LoopBlocked { waits_for, reason: why, hopeless }));
    Some(Step::Hold { reason: reason::DEPENDENCY, ms: None, event })
}

/// How many runs an event names at the most: a header has a bound.
const NAMED_MAX: usize = 50;

/// Which limit the loop has reached.
fn exhausted(ralph: &Ralph, policy: &LoopPolicy, clock: Clock) -> Option<&'static str> {
    // After what was no attempt the next start is no restart.
    if ralph.has_begun() && !ralph.unspent && ralph.restarts >= policy.max_restarts {
        return Some("max_restarts");
    }
    if policy.max_wall_time_ms > 0 && clock.active_ms >= policy.max_wall_time_ms {
        return Some("max_wall_time");
    }
    None
}

fn end(look: Look<'_>, outcome: LoopOutcome, reason: &str) -> Step {
    Step::End(LoopEnd {
        outcome,
        reason: reason.to_owned(),
        restarts: look.task.ralph.restarts,
        active_ms: look.clock.active_ms,
    })
}

/// The limit that ended an exhausted loop, for its message.
#[must_use]
pub fn limit_reached(look: Look<'_>) -> Option<&'static str> {
    exhausted(&look.task.ralph, look.policy, look.clock)
}

#[cfg(test)]
mod tests;
