//! Deleting a run, a task or a project, in the order of `docs/housekeeping.md`: the event first, then the folder goes aside in one
//! step, then it is removed. What a kill in between leaves is finished by whoever tidies up next.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Deletion, Event};
use run_agent_core::store::{AppendError, OpenError, ReadError};
use run_agent_core::{Cursor, MsgId, ProjectId, RunId, StreamKey, TaskId};

use crate::below::IsLink;
use crate::ledger::Ledger;
use crate::supervise::record;
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView, ViewError};
use crate::{aside, failpoint, files};

/// Who deletes, and why, for the stream.
#[derive(Debug, Clone)]
pub struct Why {
    pub by: String,
    pub reason: String,
    pub cause: Cause,
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, and so many bytes with it.
    Gone { bytes: u64 },
    /// It is active in some way, or was deleted already.
    Refused(Refusal),
    /// Somebody is at work on it.
    Busy { holder: String },
}

#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Link(#[from] IsLink),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot lock {path}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot remove {path}, which is deleted in the stream; `run-agent gc` tries again")]
    Remove { path: PathBuf, source: io::Error },
}

/// Deletes a run that has ended. Its messages stay.
///
/// # Errors
/// When the stream cannot be written, or the folder not be removed.
pub fn run(tree: &Tree, view: &mut TaskView, id: &RunId, why: &Why) -> Result<Deleted, DeleteError> {
    let paths = tree.run(&view.name, id);
    tree.no_link(paths.folder())?;
    let lock_path = paths.supervisor_lock();
    let lock = lock_if_there(&lock_path)?;
    if let Some(lock) = &lock
        && !files::try_lock(lock).map_err(|source| DeleteError::Lock { path: lock_path.clone(), source })?
    {
        return Ok(Deleted::Busy { holder: "its supervisor".to_owned() });
    }
    failpoint::here("delete.run_locked");
    let event = Event::RunDeleted(Deletion { by: why.by.clone(), reason: why.reason.clone() });
    let draft = event.draft(
        &view.name.scope(Some(id.clone())),
        &why.cause,
        format!("the run's files are deleted: {}", why.reason),
    );
    if let Proposed::Refused(refusal) = view.propose(vec![draft], |task| decide::may_delete_run(task, id))? {
        return Ok(Deleted::Refused(refusal));
    }
    failpoint::here("delete.run_posted");
    Ok(Deleted::Gone { bytes: finish_run(tree, &view.name, id)? })
}

/// Removes the folder of a run that the stream says is deleted.
///
/// # Errors
/// When it cannot be removed.
pub fn finish_run(tree: &Tree, name: &TaskName, id: &RunId) -> Result<u64, DeleteError> {
    remove_cgroup(tree, name, id);
    remove(tree, tree.run(name, id).folder(), "delete.run_aside")
}

/// What stayed in the background may have kept the run's cgroup, and only the run's folder tells where that is. One that
/// is not empty yet stays.
fn remove_cgroup(tree: &Tree, name: &TaskName, id: &RunId) {
    let notes = record::notes(&tree.run(name, id).supervisor_lock()).unwrap_or_default();
    if let Some(cgroup) = notes.cgroup_of(id) {
        cgroup.remove();
    }
}

/// Deletes a task with its whole history. `ledger` is of its project.
///
/// # Errors
/// When a stream cannot be written, or the folder not be removed.
pub fn task(
    tree: &Tree,
    view: &mut TaskView,
    ledger: &mut Ledger,
    why: &Why,
) -> Result<Deleted, DeleteError> {
    let name = view.name.clone();
    tree.no_link(tree.task(&name).folder())?;
    let path = tree.task(&name).loop_lock();
    let error = |source| DeleteError::Lock { path: path.clone(), source };
    let lock = files::open_lock(&path).map_err(error)?;
    if !files::try_lock(&lock).map_err(error)? {
        let text = tree.read_text(&path).unwrap_or_default();
        let holder = text.trim();
        let holder = if holder.is_empty() { "another process" } else { holder };
        return Ok(Deleted::Busy { holder: format!("the driver of its loop, {holder}") });
    }
    if let Some(run) = held_run(tree, &name) {
        return Ok(Deleted::Busy { holder: format!("the supervisor of run {run}") });
    }
    failpoint::here("delete.task_locked");
    let event = Event::TaskDeleted(Deletion { by: why.by.clone(), reason: why.reason.clone() });
    let line = format!("the task is deleted: {}", why.reason);
    let draft = event.draft(&name.scope(None), &why.cause, line);
    match view.propose(vec![draft], decide::may_delete_task)? {
        Proposed::Appended(_) => {}
        // Somebody who deleted it did not live to finish.
        Proposed::Refused(Refusal::Deleted) => {}
        Proposed::Refused(refusal) => return Ok(Deleted::Refused(refusal)),
    }
    failpoint::here("delete.task_posted");
    let bytes = finish_task(tree, &name, ledger)?;
    drop(lock);
    Ok(Deleted::Gone { bytes })
}

/// Deletes a project whose tasks are all gone. Whoever makes a task in it waits for the same lock, and finds no project then.
///
/// # Errors
/// When it cannot be locked or removed.
pub fn project(tree: &Tree, project: &ProjectId) -> Result<Deleted, DeleteError> {
    let folder = tree.layout.project(project);
    tree.no_link(&folder)?;
    let error = |source| DeleteError::Lock { path: folder.clone(), source };
    let lock = File::open(&folder).map_err(error)?;
    lock.lock().map_err(error)?;
    let entries = std::fs::read_dir(&folder).map_err(error)?.flatten();
    let mut tasks = entries.filter_map(|entry| TaskId::parse(entry.file_name().to_str()?).ok());
    if let Some(task) = tasks.next() {
        return Ok(Deleted::Busy { holder: format!("task {task}") });
    }
    let bytes = remove(tree, &folder, "delete.project_aside")?;
    for file in [tree.layout.projection(project), tree.layout.roster(project)] {
        // Disposable.
        let _ = std::fs::remove_file(file);
    }
    let _ = std::fs::remove_file(tree.layout.sync_page(&StreamKey::project(project.clone())));
    Ok(Deleted::Gone { bytes })
}

/// What is left to do for a task that says of itself that it is deleted.
fn finish_task(tree: &Tree, name: &TaskName, ledger: &mut Ledger) -> Result<u64, DeleteError> {
    if let Some((id, deletion, cause)) = deletion_of(tree, name)? {
        ledger.tell_deleted(tree, name, &id, deletion, &cause)?;
    }
    failpoint::here("delete.task_told");
    tree.runs(name).unwrap_or_default().iter().for_each(|run| remove_cgroup(tree, name, run));
    let bytes = remove(tree, tree.task(name).folder(), "delete.task_aside")?;
    // Disposable, and made again by nobody.
    let _ = std::fs::remove_file(tree.layout.checkpoint(&name.project, &name.task));
    let _ = std::fs::remove_file(tree.layout.sync_page(&name.key()));
    Ok(bytes)
}

/// The newest `TASK_DELETED` of the task's own stream.
fn deletion_of(tree: &Tree, name: &TaskName) -> Result<Option<(MsgId, Deletion, Cause)>, DeleteError> {
    let mut found = None;
    each_message(tree, name, |message| {
        if let Ok(Event::TaskDeleted(deletion)) = Event::read(message) {
            let cause = message.content.meta.get("cause").map(String::as_str).unwrap_or_default();
            found = Some((message.id.clone(), deletion, Cause::parse(cause)));
        }
    })?;
    Ok(found)
}

/// The runs that the stream says are deleted.
///
/// # Errors
/// When the stream cannot be read.
pub fn deleted_runs(tree: &Tree, name: &TaskName) -> Result<Vec<RunId>, DeleteError> {
    let mut found = Vec::new();
    each_message(tree, name, |message| {
        if let (Ok(Event::RunDeleted(_)), Some(run)) = (Event::read(message), &message.content.run) {
            found.push(run.clone());
        }
    })?;
    Ok(found)
}

fn each_message(
    tree: &Tree,
    name: &TaskName,
    mut see: impl FnMut(&run_agent_core::Message),
) -> Result<(), DeleteError> {
    let stream = tree.store.open(&name.key())?;
    let mut from = Cursor::START;
    loop {
        let page = stream.read(from, 4096)?;
        page.entries.iter().for_each(|entry| see(&entry.message));
        if page.next == from {
            return Ok(());
        }
        from = page.next;
    }
}

/// A run whose lock somebody holds: it has ended, or the stream would refuse, and its supervisor is at its last file.
fn held_run(tree: &Tree, name: &TaskName) -> Option<RunId> {
    let runs = tree.runs(name).unwrap_or_default();
    runs.into_iter().find(|run| files::is_locked(&tree.run(name, run).supervisor_lock()).unwrap_or(true))
}

fn lock_if_there(path: &Path) -> Result<Option<File>, DeleteError> {
    match File::options().append(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DeleteError::Lock { path: path.to_owned(), source }),
    }
}

/// Moves the folder aside in one step and removes it. Returns the bytes of its files.
fn remove(tree: &Tree, folder: &Path, step: &str) -> Result<u64, DeleteError> {
    let error = |source| DeleteError::Remove { path: folder.to_owned(), source };
    let bytes = aside::size(folder);
    let Some(moved) = aside::put(&tree.layout, folder).map_err(error)? else { return Ok(0) };
    failpoint::here(step);
    aside::remove_all(&moved).map_err(error)?;
    Ok(bytes)
}
