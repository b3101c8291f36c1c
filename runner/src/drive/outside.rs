//! What other streams of the project say about a task that may not begin before others are completed.

use std::collections::BTreeSet;

use run_agent_core::plan::{Dependency, Unmet};
use run_agent_core::world::{Task, TaskStatus};
use run_agent_core::{ProjectId, TaskId};

use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::TaskView;
use crate::wake::Wake;

/// The streams of the dependencies, kept open from look to look.
#[derive(Debug, Default)]
pub(super) struct Outside {
    views: Vec<TaskView>,
}

impl Outside {
    /// The dependencies that are not completed. Nothing is looked at once the task has begun.
    pub(super) fn unmet(&mut self, tree: &Tree, view: &TaskView, wake: &Wake) -> Vec<Dependency> {
        let (task, own) = (view.task(), &view.name);
        let depends_on = depends_on(task);
        if depends_on.is_empty() || (task.ralph.attempts > 0 && !task.ralph.fresh) {
            self.views.clear();
            return Vec::new();
        }
        let named = |id: &TaskId| TaskName { project: own.project.clone(), task: id.clone() };
        let state = |id: &TaskId| {
            let name = named(id);
            if let Some(cycle) = way_back(tree, own, &name) {
                return Some(Unmet::Cycle(cycle));
            }
            self.state(tree, &name, wake)
        };
        let unmet = |id: &TaskId, state| Dependency { task: id.clone(), state };
        let mut state = state;
        depends_on.iter().filter_map(|id| state(id).map(|found| unmet(id, found))).collect()
    }

    /// `None`: it is completed.
    fn state(&mut self, tree: &Tree, name: &TaskName, wake: &Wake) -> Option<Unmet> {
        let at = match self.views.iter().position(|view| view.name == *name) {
            Some(at) => at,
            None => {
                let Ok(view) = TaskView::open(tree, name) else { return Some(Unmet::Missing) };
                wake.watch_stream(tree, name);
                self.views.push(view);
                self.views.len() - 1
            }
        };
        let view = self.views.get_mut(at)?;
        // What cannot be read now is as it was.
        let _ = view.refresh();
        let _ = close::close_dead(tree, view);
        let task = view.task();
        let status = task.status();
        let said = match task.reason() {
            reason if reason.is_empty() || reason == status.as_str() => status.to_string(),
            reason => format!("{status} ({reason})"),
        };
        match status {
            _ if task.deleted => Some(Unmet::Missing),
            TaskStatus::Completed => None,
            TaskStatus::Failed | TaskStatus::Stopped => Some(Unmet::Failed(said)),
            TaskStatus::Created
            | TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Running
            | TaskStatus::Waiting
            | TaskStatus::BackingOff => Some(Unmet::Open),
        }
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

/// The way from a dependency back to this task, if there is one: then each would wait for the other.
fn way_back(tree: &Tree, own: &TaskName, from: &TaskName) -> Option<Vec<TaskId>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![from.task.clone()]];
    while let Some(way) = ways.pop() {
        let last = way.last()?.clone();
        if last == own.task {
            return Some(way);
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        let name = TaskName { project: own.project.clone(), task: last };
        let Ok(view) = TaskView::open(tree, &name) else { continue };
        for next in waits_for(view.task(), &own.project) {
            ways.push(way.iter().cloned().chain([next]).collect());
        }
    }
    None
}
