//! One task as `list` and the inbox show it.

use std::collections::BTreeMap;

use run_agent_core::inbox::{self, Need};
use run_agent_core::world::{BudgetRow, Marker, Run, RunStatus, Task, TaskStatus, UsageRow};
use run_agent_core::{RunId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::marker;
use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};

/// A task as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: TaskId,
    pub status: TaskStatus,
    pub reason: String,
    pub title: String,
    pub last_activity: Option<Timestamp>,
    pub run_count: usize,
    pub run_counts: BTreeMap<RunStatus, u32>,
    pub done: bool,
    /// A run or the loop has not ended.
    pub active: bool,
    /// The loop has not ended: whether its driver lives is another question.
    pub loop_open: bool,
    /// How many of the active runs were started on another machine or in another container.
    pub foreign_runs: usize,
    pub since: Option<Timestamp>,
    pub last_run_status: Option<RunStatus>,
    pub last_run_exit_code: Option<i32>,
    pub open_questions: usize,
    /// When what it waits for is over, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What its own runs reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageRow>,
    /// How far its budget is used up, from the warning on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetRow>,
    /// What needs a person: bounded, however many questions are open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
}

/// The task's row, and whether the stream alone tells it: where a run is active, or a stop on its way, processes do too.
pub(super) fn read(
    tree: &Tree,
    name: &TaskName,
    marker: Option<Marker>,
) -> Result<(Box<Row>, bool), ViewError> {
    let mut view = TaskView::open(tree, name)?;
    // A stream that can be read but not written is listed as it is.
    let mut settled = close::close_dead(tree, &mut view).is_ok();
    if let Some(marker) = marker {
        settled &= marker::reconcile(tree, &mut view, marker).is_ok();
    }
    let task = view.task();
    settled &= task.active().next().is_none() && task.ralph.stopping.is_none();
    let mut row = Box::new(Row::of(&name.task, task));
    let is_foreign =
        |(id, run): &(&RunId, &Run)| matches!(close::life(tree, name, id, run), Ok(close::Life::Foreign));
    row.foreign_runs = task.active().filter(is_foreign).count();
    match marker {
        Some(Marker::Present { .. }) => row.done = true,
        Some(Marker::Absent) => row.done = false,
        Some(Marker::NotAFile) | None => {}
    }
    Ok((row, settled))
}

impl Row {
    fn of(id: &TaskId, task: &Task) -> Self {
        let last = task.runs.values().next_back();
        Self {
            id: id.clone(),
            status: task.status(),
            reason: task.reason(),
            title: task.title().to_owned(),
            last_activity: task.thread.last_activity,
            run_count: task.runs.len(),
            run_counts: task.run_counts().clone(),
            done: task.done.is_some(),
            active: task.ralph.is_open() || task.active().next().is_some(),
            loop_open: task.ralph.is_open(),
            foreign_runs: 0,
            since: task.since.as_ref().map(|(_, at)| *at),
            last_run_status: last.map(Run::status),
            last_run_exit_code: last.and_then(Run::end).and_then(|(end, _)| end.exit_code),
            open_questions: task.thread.open_questions.len(),
            until: task.until(),
            usage: task.usage.row(),
            budget: task.ralph.budget.as_deref().map(BudgetRow::from),
            needs: inbox::of_task(task),
        }
    }
}
