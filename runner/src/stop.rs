//! `stop`: says on the stream what is asked for, wakes who does it, does it where nobody is left to, and returns when
//! nothing runs any more.

pub(crate) mod elsewhere;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use run_agent_core::RunId;
use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, RunEnd, RunOutcome, Stopping};
use run_agent_core::policy::ladder::Patience;
use run_agent_core::world::{Run, RunStatus, Task};

use self::elsewhere::Seen;
use crate::supervise::close::{self, Life};
use crate::supervise::os::ProcessId;
use crate::supervise::{ladder, left_overs, record, ring};
use crate::tree::Tree;
use crate::view::{Proposed, TaskView, ViewError};
use crate::wake::Wake;
use crate::{adopt, failpoint, files, starting};

/// How a stop is done.
#[derive(Debug, Clone)]
pub struct How {
    /// Who asks, for the stream.
    pub by: String,
    pub cause: Cause,
    /// How long processes get after SIGTERM; zero skips it.
    pub grace: Duration,
    /// Leave child runs alone.
    pub keep_children: bool,
}

/// What became of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// These runs were stopped.
    Done(Vec<RunId>),
    /// There was nothing to stop: it had ended, with this status.
    HadEnded(String),
    /// These still run: processes that hang in the kernel.
    Left(Vec<RunId>),
    /// These were asked to stop, but belong to another machine or container: nothing is signalled from here. Their own
    /// supervisors end them when they read it.
    Foreign(Vec<RunId>),
    /// Nothing runs any more, but this driver has not ended its loop.
    DriverHangs(String),
    /// Nothing of the task itself runs any more, but these that it started in other tasks do, or cannot be looked at.
    Elsewhere(Vec<String>),
}

/// What a stop may take beyond its grace period before it reports what is left.
const MARGIN: Duration = Duration::from_secs(30);

/// Stops a run, and the runs below it unless told otherwise.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn run(tree: &Tree, view: &mut TaskView, id: &RunId, how: &How) -> Result<Stopped, ViewError> {
    run_once(tree, view, id, how, &mut Seen::new())
}

fn run_once(
    tree: &Tree,
    view: &mut TaskView,
    id: &RunId,
    how: &How,
    seen: &mut Seen,
) -> Result<Stopped, ViewError> {
    tracing::info!(run = %id, grace_ms = how.grace.as_millis(), "stopping run");
    view.refresh()?;
    close::close_dead(tree, view)?;
    let before = ended(view.task());
    let mut wanted = if how.keep_children { vec![id.clone()] } else { view.task().with_descendants(id) };
    let linked = if how.keep_children { Vec::new() } else { elsewhere::of_runs(view.task(), &wanted) };
    wanted.retain(|id| view.run(id).is_some_and(Run::is_active));
    if wanted.is_empty() && linked.is_empty() {
        let status = view.run(id).map_or("unknown", |run| run.status().as_str());
        return Ok(Stopped::HadEnded(status.to_owned()));
    }
    let keep = how.keep_children;
    let active_elsewhere = elsewhere::active(tree, &linked);
    elsewhere::ask(tree, &linked, how, &mut seen.clone());
    let left = see_to(tree, view, how, |task| {
        // Looked up anew each time: a child may have been started just before its parent was asked.
        let tree = if keep { vec![id.clone()] } else { task.with_descendants(id) };
        tree.into_iter().filter(|id| task.runs.get(id).is_some_and(Run::is_active)).collect()
    })?;
    let others = elsewhere::stop(tree, view, &linked, how, seen)?;
    if let Some(left) = left.and(others.left).stopped() {
        return Ok(left);
    }
    let runs = if keep { wanted } else { view.task().with_descendants(id) };
    let mut stopped = elsewhere::stopped_of(tree, active_elsewhere);
    let was_asked = |id: &RunId| view.run(id).is_some_and(|run| run.stopping.is_some());
    stopped.extend(runs.into_iter().filter(|id| was_asked(id) && !before.contains(id)));
    stopped.extend(others.stopped);
    Ok(Stopped::Done(stopped.into_iter().collect()))
}

/// Stops a task's loop and its whole tree.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn task(tree: &Tree, view: &mut TaskView, how: &How) -> Result<Stopped, ViewError> {
    task_once(tree, view, how, &mut Seen::new())
}

fn task_once(tree: &Tree, view: &mut TaskView, how: &How, seen: &mut Seen) -> Result<Stopped, ViewError> {
    tracing::info!(task = %view.name, grace_ms = how.grace.as_millis(), "stopping task");
    failpoint::here("stop.looks");
    view.refresh()?;
    close::close_dead(tree, view)?;
    let before = ended(view.task());
    let name = view.name.clone();
    let scope = name.scope(None);
    let stopping =
        Event::LoopStopping(stopping(how)).draft(&scope, &how.cause, format!("stop asked for by {}", how.by));
    let active_elsewhere = elsewhere::active(tree, &elsewhere::of_task(view.task()));
    // Looked at under the append lock: a start that is on its way there comes behind this stop, and is refused.
    let due = |task: &Task| goes_on(task) || starting::is_on_its_way(tree, &name);
    let asked = view.propose(vec![stopping], |task| if due(task) { Ok(()) } else { Err(Refusal::Moot) })?;
    if let Proposed::Refused(_) = asked {
        return Ok(Stopped::HadEnded(view.task().status().to_string()));
    }
    failpoint::here("stop.asked");
    let linked = elsewhere::of_task(view.task());
    elsewhere::ask(tree, &linked, how, &mut seen.clone());
    let left = see_to(tree, view, how, |task| task.active().map(|(id, _)| id.clone()).collect())?;
    let others = elsewhere::stop(tree, view, &linked, how, seen)?;
    if let Some(left) = left.and(others.left).stopped() {
        return Ok(left);
    }
    wait_for_driver(tree, view)?;
    close::close_dead(tree, view)?;
    if view.task().ralph.stopping.is_some() {
        return Ok(what_hangs(tree, view));
    }
    // A supervisor that reads of the task's stop itself needs no request of its own.
    let mut stopped = elsewhere::stopped_of(tree, active_elsewhere);
    let was_stopped = |run: &Run| run.stopping.is_some() || run.status() == RunStatus::Stopped;
    let runs = view.task().runs.iter().filter(|(id, run)| was_stopped(run) && !before.contains(id));
    stopped.extend(runs.map(|(id, _)| id.clone()));
    stopped.extend(others.stopped);
    Ok(Stopped::Done(stopped.into_iter().collect()))
}

/// Nothing of the task runs, and the stop has not come to its end.
fn what_hangs(tree: &Tree, view: &TaskView) -> Stopped {
    let links: Vec<String> = view.task().open_links().map(|(name, _)| name.to_owned()).collect();
    let lock = tree.task(&view.name).loop_lock();
    if !files::is_locked(&lock).unwrap_or(false) && !links.is_empty() {
        return Stopped::Elsewhere(links);
    }
    let holder = tree.read_text(&lock).unwrap_or_default();
    let holder = Some(holder.trim()).filter(|holder| !holder.is_empty());
    Stopped::DriverHangs(holder.unwrap_or("a process that was about to start something").to_owned())
}

/// Is there anything that a stop of the task would end?
fn goes_on(task: &Task) -> bool {
    task.ralph.is_open()
        || task.ralph.stopping.is_some()
        || task.active().next().is_some()
        || task.open_links().next().is_some()
}

/// Runs that a stop finds ended.
fn ended(task: &Task) -> BTreeSet<RunId> {
    task.runs.iter().filter(|(_, run)| !run.is_active()).map(|(id, _)| id.clone()).collect()
}

fn stopping(how: &How) -> Stopping {
    Stopping {
        by: how.by.clone(),
        grace_ms: u64::try_from(how.grace.as_millis()).unwrap_or(u64::MAX),
        keep_children: how.keep_children,
    }
}

fn ask_run(view: &mut TaskView, id: &RunId, how: &How) -> Result<(), ViewError> {
    let scope = view.name.scope(Some(id.clone()));
    let draft =
        Event::RunStopping(stopping(how)).draft(&scope, &how.cause, format!("stop asked for by {}", how.by));
    // A run that ended in the meantime needs no asking.
    view.propose(vec![draft], |task| decide::may_end_run(task, id))?;
    Ok(())
}

/// Runs that a stop does not end.
#[derive(Debug, Default)]
pub(crate) struct Left {
    hanging: Vec<RunId>,
    foreign: Vec<RunId>,
}

impl Left {
    fn and(mut self, others: Self) -> Self {
        self.hanging.extend(others.hanging);
        self.foreign.extend(others.foreign);
        self
    }

    fn stopped(self) -> Option<Stopped> {
        match (self.hanging.is_empty(), self.foreign.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Stopped::Foreign(self.foreign)),
            (false, _) => Some(Stopped::Left(self.hanging)),
        }
    }
}

/// Wakes supervisors, and does the work of those that are dead, until `active` finds nothing but what is foreign.
fn see_to(
    tree: &Tree,
    view: &mut TaskView,
    how: &How,
    active: impl Fn(&Task) -> Vec<RunId>,
) -> Result<Left, ViewError> {
    let wake = Wake::new();
    wake.watch_stream(tree, &view.name);
    let deadline = Instant::now() + how.grace + MARGIN;
    loop {
        view.refresh()?;
        close::close_dead(tree, view)?;
        let name = view.name.clone();
        let mut alone = Vec::new();
        let mut left = Left::default();
        for id in active(view.task()) {
            let Some(run) = view.run(&id).cloned() else { continue };
            if run.stopping.is_none() {
                ask_run(view, &id, how)?;
            }
            match close::life(tree, &name, &id, &run) {
                // Rung again at each look: a supervisor that is only coming up has no bell yet.
                Ok(Life::Supervised) => {
                    let paths = tree.run(&name, &id);
                    ring(&paths);
                    close::holders(&paths.supervisor_lock(), &run).into_iter().for_each(let_go_on);
                }
                Ok(Life::AgentAlone(agent)) => alone.push((id.clone(), agent)),
                Ok(Life::Foreign) => {
                    left.foreign.push(id);
                    continue;
                }
                Ok(Life::Dead(_)) | Err(_) => {}
            }
            left.hanging.push(id);
        }
        if left.hanging.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        if alone.is_empty() {
            wake.sleep(Duration::from_millis(200));
        } else {
            end_alone(tree, view, &alone, how)?;
        }
    }
}

/// Agents outlived their supervisors: the caller does what those would, for all at once.
fn end_alone(
    tree: &Tree,
    view: &mut TaskView,
    alone: &[(RunId, ProcessId)],
    how: &How,
) -> Result<(), ViewError> {
    let mut own = Vec::new();
    for (id, agent) in alone {
        // Where the file is gone, with the run's folder, the conditional append alone decides.
        let path = tree.run(&view.name, id).supervisor_lock();
        let lock = std::fs::File::options().append(true).open(&path).ok();
        // Another stop may be at it.
        if lock.as_ref().is_none_or(|lock| matches!(files::try_lock(lock), Ok(true))) {
            own.push((id, *agent, record::notes(&path).unwrap_or_default(), lock));
        }
    }
    let target = left_overs::of_lost(own.iter().map(|(id, agent, notes, _)| (*id, Some(*agent), notes)), &[]);
    let patience = Patience { alone_ms: 0, grace_ms: stopping(how).grace_ms };
    let left = ladder::end(&target, patience, std::thread::sleep).left;
    for (id, agent, _, _held) in &own {
        if left.iter().any(|process| process.id == *agent || process.run.as_deref() == Some(id.as_str())) {
            continue;
        }
        let end = RunEnd {
            status: RunOutcome::Stopped,
            reason: format!("stopped on request of {} after its supervisor was lost", how.by),
            ..RunEnd::default()
        };
        close::end_run(tree, view, id, end, &how.cause)?;
    }
    Ok(())
}

/// A starter, supervisor or driver that somebody halted (SIGSTOP) hears nothing: what it has to do is to stop its runs.
fn let_go_on(process: ProcessId) {
    // One that is gone, or not ours to signal, is found out by whoever waits for it.
    let _ = process.signal(Signal::SIGCONT);
}

/// The driver ends its loop itself, and who is about to start something gives that up; where none lives, whoever looks
/// ends the stop.
fn wait_for_driver(tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
    let wake = Wake::new();
    wake.watch_stream(tree, &view.name);
    let deadline = Instant::now() + Duration::from_secs(10);
    let lock = tree.task(&view.name).loop_lock();
    let name = view.name.clone();
    let holds = || files::is_locked(&lock).unwrap_or(false) || starting::is_on_its_way(tree, &name);
    while holds() && Instant::now() < deadline {
        view.refresh()?;
        if view.task().ralph.stopping.is_none() {
            return Ok(());
        }
        view.task().ralph.driver.as_deref().and_then(adopt::process).into_iter().for_each(let_go_on);
        wake.sleep(Duration::from_millis(200));
    }
    view.refresh()?;
    Ok(())
}
