//! What a task's row is made of, kept for the time of one message: whether the row is another one afterwards is found
//! without making a row.

use std::borrow::Cow;

use jiff::Timestamp;

use super::{RunCounts, Task, TaskStatus};
use crate::event::{Event, LoopBudget};
use crate::world::usage::Totals;

/// The row before the message.
pub(super) struct Shown {
    status: TaskStatus,
    reason: Cow<'static, str>,
    /// Of a message that may change it.
    title: Option<String>,
    done: bool,
    counts: RunCounts,
    restarts: u32,
    until: Option<Timestamp>,
    usage: Totals,
    budget: Option<Box<LoopBudget>>,
}

/// How the row after the message differs.
pub(super) enum Difference {
    None,
    Row,
    /// Also in what the task is said to be.
    Status,
}

impl Shown {
    pub(super) fn of(task: &Task, event: &Event) -> Self {
        let renames = matches!(event, Event::TaskCreated(_) | Event::TaskUpdated(_));
        Self {
            status: task.status(),
            reason: task.why_so().kept(),
            title: renames.then(|| task.title().to_owned()),
            done: task.done.is_some(),
            counts: task.counts,
            restarts: task.ralph.restarts,
            until: task.until(),
            usage: task.usage,
            budget: task.ralph.budget.clone(),
        }
    }

    /// With the row of now.
    pub(super) fn compare(&self, task: &Task) -> Difference {
        if self.status != task.status() || self.reason != task.why_so().text() {
            return Difference::Status;
        }
        let is_same = self.title.as_ref().is_none_or(|title| title == task.title())
            && self.done == task.done.is_some()
            && self.counts == task.counts
            && self.restarts == task.ralph.restarts
            && self.until == task.until()
            && self.usage == task.usage
            && self.budget == task.ralph.budget;
        if is_same { Difference::None } else { Difference::Row }
    }
}
