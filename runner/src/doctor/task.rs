//! One stream, and one task with its folder. Looking changes nothing: the stream is folded here, and no checkpoint is
//! written.

use std::path::{Path, PathBuf};

use run_agent_core::decide;
use run_agent_core::store::{OpenError, ReadError};
use run_agent_core::world::{Link, Marker, Task};
use run_agent_core::{Cursor, RunId, Stream, StreamKey, World};

use super::finding::{DamageKind, Finding, RunFinding};
use super::run::{self, is_settled};
use super::stray::{self, stray};
use crate::adopt::{DriverLife, driver_life};
use crate::leftovers::{beside, paths_in};
use crate::tree::{TaskName, Tree};
use crate::{delete, files, link};

/// What a starter, or who makes a task, takes from the folder to what stands in it.
const MAKING_S: u64 = 10;
/// How often a task is looked at whose stream goes on meanwhile.
const LOOKS: u32 = 3;

/// What is wrong with a stream. First of all: whoever reads it takes a bus that was cut as it is.
pub(super) fn look_at_stream(tree: &Tree, key: &StreamKey) -> Vec<Finding> {
    let found =
        tree.store.open(key).map_err(|e| say(&e)).and_then(|stream| stream.verify().map_err(|e| say(&e)));
    match found {
        Ok(report) => report
            .damage
            .into_iter()
            .map(|damage| Finding::Damaged {
                key: key.clone(),
                kind: kind_of(&damage.what),
                damage: Box::new(damage),
            })
            .collect(),
        Err(why) => vec![Finding::Unreadable { place: key.to_string(), why }],
    }
}

/// Stores say in words what they found; the few that have a name of their own begin alike in every store.
fn kind_of(what: &str) -> DamageKind {
    if what.starts_with("it was cut short") {
        DamageKind::CutShort
    } else if what.starts_with("an entry that is not complete") {
        DamageKind::TornTail
    } else if what.starts_with("a copy that a writer made") {
        DamageKind::StrayRescue
    } else if what.starts_with("no frame can be read") || what.starts_with("one of the two copies") {
        DamageKind::Frame
    } else if what.starts_with("bytes that were cut off") {
        DamageKind::CutOff
    } else {
        DamageKind::Entry
    }
}

/// What is wrong with a task, its stream excepted.
pub(super) fn look_at_task(tree: &Tree, name: &TaskName) -> Vec<Finding> {
    if let Err(link) = tree.no_link(&tree.task(name).runs()) {
        return vec![Finding::Unreadable { place: name.to_string(), why: link.to_string() }];
    }
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        let (stream, world, end) = match fold(tree, name) {
            Ok(folded) => folded,
            // It was deleted meanwhile.
            Err(Unfolded::Gone) => return Vec::new(),
            Err(Unfolded::Unread(why)) => return vec![Finding::Unreadable { place: name.to_string(), why }],
        };
        let task = world.task(&name.project, &name.task);
        found = match task {
            Some(task) => look_at_known(tree, name, task, stream.as_ref()),
            None => look_at_empty(tree, name),
        };
        // What came meanwhile explains what seemed wrong.
        if found.is_empty() || stream.end().is_ok_and(|now| now == end) {
            break;
        }
    }
    found
}

enum Unfolded {
    Gone,
    Unread(String),
}

type Folded = (std::sync::Arc<dyn Stream>, World, Cursor);

fn fold(tree: &Tree, name: &TaskName) -> Result<Folded, Unfolded> {
    let key = name.key();
    let stream = tree.store.open(&key).map_err(|error| match error {
        OpenError::NotFound { .. } => Unfolded::Gone,
        OpenError::Io { .. } => Unfolded::Unread(say(&error)),
    })?;
    let (mut world, mut at) = (World::new(), Cursor::START);
    loop {
        let page = stream.read(at, 4096).map_err(|error| match error {
            ReadError::Gone { .. } => Unfolded::Gone,
            ReadError::Incarnation { .. } | ReadError::UnknownId { .. } | ReadError::Io { .. } => {
                Unfolded::Unread(say(&error))
            }
        })?;
        for entry in &page.entries {
            let _ = world.apply(&key, entry.at, &entry.message);
        }
        if page.next == at {
            return Ok((stream, world, at));
        }
        at = page.next;
    }
}

/// A task of which no stream tells.
fn look_at_empty(tree: &Tree, name: &TaskName) -> Vec<Finding> {
    let paths = tree.task(name);
    let path = paths.folder().to_owned();
    let has_runs = !tree.runs(name).unwrap_or_default().is_empty();
    if !has_runs && !is_settled(&path, MAKING_S) {
        // Somebody is just making it.
        return Vec::new();
    }
    if has_runs || paths.prompt().exists() {
        return vec![Finding::EmptyStream { name: name.clone(), path }];
    }
    // A starter that was killed leaves a bus that holds nothing yet.
    let (bus, is_void) = (tree.store.place(&name.key()), is_void(tree, name));
    let others = paths_in(&path).into_iter().any(|inside| {
        let runs = inside == paths.runs();
        let ours = inside.file_name().is_some_and(|file| file.to_string_lossy().starts_with(".TASK.md."));
        let bus = is_void && inside.file_stem() == bus.file_stem();
        if runs { !paths_in(&inside).is_empty() } else { !ours && !bus && inside != paths.loop_lock() }
    });
    if others {
        vec![Finding::EmptyStream { name: name.clone(), path }]
    } else {
        vec![Finding::HalfMadeTask { name: name.clone(), path }]
    }
}

/// The task's stream never held a message.
pub(super) fn is_void(tree: &Tree, name: &TaskName) -> bool {
    let stream = tree.store.open(&name.key());
    stream.is_ok_and(|stream| stream.end().is_ok_and(|end| end == Cursor::START))
}

fn look_at_known(tree: &Tree, name: &TaskName, task: &Task, stream: &dyn Stream) -> Vec<Finding> {
    let paths = tree.task(name);
    if task.deleted {
        return vec![Finding::DeletedTask { name: name.clone(), path: paths.folder().to_owned() }];
    }
    let mut found = Vec::new();
    for (id, run) in task.runs.iter() {
        look_at_run(tree, name, id, run, stream, &mut found);
    }
    look_at_unknown(tree, name, task, &mut found);
    look_at_loop(tree, name, task, &mut found);
    let trash = [paths.folder().to_owned(), paths.runs()];
    found.extend(trash.iter().flat_map(|folder| beside(folder)).map(|path| Finding::StrayTrash { path }));
    found.extend(
        stray(paths.folder(), Some(stray::OF_TASK)).into_iter().map(|path| Finding::StrayFile { path }),
    );
    found
}

fn look_at_run(
    tree: &Tree,
    name: &TaskName,
    id: &RunId,
    run: &run_agent_core::world::Run,
    stream: &dyn Stream,
    found: &mut Vec<Finding>,
) {
    let paths = tree.run(name, id);
    let of =
        |what| Finding::Run { name: name.clone(), run: id.clone(), path: paths.folder().to_owned(), what };
    match files::is_locked(&paths.supervisor_lock()) {
        // Somebody is at work on it.
        Ok(true) => return,
        Ok(false) => {}
        Err(error) => {
            let place = paths.supervisor_lock().display().to_string();
            return found.push(Finding::Unreadable { place, why: error.to_string() });
        }
    }
    match run::look(tree, name, id, run, stream) {
        Ok(look) => found.extend(run::judge(run, id, &look).into_iter().map(of)),
        Err(error) => {
            found.push(Finding::Unreadable { place: format!("{name}/{id}"), why: error.to_string() });
        }
    }
    let strays = stray(paths.folder(), Some(stray::OF_RUN));
    found.extend(strays.into_iter().map(|path| Finding::StrayFile { path }));
}

/// Folders of runs that the world does not have.
fn look_at_unknown(tree: &Tree, name: &TaskName, task: &Task, found: &mut Vec<Finding>) {
    let mut unknown = match tree.runs(name) {
        Ok(runs) => runs,
        Err(error) => {
            let place = tree.task(name).runs().display().to_string();
            return found.push(Finding::Unreadable { place, why: error.to_string() });
        }
    };
    unknown.retain(|run| !task.runs.contains_key(run));
    if unknown.is_empty() {
        return;
    }
    let deleted = delete::deleted_runs(tree, name).unwrap_or_default();
    for run in unknown {
        let paths = tree.run(name, &run);
        let path = paths.folder().to_owned();
        let what = if deleted.contains(&run) {
            RunFinding::Deleted
        } else if !is_settled(&path, MAKING_S) || files::is_locked(&paths.supervisor_lock()).unwrap_or(true) {
            continue;
        } else {
            RunFinding::HalfMade { own: holds_only_a_starters_files(&path) }
        };
        found.push(Finding::Run { name: name.clone(), run, path, what });
    }
}

/// No agent was let go there.
pub(super) fn holds_only_a_starters_files(folder: &Path) -> bool {
    const STARTERS: [&str; 3] = ["supervisor.lock", "prompt.md", "script.sh"];
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        STARTERS.contains(&name) || STARTERS.iter().any(|own| name.starts_with(&format!(".{own}.")))
    };
    paths_in(folder).iter().all(is_ours)
}

fn look_at_loop(tree: &Tree, name: &TaskName, task: &Task, found: &mut Vec<Finding>) {
    let paths = tree.task(name);
    if files::is_locked(&paths.loop_lock()).unwrap_or(true) {
        // Its driver, or who deletes the task, sees to the rest.
        return;
    }
    let name = || name.clone();
    if task.ralph.stopping.is_some() && task.active().next().is_none() {
        found.push(Finding::UnfinishedStop { name: name() });
    } else if task.ralph.is_open()
        && driver_life(tree, &name(), task.ralph.driver.as_deref()) == DriverLife::Lost
    {
        found.push(Finding::LoopWithoutDriver { name: name() });
    }
    for (key, _) in task.open_links().filter(|(_, link)| is_over(tree, link)) {
        found.push(Finding::UnfinishedLink { name: name(), child: key.trim_end_matches('/').to_owned() });
    }
    let path = paths.done();
    match files::marker(&path) {
        Ok(Marker::NotAFile) => found.push(Finding::MarkerNotAFile { name: name(), path }),
        Ok(marker) => {
            if decide::marker_event(task, marker, "file").is_some() {
                let present = marker != Marker::Absent;
                found.push(Finding::MarkerDisagrees { name: name(), path, present });
            }
        }
        Err(error) => {
            let place = path.display().to_string();
            found.push(Finding::Unreadable { place, why: error.to_string() });
        }
    }
}

/// Does the child of a link work no more? As `link::reconcile` asks it, of the child's stream alone.
fn is_over(tree: &Tree, link: &Link) -> bool {
    let child = link::child_of(link);
    if !tree.task(&child).folder().is_dir() {
        return true;
    }
    let Ok((_, world, _)) = fold(tree, &child) else { return false };
    let task = world.task(&child.project, &child.task);
    match &link.child.child_run_id {
        Some(run) => match task.and_then(|task| task.runs.get(run)) {
            Some(run) => !run.is_active(),
            None => !files::is_locked(&tree.run(&child, run).supervisor_lock()).unwrap_or(true),
        },
        None => {
            let driven = files::is_locked(&tree.task(&child).loop_lock()).unwrap_or(true);
            let at_work = |task: &Task| task.active().next().is_some() || task.open_links().next().is_some();
            !driven && !task.is_some_and(at_work)
        }
    }
}

/// An error with its causes on one line.
pub(super) fn say(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        text.push_str(&format!(": {source}"));
        at = source.source();
    }
    text
}
