//! What `list` shows of a project's tasks, kept so that a list of ten thousand reads only the streams that changed
//! (`docs/formats/checkpoint.md`). Never the truth: a row holds while the stream's version and the DONE marker say so.

use std::collections::BTreeMap;
use std::path::Path;

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
    pub row: Result<Row, ViewError>,
}

/// A row of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    version: StreamVersion,
    row: Row,
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
    let mut kept = load(&path).unwrap_or_default().into_iter().peekable();
    let mut looks = Vec::with_capacity(tasks.len());
    let mut vanished = 0;
    for task in tasks {
        while let Some(gone) = kept.next_if(|kept| kept.row.id < task) {
            vanished += 1;
            let _ = std::fs::remove_file(tree.layout.checkpoint(project, &gone.row.id));
        }
        let kept = kept.next_if(|kept| kept.row.id == task);
        looks.push(Look { name: TaskName { project: project.clone(), task }, kept });
    }
    let found = look_at_all(tree, looks);
    let new = found.iter().filter(|found| matches!(found, Found::Read { keep: Some(_), .. })).count();
    if (new + vanished + kept.count()) * ROWS_PER_STREAM > found.len() {
        // A root that cannot be written is listed all the same.
        let _ = save(&path, &found);
    }
    Ok(found.into_iter().map(Found::into_listed).collect())
}

/// One task that is to be looked at.
struct Look {
    name: TaskName,
    kept: Option<Kept>,
}

/// What became of it.
enum Found {
    /// The row that was kept holds.
    Held(Kept),
    /// The stream was read. `keep` is the version with which the row holds until something changes.
    Read { task: TaskId, row: Result<Row, ViewError>, keep: Option<StreamVersion> },
}

impl Found {
    fn into_listed(self) -> Listed {
        match self {
            Self::Held(Kept { row, .. }) => Listed { task: row.id.clone(), row: Ok(row) },
            Self::Read { task, row, .. } => Listed { task, row },
        }
    }
}

fn look_at_all(tree: &Tree, looks: Vec<Look>) -> Vec<Found> {
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(looks.len() / STREAMS_PER_THREAD);
    if threads < 2 {
        return looks.into_iter().map(|look| look_at(tree, look)).collect();
    }
    let share = looks.len().div_ceil(threads);
    let mut rest = looks.into_iter();
    let shares: Vec<Vec<Look>> = (0..threads).map(|_| rest.by_ref().take(share).collect()).collect();
    std::thread::scope(|scope| {
        let at_work: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(|| share.into_iter().map(|look| look_at(tree, look)).collect::<Vec<_>>())
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<Found>>| match thread.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        at_work.into_iter().flat_map(join).collect()
    })
}

fn look_at(tree: &Tree, Look { name, kept }: Look) -> Found {
    // Before the stream is read: what comes in between makes the row doubtful, not wrong.
    let version = tree.store.version(&name.key()).ok().flatten();
    let marker = files::marker(&tree.task(&name).done());
    let agrees = |row: &Row| match &marker {
        Ok(Marker::Present { .. }) => row.done,
        Ok(Marker::Absent) => !row.done,
        Ok(Marker::NotAFile) | Err(_) => false,
    };
    match kept {
        Some(kept) if version.as_ref() == Some(&kept.version) && agrees(&kept.row) => Found::Held(kept),
        Some(_) | None => {
            let read = read(tree, &name, marker.as_ref().ok().copied());
            let keep = match &read {
                Ok((row, true)) if agrees(row) => version,
                Ok(_) | Err(_) => None,
            };
            Found::Read { task: name.task, row: read.map(|(row, _)| row), keep }
        }
    }
}

/// The task's row, and whether the stream alone tells it: where a run is active, or a stop on its way, processes do too.
fn read(tree: &Tree, name: &TaskName, marker: Option<Marker>) -> Result<(Row, bool), ViewError> {
    let mut view = TaskView::open(tree, name)?;
    // A stream that can be read but not written is listed as it is.
    let mut settled = close::close_dead(tree, &mut view).is_ok();
    if let Some(marker) = marker {
        settled &= marker::reconcile(&mut view, marker).is_ok();
    }
    let task = view.task();
    settled &= task.active().next().is_none() && task.ralph.stopping.is_none();
    let mut row = Row::of(&name.task, task);
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

/// The rows in order of their ids; `None` where the file is absent or doubtful.
fn load(path: &Path) -> Option<Vec<Kept>> {
    let bytes = std::fs::read(path).ok()?;
    let (header, content) = sealed::unseal::<Header>(&bytes)?;
    if (header.kind.as_str(), header.format, header.world) != (KIND, FORMAT, WORLD_VERSION) {
        return None;
    }
    let rows: Vec<Kept> = content
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).ok())
        .collect::<Option<_>>()?;
    rows.is_sorted_by(|a, b| a.row.id < b.row.id).then_some(rows)
}

fn save(path: &Path, found: &[Found]) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        version: &'a StreamVersion,
        row: &'a Row,
    }
    let mut content = Vec::with_capacity(found.len() * 400);
    for found in found {
        let line = match found {
            Found::Held(Kept { version, row }) | Found::Read { row: Ok(row), keep: Some(version), .. } => {
                Line { version, row }
            }
            Found::Read { .. } => continue,
        };
        serde_json::to_writer(&mut content, &line)?;
        content.push(b'\n');
    }
    let header = Header { kind: KIND.to_owned(), format: FORMAT, world: WORLD_VERSION };
    sealed::write(path, &header, &content).map(drop)
}
