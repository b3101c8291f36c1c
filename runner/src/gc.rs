//! Tidying up: what ended long enough ago is deleted, what others left behind is removed, long buses are rotated
//! (`docs/housekeeping.md`). What is active is never touched: `decide` refuses it under the append lock.

pub mod choose;
mod sweep;

use std::io;

use run_agent_core::{ProjectId, StreamKey, Timestamp};

pub use self::choose::{Because, Rules};
use self::sweep::Sweep;
use crate::delete::{self, DeleteError, Deleted, Why};
use crate::leftovers;
use crate::supervise::os;
use crate::tree::{TaskName, Tree};
use crate::view::TaskView;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    pub rules: Rules,
    /// Rotate buses of more bytes than this.
    pub rotate_above: Option<u64>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who asks.
    pub why: Why,
    /// What the rules were taken from, in words for the stream.
    pub said: &'a str,
    pub now: Timestamp,
}

/// Something that was done, or with a dry run would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub what: What,
    /// `project/task/run`, or a path.
    pub place: String,
    pub bytes: u64,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Task,
    Run,
    /// The rest of a deletion that somebody did not live to finish.
    Leftover,
    Cache,
    /// A bus was rotated: nothing is freed.
    Rotation,
}

impl What {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Run => "run",
            Self::Leftover => "leftover",
            Self::Cache => "cache",
            Self::Rotation => "rotation",
        }
    }
}

/// What is told on the way.
#[derive(Debug)]
pub enum Tell<'a> {
    Act(&'a Act),
    /// Something could not be tidied up; the rest goes on.
    Trouble {
        place: String,
        what: String,
    },
}

/// Tidies up one task, some projects, or the whole root with what lies in its own folder.
///
/// # Errors
/// When the root or a project's folder cannot be read; what goes wrong with one task is told.
pub fn gc(
    tree: &Tree,
    only: Option<&TaskName>,
    project: Option<&ProjectId>,
    job: &Job<'_>,
    tell: &mut dyn FnMut(Tell<'_>),
) -> io::Result<()> {
    let projects = match (only, project) {
        (Some(name), _) => vec![name.project.clone()],
        (None, Some(project)) => vec![project.clone()],
        (None, None) => tree.projects()?,
    };
    let mut sweep = Sweep { tree, job, tell };
    for project in projects {
        let tasks = match only {
            Some(name) => vec![name.task.clone()],
            None => tree.tasks(&project)?,
        };
        sweep.project(&project, tasks);
        if only.is_none() {
            sweep.rotate(&StreamKey::project(project.clone()));
            sweep.rest_of(&tree.layout.project(&project));
        }
    }
    if only.is_none() && project.is_none() {
        for path in leftovers::in_trash(tree) {
            sweep.remove(What::Leftover, &path, "it was deleted before");
        }
        for cache in leftovers::stale_caches(tree, false) {
            sweep.remove(What::Cache, &cache.path, cache.why);
        }
        if !job.dry_run {
            os::cgroup::remove_nobodys();
        }
    }
    Ok(())
}

/// Deletes the runs of one task that are beyond a limit, as a driver does at its loop's end.
///
/// # Errors
/// When the stream cannot be written or a folder not be removed.
pub fn keep_newest(tree: &Tree, view: &mut TaskView, max_runs: u32, why: &Why) -> Result<usize, DeleteError> {
    let rules = Rules { max_runs: Some(max_runs), ..Rules::default() };
    view.fold()?;
    let mut deleted = 0;
    for (run, _) in choose::runs(view.task(), &rules, Timestamp::now()) {
        deleted += usize::from(matches!(delete::run(tree, view, &run, why)?, Deleted::Gone { .. }));
    }
    Ok(deleted)
}
