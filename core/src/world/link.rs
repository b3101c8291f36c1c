//! Runs and loops of other tasks that this task's runs started: its loop waits for them as for its own children.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::event::ChildLink;
use crate::id::RunId;
use crate::message::Message;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub child: ChildLink,
    /// The run of this task that started it.
    pub parent: Option<RunId>,
    /// When it was first told of.
    pub since: Timestamp,
}

impl ChildLink {
    /// What it leads to, as one word.
    #[must_use]
    pub fn key(&self) -> String {
        let run = self.child_run_id.as_ref().map_or("", RunId::as_str);
        format!("{}/{}/{run}", self.child_project_id, self.child_task_id)
    }
}

impl Task {
    /// Links to what has not ended, as far as this stream tells.
    pub fn open_links(&self) -> impl Iterator<Item = (&str, &Link)> {
        self.links.iter().filter(|(_, link)| !link.child.ended).map(|(key, link)| (key.as_str(), link))
    }

    pub(super) fn linked(&mut self, message: &Message, child: ChildLink) {
        let parent = message.content.run.clone();
        let known = self.links.entry(child.key()).or_insert_with(|| Link {
            child: child.clone(),
            parent,
            since: message.ts,
        });
        let ends = child.ended && !known.child.ended;
        // Opened again, it is of the run that opened it: a stop of that one has to reach the child.
        if !child.ended && message.content.run.is_some() {
            known.parent.clone_from(&message.content.run);
        }
        known.child = child;
        if let (true, Some(done)) = (ends, &mut self.done) {
            done.late_results = true;
        }
    }
}
