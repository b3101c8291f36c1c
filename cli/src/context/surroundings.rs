//! What a command is told by its surroundings: the environment, the working folder, the user, and links on the way.

use std::io;
use std::path::{Component, Path, PathBuf};

use run_agent_core::layout::Layout;
use run_agent_core::{ProjectId, RunId, TaskId};
use run_agent_runner::Tree;
use run_agent_runner::tree::TaskName;

use crate::args::Global;
use crate::error::Failure;
use crate::find;

/// The run whose agent called this command.
#[derive(Debug, Clone)]
pub(crate) struct CallerRun {
    pub(crate) name: TaskName,
    pub(crate) run: RunId,
}

/// What the working folder lies in.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    pub(super) project: Option<ProjectId>,
    pub(super) task: Option<TaskId>,
}

pub(super) fn caller_of_environment() -> Option<CallerRun> {
    let project = ProjectId::parse(&variable("JRUN_PROJECT_ID")?).ok()?;
    let task = TaskId::parse(&variable("JRUN_TASK_ID")?).ok()?;
    let run = RunId::parse(&variable("JRUN_ID")?).ok()?;
    Some(CallerRun { name: TaskName { project, task }, run })
}

/// `project_root` of the project's home-folders file.
pub(super) fn project_root(tree: &Tree, project: &ProjectId) -> Result<Option<PathBuf>, Failure> {
    let path = tree.layout.home_folders(project);
    let text = match tree.read_text(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| Failure::unread(&path, &e))?,
    };
    let line = text.lines().find_map(|line| line.strip_prefix("project_root:")).map(str::trim);
    let root = line.map(|line| run_agent_core::text::unquote(line).unwrap_or_else(|| line.to_owned()));
    Ok(root.map(PathBuf::from).filter(|root| root.is_absolute()))
}

/// The folder in which the command was called. A shell may stand in one that somebody has removed.
pub(crate) fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        let failure = Failure::io("cannot look at the working folder", &error);
        if error.kind() == io::ErrorKind::NotFound {
            return Failure::usage("the working folder is not there any more; call from another one");
        }
        failure
    })
}

/// The folder and name of the project that the working folder suggests: the git top folder's, or its own.
pub(crate) fn suggested_project(here: &Path) -> Option<(ProjectId, PathBuf)> {
    let top = here.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(here);
    let name = top.file_name()?.to_str()?;
    Some((ProjectId::parse(name).ok()?, top.to_owned()))
}

/// The name of the user who asks.
pub(crate) fn person() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name)
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variables of an agent's environment tell of its own root, and say nothing about another that a flag names.
pub(super) fn variables_count(flags: &Global) -> bool {
    let theirs = std::env::var_os("JRUN_ROOT").filter(|root| !root.is_empty());
    let (Some(named), Some(theirs)) = (&flags.root, theirs) else { return true };
    let theirs = Path::new(&theirs);
    named == theirs || matches!((named.canonicalize(), theirs.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// `--task PROJECT/TASK`, as lists and errors name a task, is `--project` and `--task`. Where a project could be made
/// it must be there: a slip, such as the name of a branch, makes no new one.
pub(crate) fn with_task_split(flags: &Global, makes_in: Option<&Layout>) -> Result<Global, Failure> {
    let mut flags = flags.clone();
    if let Some((project, task)) = flags.task.as_deref().and_then(find::split) {
        let named = flags.project.as_ref().filter(|named| **named != project.as_str());
        if let Some(named) = named {
            return Err(Failure::usage(format!(
                "--task names the project `{project}`, and --project `{named}`; leave one out"
            )));
        }
        if makes_in.is_some_and(|layout| layout.project(&project).symlink_metadata().is_err()) {
            return Err(Failure::usage(format!("--task {project}/{task} names no project that is there"))
                .hint(format!("a new one is made with --project {project} --task {task}")));
        }
        (flags.project, flags.task) = (Some(project.to_string()), Some(task.to_owned()));
    }
    Ok(flags)
}

/// The way from the root to a path below it, however either of them is written.
pub(super) fn below(path: &Path, root: &Path) -> Option<PathBuf> {
    // Before `..` is gone the words say nothing about the place.
    let plain = !path.components().any(|part| part == Component::ParentDir);
    if let (true, Ok(inside)) = (plain, path.strip_prefix(root)) {
        return Some(inside.to_owned());
    }
    path.canonicalize().ok()?.strip_prefix(root.canonicalize().ok()?).ok().map(Path::to_owned)
}

/// The project and task whose folder the working folder lies in.
pub(super) fn around(layout: &Layout) -> Around {
    let Ok(here) = std::env::current_dir() else { return Around::default() };
    let Some(inside) = below(&here, layout.root()) else { return Around::default() };
    let mut parts = inside.iter().filter_map(|part| part.to_str());
    let project = parts.next().and_then(|name| ProjectId::parse(name).ok());
    let task = project.as_ref().and_then(|_| parts.next()).and_then(|name| TaskId::parse(name).ok());
    Around { project, task }
}
