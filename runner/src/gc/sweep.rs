//! One sweep: what `choose` says goes is deleted, and each thing that was done is told.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use run_agent_core::store::{AppendError, OpenError, ReadError};
use run_agent_core::world::{Task, TaskStatus};
use run_agent_core::{ProjectId, StreamKey, TaskId};

use super::choose::{self, Because};
use super::{Act, Job, Tell, What};
use crate::delete::{self, DeleteError, Deleted, Why};
use crate::ledger::Ledger;
use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};
use crate::{aside, leftovers, link};

pub(super) struct Sweep<'a, 'b> {
    pub(super) tree: &'a Tree,
    pub(super) job: &'a Job<'a>,
    pub(super) tell: &'b mut dyn FnMut(Tell<'_>),
}

impl Sweep<'_, '_> {
    pub(super) fn project(&mut self, project: &ProjectId, tasks: Vec<TaskId>) {
        let mut whole = Vec::new();
        let mut needed = BTreeSet::new();
        for task in tasks {
            let name = TaskName { project: project.clone(), task };
            let looked = TaskView::open(self.tree, &name)
                .map_err(DeleteError::from)
                .and_then(|mut view| self.task(&mut view, &mut needed).map(|goes| goes.then_some(view)));
            match looked {
                Ok(goes) => whole.extend(goes),
                Err(error) => self.trouble_with(&name.to_string(), &error),
            }
        }
        if whole.is_empty() {
            return;
        }
        // What an unfinished task waits for or links to stays, however old it is.
        whole.retain(|view| view.task().deleted || !needed.contains(&view.name.task));
        let mut ledger = match Ledger::open(self.tree, project) {
            Ok(ledger) => ledger,
            Err(error) => return self.trouble_with(project.as_str(), &error.into()),
        };
        for mut view in whole {
            let name = view.name.to_string();
            if let Err(error) = self.delete_task(&mut view, &mut ledger) {
                self.trouble_with(&name, &error);
            }
        }
    }

    /// Tidies up one task. True when the whole task is to go.
    fn task(&mut self, view: &mut TaskView, needed: &mut BTreeSet<TaskId>) -> Result<bool, DeleteError> {
        if !self.job.dry_run {
            close::close_dead(self.tree, view)?;
            if view.task().open_links().next().is_some() {
                link::reconcile(self.tree, view)?;
            }
        }
        let task = view.task();
        if task.deleted {
            return Ok(true);
        }
        if !is_over(task) {
            needed.extend(task.created.iter().flat_map(|(text, _)| text.depends_on.iter().cloned()));
        }
        needed.extend(task.open_links().map(|(_, link)| link.child.child_task_id.clone()));
        if choose::whole_task(task, &self.job.rules, self.job.now) {
            return Ok(true);
        }
        for (run, because) in choose::runs(task, &self.job.rules, self.job.now) {
            self.delete_run(view, &run, because)?;
        }
        self.finish_runs(view)?;
        self.rest_of(&self.tree.task(&view.name).runs());
        self.rotate(&view.name.key());
        Ok(false)
    }

    fn delete_run(
        &mut self,
        view: &mut TaskView,
        run: &run_agent_core::RunId,
        because: Because,
    ) -> Result<(), DeleteError> {
        let said = match because {
            Because::Old => self.job.said.to_owned(),
            Because::TooMany => "more than retention.max_runs_per_task".to_owned(),
        };
        let place = format!("{}/{run}", view.name);
        let bytes = if self.job.dry_run {
            aside::size(self.tree.run(&view.name, run).folder())
        } else {
            let why = Why { reason: said.clone(), ..self.job.why.clone() };
            match delete::run(self.tree, view, run, &why)? {
                Deleted::Gone { bytes } => bytes,
                // It came to life, another one deleted it, or its supervisor is at its last file.
                Deleted::Refused(_) | Deleted::Busy { .. } => return Ok(()),
            }
        };
        self.did(What::Run, place, bytes, said);
        Ok(())
    }

    /// Folders of runs whose deletion was posted and not finished.
    fn finish_runs(&mut self, view: &TaskView) -> Result<(), DeleteError> {
        let Ok(mut unknown) = self.tree.runs(&view.name) else { return Ok(()) };
        unknown.retain(|run| view.run(run).is_none());
        if unknown.is_empty() {
            return Ok(());
        }
        let deleted = delete::deleted_runs(self.tree, &view.name)?;
        for run in unknown.iter().filter(|run| deleted.contains(run)) {
            let bytes = if self.job.dry_run {
                aside::size(self.tree.run(&view.name, run).folder())
            } else {
                delete::finish_run(self.tree, &view.name, run)?
            };
            self.did(
                What::Leftover,
                format!("{}/{run}", view.name),
                bytes,
                "it was deleted before".to_owned(),
            );
        }
        Ok(())
    }

    fn delete_task(&mut self, view: &mut TaskView, ledger: &mut Ledger) -> Result<(), DeleteError> {
        let folder = self.tree.task(&view.name).folder().to_owned();
        let (what, said) = if view.task().deleted {
            (What::Leftover, "it was deleted before".to_owned())
        } else {
            (What::Task, format!("completed, and {}", self.job.said))
        };
        let bytes = if self.job.dry_run {
            aside::size(&folder)
        } else {
            let why = Why { reason: said.clone(), ..self.job.why.clone() };
            match delete::task(self.tree, view, ledger, &why)? {
                Deleted::Gone { bytes } => bytes,
                Deleted::Refused(_) | Deleted::Busy { .. } => return Ok(()),
            }
        };
        self.did(what, view.name.to_string(), bytes, said);
        Ok(())
    }

    pub(super) fn rotate(&mut self, key: &StreamKey) {
        let Some(above) = self.job.rotate_above else { return };
        if let Err(error) = self.rotate_one(key, above) {
            self.trouble_with(&key.to_string(), &error);
        }
    }

    fn rotate_one(&mut self, key: &StreamKey, above: u64) -> Result<(), DeleteError> {
        let stream = self.tree.store.open(key)?;
        let bytes = stream.stats()?.active_bytes;
        if bytes <= above {
            return Ok(());
        }
        if !self.job.dry_run {
            stream.rotate()?;
        }
        self.did(What::Rotation, key.to_string(), bytes, format!("more than {above} bytes"));
        Ok(())
    }

    pub(super) fn rest_of(&mut self, folder: &Path) {
        for path in leftovers::beside(folder) {
            self.remove(What::Leftover, &path, "it was deleted before");
        }
    }

    pub(super) fn remove(&mut self, what: What, path: &Path, why: &str) {
        let bytes = aside::size(path);
        if !self.job.dry_run
            && let Err(error) = aside::remove_all(path)
        {
            let (place, what) = (path.display().to_string(), format!("cannot be removed: {error}"));
            return (self.tell)(Tell::Trouble { place, what });
        }
        self.did(what, path.display().to_string(), bytes, why.to_owned());
    }

    fn did(&mut self, what: What, place: String, bytes: u64, why: String) {
        (self.tell)(Tell::Act(&Act { what, place, bytes, why }));
    }

    fn trouble_with(&mut self, place: &str, error: &DeleteError) {
        if is_gone(error) {
            return;
        }
        let mut what = error.to_string();
        let mut at = std::error::Error::source(error);
        while let Some(source) = at {
            let next = source.to_string();
            if !what.ends_with(&next) {
                what.push_str(": ");
                what.push_str(&next);
            }
            at = source.source();
        }
        (self.tell)(Tell::Trouble { place: place.to_owned(), what });
    }
}

/// Nothing more is started for it unless somebody asks for it anew.
fn is_over(task: &Task) -> bool {
    match task.status() {
        TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Stopped => true,
        TaskStatus::Created
        | TaskStatus::Blocked
        | TaskStatus::Queued
        | TaskStatus::Running
        | TaskStatus::Waiting
        | TaskStatus::BackingOff => false,
    }
}

/// Another one who tidies up was first.
fn is_gone(error: &DeleteError) -> bool {
    use run_agent_core::follow::FollowError;
    let read = |error: &ReadError| matches!(error, ReadError::Gone { .. });
    match error {
        DeleteError::View(ViewError::Follow(FollowError::Open(OpenError::NotFound { .. })))
        | DeleteError::Open(OpenError::NotFound { .. }) => true,
        DeleteError::View(ViewError::Follow(FollowError::Read(error))) | DeleteError::Read(error) => {
            read(error)
        }
        DeleteError::View(ViewError::Append(AppendError::Read { source, .. }))
        | DeleteError::Append(AppendError::Read { source, .. }) => read(source),
        DeleteError::View(_)
        | DeleteError::Open(_)
        | DeleteError::Append(_)
        | DeleteError::Link(_)
        | DeleteError::Remove { .. } => false,
        DeleteError::Lock { source, .. } => source.kind() == io::ErrorKind::NotFound,
    }
}
