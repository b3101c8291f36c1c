//! What `list` and the inbox show of a project's tasks, kept so that a look at ten thousand reads only the streams that
//! changed (`docs/formats/checkpoint.md`). Never the truth: a row holds while the stream's version and the DONE marker
//! say so.

mod file;
mod row;

use std::fs::File;

use run_agent_core::inbox::{self, Need};
use run_agent_core::layout::TaskPaths;
use run_agent_core::store::{Cursor, OpenError, StreamVersion};
use run_agent_core::world::Marker;
use run_agent_core::{ProjectId, StreamKey, TaskId, World};

use crate::files;
use crate::tree::{TaskName, Tree};
use crate::view::ViewError;

use file::{Kept, OWN, lines, save};
pub use row::Row;
use row::read;

/// A task of the project; one that cannot be read is listed too, with the reason.
#[derive(Debug)]
pub struct Listed {
    pub task: TaskId,
    pub row: Result<Box<Row>, ViewError>,
}

/// A project with what needs a person in its own stream.
#[derive(Debug)]
pub struct Looked {
    pub tasks: Vec<Listed>,
    /// Of the project's own stream.
    pub needs: Result<Vec<Need>, ViewError>,
}

/// The line of the project itself, as it is written.
#[derive(Debug)]
struct OwnRow {
    version: String,
    row: String,
}

/// The file is written again when more than one row in so many is new: reading one stream anew costs about as much as
/// writing so many rows.
const ROWS_PER_STREAM: usize = 50;

/// Below this many streams a second thread costs more than it saves.
const STREAMS_PER_THREAD: usize = 64;

/// Entries of a project's stream that are held in memory at once.
const PAGE: usize = 4096;

/// All tasks of a project in order of their ids, as they are now. Runs whose supervisors are lost are closed on the way.
///
/// # Errors
/// When the project's folder cannot be read.
pub fn list(tree: &Tree, project: &ProjectId) -> std::io::Result<Vec<Listed>> {
    look(tree, project, false).map(|looked| looked.tasks)
}

/// As [`list`], with what the project's own stream asks.
///
/// # Errors
/// As [`list`].
pub fn look_for_needs(tree: &Tree, project: &ProjectId) -> std::io::Result<Looked> {
    look(tree, project, true)
}

/// What the roster's file says of the tasks and of the project itself, whether or not it still holds: for a shell that
/// asks for names.
#[must_use]
pub fn peek(tree: &Tree, project: &ProjectId) -> (Vec<Row>, Vec<Need>) {
    let file = std::fs::read(tree.layout.roster(project)).unwrap_or_default();
    let kept = lines(&file).unwrap_or_default();
    let own = kept.first().filter(|kept| kept.id == OWN);
    let own = own.and_then(|own| serde_json::from_str(own.row).ok()).unwrap_or_default();
    (kept.iter().filter_map(|kept| serde_json::from_str(kept.row).ok()).collect(), own)
}

fn look(tree: &Tree, project: &ProjectId, own_too: bool) -> std::io::Result<Looked> {
    let tasks = tree.tasks(project)?;
    let path = tree.layout.roster(project);
    let file = std::fs::read(&path).unwrap_or_default();
    let mut kept = lines(&file).unwrap_or_default().into_iter().peekable();
    let own = kept.next_if(|kept| kept.id == OWN);
    let (needs, own, own_is_new) = own_row(tree, project, own, own_too);
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
    if own_is_new || (new + vanished) * ROWS_PER_STREAM > found.len() {
        // A root that cannot be written is listed all the same.
        let _ = save(&path, own.as_ref(), &found);
    }
    let tasks = found.into_iter().map(|found| Listed { task: found.task, row: found.row }).collect();
    Ok(Looked { tasks, needs })
}

/// What the project's own stream asks, its line for the file, and whether that is a new one. Where nobody wants to
/// know, the line stays as it is: it is checked when somebody does.
fn own_row(
    tree: &Tree,
    project: &ProjectId,
    kept: Option<Kept<'_>>,
    wanted: bool,
) -> (Result<Vec<Need>, ViewError>, Option<OwnRow>, bool) {
    let row = |kept: Kept<'_>| OwnRow { version: kept.version.to_owned(), row: kept.row.to_owned() };
    if !wanted {
        return (Ok(Vec::new()), kept.map(row), false);
    }
    let key = StreamKey::project(project.clone());
    // Before the stream is read: what comes in between makes the row doubtful, not wrong.
    let version = tree.store.version(&key).ok().flatten();
    let held = kept.filter(|kept| version.as_ref().is_some_and(|version| version.as_str() == kept.version));
    if let Some(needs) = held.and_then(|held| serde_json::from_str(held.row).ok()) {
        return (Ok(needs), held.map(row), false);
    }
    let needs = project_needs(tree, &key);
    let row = needs.as_ref().ok().and_then(|needs| serde_json::to_string(needs).ok());
    let own = version.zip(row).map(|(version, row)| OwnRow { version: version.as_str().to_owned(), row });
    let is_new = own.is_some();
    (needs, own, is_new)
}

fn project_needs(tree: &Tree, key: &StreamKey) -> Result<Vec<Need>, ViewError> {
    let stream = match tree.store.open(key) {
        Ok(stream) => stream,
        Err(OpenError::NotFound { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(ViewError::Follow(error.into())),
    };
    let mut world = World::new();
    let mut from = Cursor::START;
    loop {
        let page = stream.read(from, PAGE).map_err(|error| ViewError::Follow(error.into()))?;
        for entry in &page.entries {
            world.apply(key, entry.at, &entry.message);
        }
        if page.next == from {
            let project = world.project(&key.project);
            return Ok(project.map(|own| inbox::of_project(&own.thread.open_questions)).unwrap_or_default());
        }
        from = page.next;
    }
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
