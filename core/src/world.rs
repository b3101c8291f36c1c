//! The world: what the events of all streams amount to.
//!
//! [`World::apply`] is pure and total: it reads no clock, does no I/O, panics on no input, and refuses no fact. What
//! makes no sense is ignored, and the reason is a value. Each stream touches only its own part of the world (and a set
//! of answers that only grows), so that any interleaving which keeps each stream's order gives the same world.
//!
//! [`World::changes`] makes of it the [`Change`]s that a viewer applies, for live view and replay alike.

mod change;
mod evidence;
mod link;
mod marker;
mod ralph;
mod run;
mod runs;
mod sorted;
mod task;
mod thread;
mod touched;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use change::{Change, Mirror, RunRow, TaskRow};
pub use evidence::{Evidence, Told};
pub use link::Link;
pub use marker::Marker;
pub use ralph::{Degraded, Ralph, RalphState, StopRequest};
pub use run::{Ended, Run, RunState, RunStatus, Started};
pub use runs::Runs;
pub use sorted::Sorted;
pub use task::{DoneMark, Task, TaskStatus};
pub use thread::{Question, Thread, answers};
pub use usage::{BudgetRow, Cost, RetryRow, Totals, UsageRow, dollars};

use self::touched::Touched;
use crate::event::{Event, FieldError, ProjectCreated};
use crate::id::{MsgId, ProjectId, RunId, TaskId};
use crate::message::Message;
use crate::store::{Cursor, StreamKey};

/// Raised when the fold changes its meaning: checkpoints of another version are dropped and rebuilt.
pub const WORLD_VERSION: u32 = 12;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    pub projects: BTreeMap<ProjectId, Project>,
}

/// One project: its own stream and its tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub created: Option<ProjectCreated>,
    pub thread: Thread,
    pub tasks: BTreeMap<TaskId, Box<Task>>,
    /// Questions that a message of another stream of this project names as parent of an ANSWER or USER message.
    answered_elsewhere: BTreeSet<MsgId>,
}

/// What one message did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What [`World::changes`] tells of.
    touched: Touched,
    /// Set when the message, or its meaning as a lifecycle event, was passed over.
    pub ignored: Option<Ignored>,
}

/// Why a message changed nothing, or only the counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    #[error("it was applied before")]
    Duplicate,
    #[error(transparent)]
    Fields(#[from] FieldError),
    #[error("run {0} has ended already")]
    RunEnded(RunId),
    #[error("run {0} is not known")]
    UnknownRun(RunId),
    #[error("it names no run")]
    NoRun,
    #[error("the loop has ended already")]
    LoopEnded,
    #[error("the run has started already")]
    RunStarted,
    #[error("it belongs into a task's stream")]
    NotATask,
}

impl World {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn project(&self, project: &ProjectId) -> Option<&Project> {
        self.projects.get(project)
    }

    #[must_use]
    pub fn task(&self, project: &ProjectId, task: &TaskId) -> Option<&Task> {
        self.projects.get(project)?.tasks.get(task).map(AsRef::as_ref)
    }

    /// Folds in one message. `at` is the gap before it in its stream. What it changed, as viewers are told it, is
    /// [`World::changes`].
    pub fn apply(&mut self, stream: &StreamKey, at: Cursor, message: &Message) -> Applied {
        let project = self.projects.entry(stream.project.clone()).or_default();
        let event = Event::read(message);
        match &stream.task {
            None => project.apply_own(at, message, event),
            Some(id) => project.apply_task(id, at, message, event),
        }
    }
}

impl Project {
    fn apply_own(&mut self, at: Cursor, message: &Message, event: Result<Event, FieldError>) -> Applied {
        let mut applied = Applied::default();
        if !self.thread.advance(at) {
            applied.ignored = Some(Ignored::Duplicate);
            return applied;
        }
        self.thread.count(message, &self.answered_elsewhere, &mut applied.touched);
        self.note_answers(message, &mut applied.touched);
        match event {
            Ok(Event::ProjectCreated(created)) => self.created = Some(created),
            Ok(Event::Posted) => {}
            Ok(_) => applied.ignored = Some(Ignored::NotATask),
            Err(error) => applied.ignored = Some(error.into()),
        }
        applied
    }

    fn apply_task(
        &mut self,
        id: &TaskId,
        at: Cursor,
        message: &Message,
        event: Result<Event, FieldError>,
    ) -> Applied {
        let mut applied = Applied::default();
        let task = self.tasks.entry(id.clone()).or_default();
        if !task.thread.advance(at) {
            applied.ignored = Some(Ignored::Duplicate);
            return applied;
        }
        task.thread.count(message, &self.answered_elsewhere, &mut applied.touched);
        applied.ignored = match event {
            Ok(event) => task.apply(at, message, event, &mut applied.touched).err(),
            Err(error) => Some(error.into()),
        };
        self.note_answers(message, &mut applied.touched);
        applied
    }

    /// An answer may stand in another stream of the project than its question, and may be folded in before it.
    fn note_answers(&mut self, message: &Message, touched: &mut Touched) {
        if !thread::closes_questions(message) {
            return;
        }
        for parent in &message.content.parents {
            if !self.answered_elsewhere.insert(parent.msg_id.clone()) {
                continue;
            }
            let threads = std::iter::once((None, &mut self.thread))
                .chain(self.tasks.iter_mut().map(|(id, task)| (Some(id), &mut task.thread)));
            for (task, thread) in threads {
                if thread.close(&parent.msg_id) {
                    touched.answered.push((task.cloned(), parent.msg_id.clone()));
                }
            }
        }
    }

    /// What is its own.
    #[must_use]
    pub fn without_tasks(&self) -> Self {
        Self {
            created: self.created.clone(),
            thread: self.thread.clone(),
            tasks: BTreeMap::new(),
            answered_elsewhere: self.answered_elsewhere.clone(),
        }
    }

    /// What the project's tasks used together.
    #[must_use]
    pub fn usage(&self) -> Totals {
        self.tasks.values().fold(Totals::default(), |sum, task| sum.plus(&task.usage))
    }
}
