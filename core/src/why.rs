//! Why is a task or a run in its state: since when, on what evidence, and what would change it (spec, section 5).
//!
//! The stream tells the causes: every lifecycle event names what made it happen, and the world keeps where the newest
//! of each stands. So an answer reads a handful of entries, whatever the stream's length. What only a look at processes
//! and at other tasks can tell comes in as [`Seen`].
//!
//! | question | file |
//! | --- | --- |
//! | how is a chain of causes put together? | `story` |
//! | why does a task stand as it does? | `task` |
//! | why is its loop open and not at work? | `open` |
//! | why has its loop ended so? | `ended` |
//! | why does a run stand as it does? | `run` |

mod ended;
mod open;
mod run;
mod story;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::id::{MsgId, RunId, TaskId};
use crate::message::{Kind, Message};
use crate::store::Cursor;
use crate::world::{Marker, Task, TaskStatus};

use story::Story;

/// A task, and what a look around it found.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub task: &'a Task,
    pub seen: &'a Seen,
}

/// The entry of the task's stream at a place that its world names, if it can be read.
pub type ReadAt<'a> = &'a dyn Fn(Cursor) -> Option<Message>;

/// What the stream cannot know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub driver: Driver,
    /// Of runs that are active. One that is not here was not looked at, or its supervisor lives.
    pub runs: BTreeMap<RunId, Life>,
    /// The tasks that this one waits for.
    pub tasks: BTreeMap<TaskId, Other>,
    pub marker: Option<Marker>,
}

/// Who drives the loop, where it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    #[default]
    NotLookedAt,
    Alive,
    /// It died without saying so: nobody goes on with the loop.
    Gone,
    /// Of another machine or container: from here nobody can tell.
    Foreign,
}

/// What a look at the processes of an active run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    Supervised,
    /// The supervisor is dead, the agent goes on.
    AgentAlone {
        pid: u32,
    },
    /// Started on another machine or in another container.
    Foreign,
    /// The files of the run tell nothing.
    Unclear(String),
}

/// Another task of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Other {
    Missing,
    Unreadable(String),
    There { status: TaskStatus, reason: String },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    pub status: &'static str,
    pub reason: String,
    pub since: Option<Timestamp>,
    /// Nearest first: each was made to happen by the one behind it.
    pub causes: Vec<Because>,
    /// What would change it, most likely first.
    #[serde(skip)]
    pub changes: Vec<Change>,
}

/// One link of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Because {
    /// One sentence without its full stop.
    pub text: String,
    /// The message that says so. Absent where a look at processes does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg_id: Option<MsgId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What that message itself names as its cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
}

/// Something that would change the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it comes to.
    pub text: String,
    /// How it is done; absent where it happens by itself, or is done outside the tool.
    pub act: Option<Act>,
}

/// A command of the tool; whoever shows it adds the flags that name the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Start the loop, or go on with it where it stands.
    Task,
    /// Take up every loop whose driver died.
    Adopt,
    /// Set the counters back and go on.
    Resume,
    Stop,
    StopRun(RunId),
    /// Skip what is left of the grace period.
    StopForce,
    Answer(MsgId),
    Output(RunId),
    WhyRun(RunId),
    WhyTask(TaskId),
}

impl Why {
    /// The nearest cause, in one line.
    #[must_use]
    pub fn summary(&self) -> &str {
        self.causes.first().map_or("", |cause| &cause.text)
    }

    /// The messages that the answer stands on.
    pub fn evidence(&self) -> impl Iterator<Item = &MsgId> {
        self.causes.iter().filter_map(|cause| cause.msg_id.as_ref())
    }
}

/// Why the task is in its state.
#[must_use]
pub fn task(look: Look<'_>, read: ReadAt<'_>) -> Why {
    let mut story = Story::new(look, read);
    story.task();
    Why {
        status: look.task.status().as_str(),
        reason: look.task.reason(),
        since: look.task.since.as_ref().map(|(_, at)| *at),
        causes: story.causes,
        changes: story.changes,
    }
}

/// Why the run is in its state; `None` for one that the task does not know.
#[must_use]
pub fn run(look: Look<'_>, id: &RunId, read: ReadAt<'_>) -> Option<Why> {
    let run = look.task.runs.get(id)?;
    let mut story = Story::new(look, read);
    story.run(id, run);
    Some(Why {
        status: run.status().as_str(),
        reason: run.end().map(|(end, _)| end.reason.clone()).unwrap_or_default(),
        since: Some(run.end().map(|(_, at)| at).or(run.started()).unwrap_or(run.made)),
        causes: story.causes,
        changes: story.changes,
    })
}
