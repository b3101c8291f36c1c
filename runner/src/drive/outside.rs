//! What other streams of the project say about a task that may not begin before others are completed.

use run_agent_core::TaskId;
use run_agent_core::plan::{Dependency, Unmet};
use run_agent_core::world::TaskStatus;

use crate::circle::{depends_on, way_back};
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
        let wanted = depends_on(task);
        if wanted.is_empty() || task.ralph.has_begun() {
            self.views.clear();
            return Vec::new();
        }
        let named = |id: &TaskId| TaskName { project: own.project.clone(), task: id.clone() };
        let state = |id: &TaskId| {
            let name = named(id);
            if let Some(cycle) = way_back(tree, own, &name, depends_on) {
                return Some(Unmet::Cycle(cycle));
            }
            self.state(tree, &name, wake)
        };
        let unmet = |id: &TaskId, state| Dependency { task: id.clone(), state };
        let mut state = state;
        wanted.iter().filter_map(|id| state(id).map(|found| unmet(id, found))).collect()
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
