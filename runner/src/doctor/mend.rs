//! What `--repair` does about one finding. Nothing is lost by any of it; what was found is looked at again first, since
//! others work on the same root.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use run_agent_core::RunId;
use run_agent_core::cause::Cause;

use super::finding::{Finding, RunFinding};
use super::task::{holds_only_a_starters_files, is_void, say};
use crate::agent::Stream;
use crate::delete::{self, Deleted, Why};
use crate::ledger::Ledger;
use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::TaskView;
use crate::{aside, files, link, marker, output, slots};

type Mended = Result<(), String>;

/// Mends what is not in a stream itself.
pub(super) fn mend(tree: &Tree, finding: &Finding, by: &str) -> Mended {
    match finding {
        Finding::RootOpenToOthers { path, .. } => set_private(path).map_err(|e| e.to_string()),
        Finding::StrayFile { path } | Finding::StrayTrash { path } | Finding::StaleCache { path, .. } => {
            aside::remove_all(path).map_err(|e| e.to_string())
        }
        Finding::DeadTicket { path } => slots::remove_dead_ticket(path).map_err(|e| e.to_string()),
        Finding::HalfMadeTask { name, path } => remove_half_made_task(tree, name, path),
        Finding::DeletedTask { name, .. } => finish_task(tree, name, by),
        Finding::UnfinishedStop { name } => close_dead(tree, name),
        Finding::UnfinishedLink { name, .. } => {
            link::reconcile(tree, &mut open(tree, name)?).map_err(|e| say(&e))
        }
        Finding::MarkerDisagrees { name, path, .. } => {
            let marker = files::marker(path).map_err(|e| e.to_string())?;
            let mut view = open(tree, name)?;
            marker::reconcile(tree, &mut view, marker).map_err(|e| say(&e))
        }
        Finding::Run { name, run, what, .. } => mend_run(tree, name, run, what),
        // A stream mends itself, the store's file is the caller's, and the rest is a person's.
        Finding::Damaged { .. }
        | Finding::StoreFileMissing { .. }
        | Finding::StoreFileBroken { .. }
        | Finding::ConfigBroken { .. }
        | Finding::Link { .. }
        | Finding::Unreadable { .. }
        | Finding::EmptyStream { .. }
        | Finding::LoopWithoutDriver { .. }
        | Finding::MarkerNotAFile { .. }
        | Finding::FewOpenFiles { .. }
        | Finding::FewWatches { .. }
        | Finding::NoLinger { .. } => Ok(()),
    }
}

fn set_private(root: &Path) -> io::Result<()> {
    let mode = root.metadata()?.permissions().mode();
    std::fs::set_permissions(root, Permissions::from_mode(mode & 0o7700))
}

fn open(tree: &Tree, name: &TaskName) -> Result<TaskView, String> {
    TaskView::open(tree, name).map_err(|e| say(&e))
}

fn close_dead(tree: &Tree, name: &TaskName) -> Mended {
    close::close_dead(tree, &mut open(tree, name)?).map(drop).map_err(|e| say(&e))
}

/// Nothing but empty folders and a lock can be in it: whatever came since keeps it.
fn remove_half_made_task(tree: &Tree, name: &TaskName, path: &Path) -> Mended {
    let bus = tree.store.place(&name.key());
    for entry in std::fs::read_dir(path).map_err(|e| e.to_string())?.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let gone = if is_folder && entry.path() == bus && is_void(tree, name) {
            std::fs::remove_dir_all(&bus)
        } else if is_folder {
            std::fs::remove_dir(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
        gone.map_err(|e| format!("{}: {e}", entry.path().display()))?;
    }
    std::fs::remove_dir(path).map_err(|e| e.to_string())
}

fn finish_task(tree: &Tree, name: &TaskName, by: &str) -> Mended {
    let mut ledger = Ledger::open(tree, &name.project).map_err(|e| say(&e))?;
    let cause = Cause::Person(by.to_owned());
    let why = Why { by: by.to_owned(), reason: "finished by doctor".to_owned(), cause };
    match delete::task(tree, &mut open(tree, name)?, &mut ledger, &why).map_err(|e| say(&e))? {
        Deleted::Gone { .. } => Ok(()),
        Deleted::Refused(refusal) => Err(refusal.to_string()),
        Deleted::Busy { holder } => Err(format!("it is held by {holder}")),
    }
}

fn mend_run(tree: &Tree, name: &TaskName, run: &RunId, what: &RunFinding) -> Mended {
    match what {
        RunFinding::Dead => close_dead(tree, name),
        RunFinding::Deleted => delete::finish_run(tree, name, run).map(drop).map_err(|e| say(&e)),
        RunFinding::HalfMade { own: true } => remove_half_made_run(tree, name, run),
        RunFinding::FolderMissing
        | RunFinding::InfoMissing
        | RunFinding::InfoBroken { .. }
        | RunFinding::InfoBehind { .. }
        | RunFinding::OutputMissing
        | RunFinding::StaleDoorbell => renew(tree, name, run, what),
        RunFinding::LeftCgroup { .. } => {
            let _held = hold(&tree.run(name, run).supervisor_lock())?;
            let view = open(tree, name)?;
            match view.run(run).filter(|run| !run.is_active()) {
                Some(_) => {
                    close::end_left_cgroup(tree, name, run, view.start_of(run)).map_err(|e| e.to_string())
                }
                None => Ok(()),
            }
        }
        RunFinding::HalfMade { own: false }
        | RunFinding::AgentAlone { .. }
        | RunFinding::Foreign
        | RunFinding::InfoNewer { .. } => Ok(()),
    }
}

/// The run's files are its supervisor's: they are touched by whoever has its lock.
fn hold(lock: &Path) -> Result<Option<File>, String> {
    match File::options().append(true).open(lock) {
        Ok(file) if files::try_lock(&file).map_err(|e| e.to_string())? => Ok(Some(file)),
        Ok(_) => Err("somebody is at work on it".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn remove_half_made_run(tree: &Tree, name: &TaskName, run: &RunId) -> Mended {
    let paths = tree.run(name, run);
    let _held = hold(&paths.supervisor_lock())?;
    // Its intent may have come since.
    if open(tree, name)?.run(run).is_some() || !holds_only_a_starters_files(paths.folder()) {
        return Ok(());
    }
    match aside::put(&tree.layout, paths.folder()) {
        Ok(Some(moved)) => aside::remove_all(&moved).map_err(|e| e.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes again what can be made from the stream and from what the run printed.
fn renew(tree: &Tree, name: &TaskName, run: &RunId, what: &RunFinding) -> Mended {
    let paths = tree.run(name, run);
    let _held = hold(&paths.supervisor_lock())?;
    let view = open(tree, name)?;
    if what == &RunFinding::FolderMissing {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(paths.folder());
        made.map_err(|e| e.to_string())?;
    }
    if let Some(ended) = view.run(run).filter(|run| !run.is_active()) {
        output::see_to_final(tree, &paths, Stream::of(ended)).map_err(|e| e.to_string())?;
        for path in [paths.doorbell(), paths.socket()] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
                Err(_) | Ok(()) => {}
            }
        }
    }
    close::project_info(tree, &view, run);
    Ok(())
}
