//! Which task `task` and `job` work on, and making it when it is new.

use std::io;
use std::path::{Path, PathBuf};

use run_agent_core::id::SLUG_MAX;
use run_agent_core::{MsgId, ProjectId, TaskId, text};
use run_agent_runner::TaskView;
use run_agent_runner::make::{self, NewTask};
use run_agent_runner::starting::Starting;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;

use crate::context::{Context, here, suggested_project};
use crate::error::{Exit, Failure};
use crate::{find, render};

/// A task that is there, or one to be made.
#[derive(Debug)]
pub(crate) enum Target {
    Existing(TaskName),
    New(New),
}

/// A task to be made, and its project where that is new too.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) project: ProjectId,
    pub(crate) home: Option<PathBuf>,
    pub(crate) id: Option<TaskId>,
    pub(crate) slug: Option<String>,
}

impl Target {
    /// The task in which something is about to be started, made with this prompt when it is new.
    pub(crate) fn or_make(self, context: &Context, prompt: &str) -> Result<(TaskName, Starting), Failure> {
        match self {
            Self::Existing(name) => starting(context, &name).map(|starting| (name, starting)),
            Self::New(new) => make(context, &new, prompt, Origin::default()),
        }
    }
}

/// What `--task` and the surroundings say. `prefer_new`: without `--task`, make a new one rather than use the
/// caller's.
pub(crate) fn target(context: &Context, prefer_new: bool) -> Result<Target, Failure> {
    let (project, home) = match context.project()? {
        Some(project) => (project, None),
        None => match context.task_flag().map(|text| find::task(&context.tree, None, text)) {
            // A task that is known by itself needs no project.
            Some(Ok(name)) => return Ok(Target::Existing(name)),
            // Several tasks of that name, or a name that none can have: not a reason to make one more.
            Some(Err(failure)) if failure.exit() == Exit::Usage => return Err(failure),
            Some(Err(_)) | None => {
                let (project, home) = suggested_project(&here()?).ok_or_else(|| {
                    Failure::usage("which project? name it with --project (the working folder's name is no project name)")
                })?;
                (project, Some(home))
            }
        },
    };
    if let Some(text) = context.task_flag() {
        let there = context.tree.layout.project(&project).is_dir();
        let failure = match find::task(&context.tree, Some(&project), text) {
            Ok(name) => return Ok(Target::Existing(name)),
            Err(failure) if there && failure.exit() == Exit::Usage => return Err(failure),
            Err(failure) => failure,
        };
        return match TaskId::parse(text) {
            Ok(id) => Ok(Target::New(New { project, home, id: Some(id), slug: None })),
            Err(_) if text.starts_with("task-") => Err(failure),
            // A plain word names a new task by its slug; what is no slug is refused by the id.
            Err(_) => {
                TaskId::new(run_agent_core::Timestamp::UNIX_EPOCH, text, None)?;
                Ok(Target::New(New { project, home, id: None, slug: Some(text.to_owned()) }))
            }
        };
    }
    if !prefer_new
        && context.tree.layout.project(&project).is_dir()
        && let Some(name) = context.task()?
    {
        return Ok(Target::Existing(name));
    }
    Ok(Target::New(New { project, home, id: None, slug: None }))
}

/// The folder in which an agent of this task is to work: known to be one before anything is made.
pub(crate) fn working_folder(
    context: &Context,
    target: &Target,
    flag: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let (project, home) = project_and_home(context, target);
    let folder = folder_of(context, project, flag.or(home))?;
    if let (None, Target::New(New { home: Some(here), .. })) = (flag, target) {
        tell_of_another_folder(project, here, &folder);
    }
    Ok(folder)
}

/// Two folders may have one name: whoever did not say which project it is sees where its agents work.
fn tell_of_another_folder(project: &ProjectId, here: &Path, folder: &Path) {
    let same = here.canonicalize().ok().is_some_and(|here| folder.canonicalize().is_ok_and(|f| f == here));
    if !same {
        render::say(&format!(
            "note: the project {project} works in {}, and so does this agent; --cwd names another folder, --project another project",
            render::safe_line(&folder.display().to_string())
        ));
    }
}

/// The target's project, and the root folder that it gets when it is made.
pub(crate) fn project_and_home<'a>(
    context: &Context,
    target: &'a Target,
) -> (&'a ProjectId, Option<&'a Path>) {
    match target {
        Target::Existing(name) => (&name.project, None),
        Target::New(New { project, home, .. }) => {
            let is_there = context.tree.layout.project(project).is_dir();
            (project, home.as_deref().filter(|_| !is_there))
        }
    }
}

/// The working folder of this project's agents, which the runner can hand over.
pub(crate) fn folder_of(
    context: &Context,
    project: &ProjectId,
    flag: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let folder = context.working_folder(project, flag)?;
    can_be_handed_over(context, &folder, "the agent's working folder", "name another one with --cwd")?;
    Ok(folder)
}

/// What a run's record and its agent's environment hold is text: the root is, and the folder.
pub(crate) fn can_be_handed_over(
    context: &Context,
    folder: &Path,
    what: &str,
    advice: &str,
) -> Result<(), Failure> {
    let root = context.tree.layout.root();
    if root.to_str().is_none() {
        return Err(Failure::usage(format!(
            "the storage folder {} has a name that is not UTF-8, in which no agent can be started; name another one with --root",
            root.display()
        )));
    }
    if folder.to_str().is_none() {
        let folder = folder.display();
        return Err(Failure::usage(format!("{what} {folder} has a name that is not UTF-8; {advice}")));
    }
    Ok(())
}

/// From here on a stop of the task finds that something is about to be started. One that came before, and has nothing
/// left to do, is ended first.
pub(crate) fn starting(context: &Context, name: &TaskName) -> Result<Starting, Failure> {
    close::close_dead(&context.tree, &mut TaskView::open(&context.tree, name)?)?;
    let folder = context.tree.task(name).folder().to_owned();
    Starting::begin(&context.tree, name)
        .map_err(|e| Failure::io(format!("cannot lock {}", folder.display()), &e))
}

/// What a new task waits for, and what it was started from.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) depends_on: Vec<TaskId>,
    pub(crate) thread_parent: Option<MsgId>,
}

/// Makes the task, and its project where that is new.
pub(crate) fn make(
    context: &Context,
    new: &New,
    prompt: &str,
    Origin { depends_on, thread_parent }: Origin,
) -> Result<(TaskName, Starting), Failure> {
    let New { project, home, id, slug } = new;
    let (home, id, slug) = (home.as_deref(), id.as_ref(), slug.as_deref());
    if prompt.trim().is_empty() {
        return Err(make::MakeError::EmptyPrompt.into());
    }
    let cause = context.cause();
    if make::project(&context.tree, project, home, &cause, "cli")? {
        let place = home.map(|home| format!(" for {}", home.display())).unwrap_or_default();
        render::say(&format!("new project {project}{place}"));
    }
    // One at a time a project: two who name the same new task mean one task.
    let folder = context.tree.layout.project(project);
    let lock = std::fs::File::open(&folder).and_then(|file| file.lock().map(|()| file));
    let _lock = lock.map_err(|e| Failure::io(format!("cannot lock {}", folder.display()), &e))?;
    let named = id.map(ToString::to_string).or_else(|| slug.map(str::to_owned));
    if let Some(Ok(name)) = named.map(|text| find::task(&context.tree, Some(project), &text)) {
        return starting(context, &name).map(|starting| (name, starting));
    }
    let slug = slug.map_or_else(|| text::slug(prompt, SLUG_MAX), str::to_owned);
    let new = NewTask { project, id, slug: &slug, prompt, depends_on, thread_parent, source: "cli" };
    let (name, starting) = make::task(&context.tree, new, &cause)?;
    render::say(&format!("new task {}", name.task));
    Ok((name, starting))
}

/// The prompt of a task that is there.
pub(crate) fn prompt_of(context: &Context, name: &TaskName) -> Result<String, Failure> {
    let path = context.tree.task(name).prompt();
    let failure = match context.tree.read_text(&path) {
        Ok(text) if text.trim().is_empty() => Failure::usage(format!("{} is empty", path.display())),
        Ok(text) => return Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Its maker was killed before it was whole.
            Failure::usage(format!("task {name} has no prompt: {} is not there", path.display()))
        }
        Err(error) => Failure::unread(&path, &error),
    };
    Err(failure.hint(format!(
        "give it one with `run-agent task{} --update-prompt --prompt …`",
        context.flags_for(name)
    )))
}
