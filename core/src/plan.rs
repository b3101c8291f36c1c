//! The Ralph loop as a pure function: given the world, the marker and the driver's clock, what is to be done next?
//!
//! The driver gathers, folds, asks, does the one [`Step`], and asks again. All that the plan remembers is in the
//! stream, so a driver that was killed is followed by one that goes on in the same place.

use crate::event::{Event, LoopBackoff, LoopEnd, LoopOutcome, LoopRestart, LoopWaiting};
use crate::id::RunId;
use crate::policy::{AfterChildren, LoopPolicy, RestartWithChildren, backoff_ms};
use crate::world::{Marker, Ralph, RalphState, Task};

/// All that the plan looks at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub task: &'a Task,
    pub marker: Marker,
    pub policy: &'a LoopPolicy,
    pub clock: Clock,
}

/// The driver's clock, which stops while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// The loop's own time, over all drivers.
    pub active_ms: u64,
    /// Since the newest root run ended, or since this driver took the loop if that is later.
    pub since_root_ms: u64,
    /// Since the loop began to wait for what it waits for now.
    pub waited_ms: u64,
}

/// What is to be done. The driver does it and looks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start the root agent. `event` goes into the same append as the run's intent.
    StartRoot { attempt: u32, why: Start, event: Option<LoopRestart>, previous: Option<RunId> },
    /// A stop was asked for: see that these runs are stopped, and wait for their ends.
    StopRuns(Vec<RunId>),
    /// Wait for these runs to end. `event` is due if given.
    WaitRuns { runs: Vec<RunId>, event: Option<Event>, look_again_ms: Option<u64> },
    /// Wait so long, or until something happens. `event` is due if given.
    Pause { ms: u64, event: Option<Event> },
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
    /// Of a wait: children of the task that is done.
    pub const WAIT_CHILDREN: &str = "children";
    /// Of a wait: children of the root run before, when the next one is due.
    pub const WAIT_RESTART: &str = "children before the restart";
    /// Of a wait: a blocking question of the newest root run.
    pub const WAIT_QUESTION: &str = "question";
    /// Of a wait: every agent is passed over for a while.
    pub const WAIT_AGENTS: &str = "agents";
    /// Of a wait: as many loops as the root allows are driven.
    pub const WAIT_LOOPS: &str = "loops";
    /// How the reason of a run begins that reached its own time limit.
    pub const TIME_LIMIT: &str = "time limit";
}

/// What the loop does next.
#[must_use]
pub fn next(look: Look<'_>) -> Step {
    let Look { task, marker, policy, clock } = look;
    let active: Vec<RunId> = task.active().map(|(id, _)| id.clone()).collect();

    if task.ralph.stopping.is_some() {
        return if active.is_empty() {
            end(look, LoopOutcome::Stopped, reason::STOPPED)
        } else {
            Step::StopRuns(active)
        };
    }
    if task.ralph.stopped_root.is_some() {
        return end(look, LoopOutcome::Stopped, reason::ROOT_STOPPED);
    }
    if let Some(root) = task.active_root() {
        // Also one that an earlier driver started: it is joined, never doubled.
        return Step::WaitRuns { runs: vec![root.clone()], event: None, look_again_ms: None };
    }
    if marker == Marker::NotAFile {
        return end(look, LoopOutcome::Failed, reason::DONE_NOT_A_FILE);
    }
    if let (Marker::Present { .. }, Some(done)) = (marker, &task.done) {
        if !active.is_empty() {
            return wait_for_children(look, active);
        }
        let catch_up =
            policy.after_children == AfterChildren::CatchUp && done.late_results && !done.root_started;
        return if catch_up && exhausted(&task.ralph, policy, clock).is_none() {
            start_root(&task.ralph, Start::CatchUp, clock)
        } else {
            end(look, LoopOutcome::Completed, reason::DONE)
        };
    }
    without_done(look, active)
}

fn without_done(look: Look<'_>, active: Vec<RunId>) -> Step {
    let Look { task, policy, clock, .. } = look;
    let ralph = &task.ralph;
    if exhausted(ralph, policy, clock).is_some() {
        return end(look, LoopOutcome::Failed, reason::EXHAUSTED);
    }
    if ralph.attempts == 0 {
        return start_root(ralph, Start::First, clock);
    }
    if !active.is_empty() && policy.restart_with_children == RestartWithChildren::Wait {
        return wait(reason::WAIT_RESTART, active, ralph, clock, None);
    }
    if ralph.fresh {
        return start_root(ralph, Start::Resumed, clock);
    }
    pause_then_restart(ralph, policy, clock, why_again(task))
}

fn pause_then_restart(ralph: &Ralph, policy: &LoopPolicy, clock: Clock, why: String) -> Step {
    let seed = ralph.last_root.as_ref().map_or("", RunId::as_str);
    let delay_ms =
        if ralph.failures == 0 { policy.restart_delay_ms } else { backoff_ms(ralph.failures, seed) };
    if clock.since_root_ms >= delay_ms {
        return start_root(ralph, Start::Again { why }, clock);
    }
    let said = matches!(ralph.state, RalphState::BackingOff { .. });
    let event = (ralph.failures > 0 && !said).then(|| {
        Event::LoopBackoff(LoopBackoff {
            attempt: ralph.attempts + 1,
            delay_ms,
            failures: ralph.failures,
            reason: why,
            active_ms: clock.active_ms,
        })
    });
    Step::Pause { ms: delay_ms - clock.since_root_ms, event }
}

fn start_root(ralph: &Ralph, why: Start, clock: Clock) -> Step {
    let attempt = ralph.attempts + 1;
    let words = match &why {
        Start::First | Start::Resumed => None,
        Start::Again { why } => Some(why.clone()),
        Start::CatchUp => Some("late results of children".to_owned()),
    };
    let event = words.map(|reason| LoopRestart {
        attempt,
        reason,
        previous_run_id: ralph.last_root.clone(),
        active_ms: clock.active_ms,
    });
    Step::StartRoot { attempt, why, event, previous: ralph.last_root.clone() }
}

fn wait_for_children(look: Look<'_>, active: Vec<RunId>) -> Step {
    let limit = look.policy.child_wait_timeout_ms;
    if limit > 0 && look.clock.waited_ms >= limit {
        return end(look, LoopOutcome::Failed, reason::CHILDREN);
    }
    let left = (limit > 0).then(|| limit - look.clock.waited_ms);
    wait(reason::WAIT_CHILDREN, active, &look.task.ralph, look.clock, left)
}

fn wait(reason: &str, runs: Vec<RunId>, ralph: &Ralph, clock: Clock, look_again_ms: Option<u64>) -> Step {
    // Said once a wait: each end of a run is told by its own event.
    let said = matches!(&ralph.state, RalphState::Waiting { reason: r, .. } if r == reason);
    let event = (!said).then(|| {
        Event::LoopWaiting(LoopWaiting {
            reason: reason.to_owned(),
            runs: runs.iter().take(NAMED_MAX).cloned().collect(),
            until: None,
            active_ms: clock.active_ms,
        })
    });
    Step::WaitRuns { runs, event, look_again_ms }
}

/// How many runs an event names at the most: a header has a bound.
const NAMED_MAX: usize = 50;

/// Which limit the loop has reached.
fn exhausted(ralph: &Ralph, policy: &LoopPolicy, clock: Clock) -> Option<&'static str> {
    if ralph.attempts > 0 && !ralph.fresh && ralph.restarts >= policy.max_restarts {
        return Some("max_restarts");
    }
    if policy.max_wall_time_ms > 0 && clock.active_ms >= policy.max_wall_time_ms {
        return Some("max_wall_time");
    }
    None
}

fn why_again(task: &Task) -> String {
    let end = task.ralph.last_root.as_ref().and_then(|id| task.runs.get(id)).and_then(super::world::Run::end);
    match end {
        Some((end, _)) if end.exit_code == Some(0) => "the agent stopped but did not say DONE".to_owned(),
        Some((end, _)) => format!("the agent failed: {}", end.reason),
        None => "the run before is gone".to_owned(),
    }
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
