//! What a project's own stream says about tasks that are gone: one line for each, however many look.

use std::collections::BTreeSet;
use std::sync::Arc;

use run_agent_core::cause::Cause;
use run_agent_core::event::{Deletion, Event};
use run_agent_core::store::{AppendError, Condition, OpenError, ReadError};
use run_agent_core::{Cursor, Entry, MsgId, Parent, ProjectId, Stream, StreamKey};

use crate::tree::{TaskName, Tree};

/// The project's stream, read once for all that is deleted in it.
#[derive(Debug)]
pub struct Ledger {
    stream: Arc<dyn Stream>,
    seen: Cursor,
    told: Told,
}

/// Deletions that the stream tells of, by the message in the task's stream that each is about.
#[derive(Debug, Default)]
struct Told {
    about: BTreeSet<MsgId>,
    /// The one that is asked about.
    wanted: Option<MsgId>,
}

impl Told {
    fn take_in(&mut self, entry: &Entry) {
        if entry.message.content.kind.as_str() == "TASK_DELETED" {
            self.about.extend(entry.message.content.parents.iter().map(|parent| parent.msg_id.clone()));
        }
    }
}

impl Condition for Told {
    fn see(&mut self, entry: &Entry) {
        self.take_in(entry);
    }

    fn agrees(&mut self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| !self.about.contains(wanted))
    }
}

impl Ledger {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// When the project is not there.
    pub fn open(tree: &Tree, project: &ProjectId) -> Result<Self, OpenError> {
        let stream = tree.store.open(&StreamKey::project(project.clone()))?;
        Ok(Self { stream, seen: Cursor::START, told: Told::default() })
    }

    /// Says that a task is gone, unless it was said before. `about` is the `TASK_DELETED` of the task's own stream.
    pub(crate) fn tell_deleted(
        &mut self,
        tree: &Tree,
        name: &TaskName,
        about: &MsgId,
        deletion: Deletion,
        cause: &Cause,
    ) -> Result<(), AppendError> {
        let key = self.stream.key().clone();
        let unread = |source: ReadError| AppendError::Read { key: key.clone(), source };
        loop {
            let page = self.stream.read(self.seen, 4096).map_err(unread)?;
            page.entries.iter().for_each(|entry| self.told.take_in(entry));
            if page.next == self.seen {
                break;
            }
            self.seen = page.next;
        }
        let line = format!("task {} is deleted with its history: {}", name.task, deletion.reason);
        let mut draft = Event::TaskDeleted(deletion).draft(&name.scope(None), cause, line);
        draft.parents = vec![Parent::new(about.clone(), Some("about"))];
        self.told.wanted = Some(about.clone());
        self.stream.append_if(self.seen, &mut self.told, vec![draft], tree.durability)?;
        Ok(())
    }
}
