//! What other streams say about a task that may not begin before others are completed, as
//! `runner/src/drive/outside.rs` finds it out.

use std::collections::BTreeSet;

use crate::id::{ProjectId, TaskId};
use crate::plan::{Dependency, Unmet};
use crate::store::StreamKey;
use crate::testkit::simulation::sim::{Sim, TaskNo};
use crate::world::{Task, TaskStatus};

/// The dependencies that are not completed. Nothing is looked at once the task has begun.
pub(in crate::testkit::simulation) fn unmet(sim: &Sim, no: TaskNo) -> Vec<Dependency> {
    let task = sim.task(no);
    if task.ralph.attempts > 0 && !task.ralph.fresh {
        return Vec::new();
    }
    let state = |id: &TaskId| way_back(sim, no, id).map(Unmet::Cycle).or_else(|| state(sim, no, id));
    depends_on(task)
        .iter()
        .filter_map(|id| state(id).map(|state| Dependency { task: id.clone(), state }))
        .collect()
}

fn named(sim: &Sim, own: TaskNo, id: &TaskId) -> Option<TaskNo> {
    sim.task_no(&StreamKey::task(sim.tasks[own].key.project.clone(), id.clone()))
}

fn state(sim: &Sim, own: TaskNo, id: &TaskId) -> Option<Unmet> {
    let Some(task) = named(sim, own, id).map(|no| sim.task(no)) else { return Some(Unmet::Missing) };
    let status = task.status();
    match status {
        TaskStatus::Completed => None,
        TaskStatus::Failed | TaskStatus::Stopped => Some(Unmet::Failed(status.to_string())),
        TaskStatus::Created
        | TaskStatus::Blocked
        | TaskStatus::Queued
        | TaskStatus::Running
        | TaskStatus::Waiting
        | TaskStatus::BackingOff => Some(Unmet::Open),
    }
}

fn depends_on(task: &Task) -> &[TaskId] {
    task.created.as_ref().map_or(&[], |(text, _)| text.depends_on.as_slice())
}

/// What has to end before the task does: what it depends on, and the loops that its runs started.
fn waits_for(task: &Task, project: &ProjectId) -> Vec<TaskId> {
    let links = task.open_links().map(|(_, link)| &link.child);
    let loops = links.filter(|child| child.child_run_id.is_none() && child.child_project_id == *project);
    depends_on(task).iter().cloned().chain(loops.map(|child| child.child_task_id.clone())).collect()
}

fn way_back(sim: &Sim, own: TaskNo, from: &TaskId) -> Option<Vec<TaskId>> {
    let own_id = sim.tasks[own].key.task.as_ref()?;
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![from.clone()]];
    while let Some(way) = ways.pop() {
        let last = way.last()?.clone();
        if last == *own_id {
            return Some(way);
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        let Some(task) = named(sim, own, &last).map(|no| sim.task(no)) else { continue };
        for next in waits_for(task, &sim.tasks[own].key.project) {
            ways.push(way.iter().cloned().chain([next]).collect());
        }
    }
    None
}
