//! Which rows a message touched, and the changes that viewers are told of it. Folding a long history makes no row: rows
//! are made of what they show, and only where somebody asks.

use super::change::Change;
use super::{Project, Task, World};
use crate::id::{MsgId, RunId, TaskId};
use crate::message::Message;
use crate::store::StreamKey;

/// What one message touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// It was folded in, and counts.
    pub(super) counted: bool,
    /// It is a question that is open now.
    pub(super) asked: bool,
    pub(super) run: OfRun,
    /// The task's row is another one.
    pub(super) task: bool,
    /// Questions that it closed, with the tasks that asked them.
    pub(super) answered: Vec<(Option<TaskId>, MsgId)>,
}

/// What it did to the run that it names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum OfRun {
    #[default]
    Nothing,
    Changed,
    Deleted,
}

impl World {
    /// What viewers are told of a message, in the order in which they apply it. The rows are those of the world as it is:
    /// of the message that was folded in last.
    #[must_use]
    pub fn changes(&self, stream: &StreamKey, message: &Message, applied: &super::Applied) -> Vec<Change> {
        let touched = &applied.touched;
        let Some(project) = self.project(&stream.project).filter(|_| touched.counted) else {
            return Vec::new();
        };
        let mut changes = vec![Change::Counted {
            task: stream.task.clone(),
            kind: message.content.kind.clone(),
            at: message.ts,
        }];
        if touched.asked {
            changes.extend(asked(project, stream.task.as_ref(), &message.id));
        }
        if let Some((id, task)) =
            stream.task.as_ref().and_then(|id| Some((id, self.task(&stream.project, id)?)))
        {
            let run = message.content.run.as_ref();
            changes.extend(run.and_then(|run| of_run(id, task, run, touched.run)));
            changes.extend(touched.task.then(|| Change::Task(Box::new(task.row(id)))));
        }
        let answered = |(task, id): &(Option<TaskId>, MsgId)| Change::QuestionAnswered {
            task: task.clone(),
            id: id.clone(),
        };
        changes.extend(touched.answered.iter().map(answered));
        changes
    }
}

fn asked(project: &Project, task: Option<&TaskId>, id: &MsgId) -> Option<Change> {
    let thread = match task {
        Some(task) => &project.tasks.get(task)?.thread,
        None => &project.thread,
    };
    let question = thread.open_questions.get(id)?.clone();
    Some(Change::QuestionAsked { task: task.cloned(), id: id.clone(), question })
}

fn of_run(id: &TaskId, task: &Task, run: &RunId, touched: OfRun) -> Option<Change> {
    match touched {
        OfRun::Nothing => None,
        OfRun::Changed => Some(Change::Run(Box::new(task.runs.get(run)?.row(id, run)))),
        OfRun::Deleted => Some(Change::RunDeleted { task: id.clone(), id: run.clone() }),
    }
}
