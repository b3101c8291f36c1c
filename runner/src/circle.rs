//! Loops that would wait for each other for ever: by what they depend on, and by the loops that their runs start in
//! other tasks.

use std::collections::BTreeSet;

use run_agent_core::TaskId;
use run_agent_core::world::Task;

use crate::link;
use crate::tree::{TaskName, Tree};
use crate::view::TaskView;

/// What this task is said to depend on.
pub(crate) fn depends_on(task: &Task) -> &[TaskId] {
    task.created.as_ref().map_or(&[], |(text, _)| text.depends_on.as_slice())
}

/// The way from the loop of one task to that of another by what each waits for, if there is one: for the loops
/// that it started, and for what `depends` gives of a task.
pub(crate) fn way_back(
    tree: &Tree,
    to: &TaskName,
    from: &TaskName,
    depends: fn(&Task) -> &[TaskId],
) -> Option<Vec<TaskId>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![from.clone()]];
    while let Some(way) = ways.pop() {
        let last = way.last()?.clone();
        if last == *to {
            return Some(way.into_iter().map(|name| name.task).collect());
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        let Ok(view) = TaskView::open(tree, &last) else { continue };
        for next in waits_for(&view, depends) {
            ways.push(way.iter().cloned().chain([next]).collect());
        }
    }
    None
}

fn waits_for(view: &TaskView, depends: fn(&Task) -> &[TaskId]) -> Vec<TaskName> {
    let named = |id: &TaskId| TaskName { project: view.name.project.clone(), task: id.clone() };
    let task = view.task();
    // A run that was started elsewhere ends without that task's loop.
    let loops = task.open_links().filter(|(_, link)| link.child.child_run_id.is_none());
    depends(task).iter().map(named).chain(loops.map(|(_, link)| link::child_of(link))).collect()
}
