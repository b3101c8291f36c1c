//! Ending a run in the stream, exactly once, whoever does it: its supervisor, or the next process that finds it dead.

use std::fs::File;
use std::io;
use std::path::Path;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, LoopEnd, LoopOutcome, RunEnd, RunOutcome, RunStart, VerifyStop};
use run_agent_core::plan::reason;
use run_agent_core::run_info::RunInfo;
use run_agent_core::world::{Run, RunState, Task};
use run_agent_core::{Draft, RunId};

use super::os::{Cgroup, Machine, ProcessId};
use super::record::{self, Notes};
use super::{ladder, left_overs, ownership};
use crate::agent::Stream;
use crate::agent::secrets::Secrets;
use crate::agent::stream::told::Line;
use crate::link;
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView, ViewError};
use crate::{files, hear, output, starting};

/// The reason of an end that nobody saw.
pub(super) const SUPERVISOR_LOST: &str = "supervisor lost";

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
    let lock = tree.run(name, id).supervisor_lock();
    if files::is_locked(&lock)? { Ok(Life::Supervised) } else { life_unlocked(&lock, run) }
}

/// As [`life`], of a run whose lock nobody holds, or the caller.
fn life_unlocked(lock: &Path, run: &Run) -> io::Result<Life> {
    if place_of(run).is_none_or(|place| place.is_foreign()) {
        return Ok(Life::Foreign);
    }
    let notes = record::notes(lock)?;
    let Some((owner, agent)) = processes_of(run) else { return Ok(Life::Dead(Box::new(notes))) };
    // An agent may delete its own run folder: then the lock says nothing, and the processes themselves tell.
    if !lock.exists() && owner.is_alive() {
        return Ok(Life::Supervised);
    }
    // Before RUN_START the agent's process is the shim, which ends by itself.
    match agent {
        Some(agent) if notes.exit.is_none() && agent.is_alive() => Ok(Life::AgentAlone(agent)),
        Some(_) | None => Ok(Life::Dead(Box::new(notes))),
    }
}

/// The agent of a run whose supervisor is lost, while it lives: asked by one who holds the run's lock. One that is noted
/// without terms was never let go: it is a shim, which ends by itself.
pub(super) fn agent_alone(lock: &Path, run: &Run) -> io::Result<Option<ProcessId>> {
    let notes = record::notes(lock)?;
    Ok(match life_unlocked(lock, run)? {
        Life::AgentAlone(agent) if notes.agent.is_none() || notes.terms.is_some() => Some(agent),
        Life::AgentAlone(_) | Life::Supervised | Life::Dead(_) | Life::Foreign => None,
    })
}

/// Where the run was started.
fn place_of(run: &Run) -> Option<Machine> {
    match &run.state {
        RunState::Running { start, .. } => Some(Machine {
            machine_id: start.machine_id.clone(),
            boot_id: start.boot_id.clone(),
            pid_namespace: start.pid_namespace.clone(),
        }),
        RunState::Queued { intent, .. } => intent.as_ref().map(|intent| Machine {
            machine_id: intent.machine_id.clone(),
            boot_id: intent.boot_id.clone(),
            pid_namespace: intent.pid_namespace.clone(),
        }),
        RunState::Ended { .. } => None,
    }
}

/// The process that is to hold the run's lock and the agent's, as the stream tells, if the agent has one; `None` for those
/// of another boot, whose pids mean nothing any more.
fn processes_of(run: &Run) -> Option<(ProcessId, Option<ProcessId>)> {
    if place_of(run)?.boot_id != Machine::here().boot_id {
        return None;
    }
    match &run.state {
        RunState::Running { start, .. } => Some((
            ProcessId { pid: start.supervisor_pid, start_ticks: start.supervisor_start_ticks },
            ownership::agent(start),
        )),
        RunState::Queued { intent, .. } => intent.as_ref().map(|intent| {
            (ProcessId { pid: intent.starter_pid, start_ticks: intent.starter_start_ticks }, None)
        }),
        RunState::Ended { .. } => None,
    }
}

/// The processes here that may hold the run's lock: its starter, its supervisor, one that took over.
pub(crate) fn holders(lock: &Path, run: &Run) -> Vec<ProcessId> {
    if place_of(run).is_none_or(|place| place.is_foreign()) {
        return Vec::new();
    }
    let told = processes_of(run).map(|(holder, _)| holder);
    told.into_iter().chain(record::notes(lock).unwrap_or_default().supervisor).collect()
}

/// Closes every active run of the task that is dead, and a stop of the task that nobody is left to end. Returns the
/// runs that this call closed.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn close_dead(tree: &Tree, view: &mut TaskView) -> Result<Vec<RunId>, ViewError> {
    let closed = close_runs(tree, view)?;
    end_lone_stop(tree, view)?;
    Ok(closed)
}

/// As [`close_dead`], without a look at what a stop of the task waits for.
pub(crate) fn close_runs(tree: &Tree, view: &mut TaskView) -> Result<Vec<RunId>, ViewError> {
    let active: Vec<(RunId, Run)> = view.task().active().map(|(id, run)| (id.clone(), run.clone())).collect();
    let mut dead = Vec::new();
    for (id, run) in active {
        // A run whose files cannot be read is left as it is: `doctor` tells.
        if let Ok(Life::Dead(_)) = life(tree, &view.name, &id, &run)
            && let Some(found) = take_dead(tree, view, id)?
        {
            dead.push(found);
        }
    }
    end_left_overs(&mut dead);
    let mut closed = Vec::new();
    for Dead { id, run, notes, left, lock: _held } in dead {
        tell_unheard(tree, view, &id, &run, &notes)?;
        let (mut end, cause) = end_of_dead(&run, notes);
        end.left_overs = end.left_overs.or(left);
        if end_run(tree, view, &id, end, &cause)? {
            closed.push(id);
        }
    }
    Ok(closed)
}

/// What the agent printed and nobody told: its usage, and its answer.
fn tell_unheard(
    tree: &Tree,
    view: &mut TaskView,
    id: &RunId,
    run: &Run,
    notes: &Notes,
) -> Result<(), ViewError> {
    let Some(launch) = notes.terms.as_ref().map(|terms| &terms.launch) else { return Ok(()) };
    let Some(stream) = launch.stream else { return Ok(()) };
    let paths = tree.run(&view.name, id);
    let told = hear::whole(&paths, stream, launch.before.as_ref());
    // Who noted the exit had seen to the answer, and could not tell the rest.
    if notes.exit.is_none() {
        output::write_final(tree, &paths, &told);
    }
    let untold = hear::untold(&told, &run.usage);
    let untold = untold.map(|usage| {
        let line = format!("{} tokens in, {} out", usage.input_tokens, usage.output_tokens);
        (usage, line)
    });
    let cut = hear::cut(&told).map(|(usage, line)| (usage, line.to_owned()));
    let (scope, cause) =
        (view.name.scope(Some(id.clone())), Cause::Process("output of the agent".to_owned()));
    let drafts: Vec<_> = untold
        .into_iter()
        .chain(cut)
        .map(|(usage, line)| Event::RunUsage(usage).draft(&scope, &cause, line))
        .collect();
    if !drafts.is_empty() {
        view.propose(drafts, |task| decide::may_end_run(task, id))?;
    }
    Ok(())
}

/// A run that this process closes.
struct Dead {
    id: RunId,
    run: Run,
    notes: Notes,
    left: Option<String>,
    /// Held until the end is posted. Where the file is gone the conditional append alone decides who closes the run.
    lock: Option<File>,
}

/// Takes the lock of a run that was found dead, and looks again: it may have started since. `None`: it lives, or somebody
/// else has it.
fn take_dead(tree: &Tree, view: &mut TaskView, id: RunId) -> Result<Option<Dead>, ViewError> {
    let path = tree.run(&view.name, &id).supervisor_lock();
    let lock = File::options().append(true).open(&path).ok();
    if let Some(lock) = &lock
        && !matches!(files::try_lock(lock), Ok(true))
    {
        return Ok(None);
    }
    view.fold()?;
    let Some(run) = view.run(&id).filter(|run| run.is_active()).cloned() else { return Ok(None) };
    match life_unlocked(&path, &run) {
        Ok(Life::Dead(notes)) => Ok(Some(Dead { id, run, notes: *notes, left: None, lock })),
        Ok(Life::Supervised | Life::AgentAlone(_) | Life::Foreign) | Err(_) => Ok(None),
    }
}

/// What agents left running when their supervisors were lost, ended as the supervisors themselves would have.
fn end_left_overs(dead: &mut [Dead]) {
    // Of another boot nothing is left, and what a command left that kept its terminal is the person's.
    let lost = dead
        .iter()
        .filter(|dead| !dead.run.start().is_some_and(ownership::keeps_terminal))
        .filter_map(|dead| processes_of(&dead.run).map(|(_, agent)| (&dead.id, agent, &dead.notes)));
    let mut target = left_overs::of_lost(lost, &left_overs::KEEP_BACKGROUND);
    // An empty cgroup is removed whatever is known of the processes that were in it.
    target.cgroups = dead.iter().filter_map(|dead| dead.notes.cgroup_of(&dead.id)).collect();
    let found = ladder::end(&target, left_overs::PATIENCE, std::thread::sleep).asked;
    for dead in dead {
        let own: Vec<_> =
            found.iter().filter(|p| p.run.as_deref() == Some(dead.id.as_str())).cloned().collect();
        dead.left = left_overs::names(&own);
    }
}

/// A stop whose command was killed, or a root run that was stopped, of a task that no driver looks after: the loop ends
/// when nothing of its whole tree runs any more, so that the task is not refused for ever. Who is about to start something
/// has to find the stop standing.
fn end_lone_stop(tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
    let (ralph, active) = (&view.task().ralph, view.task().active().next());
    let ends = ralph.stopping.is_some() || (ralph.is_open() && ralph.stopped_root.is_some());
    if !ends || active.is_some() || files::is_locked(&tree.task(&view.name).loop_lock()).unwrap_or(true) {
        return Ok(());
    }
    link::reconcile_at_rest(tree, view)?;
    if !decide::is_lone_stop_over(view.task()) {
        return Ok(());
    }
    let ralph = &view.task().ralph;
    let (outcome, reason, line) = match &ralph.stopping {
        Some(stop) if ralph.is_stop_of_budget(&stop.how) => {
            (LoopOutcome::Failed, reason::BUDGET, format!("the budget was used up: {}", stop.how.by))
        }
        Some(stop) => {
            (LoopOutcome::Stopped, reason::STOPPED, format!("stopped on request of {}", stop.how.by))
        }
        None => {
            (LoopOutcome::Stopped, reason::ROOT_STOPPED, "its root run was stopped on request".to_owned())
        }
    };
    let end =
        LoopEnd { outcome, reason: reason.to_owned(), restarts: ralph.restarts, active_ms: ralph.active_ms };
    let scope = view.name.scope(None);
    let cause = Cause::Process("nothing is left to stop".to_owned());
    let draft = Event::LoopEnd(end).draft(&scope, &cause, line);
    let name = view.name.clone();
    let over = |task: &Task| decide::is_lone_stop_over(task) && !starting::is_on_its_way(tree, &name);
    view.propose(vec![draft], |task| if over(task) { Ok(()) } else { Err(Refusal::Moot) })?;
    Ok(())
}

/// What is posted for a run whose supervisor can post nothing any more.
fn end_of_dead(run: &Run, notes: Notes) -> (RunEnd, Cause) {
    if let Some(exit) = notes.exit {
        return (exit, Cause::Process("supervisor lost after the agent's end".to_owned()));
    }
    let lost = match run.started() {
        Some(_) => SUPERVISOR_LOST,
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

/// The cgroup that a run which is over left behind, as `left_overs` judges it, and how many processes are in it.
///
/// `start` looks up how the run started: few runs leave one behind.
pub(crate) fn left_cgroup(
    tree: &Tree,
    name: &TaskName,
    id: &RunId,
    start: impl FnOnce() -> Option<RunStart>,
) -> Option<usize> {
    let notes = record::notes(&tree.run(name, id).supervisor_lock()).ok()?;
    notes.cgroup_of(id).filter(Cgroup::is_there)?;
    left_overs::in_cgroup(id, agent_of(start()), &notes).map(|(_, processes)| processes)
}

/// Ends what is in it, and removes it. The caller holds the run's lock.
pub(crate) fn end_left_cgroup(
    tree: &Tree,
    name: &TaskName,
    id: &RunId,
    start: Option<RunStart>,
) -> io::Result<()> {
    let notes = record::notes(&tree.run(name, id).supervisor_lock())?;
    if let Some((target, _)) = left_overs::in_cgroup(id, agent_of(start), &notes) {
        ladder::end(&target, left_overs::PATIENCE, std::thread::sleep);
    }
    Ok(())
}

/// The agent's process, as the run's start names it. There is a cgroup of the run's only within that boot.
fn agent_of(start: Option<RunStart>) -> Option<ProcessId> {
    start.as_ref().and_then(ownership::agent)
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
    let last = Last { news: Vec::new(), secrets: Secrets::around() };
    end_with(tree, view, id, end, cause, last)
}

/// What its supervisor still has to say of a run that ends.
pub(super) struct Last {
    /// Goes into the append of the end, before it.
    pub(super) news: Vec<Draft>,
    pub(super) secrets: Secrets,
}

/// As [`end_run`], by one who knows more.
pub(super) fn end_with(
    tree: &Tree,
    view: &mut TaskView,
    id: &RunId,
    end: RunEnd,
    cause: &Cause,
    last: Last,
) -> Result<bool, ViewError> {
    let Last { news: mut batch, secrets } = last;
    let paths = tree.run(&view.name, id);
    // What cannot be written here is shown as missing by whoever looks; the event matters more.
    let _ = output::see_to_final(tree, &paths, view.run(id).and_then(Stream::of));
    let scope = view.name.scope(Some(id.clone()));
    let agent = view.run(id).map(|run| run.agent.clone()).unwrap_or_default();
    let stderr = output::tail_of(tree, &paths.stderr(), STDERR_LINES, STDERR_MAX).unwrap_or_default();
    let body = line_for(&agent, &end, &secrets.hide(&stderr));
    let verified = view
        .run(id)
        .and_then(|run| run.verify.as_deref())
        .map(|command| verify_stop(command.to_owned(), &end));
    batch.extend([Event::RunEnd(end).draft(&scope, cause, body)]);
    batch.extend(verified.map(|(event, line)| event.draft(&scope, cause, line)));
    let posted = view.propose(batch, |task| decide::may_end_run(task, id))?;
    if let Some((project, task)) = view.run(id).and_then(|run| run.parent_task.as_deref().cloned()) {
        // What cannot be told there now, that task's loop finds by itself.
        let _ = link::close(tree, &TaskName { project, task }, &view.name, Some(id));
    }
    project_info(tree, view, id);
    let _ = std::fs::remove_file(paths.doorbell());
    let _ = std::fs::remove_file(paths.socket());
    Ok(matches!(posted, Proposed::Appended(_)))
}

fn verify_stop(command: String, end: &RunEnd) -> (Event, String) {
    let exit_code = end.exit_code.unwrap_or(-1);
    let line = format!("verify command ended with {exit_code}: {command}");
    let duration_ms = end.duration_ms.unwrap_or_default();
    (Event::VerifyStop(VerifyStop { command, exit_code, duration_ms }), line)
}

/// A crash carries the last lines of stderr.
const STDERR_LINES: usize = 50;
const STDERR_MAX: u64 = 16 * 1024;

/// False: how a program broke down is all that is known, so that its last words may say why. Where its output tells, or
/// who ended it, they seldom say it better.
#[must_use]
pub fn says_why(end: &RunEnd) -> bool {
    end.error_class.as_deref() != Some("crash") || end.reason.contains(": ")
}

fn line_for(agent: &str, end: &RunEnd, stderr: &str) -> String {
    let lasted = end
        .duration_ms
        .map(|ms| match ms {
            0..1000 => format!(" after {ms} ms"),
            _ => format!(" after {}.{} s", ms / 1000, ms % 1000 / 100),
        })
        .unwrap_or_default();
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
        RunOutcome::Failed => {
            // Lines of a request do not say it: its refusal is the reason.
            let says = |line: &&str| !line.trim().is_empty() && Line::read(line).is_none();
            let last = stderr.lines().rev().find(says).filter(|_| !says_why(end));
            let last = last.map(|line| format!(": {line}")).unwrap_or_default();
            format!("{agent} failed{lasted}: {}{last}{left}\n\nstderr:\n{stderr}", end.reason)
        }
    }
}

/// Writes `run-info.yaml` as the stream has it.
pub(crate) fn project_info(tree: &Tree, view: &TaskView, id: &RunId) {
    let Some(run) = view.run(id) else { return };
    let (start, path) = (view.start_of(id), tree.run(&view.name, id));
    if start.is_none() && run.started().is_some() && path.info().exists() {
        // What the stream told of its start cannot be read any more: the file has it.
        return;
    }
    let info = RunInfo::project(&view.name.project, &view.name.task, id, run, start);
    // A projection: it can be made again from the stream at any time.
    if tree.no_link(path.folder()).is_ok() {
        let _ = files::replace(&path.info(), info.to_yaml().as_bytes(), false);
    }
}
