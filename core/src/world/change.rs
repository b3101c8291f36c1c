//! What a message changed, in the form in which viewers keep it: whole rows, so that a viewer applies a change by
//! replacing what it has under the same id, and a doubled change is harmless.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::{Run, RunStatus};
use super::task::TaskStatus;
use super::thread::Question;
use super::usage::{BudgetRow, RetryRow, UsageRow};
use crate::id::{MsgId, RunId, TaskId};
use crate::message::Kind;

/// `task` is absent for the project's own stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Counted { task: Option<TaskId>, kind: Kind, at: Timestamp },
    Task(Box<TaskRow>),
    Run(Box<RunRow>),
    RunDeleted { task: TaskId, id: RunId },
    QuestionAsked { task: Option<TaskId>, id: MsgId, question: Question },
    QuestionAnswered { task: Option<TaskId>, id: MsgId },
}

/// A task as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    pub task_id: TaskId,
    pub status: TaskStatus,
    pub reason: String,
    pub title: String,
    pub done: bool,
    pub run_counts: BTreeMap<RunStatus, u32>,
    pub restarts: u32,
    /// When it took its status.
    pub since: Option<Timestamp>,
    /// When what it waits for is over, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// What its own runs reported.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<UsageRow>,
    /// How far its budget is used up, from the warning on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub budget: Option<BudgetRow>,
}

/// A run as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    pub run_id: RunId,
    pub task_id: TaskId,
    pub agent: String,
    pub status: RunStatus,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_run_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_run_id: Option<RunId>,
    /// When its process started; before that, when it was made.
    pub start_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_time: Option<Timestamp>,
    /// -1 while running and where it is not known.
    pub exit_code: i32,
    /// Why it ended, or what it waits for.
    pub reason: String,
    pub stopping: bool,
    /// When it gave its last sign of life, while it is idle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idle_since: Option<Timestamp>,
    /// Its calls to its API fail, and it tries again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retrying: Option<RetryRow>,
    /// The class of the error that it ended with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_class: Option<String>,
    /// When the limit that ended it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_at: Option<Timestamp>,
    /// What it reported.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<UsageRow>,
    /// Its agent's own id of the conversation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent_version: Option<String>,
}

impl Run {
    /// Its calls to its API fail, and it tries again.
    #[must_use]
    pub fn retries(&self) -> Option<RetryRow> {
        self.retrying.as_ref().map(|known| RetryRow::of(&known.0, known.1))
    }

    /// The run as lists show it.
    #[must_use]
    pub fn row(&self, task: &TaskId, id: &RunId) -> RunRow {
        let end = self.end();
        RunRow {
            run_id: id.clone(),
            task_id: task.clone(),
            agent: self.agent.clone(),
            status: self.status(),
            attempt: self.attempt,
            parent_run_id: self.parent.clone(),
            previous_run_id: self.previous.clone(),
            start_time: self.started().unwrap_or(self.made),
            end_time: end.map(|(_, at)| at),
            exit_code: end.and_then(|(end, _)| end.exit_code).unwrap_or(-1),
            reason: end
                .map(|(end, _)| end.reason.clone())
                .or_else(|| self.state.waits_for())
                .unwrap_or_default(),
            stopping: self.stopping.is_some() && end.is_none(),
            idle_since: self.idle_since,
            retrying: self.retries(),
            error_class: end.and_then(|(end, _)| end.error_class.clone()),
            retry_at: end.and_then(|(end, _)| end.retry_at),
            usage: self.usage.row(),
            session_id: self.session_id.as_deref().map(str::to_owned),
            agent_version: self.agent_version().map(str::to_owned),
        }
    }
}

/// What a viewer that only applies changes knows. It exists to be compared with the world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    pub tasks: BTreeMap<TaskId, TaskRow>,
    pub runs: BTreeMap<(TaskId, RunId), RunRow>,
    pub questions: BTreeMap<MsgId, Question>,
    pub counts: BTreeMap<(Option<TaskId>, Kind), u64>,
}

impl Mirror {
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Counted { task, kind, .. } => {
                *self.counts.entry((task.clone(), kind.clone())).or_insert(0) += 1;
            }
            Change::Task(row) => {
                self.tasks.insert(row.task_id.clone(), (**row).clone());
            }
            Change::Run(row) => {
                self.runs.insert((row.task_id.clone(), row.run_id.clone()), (**row).clone());
            }
            Change::RunDeleted { task, id } => {
                self.runs.remove(&(task.clone(), id.clone()));
            }
            Change::QuestionAsked { id, question, .. } => {
                self.questions.insert(id.clone(), question.clone());
            }
            Change::QuestionAnswered { id, .. } => {
                self.questions.remove(id);
            }
        }
    }
}
