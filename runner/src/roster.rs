//! What `list` shows of a project's tasks, kept so that a list of ten thousand reads only the streams that changed
//! (`docs/formats/checkpoint.md`). Never the truth: a row holds while the stream's version and the DONE marker say so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use run_agent_core::layout::TaskPaths;
use run_agent_core::store::StreamVersion;
use run_agent_core::world::{Marker, Run, RunStatus, Task, TaskStatus, WORLD_VERSION};
use run_agent_core::{ProjectId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::sealed::{self, FORMAT};
use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};
use crate::{files, marker};

/// A task as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: TaskId,
    pub status: TaskStatus,
    pub reason: String,
    pub title: String,
    pub last_activity: Option<Timestamp>,
    pub run_count: usize,
    pub run_counts: BTreeMap<RunStatus, u32>,
    pub done: bool,
    /// A run or the loop has not ended.
    pub active: bool,
    pub last_run_status: Option<RunStatus>,
    pub last_run_exit_code: Option<i32>,
    pub open_questions: usize,
}

/// A task of the project; one that cannot be read is listed too, with the reason.
#[derive(Debug)]
pub struct Listed {
    pub task: TaskId,
    pub row: Result<Box<Row>, ViewError>,
}

/// A line of the file. The row is read only where the version holds, and by whichever thread looks at the task.
#[derive(Debug, Clone, Copy)]
struct Kept<'a> {
    id: &'a str,
    version: &'a str,
    row: &'a str,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    kind: String,
    format: u32,
    world: u32,
}

const KIND: &str = "roster";

/// The file is written again when more than one row in so many is new: reading one stream anew costs about as much as
/// writing so many rows.
const ROWS_PER_STREAM: usize = 50;

/// Below this many streams a second thread costs more than it saves.
const STREAMS_PER_THREAD: usize = 64;

/// All tasks of a project in order of their ids, as they are now. Runs whose supervisors are lost are closed on the way.
///
/// # Errors
/// When the project's folder cannot be read.
pub fn list(tree: &Tree, project: &ProjectId) -> std::io::Result<Vec<Listed>> {
    let tasks = tree.tasks(project)?;
    let path = tree.layout.roster(project);
    let file = std::fs::read(&path).unwrap_or_default();
    let mut kept = lines(&file).unwrap_or_default().into_iter().peekable();
    let mut looks = Vec::with_capacity(tasks.len());
    let mut vanished = 0;
    for task in tasks {
        while let Some(gone) = kept.next_if(|kept| kept.id < task.as_str()) {
            vanished += 1;
            if let Ok(gone) = TaskId::parse(gone.id) {
                let _ = std::fs::remove_file(tree.layout.checkpoint(project, &gone));
            }
        }
        let kept = kept.next_if(|kept| kept.id == task.as_str());
        looks.push(Look { task, kept });
    }
    vanished += kept.count();
    let found = look_at_all(tree, project, looks)?;
    let new = found.iter().filter(|found| found.is_new).count();
    if (new + vanished) * ROWS_PER_STREAM > found.len() {
        // A root that cannot be written is listed all the same.
        let _ = save(&path, &found);
    }
    Ok(found.into_iter().map(|found| Listed { task: found.task, row: found.row }).collect())
}

/// One task that is to be looked at.
struct Look<'a> {
    task: TaskId,
    kept: Option<Kept<'a>>,
}

/// What became of it.
struct Found {
    task: TaskId,
    row: Result<Box<Row>, ViewError>,
    /// With this version the row holds until something changes; `None` where it must be looked at each time.
    keep: Option<StreamVersion>,
    /// Not in the file yet.
    is_new: bool,
}

fn look_at_all(tree: &Tree, project: &ProjectId, looks: Vec<Look<'_>>) -> std::io::Result<Vec<Found>> {
    let folder = File::open(tree.layout.project(project))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(looks.len() / STREAMS_PER_THREAD);
    if threads < 2 {
        return Ok(look_at_some(tree, project, &folder, looks));
    }
    let share = looks.len().div_ceil(threads);
    let mut rest = looks.into_iter();
    let shares: Vec<Vec<Look<'_>>> = (0..threads).map(|_| rest.by_ref().take(share).collect()).collect();
    let (folder, mut found) = (&folder, Vec::with_capacity(share * threads));
    std::thread::scope(|scope| {
        let start = |share| scope.spawn(move || look_at_some(tree, project, folder, share));
        let at_work: Vec<_> = shares.into_iter().map(start).collect();
        for thread in at_work {
            match thread.join() {
                Ok(some) => found.extend(some),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    Ok(found)
}

fn look_at_some(tree: &Tree, project: &ProjectId, folder: &File, looks: Vec<Look<'_>>) -> Vec<Found> {
    // Before the streams are read: what comes in between makes a row doubtful, not wrong.
    let versions = tree.store.versions(project, &looks.iter().map(|look| &look.task).collect::<Vec<_>>());
    let look_at = |(look, version)| look_at(tree, project, folder, look, version);
    looks.into_iter().zip(versions).map(look_at).collect()
}

fn look_at(
    tree: &Tree,
    project: &ProjectId,
    folder: &File,
    Look { task, kept }: Look<'_>,
    version: Option<StreamVersion>,
) -> Found {
    let marker = files::marker_below(folder, &TaskPaths::done_below_project(&task));
    let agrees = |row: &Row| match &marker {
        Ok(Marker::Present { .. }) => row.done,
        Ok(Marker::Absent) => !row.done,
        Ok(Marker::NotAFile) | Err(_) => false,
    };
    let held = kept.filter(|kept| version.as_ref().is_some_and(|version| version.as_str() == kept.version));
    let held = held.and_then(|kept| serde_json::from_str::<Box<Row>>(kept.row).ok());
    if let Some(row) = held.filter(|row| agrees(row) && row.id == task) {
        return Found { task, row: Ok(row), keep: version, is_new: false };
    }
    let name = TaskName { project: project.clone(), task };
    let read = read(tree, &name, marker.as_ref().ok().copied());
    let keep = match &read {
        Ok((row, true)) if agrees(row) => version,
        Ok(_) | Err(_) => None,
    };
    Found { task: name.task, row: read.map(|(row, _)| row), is_new: keep.is_some(), keep }
}

/// The task's row, and whether the stream alone tells it: where a run is active, or a stop on its way, processes do too.
fn read(tree: &Tree, name: &TaskName, marker: Option<Marker>) -> Result<(Box<Row>, bool), ViewError> {
    let mut view = TaskView::open(tree, name)?;
    // A stream that can be read but not written is listed as it is.
    let mut settled = close::close_dead(tree, &mut view).is_ok();
    if let Some(marker) = marker {
        settled &= marker::reconcile(tree, &mut view, marker).is_ok();
    }
    let task = view.task();
    settled &= task.active().next().is_none() && task.ralph.stopping.is_none();
    let mut row = Box::new(Row::of(&name.task, task));
    match marker {
        Some(Marker::Present { .. }) => row.done = true,
        Some(Marker::Absent) => row.done = false,
        Some(Marker::NotAFile) | None => {}
    }
    Ok((row, settled))
}

impl Row {
    fn of(id: &TaskId, task: &Task) -> Self {
        let last = task.runs.values().next_back();
        Self {
            id: id.clone(),
            status: task.status(),
            reason: task.reason(),
            title: task.title().to_owned(),
            last_activity: task.thread.last_activity,
            run_count: task.runs.len(),
            run_counts: task.run_counts().clone(),
            done: task.done.is_some(),
            active: task.ralph.is_open() || task.active().next().is_some(),
            last_run_status: last.map(Run::status),
            last_run_exit_code: last.and_then(Run::end).and_then(|(end, _)| end.exit_code),
            open_questions: task.thread.open_questions.len(),
        }
    }
}

/// The lines in order of their tasks' ids; `None` where the file is absent or doubtful.
fn lines(file: &[u8]) -> Option<Vec<Kept<'_>>> {
    let (header, content) = sealed::unseal::<Header>(file)?;
    if (header.kind.as_str(), header.format, header.world) != (KIND, FORMAT, WORLD_VERSION) {
        return None;
    }
    let line = |line| {
        let mut parts = str::splitn(line, 3, ' ');
        Some(Kept { id: parts.next()?, version: parts.next()?, row: parts.next()? })
    };
    let lines: Vec<Kept<'_>> = std::str::from_utf8(content).ok()?.lines().map(line).collect::<Option<_>>()?;
    lines.is_sorted_by(|a, b| a.id < b.id).then_some(lines)
}

fn save(path: &Path, found: &[Found]) -> std::io::Result<()> {
    let mut content = Vec::with_capacity(found.len() * 400);
    for found in found {
        if let (Ok(row), Some(version)) = (&found.row, &found.keep) {
            write!(content, "{} {} ", found.task, version.as_str())?;
            serde_json::to_writer(&mut content, row)?;
            content.push(b'\n');
        }
    }
    let header = Header { kind: KIND.to_owned(), format: FORMAT, world: WORLD_VERSION };
    sealed::write(path, &header, &content).map(drop)
}
