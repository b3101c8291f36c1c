//! The tasks above one: those in which a run or a loop was started for a run of another task, up to where a person began.
//! What they may use bounds what is started below them.

use run_agent_core::RunId;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::policy::budget::Budget;
use run_agent_core::world::Task;

use crate::link::Origin;
use crate::tree::{TaskName, Tree};
use crate::view::TaskView;

/// More tasks above each other are not looked at: links that a hand wrote may lead in a circle.
const TASKS_MAX: usize = 64;

/// May something be started for this run, as far as the budgets go of its task and of those above it? A stream that cannot
/// be read now keeps nobody from working.
///
/// # Errors
/// When a limit is used up.
pub(crate) fn may_spend(tree: &Tree, origin: &Origin, budget: Option<Budget>) -> Result<(), Refusal> {
    if !budget.is_some_and(|budget| budget.is_limited()) {
        return Ok(());
    }
    let mut at = Some(origin.clone());
    for _ in 0..TASKS_MAX {
        let Some(origin) = at else { break };
        let Ok(view) = TaskView::open(tree, &origin.name) else { break };
        decide::may_spend(view.task(), budget)?;
        at = above(view.task(), &origin.run);
    }
    Ok(())
}

/// The run of another task for which this run works: one above it was started from there, or its task's loop was.
pub(crate) fn above(task: &Task, run: &RunId) -> Option<Origin> {
    let mut at = run;
    for _ in 0..=task.runs.len() {
        let Some(known) = task.runs.get(at) else { break };
        let parent = known.parent.as_ref()?;
        if let Some((project, id)) = known.parent_task.as_deref() {
            let name = TaskName { project: project.clone(), task: id.clone() };
            return Some(Origin { name, run: parent.clone() });
        }
        at = parent;
    }
    let start = task.ralph.driver.as_ref()?;
    let name = TaskName { project: start.parent_project_id.clone()?, task: start.parent_task_id.clone()? };
    Some(Origin { name, run: start.parent_run_id.clone()? })
}
