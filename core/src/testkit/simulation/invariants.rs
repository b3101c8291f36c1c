//! What must hold in every story, one function each. They look at processes, at the ledger, and at the world.

mod at_end;

use std::collections::BTreeMap;

pub(super) use self::at_end::{at_end, has_work};
use super::ledger::{Told, ToldRun};
use super::silence::{POLICY, TIMEOUT_MS};
use super::sim::{Kind, Pid, Sim, TaskNo};
use crate::event::{Event, LoopEnd, LoopOutcome};
use crate::id::RunId;
use crate::plan::reason;

pub const NOTHING_IGNORED: &str = "nothing that the tool posts is ignored by the world";
pub const ONE_END: &str = "a run has exactly one final event";
pub const ONE_START: &str =
    "an agent is let go at most once, never after its run's end, and not without its start";
pub const ONE_ROOT: &str = "a task has one active root run at most";
pub const ONE_DRIVER: &str = "only the holder of the lock drives a loop";
pub const LIMIT: &str = "no more agents are at work than there are slots";
pub const NO_STARVATION: &str = "no slot stays free while somebody waits for one";
pub const PROGRESS: &str = "every loop ends, or waits for a person";
pub const STOP_WINS: &str = "nothing starts in what is being stopped, and the stop comes to its end";
pub const REPLAY: &str = "an observer's world equals a replay";
pub const DONE_IS_TRUE: &str =
    "a loop is completed only with DONE, no active child, and every verify command passed";
pub const RESTARTS: &str = "restarts are counted as the runs tell, and stay within their limit";
pub const FOREIGN: &str = "a run of another machine is neither closed nor started here";
pub const SILENCE: &str =
    "idle, stuck and time limits hold what passed without a sign of life, and no sleep of the machine";
pub const FACTS: &str = "a completed loop's facts are told once";

/// Every one of them, for the tests that break each.
pub const ALL: [&str; 15] = [
    NOTHING_IGNORED,
    ONE_END,
    ONE_START,
    ONE_ROOT,
    ONE_DRIVER,
    LIMIT,
    NO_STARVATION,
    PROGRESS,
    STOP_WINS,
    REPLAY,
    DONE_IS_TRUE,
    RESTARTS,
    FOREIGN,
    SILENCE,
    FACTS,
];

/// After an event was appended by a process; 0 is nobody of this machine.
pub(super) fn after_event(sim: &mut Sim, by: Pid, no: TaskNo, run: &Option<RunId>, event: &Event) {
    round_trip(sim, no, event);
    note_stop(sim, no, run.as_ref(), event);
    stop_wins(sim, by, no, run.as_ref(), event);
    one_driver(sim, by, no, event);
    if let Some(run) = run {
        silence_is_true(sim, run, event);
        foreign_is_untouched(sim, by, no, run, event);
    }
    if let Event::LoopEnd(end) = event {
        no_verify_is_left(sim, no, end);
        done_is_true(sim, no, end);
        restarts_are_right(sim, no, end);
    }
    let id =
        sim.streams.get(&sim.tasks[no].key).and_then(|entries| entries.last()).map(|e| e.message.id.clone());
    let Some(id) = id else { return };
    let told = sim.ledger.tasks.entry(no).or_default();
    told.take(&id, run.as_ref(), event);
    one_end(sim, no, run.as_ref());
    one_root(sim, no);
}

/// The event that was posted is the one that is read.
fn round_trip(sim: &mut Sim, no: TaskNo, event: &Event) {
    let last = sim.streams.get(&sim.tasks[no].key).and_then(|entries| entries.last());
    let read = last.map(|entry| Event::read(&entry.message));
    if read.as_ref().is_none_or(|read| read.as_ref() != Ok(event)) {
        sim.violate(NOTHING_IGNORED, format!("{event:?} is read as {read:?}"));
    }
}

fn told(sim: &Sim, no: TaskNo) -> Option<&Told> {
    sim.ledger.tasks.get(&no)
}

fn one_end(sim: &mut Sim, no: TaskNo, run: Option<&RunId>) {
    let Some(id) = run else { return };
    let known = told(sim, no).and_then(|told| told.runs.get(id));
    if let Some(run) = known.filter(|run| run.ends > 1 || run.starts > 1) {
        let (starts, ends) = (run.starts, run.ends);
        let invariant = if ends > 1 { ONE_END } else { ONE_START };
        sim.violate(invariant, format!("{id} has {starts} starts and {ends} ends"));
    }
}

fn one_root(sim: &mut Sim, no: TaskNo) {
    let roots = told(sim, no).map_or(0, |told| told.active().filter(|(_, run)| run.root).count());
    if roots > 1 {
        sim.violate(ONE_ROOT, format!("{} has {roots}", sim.tasks[no].key));
    }
}

/// Before step 9 of starting.
pub(super) fn before_let_go(sim: &mut Sim, no: TaskNo, run: &RunId) {
    let times = sim.ledger.let_go.entry(run.clone()).or_insert(0);
    *times += 1;
    let times = *times;
    sim.ledger.let_go_ms.entry(run.clone()).or_insert(sim.clock.mono_ms);
    sim.ledger.alive_ms.entry(run.clone()).or_insert(sim.clock.mono_ms);
    let state = told(sim, no).and_then(|told| told.runs.get(run)).map(|run| (run.starts, run.ends));
    if times > 1 || state != Some((1, 0)) {
        sim.violate(ONE_START, format!("{run} is let go {times} times, starts and ends: {state:?}"));
    }
}

fn one_driver(sim: &mut Sim, by: Pid, no: TaskNo, event: &Event) {
    let own = match event {
        Event::LoopStart(_)
        | Event::LoopRestart(_)
        | Event::LoopBackoff(_)
        | Event::LoopBlocked(_)
        | Event::LoopWaiting(_)
        | Event::LoopBreaker(_)
        | Event::AgentDegraded(_)
        | Event::DoneRejected(_) => true,
        Event::RunIntent(intent) => intent.attempt.is_some(),
        // A stop that lost its driver is ended by whoever looks.
        Event::LoopEnd(_) => sim.tasks[no].driver.is_some(),
        _ => false,
    };
    if own && by != 0 && sim.tasks[no].driver != Some(by) {
        let holder = sim.tasks[no].driver;
        sim.violate(ONE_DRIVER, format!("process {by} posts {event:?}, the lock is held by {holder:?}"));
    }
}

fn stop_wins(sim: &mut Sim, by: Pid, no: TaskNo, run: Option<&RunId>, event: &Event) {
    let Some(told) = told(sim, no) else { return };
    let below_a_stop = |run: &RunId| {
        let mut at = Some(run.clone());
        while let Some(known) = at.and_then(|id| told.runs.get(&id)) {
            if known.stopping && !known.keeps_children {
                return true;
            }
            at = known.parent.clone();
        }
        false
    };
    let wrong = match (event, run) {
        (Event::RunIntent(intent), _) => {
            told.stopping || intent.parent_run_id.as_ref().is_some_and(below_a_stop)
        }
        (Event::RunStart(_), Some(run)) => {
            told.stopping || told.runs.get(run).is_some_and(|run| run.stopping)
        }
        (Event::LoopStart(_), _) => told.stopping || sim.ledger.told_to_stop.contains(&by),
        // A stop is over when its whole tree is.
        (Event::LoopEnd(end), _) if end.reason == reason::STOPPED => {
            told.active().next().is_some() || !told.links.is_empty()
        }
        _ => false,
    };
    if wrong {
        sim.violate(STOP_WINS, format!("{event:?} of {run:?} after the stop"));
    }
}

fn note_stop(sim: &mut Sim, no: TaskNo, run: Option<&RunId>, event: &Event) {
    let asked: Vec<RunId> = match event {
        Event::RunStopping(_) => run.cloned().into_iter().collect(),
        Event::LoopStopping(_) => {
            told(sim, no).map(|told| told.active().map(|(id, _)| id.clone()).collect()).unwrap_or_default()
        }
        _ => return,
    };
    for id in asked {
        sim.ledger.asked_ms.entry(id).or_insert(sim.clock.mono_ms);
    }
}

fn foreign_is_untouched(sim: &mut Sim, by: Pid, no: TaskNo, run: &RunId, event: &Event) {
    let touches = by != 0 && matches!(event, Event::RunStart(_) | Event::RunEnd(_));
    if touches && told(sim, no).and_then(|told| told.runs.get(run)).is_some_and(|run| run.foreign) {
        sim.violate(FOREIGN, format!("process {by} ends {run}"));
    }
}

/// CPU time that is used before the first look is seen by none, and the first look may be late.
const FIRST_LOOK_MS: u64 = 26_000;

/// Silence and time limits hold what really passed: neither the machine's sleep nor work that prints nothing.
fn silence_is_true(sim: &mut Sim, run: &RunId, event: &Event) {
    let since = |from: &BTreeMap<RunId, u64>| from.get(run).map_or(0, |at| sim.clock.mono_ms - at);
    let (lasted_ms, least_ms) = match event {
        Event::RunIdle(_) => (since(&sim.ledger.alive_ms), POLICY.idle_after_ms),
        Event::RunStuck(_) => (since(&sim.ledger.alive_ms), POLICY.stuck_after_ms),
        Event::RunEnd(end) if end.reason.starts_with(reason::TIME_LIMIT) => {
            (since(&sim.ledger.let_go_ms), TIMEOUT_MS)
        }
        _ => return,
    };
    if lasted_ms + FIRST_LOOK_MS < least_ms {
        sim.violate(SILENCE, format!("{run}: {event:?} after {lasted_ms} ms"));
    }
}

/// What the loop itself started has ended with it.
fn no_verify_is_left(sim: &mut Sim, no: TaskNo, end: &LoopEnd) {
    let is_verify = |run: &ToldRun| run.key.as_ref().is_some_and(|key| key.starts_with("verify:"));
    let left = told(sim, no).and_then(|told| told.active().find(|(_, run)| is_verify(run)));
    if let (Some((run, _)), true) = (left, end.reason != reason::INTERRUPTED) {
        let what = format!("{end:?} while {run} verifies");
        sim.violate(DONE_IS_TRUE, what);
    }
}

fn done_is_true(sim: &mut Sim, no: TaskNo, end: &LoopEnd) {
    if end.outcome != LoopOutcome::Completed {
        return;
    }
    let Some(told) = told(sim, no) else { return };
    let done = told.done.clone();
    let passed = |n: usize| {
        let key = done.as_ref().map(|done| format!("verify:{done}:{n}:")).unwrap_or_default();
        let is_this = |run: &&ToldRun| run.key.as_ref().is_some_and(|own| own.starts_with(&key));
        told.runs.values().filter(is_this).any(|run| run.outcome == Some(crate::event::RunOutcome::Completed))
    };
    let active: Vec<String> = told.active().map(|(id, _)| id.to_string()).collect();
    let failing = (0..sim.tasks[no].policy.verify.len()).find(|n| !passed(*n));
    if done.is_none() || !active.is_empty() || !told.links.is_empty() || failing.is_some() {
        let links = told.links.clone();
        sim.violate(
            DONE_IS_TRUE,
            format!(
                "{}: DONE {done:?}, active {active:?}, links {links:?}, not verified {failing:?}",
                sim.tasks[no].key
            ),
        );
    }
    sim.ledger.completed.push((no, done));
}

fn restarts_are_right(sim: &mut Sim, no: TaskNo, end: &LoopEnd) {
    let (Some(told), max) = (told(sim, no), sim.tasks[no].policy.max_restarts) else { return };
    let counted = told.restarts;
    // A loop that was only stopped by somebody else says what the world says.
    if end.restarts != counted || counted > max {
        sim.violate(
            RESTARTS,
            format!("{}: told {}, counted {counted}, limit {max}", sim.tasks[no].key, end.restarts),
        );
    }
}

/// After each action of a process.
pub(super) fn after_action(sim: &mut Sim) {
    limit(sim);
}

/// Those that wait do not count, nor those whose supervisor was killed.
fn limit(sim: &mut Sim) {
    if sim.slots.max == 0 {
        return;
    }
    let at_work = |process: &super::sim::Process| match &process.kind {
        Kind::Agent(agent) => {
            agent.let_go
                && sim.has_supervisor(&agent.run)
                && !sim.ledger.robbed.contains(&agent.run)
                && !sim.commands_of(&agent.run).any(super::command::Command::is_connected)
        }
        Kind::Driver(_) | Kind::Supervisor(_) | Kind::Command(_) | Kind::Stop(_) | Kind::AtWork => false,
    };
    let count = sim.processes.values().filter(|process| at_work(process)).count();
    no_starvation(sim, count);
    if count > sim.slots.max as usize {
        sim.violate(LIMIT, format!("{count} at work, {} slots", sim.slots.max));
    }
}

/// Where nothing goes wrong any more. Whoever is at work has a slot, but for those whose supervisor or blocked command was
/// killed; what a crash frees is found by who looks again.
fn no_starvation(sim: &mut Sim, at_work: usize) {
    let now_ms = sim.clock.mono_ms;
    let is_free = sim.calm && at_work < sim.slots.max as usize && super::slots::somebody_waits(sim);
    let since_ms = if is_free { *sim.ledger.free_since_ms.get_or_insert(now_ms) } else { now_ms };
    if !is_free {
        sim.ledger.free_since_ms = None;
    }
    if now_ms - since_ms > PATIENCE_MS {
        sim.violate(
            NO_STARVATION,
            format!("{at_work} at work, {} slots, since {since_ms} ms", sim.slots.max),
        );
    }
}

/// What in the calm part has to happen at once has this long.
const PATIENCE_MS: u64 = 60_000;

/// In the calm part a supervisor that lives sees to a stop.
pub(super) fn stops_are_heeded(sim: &mut Sim, calm_since_ms: u64) {
    let now_ms = sim.clock.mono_ms;
    let late = |id: &&RunId| {
        let asked_ms = sim.ledger.asked_ms.get(*id).map(|asked_ms| (*asked_ms).max(calm_since_ms));
        asked_ms.is_some_and(|asked_ms| now_ms - asked_ms > PATIENCE_MS) && sim.has_supervisor(id)
    };
    let active: Vec<&RunId> = sim.ledger.tasks.values().flat_map(Told::active).map(|(id, _)| id).collect();
    let found = active.into_iter().find(late).cloned();
    if let Some(run) = found {
        sim.violate(STOP_WINS, format!("{run} was asked to stop and goes on"));
    }
}
