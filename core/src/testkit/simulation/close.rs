//! Closing what died, by whoever looks, and the links between tasks: as `runner/src/supervise/close.rs` and
//! `runner/src/link.rs` do it, with what the simulated machine knows of locks and processes.

use std::collections::BTreeSet;

use super::Rule;
use super::sim::{HERE, Kind, Pid, Sim, TaskNo};
use super::supervisor::Supervisor;
use crate::decide::{self, Refusal};
use crate::event::{ChildLink, Event, LoopEnd, LoopOutcome, RunEnd, RunOutcome, VerifyStop};
use crate::id::RunId;
use crate::plan::reason;
use crate::store::StreamKey;
use crate::world::{Link, Run, RunState, Task};

/// What a look at an active run finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    Supervised,
    AgentAlone,
    Dead,
    Foreign,
}

/// Looks at an active run from a machine.
pub(super) fn life(sim: &Sim, id: &RunId, run: &Run, machine: &str) -> Life {
    if machine == HERE && sim.is_locked(id) {
        return Life::Supervised;
    }
    if place_of(run) != Some(machine) && sim.rule != Rule::ForeignRunsAreClosed {
        return Life::Foreign;
    }
    let files = sim.runs.get(id);
    let noted = files.is_some_and(|files| files.exit_note.is_some());
    let agent = files.and_then(|files| files.agent).filter(|pid| sim.is_alive(*pid));
    match (agent, &run.state) {
        (Some(_), RunState::Running { .. }) if !noted => Life::AgentAlone,
        _ => Life::Dead,
    }
}

fn place_of(run: &Run) -> Option<&str> {
    match &run.state {
        RunState::Running { start, .. } => Some(start.machine_id.as_str()),
        RunState::Queued { intent, .. } => intent.as_ref().map(|intent| intent.machine_id.as_str()),
        RunState::Ended { .. } => None,
    }
}

/// Closes every dead run of a task, and a stop that nobody is left to end.
pub(super) fn close_dead(sim: &mut Sim, by: Pid, no: TaskNo, machine: &str) {
    close_runs(sim, by, no, machine);
    if machine == HERE {
        end_lone_stop(sim, by, no);
    }
}

fn close_runs(sim: &mut Sim, by: Pid, no: TaskNo, machine: &str) {
    for id in dead(sim, no, machine) {
        close(sim, by, no, &id);
    }
}

pub(super) fn dead(sim: &Sim, no: TaskNo, machine: &str) -> Vec<RunId> {
    let is_dead = |(id, run): &(&RunId, &Run)| life(sim, id, run, machine) == Life::Dead;
    sim.task(no).active().filter(is_dead).map(|(id, _)| id.clone()).collect()
}

/// Closes one run that was found dead, after another look under its lock.
pub(super) fn close(sim: &mut Sim, by: Pid, no: TaskNo, id: &RunId) {
    let known = sim.task(no).runs.get(id).filter(|run| run.is_active()).cloned();
    let careless = sim.rule == Rule::ClosersDoNotAsk;
    let Some(run) = known.or_else(|| careless.then(|| sim.task(no).runs.get(id).cloned()).flatten()) else {
        return;
    };
    let life = life(sim, id, &run, HERE);
    if (run.is_active() && life == Life::Foreign) || (life != Life::Dead && !careless) {
        return;
    }
    end_set(sim, id);
    let noted = sim.runs.get(id).and_then(|files| files.exit_note.clone());
    let supervised = sim.runs.get(id).is_some_and(|files| files.supervisor.is_some());
    let end = noted.unwrap_or_else(|| RunEnd {
        status: RunOutcome::Failed,
        reason: match run.started() {
            Some(_) => "supervisor lost",
            None if supervised => "supervisor lost before the start",
            None => "starter lost",
        }
        .to_owned(),
        error_class: Some("killed".to_owned()),
        ..RunEnd::default()
    });
    end_run(sim, by, no, id, end);
}

/// Starts a new supervisor for each of these runs whose own is lost while its agent lives.
pub(super) fn take_over(sim: &mut Sim, no: TaskNo, wanted: impl Fn(&RunId) -> bool) {
    let active: Vec<(RunId, Run)> =
        sim.task(no).active().map(|(id, run)| (id.clone(), run.clone())).collect();
    for (id, run) in active {
        let alone = wanted(&id) && life(sim, &id, &run, HERE) == Life::AgentAlone;
        let (Some(agent), Some(let_go_ms)) = (agent_of(sim, &id), sim.ledger.let_go_ms.get(&id).copied())
        else {
            continue;
        };
        if alone {
            // Its predecessor's death freed the slot: the agent is at work without one until it is taken again.
            sim.ledger.robbed.insert(id.clone());
            let successor = Supervisor::successor(id.clone(), no, &run, agent, let_go_ms);
            let pid = sim.spawn(Kind::Supervisor(Box::new(successor)), None, None);
            if let Some(files) = sim.runs.get_mut(&id) {
                // The lock goes from who took it to the successor.
                (files.holders, files.supervisor) = (vec![pid], Some(pid));
            }
        }
    }
}

/// What a run left running.
pub(super) fn end_set(sim: &mut Sim, id: &RunId) {
    for pid in sim.set_of(id) {
        sim.kill(pid);
    }
}

/// Posts a run's end unless it has one, and closes the link that tells of it.
pub(super) fn end_run(sim: &mut Sim, by: Pid, no: TaskNo, id: &RunId, end: RunEnd) {
    let run = sim.task(no).runs.get(id).cloned();
    let duration_ms = end.duration_ms.unwrap_or_default();
    let exit_code = end.exit_code.unwrap_or(-1);
    let mut batch = vec![(Some(id.clone()), Event::RunEnd(end))];
    if let Some(command) = run.as_ref().and_then(|run| run.verify.as_deref().map(str::to_owned)) {
        batch.push((Some(id.clone()), Event::VerifyStop(VerifyStop { command, exit_code, duration_ms })));
    }
    let careless = sim.rule == Rule::ClosersDoNotAsk;
    let _ = sim.propose(by, no, batch, |task| match decide::may_end_run(task, id) {
        Err(_) if careless => Ok(()),
        may => may,
    });
    if let Some((project, task)) = run.and_then(|run| run.parent_task).map(|parent| *parent)
        && let Some(parent) = sim.task_no(&StreamKey::task(project, task))
    {
        close_link(sim, by, parent, no, Some(id));
    }
}

fn end_lone_stop(sim: &mut Sim, by: Pid, no: TaskNo) {
    let task = sim.task(no);
    let ends = task.ralph.stopping.is_some() || (task.ralph.is_open() && task.ralph.stopped_root.is_some());
    let active = task.active().next().is_some();
    if !ends || active || sim.tasks[no].driver.is_some() || sim.is_on_its_way(no) {
        return;
    }
    reconcile_at_rest(sim, by, no);
    if !decide::is_lone_stop_over(sim.task(no)) {
        return;
    }
    let ralph = &sim.task(no).ralph;
    let end = LoopEnd {
        outcome: LoopOutcome::Stopped,
        reason: match ralph.stopping {
            Some(_) => reason::STOPPED,
            None => reason::ROOT_STOPPED,
        }
        .to_owned(),
        restarts: ralph.restarts,
        active_ms: ralph.active_ms,
    };
    let _ = sim.propose(by, no, vec![(None, Event::LoopEnd(end))], |task| {
        if decide::is_lone_stop_over(task) { Ok(()) } else { Err(Refusal::Moot) }
    });
}

fn child_link(sim: &Sim, child: TaskNo, run: Option<&RunId>, ended: bool) -> Option<ChildLink> {
    let key = &sim.tasks[child].key;
    Some(ChildLink {
        child_project_id: key.project.clone(),
        child_task_id: key.task.clone()?,
        child_run_id: run.cloned(),
        link: if run.is_some() { "run" } else { "task" }.to_owned(),
        ended,
    })
}

/// Says that a run of another task starts this run, or the loop of this task.
pub(super) fn open_link(
    sim: &mut Sim,
    by: Pid,
    parent: TaskNo,
    parent_run: &RunId,
    child: TaskNo,
    run: Option<&RunId>,
) -> Result<(), Refusal> {
    let Some(link) = child_link(sim, child, run, false) else { return Err(Refusal::Moot) };
    let batch = vec![(Some(parent_run.clone()), Event::ChildLink(link))];
    sim.propose(by, parent, batch, |task| decide::may_link(task, parent_run, None)).map(drop)
}

/// Says that the child of a link has ended; once, whoever does.
pub(super) fn close_link(sim: &mut Sim, by: Pid, parent: TaskNo, child: TaskNo, run: Option<&RunId>) {
    let Some(ended) = child_link(sim, child, run, true) else { return };
    let key = ended.key();
    let open = |task: &Task| task.open_links().find(|(k, _)| *k == key).map(|(_, link)| link.parent.clone());
    let Some(parent_run) = open(sim.task(parent)) else { return };
    let batch = vec![(parent_run, Event::ChildLink(ended))];
    let _ = sim.propose(by, parent, batch, |task| open(task).map(drop).ok_or(Refusal::Moot));
}

/// The task that a link leads into.
pub(super) fn child_of(sim: &Sim, link: &Link) -> Option<TaskNo> {
    let child = &link.child;
    sim.task_no(&StreamKey::task(child.child_project_id.clone(), child.child_task_id.clone()))
}

/// Posts the ends of links that nobody was left to tell of.
pub(super) fn reconcile_links(sim: &mut Sim, by: Pid, no: TaskNo) {
    let open: Vec<Link> = sim.task(no).open_links().map(|(_, link)| link.clone()).collect();
    for link in open {
        let Some(child) = child_of(sim, &link) else { continue };
        close_dead(sim, by, child, HERE);
        if is_at_rest(sim, by, child, &link, &mut BTreeSet::from([child])) {
            close_link(sim, by, no, child, link.child.child_run_id.as_ref());
        }
    }
}

/// As [`reconcile_links`], of a task that is itself at rest but for its links.
fn reconcile_at_rest(sim: &mut Sim, by: Pid, no: TaskNo) {
    let open: Vec<Link> = sim.task(no).open_links().map(|(_, link)| link.clone()).collect();
    for link in open {
        let Some(child) = child_of(sim, &link) else { continue };
        if is_over(sim, by, &link, &mut BTreeSet::from([no])) {
            close_link(sim, by, no, child, link.child.child_run_id.as_ref());
        }
    }
}

/// Loops that are linked in a circle are over together: `seen` are those on the way here.
fn is_over(sim: &mut Sim, by: Pid, link: &Link, seen: &mut BTreeSet<TaskNo>) -> bool {
    let Some(child) = child_of(sim, link) else { return true };
    if link.child.child_run_id.is_none() && !seen.insert(child) {
        return true;
    }
    close_runs(sim, by, child, HERE);
    is_at_rest(sim, by, child, link, seen)
}

fn is_at_rest(sim: &mut Sim, by: Pid, child: TaskNo, link: &Link, seen: &mut BTreeSet<TaskNo>) -> bool {
    let task = sim.task(child);
    if let Some(id) = &link.child.child_run_id {
        return match task.runs.get(id) {
            Some(run) => !run.is_active(),
            None => !sim.is_locked(id),
        };
    }
    if sim.tasks[child].driver.is_some() || sim.is_on_its_way(child) || task.active().next().is_some() {
        return false;
    }
    let further: Vec<Link> = task.open_links().map(|(_, link)| link.clone()).collect();
    further.iter().all(|link| is_over(sim, by, link, seen))
}

/// The processes of a run whose supervisor is gone, and its agent's.
pub(super) fn agent_of(sim: &Sim, id: &RunId) -> Option<Pid> {
    let pid = sim.runs.get(id)?.agent?;
    matches!(sim.processes.get(&pid)?.kind, Kind::Agent(_) | Kind::AtWork).then_some(pid)
}
