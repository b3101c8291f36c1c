//! What comes after a root run that left no DONE: the next one, a pause before it, or the end.

use jiff::Timestamp;

use super::{
    Choice, Clock, Look, Ralph, RalphState, Run, RunId, Start, Step, end, exhausted, pick, reason,
    start_root, wait_for_agents, wait_for_dependencies, wait_runs, waiting_event,
};
use crate::event::{AgentDegraded, Event, LoopBackoff, LoopBreaker, LoopOutcome, RunOutcome};
use crate::policy::agents::{choose, is_of_the_service, is_own_fault};
use crate::policy::{RestartWithChildren, backoff_ms};
use crate::world::{Degraded, Link, Task};

pub(super) fn without_done(look: Look<'_>, active: Vec<RunId>, elsewhere: Vec<Link>) -> Step {
    let Look { task, policy, clock, .. } = look;
    let ralph = &task.ralph;
    if ralph.rejected.is_some() && policy.verify_attempts > 0 && ralph.rejections >= policy.verify_attempts {
        return end(look, LoopOutcome::Failed, reason::VERIFY);
    }
    if exhausted(ralph, policy, clock).is_some() {
        return end(look, LoopOutcome::Failed, reason::EXHAUSTED);
    }
    let begins = !ralph.has_begun();
    if let Some(step) = begins.then(|| wait_for_dependencies(look)).flatten() {
        return step;
    }
    let children = !(active.is_empty() && elsewhere.is_empty());
    let waits = policy.restart_with_children == RestartWithChildren::Wait && !a_child_asks(task);
    if ralph.attempts > 0 && children && waits {
        return wait_runs(look, reason::WAIT_RESTART, active, elsewhere, None);
    }
    let held = (!begins).then(|| question(look).or_else(|| degrade(look))).flatten();
    if let Some(step) = held {
        return step;
    }
    match pick(look) {
        Choice::Never { .. } => end(look, LoopOutcome::Failed, reason::NO_AGENT),
        Choice::Later { until, class } => wait_for_agents(look, until, &class),
        Choice::Agent(agent) if ralph.attempts == 0 => start_root(look, agent, Start::First),
        Choice::Agent(agent) if ralph.fresh => start_root(look, agent, Start::Resumed),
        Choice::Agent(agent) => pause_then_restart(look, agent),
    }
}

/// A child that waits for an answer would wait for ever for a root agent that waits for it.
fn a_child_asks(task: &Task) -> bool {
    let is_child = |id: &RunId| task.runs.get(id).is_some_and(|run| run.is_active() && !run.is_root());
    task.thread.open_questions.values().any(|q| q.blocking && q.run.as_ref().is_some_and(is_child))
}

/// A question of the root run before holds the loop until it is answered: to start an agent that lacks the answer
/// only burns restarts.
fn question(look: Look<'_>) -> Option<Step> {
    let last = look.task.ralph.last_root.as_ref()?;
    let questions = &look.task.thread.open_questions;
    questions.values().find(|q| q.blocking && q.run.as_ref() == Some(last))?;
    let limit = look.policy.question_timeout_ms;
    let waited = look.clock.waited_ms(reason::WAIT_QUESTION);
    if limit > 0 && waited >= limit {
        return None;
    }
    let event = waiting_event(look, reason::WAIT_QUESTION, vec![last.clone()], None);
    let ms = (limit > 0).then(|| limit - waited);
    Some(Step::Hold { reason: reason::WAIT_QUESTION, ms, event })
}

/// A failure that ends so soon, of an agent that said nothing, is the agent's own.
const AT_START_MS: u64 = 5_000;

fn degrade(look: Look<'_>) -> Option<Step> {
    let ralph = &look.task.ralph;
    let id = ralph.last_root.as_ref()?;
    let run = look.task.runs.get(id)?;
    let (end, _) = run.end()?;
    let class = end.error_class.as_deref().filter(|_| end.status == RunOutcome::Failed)?;
    if ralph.degraded.get(&run.agent).is_some_and(|known| known.run.as_ref() == Some(id)) {
        return None;
    }
    let known = ralph.degraded.get(&run.agent);
    let until = look.pool.passed_over_until(known, class, end.retry_at, look.now);
    let at_start =
        class == "crash" && end.duration_ms.is_some_and(|ms| ms < AT_START_MS) && run.last_post.is_none();
    let may_pass_over = at_start || is_of_the_service(class);
    if !(is_own_fault(class) || (may_pass_over && another_is_ready(look, run, until))) {
        return None;
    }
    let event = AgentDegraded { agent: run.agent.clone(), error_class: class.to_owned(), until };
    Some(Step::Degrade { run: id.clone(), event })
}

/// An agent that may merely have slipped is passed over only in favour of another.
fn another_is_ready(look: Look<'_>, run: &Run, until: Timestamp) -> bool {
    let ralph = &look.task.ralph;
    let mut degraded = ralph.degraded.clone();
    let passed_over = Degraded { error_class: "crash".to_owned(), until, run: None, times: 1 };
    degraded.insert(run.agent.clone(), passed_over);
    let choice = choose(look.pool, &degraded, Some(&run.agent), ralph.attempts, look.now);
    matches!(choice, Choice::Agent(other) if other != run.agent)
}

fn pause_then_restart(look: Look<'_>, agent: &str) -> Step {
    let Look { task, policy, clock, .. } = look;
    let ralph = &task.ralph;
    let why = why_again(look);
    if let Some(step) = breaker(look) {
        return step;
    }
    let seed = ralph.last_root.as_ref().map_or("", RunId::as_str);
    let cooled = ralph.tripped_at.is_some() && ralph.tripped_at == ralph.last_root;
    let delay_ms = match ralph.failures {
        // It was no attempt at the work: another agent goes on at once.
        _ if cooled || ralph.unspent => 0,
        0 => policy.restart_delay_ms,
        failures => backoff_ms(failures, seed),
    };
    if clock.since_root_ms >= delay_ms {
        return start_root(look, agent, why);
    }
    let event = backoff_event(ralph, clock, delay_ms, &why);
    Step::Pause { ms: delay_ms - clock.since_root_ms, event }
}

fn backoff_event(ralph: &Ralph, clock: Clock, delay_ms: u64, why: &Start) -> Option<Event> {
    let said = matches!(ralph.state, RalphState::BackingOff { .. });
    let reason = match why {
        Start::Again { why } => why.clone(),
        Start::First | Start::Resumed | Start::CatchUp | Start::Rejected { .. } => String::new(),
    };
    (ralph.failures > 0 && !said).then(|| {
        Event::LoopBackoff(LoopBackoff {
            attempt: ralph.attempts + 1,
            delay_ms,
            failures: ralph.failures,
            reason,
            active_ms: clock.active_ms,
        })
    })
}

/// Quick failures in a row: a long pause, then one trial; opened once too often, the end.
fn breaker(look: Look<'_>) -> Option<Step> {
    let Look { task, policy, clock, .. } = look;
    let (ralph, breaker) = (&task.ralph, policy.breaker);
    let quick = ralph.failed_ms.iter().rev().take_while(|ms| **ms < breaker.quick_ms).count();
    if breaker.failures == 0 || quick < breaker.failures as usize {
        return None;
    }
    if ralph.tripped_at != ralph.last_root {
        let trips = ralph.trips.saturating_add(1);
        if breaker.trips > 0 && trips >= breaker.trips {
            return Some(end(look, LoopOutcome::Failed, reason::BREAKER));
        }
        let event = Event::LoopBreaker(LoopBreaker { trips, cooldown_ms: breaker.cooldown_ms });
        return Some(Step::Pause { ms: breaker.cooldown_ms, event: Some(event) });
    }
    let left = breaker.cooldown_ms.saturating_sub(clock.since_root_ms);
    (left > 0).then_some(Step::Pause { ms: left, event: None })
}

fn why_again(look: Look<'_>) -> Start {
    let ralph = &look.task.ralph;
    if let Some(rejected) = &ralph.rejected {
        return Start::Rejected {
            command: rejected.command.clone(),
            exit_code: rejected.exit_code,
            output: rejected.output.clone(),
        };
    }
    let end = ralph.last_root.as_ref().and_then(|id| look.task.runs.get(id)).and_then(Run::end);
    let why = match end {
        Some((end, _)) if end.status == RunOutcome::Completed => {
            "the agent stopped but did not say DONE".to_owned()
        }
        Some((end, _)) => format!("the agent failed: {}", end.reason),
        None => "the run before is gone".to_owned(),
    };
    Start::Again { why }
}
