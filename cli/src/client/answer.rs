//! What answers of the server have in them, as far as commands read it.

use std::fmt::Display;

use run_agent_core::inbox::Need;
use run_agent_core::store::{Cursor, Damage, Page};
use run_agent_core::world::{RunStatus, TaskRow};
use run_agent_core::{Entry, Message, MsgId, ProjectId, RunId, TaskId, Timestamp};
use run_agent_runner::roster::Row;
use run_agent_runner::tree::TaskName;
use serde::{Deserialize, Serialize};

use crate::error::{Exit, Failure};
use crate::render;

#[derive(Debug, Deserialize)]
pub(crate) struct Projects {
    pub(crate) projects: Vec<Project>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tasks {
    pub(crate) items: Vec<Task>,
    pub(crate) has_more: bool,
}

/// A task as lists show it.
#[derive(Debug, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    last_activity: Option<Timestamp>,
    run_count: usize,
    last_run_status: Option<RunStatus>,
    last_run_exit_code: Option<i32>,
    open_questions: usize,
    pub(crate) active: bool,
    loop_open: bool,
    #[serde(default)]
    foreign_runs: usize,
    #[serde(default)]
    pub(crate) no_driver: bool,
    needs: Vec<Need>,
    row: TaskRow,
}

impl Task {
    /// As it is listed where it lies.
    pub(crate) fn into_row(self) -> Row {
        let Self { row, needs, .. } = self;
        Row {
            id: self.id,
            status: row.status,
            reason: row.reason,
            title: row.title,
            last_activity: self.last_activity,
            run_count: self.run_count,
            run_counts: row.run_counts,
            done: row.done,
            active: self.active,
            loop_open: self.loop_open,
            foreign_runs: self.foreign_runs,
            since: row.since,
            last_run_status: self.last_run_status,
            last_run_exit_code: self.last_run_exit_code,
            open_questions: self.open_questions,
            until: row.until,
            usage: row.usage,
            budget: row.budget,
            needs,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Runs {
    pub(crate) runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) run_id: RunId,
    project_id: ProjectId,
    task_id: TaskId,
}

impl Run {
    pub(crate) fn named(self) -> (TaskName, RunId) {
        (TaskName { project: self.project_id, task: self.task_id }, self.run_id)
    }
}

/// What the server says of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) unreadable: Vec<Unreadable>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Unreadable {
    /// `project/task`, or a project.
    pub(crate) stream: String,
    pub(crate) why: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Messages {
    messages: Vec<Message>,
    /// The last message that was looked at.
    pub(crate) last: Option<MsgId>,
    pub(crate) has_more: bool,
    #[serde(default)]
    damage: Vec<Damaged>,
}

#[derive(Debug, Deserialize)]
struct Damaged {
    /// How many of the messages stand before it.
    behind: u64,
    place: String,
    what: String,
    shown: Option<Box<Message>>,
}

impl Messages {
    /// As a page that was read here: its places say in which order things stand, and no more.
    pub(crate) fn into_page(self) -> Page {
        let at = |n: u64| (Cursor::new(2 * n), Cursor::new(2 * n + 1));
        let entry = |(n, message)| {
            let (_, begins) = at(n);
            Entry { at: begins, next: at(n + 1).0, message }
        };
        let damage = |Damaged { behind, place, what, shown }| {
            let (at, next) = at(behind);
            Damage { at, next, place, what, shown }
        };
        let count = self.messages.len() as u64;
        Page {
            entries: (0..).zip(self.messages).map(entry).collect(),
            damage: self.damage.into_iter().map(damage).collect(),
            next: at(count + 1).0,
        }
    }
}

/// As `bus post --json` tells it, too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) msg_id: MsgId,
    pub(crate) timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attachment_path: Option<String>,
}

/// What was started.
#[derive(Debug, Deserialize)]
pub(crate) struct Started {
    pub(crate) project_id: ProjectId,
    pub(crate) task_id: TaskId,
    pub(crate) run_id: Option<RunId>,
}

/// A line that an agent printed.
#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) stream: LogStream,
    pub(crate) line: String,
    /// A piece of a line that is long.
    #[serde(default)]
    pub(crate) continues: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogStream {
    Stdout,
    Stderr,
}

/// An error that a stream tells of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct StreamError {
    message: String,
}

impl StreamError {
    pub(crate) fn failure(self, what: impl Display) -> Failure {
        Failure::new(
            Exit::Failed,
            format!("{what} cannot be read there: {}", render::safe_line(&self.message)),
        )
    }
}
