//! How projects and tasks come to be: folder first (making it is the uniqueness check), then its text, then the event.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use run_agent_core::cause::Cause;
use run_agent_core::decide::Refusal;
use run_agent_core::event::{Event, ProjectCreated, Scope, TaskText};
use run_agent_core::store::{AppendError, OpenError};
use run_agent_core::world::Task;
use run_agent_core::{Draft, MsgId, ProjectId, StreamKey, TaskId, Timestamp, text};

use crate::starting::Starting;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};
use crate::{failpoint, files};

#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("cannot make {what} {path}")]
    Io { what: &'static str, path: String, source: io::Error },
    #[error("task {0} exists already")]
    Exists(TaskName),
    #[error("the prompt is empty; give the agent something to do with --prompt, --prompt-file or on stdin")]
    EmptyPrompt,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Id(#[from] run_agent_core::id::IdError),
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> MakeError {
    MakeError::Io { what, path: path.display().to_string(), source }
}

/// Makes a folder that only its owner sees. False when it was there.
fn make_folder(path: &Path) -> io::Result<bool> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the project if it is not there. True when it is new.
///
/// # Errors
/// When its folder or its stream cannot be written.
pub fn project(
    tree: &Tree,
    project: &ProjectId,
    home: Option<&Path>,
    cause: &Cause,
    source: &str,
) -> Result<bool, MakeError> {
    let folder = tree.layout.project(project);
    if !make_folder(&folder).map_err(|e| io_error("project folder", &folder, e))? {
        return Ok(false);
    }
    if let Some(home) = home {
        let path = tree.layout.home_folders(project);
        let mut yaml = String::from("project_root: ");
        text::push_quoted(&mut yaml, &home.display().to_string());
        yaml.push_str("\nsource_folders: []\nadditional_folders: []\n");
        files::replace(&path, yaml.as_bytes(), true).map_err(|e| io_error("file", &path, e))?;
    }
    let created = Event::ProjectCreated(ProjectCreated {
        source: source.to_owned(),
        project_root: home.map(|h| h.display().to_string()),
    });
    let scope = Scope { project: project.clone(), task: None, run: None };
    post(
        tree,
        &StreamKey::project(project.clone()),
        created.draft(&scope, cause, format!("project {project} created")),
    )?;
    Ok(true)
}

/// What a new task is made of.
#[derive(Debug)]
pub struct NewTask<'a> {
    pub project: &'a ProjectId,
    /// A full id that the caller chose, or none: then it is made from the time and the slug.
    pub id: Option<&'a TaskId>,
    pub slug: &'a str,
    pub prompt: &'a str,
    pub depends_on: Vec<TaskId>,
    /// The message that it is started from.
    pub thread_parent: Option<MsgId>,
    pub source: &'a str,
}

/// Makes a task: its folder, `TASK.md`, `TASK_CREATED`. What is to be started in it is on its way before anybody can see
/// the task.
///
/// # Errors
/// When the prompt is empty, the id is taken, or something cannot be written.
pub fn task(tree: &Tree, new: NewTask<'_>, cause: &Cause) -> Result<(TaskName, Starting), MakeError> {
    if new.prompt.trim().is_empty() {
        return Err(MakeError::EmptyPrompt);
    }
    let name = task_folder(tree, &new)?;
    let paths = tree.task(&name);
    let starting = Starting::begin(tree, &name).map_err(|e| io_error("task folder", paths.folder(), e))?;
    failpoint::here("make.folder");
    let runs = paths.runs();
    make_folder(&runs).map_err(|e| io_error("folder", &runs, e))?;
    let prompt = paths.prompt();
    files::replace(&prompt, new.prompt.as_bytes(), true).map_err(|e| io_error("file", &prompt, e))?;
    let text =
        TaskText { thread_parent: new.thread_parent, ..task_text(new.prompt, new.source, new.depends_on) };
    let line = format!("task created: {}", text.title);
    let scope = name.scope(None);
    failpoint::here("make.prompt");
    post(tree, &name.key(), Event::TaskCreated(text).draft(&scope, cause, line))?;
    failpoint::here("make.created");
    Ok((name, starting))
}

/// Replaces a task's prompt, as `--update-prompt` asks for, and keeps what else was known of the task.
///
/// # Errors
/// When the prompt is empty or something cannot be written.
pub fn update_prompt(
    tree: &Tree,
    name: &TaskName,
    prompt: &str,
    before: Option<TaskText>,
    cause: &Cause,
    source: &str,
) -> Result<(), MakeError> {
    if prompt.trim().is_empty() {
        return Err(MakeError::EmptyPrompt);
    }
    let path = tree.task(name).prompt();
    files::replace(&path, prompt.as_bytes(), true).map_err(|e| io_error("file", &path, e))?;
    let new = task_text(prompt, source, Vec::new());
    let text = before.map_or_else(
        || new.clone(),
        |before| TaskText { title: new.title.clone(), source: new.source.clone(), ..before },
    );
    update(tree, name, text, cause, "the prompt was changed")
}

/// Says that a task was made whose maker was killed before it could, or that a hand made. Nothing where the stream tells.
///
/// # Errors
/// When something cannot be written.
pub fn heal(view: &mut TaskView, prompt: &str, cause: &Cause) -> Result<(), ViewError> {
    if view.task().created.is_some() {
        return Ok(());
    }
    let text = task_text(prompt, "file", Vec::new());
    let line = format!("task found: {}", text.title);
    let draft = Event::TaskCreated(text).draft(&view.name.scope(None), cause, line);
    let is_new = |task: &Task| if task.created.is_none() { Ok(()) } else { Err(Refusal::Moot) };
    view.propose(vec![draft], is_new).map(drop)
}

/// Says what a task depends on from here on.
///
/// # Errors
/// When something cannot be written.
pub fn update_dependencies(
    tree: &Tree,
    name: &TaskName,
    text: TaskText,
    cause: &Cause,
) -> Result<(), MakeError> {
    let all: Vec<&str> = text.depends_on.iter().map(TaskId::as_str).collect();
    let line = match all.as_slice() {
        [] => "depends on no other task".to_owned(),
        all => format!("depends on {}", all.join(" ")),
    };
    update(tree, name, text, cause, &line)
}

fn update(tree: &Tree, name: &TaskName, text: TaskText, cause: &Cause, line: &str) -> Result<(), MakeError> {
    post(tree, &name.key(), Event::TaskUpdated(text).draft(&name.scope(None), cause, line))
}

fn task_text(prompt: &str, source: &str, depends_on: Vec<TaskId>) -> TaskText {
    // A heading without its marks; what only opens a block of code says nothing.
    let mut lines = prompt.lines().map(|line| line.trim_start_matches('#').trim());
    let line = lines.find(|line| !line.is_empty() && !line.starts_with("```")).unwrap_or_default();
    TaskText {
        title: text::head(line, 120).to_owned(),
        source: source.to_owned(),
        depends_on,
        thread_parent: None,
    }
}

fn task_folder(tree: &Tree, new: &NewTask<'_>) -> Result<TaskName, MakeError> {
    let named = |task: TaskId| TaskName { project: new.project.clone(), task };
    let make = |name: &TaskName| {
        let folder = tree.task(name).folder().to_owned();
        make_folder(&folder).map_err(|e| io_error("task folder", &folder, e))
    };
    if let Some(id) = new.id {
        let name = named(id.clone());
        return if make(&name)? { Ok(name) } else { Err(MakeError::Exists(name)) };
    }
    let now = Timestamp::now();
    let mut clash = None;
    loop {
        let name = named(TaskId::new(now, new.slug, clash)?);
        if make(&name)? {
            return Ok(name);
        }
        // Spread by time and process, so that many who clash at once do not clash again.
        let nanos = Timestamp::now().subsec_nanosecond().unsigned_abs();
        let [a, b, ..] = (nanos ^ std::process::id().rotate_left(16)).wrapping_mul(0x9e37_79b1).to_be_bytes();
        clash = Some(u16::from_be_bytes([a, b]));
    }
}

fn post(tree: &Tree, key: &StreamKey, draft: Draft) -> Result<(), MakeError> {
    tree.store.open(key)?.append(vec![draft], tree.durability)?;
    Ok(())
}
