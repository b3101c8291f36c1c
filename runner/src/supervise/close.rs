//! Ending a run in the stream, exactly once, whoever does it: its supervisor, or the next process that finds it dead.

use std::fs::File;
use std::io;
use std::time::Duration;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, LoopEnd, LoopOutcome, RunEnd, RunOutcome};
use run_agent_core::plan::reason;
use run_agent_core::run_info::RunInfo;
use run_agent_core::world::{Run, RunState, Task};
use run_agent_core::{Entry, RunId};

use super::ladder;
use super::os::{self, Machine, ProcessId};
use super::record::{self, Notes};
use super::set::{self, Owner};
use super::supervisor::KEEP_BACKGROUND;
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView, ViewError};
use crate::{files, output};

/// What a look at an active run finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Its supervisor (or the starter, before the hand-over) holds the lock.
    Supervised,
    /// The supervisor is dead, the agent is not.
    AgentAlone(ProcessId),
    /// Neither lives. What the dead supervisor noted is here.
    Dead(Box<Notes>),
    /// Made on another machine or in another pid namespace: never closed or signalled from here.
    Foreign,
}

/// Looks at an active run. The lock decides first.
///
/// # Errors
/// When its files are there but cannot be read.
pub fn life(tree: &Tree, name: &TaskName, id: &RunId, run: &Run) -> io::Result<Life> {
    let paths = tree.run(name, id);
    let lock = paths.supervisor_lock();
    if files::is_locked(&lock)? {
        return Ok(Life::Supervised);
    }
    let here = Machine::here();
    let (machine, boot, namespace) = match &run.state {
        RunState::Running { start, .. } => (&start.machine_id, &start.boot_id, start.pid_namespace.as_str()),
        RunState::Queued { intent: Some(intent), .. } => (&intent.machine_id, &intent.boot_id, ""),
        RunState::Queued { intent: None, .. } | RunState::Ended { .. } => return Ok(Life::Foreign),
    };
    let same_boot = *boot == here.boot_id;
    let same_namespace = namespace.is_empty() || namespace == here.pid_namespace;
    if *machine != here.machine_id || (same_boot && !same_namespace) {
        return Ok(Life::Foreign);
    }
    let notes = record::notes(&lock)?;
    if !same_boot {
        return Ok(Life::Dead(Box::new(notes)));
    }
    // An agent may delete its own run folder: then the lock says nothing, and the processes themselves tell.
    if !lock.exists() && owner_of(run).is_some_and(ProcessId::is_alive) {
        return Ok(Life::Supervised);
    }
    // Before RUN_START the agent's process is the shim, which ends by itself.
    match run.start().map(|start| ProcessId { pid: start.pid, start_ticks: start.pid_start_ticks }) {
        Some(agent) if notes.exit.is_none() && agent.is_alive() => Ok(Life::AgentAlone(agent)),
        _ => Ok(Life::Dead(Box::new(notes))),
    }
}

/// The process that is to hold the run's lock, as the stream tells.
fn owner_of(run: &Run) -> Option<ProcessId> {
    match &run.state {
        RunState::Running { start, .. } => {
            Some(ProcessId { pid: start.supervisor_pid, start_ticks: start.supervisor_start_ticks })
        }
        RunState::Queued { intent, .. } => intent
            .as_ref()
            .map(|intent| ProcessId { pid: intent.starter_pid, start_ticks: intent.starter_start_ticks }),
        RunState::Ended { .. } => None,
    }
}

/// Closes every active run of the task that is dead, and a stop of the task that nobody is left to end. Returns the
/// runs that this call closed.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn close_dead(tree: &Tree, view: &mut TaskView) -> Result<Vec<RunId>, ViewError> {
    let name = view.name.clone();
    let active: Vec<(RunId, Run)> = view.task().active().map(|(id, run)| (id.clone(), run.clone())).collect();
    let mut closed = Vec::new();
    for (id, run) in active {
        // A run whose files cannot be read is left as it is: `doctor` tells.
        let Ok(Life::Dead(_)) = life(tree, &name, &id, &run) else { continue };
        let path = tree.run(&name, &id).supervisor_lock();
        // Held while the run is closed. Where the file is gone the conditional append alone decides who closes it.
        let lock = File::options().append(true).open(&path).ok();
        if let Some(lock) = &lock
            && !matches!(files::try_lock(lock), Ok(true))
        {
            // Another closer, or a prober for a moment: it is looked at again later.
            continue;
        }
        let notes = record::notes(&path).unwrap_or_default();
        end_left_overs(&id, &run);
        let (end, cause) = end_of_dead(&run, notes);
        if end_run(tree, view, &id, end, &cause)? {
            closed.push(id);
        }
    }
    end_lone_stop(tree, view)?;
    Ok(closed)
}

/// What the agent left running when its supervisor was lost, as the supervisor itself would end it.
fn end_left_overs(id: &RunId, run: &Run) {
    let agent = run.start().map(|start| ProcessId { pid: start.pid, start_ticks: start.pid_start_ticks });
    let find = || {
        let owner = Owner { run: id.as_str(), agent, supervisor: None, asker: std::process::id() };
        set::without(set::of_run(&os::processes().unwrap_or_default(), owner), &KEEP_BACKGROUND)
    };
    ladder::end(find, LEFT_OVERS_GRACE, std::thread::sleep);
}

const LEFT_OVERS_GRACE: Duration = Duration::from_secs(2);

/// A stop whose command was killed, of a task that no driver looks after: it ends when nothing runs any more, so that
/// the task is not refused for ever.
fn end_lone_stop(tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
    let over = |task: &Task| task.ralph.stopping.is_some() && task.active().next().is_none();
    if !over(view.task()) || files::is_locked(&tree.task(&view.name).loop_lock()).unwrap_or(true) {
        return Ok(());
    }
    let ralph = &view.task().ralph;
    let by = ralph.stopping.as_ref().map(|stop| stop.how.by.clone()).unwrap_or_default();
    let end = LoopEnd {
        outcome: LoopOutcome::Stopped,
        reason: reason::STOPPED.to_owned(),
        restarts: ralph.restarts,
        active_ms: ralph.active_ms,
    };
    let scope = view.name.scope(None);
    let draft = Event::LoopEnd(end).draft(
        &scope,
        &Cause::Process("nothing is left to stop".to_owned()),
        format!("stopped on request of {by}"),
    );
    view.propose(vec![draft], |task| if over(task) { Ok(()) } else { Err(Refusal::Moot) })?;
    Ok(())
}

/// What is posted for a run whose supervisor can post nothing any more.
fn end_of_dead(run: &Run, notes: Notes) -> (RunEnd, Cause) {
    if let Some(exit) = notes.exit {
        return (exit, Cause::Process("supervisor lost after the agent's end".to_owned()));
    }
    let lost = match run.start() {
        Some(_) => "supervisor lost",
        None if notes.supervisor.is_some() => "supervisor lost before the start",
        None => "starter lost",
    };
    let end = RunEnd {
        status: RunOutcome::Failed,
        reason: lost.to_owned(),
        error_class: Some("killed".to_owned()),
        ..RunEnd::default()
    };
    (end, Cause::Process(lost.to_owned()))
}

/// Posts a run's end unless it has one, and brings its files up to date. True when this
/// call posted it.
///
/// # Errors
/// When the stream cannot be written.
pub fn end_run(
    tree: &Tree,
    view: &mut TaskView,
    id: &RunId,
    end: RunEnd,
    cause: &Cause,
) -> Result<bool, ViewError> {
    let paths = tree.run(&view.name, id);
    // What cannot be written here is shown as missing by whoever looks; the event matters more.
    let _ = output::see_to_final(&paths);
    let scope = view.name.scope(Some(id.clone()));
    let agent = view.run(id).map(|run| run.agent.clone()).unwrap_or_default();
    let body = line_for(
        &agent,
        &end,
        &output::tail_of(&paths.stderr(), STDERR_LINES, STDERR_MAX).unwrap_or_default(),
    );
    let draft = Event::RunEnd(end).draft(&scope, cause, body);
    let posted = view.propose(vec![draft], |task| decide::may_end_run(task, id))?;
    project_info(tree, view, id);
    let _ = std::fs::remove_file(paths.doorbell());
    Ok(matches!(posted, Proposed::Appended(_)))
}

/// A crash carries the last lines of stderr.
const STDERR_LINES: usize = 50;
const STDERR_MAX: u64 = 16 * 1024;

fn line_for(agent: &str, end: &RunEnd, stderr: &str) -> String {
    let lasted =
        end.duration_ms.map(|ms| format!(" after {}.{} s", ms / 1000, ms % 1000 / 100)).unwrap_or_default();
    let left = end
        .left_overs
        .as_ref()
        .map(|left| format!("; ended what it had left running: {left}"))
        .unwrap_or_default();
    match end.status {
        RunOutcome::Completed => format!("{agent} completed{lasted}{left}"),
        RunOutcome::Stopped => format!("{agent} was stopped{lasted}: {}{left}", end.reason),
        RunOutcome::Failed if stderr.trim().is_empty() => {
            format!("{agent} failed{lasted}: {}{left}", end.reason)
        }
        RunOutcome::Failed => format!("{agent} failed{lasted}: {}{left}\n\nstderr:\n{stderr}", end.reason),
    }
}

/// Writes `run-info.yaml` as the stream has it.
pub(super) fn project_info(tree: &Tree, view: &TaskView, id: &RunId) {
    if let Some(run) = view.run(id) {
        let info = RunInfo::project(&view.name.project, &view.name.task, id, run);
        // A projection: it can be made again from the stream at any time.
        let _ = files::replace(&tree.run(&view.name, id).info(), info.to_yaml().as_bytes(), false);
    }
}

/// The end of a run among new entries of a stream.
#[must_use]
pub fn is_end_of(entry: &Entry, id: &RunId) -> bool {
    entry.message.content.run.as_ref() == Some(id)
        && matches!(entry.message.content.kind.as_str(), "RUN_STOP" | "RUN_CRASH")
}
