use std::collections::BTreeMap;

use run_agent_core::inbox::{self, Need};
use run_agent_core::world::{Task, TaskRow, TaskStatus};
use run_agent_core::{ProjectId, TaskId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Run;

/// A task as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskItem {
    pub(crate) id: String,
    pub(crate) project_id: String,
    /// `created`, `blocked`, `queued`, `running`, `waiting`, `backing_off`, `completed`, `failed` or `stopped`.
    pub(crate) status: String,
    pub(crate) last_activity: Option<String>,
    pub(crate) run_count: usize,
    pub(crate) run_counts: BTreeMap<String, u32>,
    pub(crate) depends_on: Vec<String>,
    /// Those of them that are not completed.
    pub(crate) blocked_by: Vec<String>,
    /// The message that it was started from.
    pub(crate) thread_parent: Option<String>,
    pub(crate) done: bool,
    pub(crate) last_run_status: Option<String>,
    pub(crate) last_run_exit_code: Option<i32>,
    pub(crate) last_run_output_size: Option<u64>,
    /// How many wait for a slot before it.
    pub(crate) queue_position: Option<u32>,
    pub(crate) open_questions: usize,
    /// A run or the loop has not ended.
    pub(crate) active: bool,
    /// The loop has not ended: whether its driver lives is another question.
    pub(crate) loop_open: bool,
    /// What needs a person.
    #[schema(value_type = Vec<Object>)]
    pub(crate) needs: Vec<Need>,
    /// Active runs that were started on another machine or in another container, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) foreign_runs: Option<usize>,
    /// Its loop is open, and its driver died: nothing moves until somebody takes it up. Where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_driver: Option<bool>,
    /// All that lists show of it.
    #[schema(value_type = Object)]
    pub(crate) row: TaskRow,
}

/// Tasks of all projects.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct V1Tasks {
    pub(crate) tasks: Vec<TaskItem>,
    pub(crate) total: usize,
}

/// One task, whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskDetail {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) status: String,
    pub(crate) queue_position: Option<u32>,
    pub(crate) last_activity: Option<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) done: bool,
    /// The text of TASK_STATE.md.
    pub(crate) state: String,
    pub(crate) depends_on: Vec<String>,
    pub(crate) blocked_by: Vec<String>,
    pub(crate) thread_parent: Option<String>,
    pub(crate) runs: Vec<Run>,
    #[schema(value_type = Object)]
    pub(crate) row: TaskRow,
    /// What needs a person.
    #[schema(value_type = Vec<Object>)]
    pub(crate) needs: Vec<Need>,
    /// Stretches of its stream that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damage: Vec<String>,
}

/// Where a task waits for others, and from what it was started.
pub(crate) struct Around {
    pub(crate) depends_on: Vec<String>,
    pub(crate) blocked_by: Vec<String>,
    pub(crate) thread_parent: Option<String>,
}

impl Around {
    pub(crate) fn of(task: &Task, other: impl Fn(&TaskId) -> Option<TaskStatus>) -> Self {
        let text = task.created.as_ref().map(|(text, _)| text);
        let depends_on = text.map(|text| text.depends_on.as_slice()).unwrap_or_default();
        let open = depends_on.iter().filter(|id| other(id) != Some(TaskStatus::Completed));
        Self {
            blocked_by: open.map(ToString::to_string).collect(),
            depends_on: depends_on.iter().map(ToString::to_string).collect(),
            thread_parent: text.and_then(|text| text.thread_parent.as_ref()).map(ToString::to_string),
        }
    }
}

/// How many wait for a slot before the first of its runs that waits.
pub(crate) fn queue_position(task: &Task) -> Option<u32> {
    task.active().find_map(|(_, run)| run.state.ahead())
}

impl TaskItem {
    pub(crate) fn new(
        project: &ProjectId,
        id: &TaskId,
        task: &Task,
        around: Around,
        last_run_output_size: Option<u64>,
    ) -> Self {
        let row = task.row(id);
        let last = task.runs.values().next_back();
        Self {
            id: id.to_string(),
            project_id: project.to_string(),
            status: row.status.to_string(),
            last_activity: task.thread.last_activity.map(|at| at.to_string()),
            run_count: task.runs.len(),
            run_counts: row.run_counts.iter().map(|(status, n)| (status.to_string(), *n)).collect(),
            depends_on: around.depends_on,
            blocked_by: around.blocked_by,
            thread_parent: around.thread_parent,
            done: row.done,
            last_run_status: last.map(|run| run.status().to_string()),
            last_run_exit_code: last.and_then(|run| run.end()).and_then(|(end, _)| end.exit_code),
            last_run_output_size,
            queue_position: queue_position(task),
            open_questions: task.thread.open_questions.len(),
            active: task.ralph.is_open() || task.active().next().is_some(),
            loop_open: task.ralph.is_open(),
            needs: inbox::of_task(task),
            foreign_runs: None,
            no_driver: None,
            row,
        }
    }
}
