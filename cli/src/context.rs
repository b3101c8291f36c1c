//! Where a command works: which root, with which store and configuration, and which project, task and run the caller
//! stands in. Explicit flags win over variables, and variables over folders.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::{Cause, ProjectId, RunId, StreamKey, TaskId};
use run_agent_runner::Tree;
use run_agent_runner::tree::TaskName;
use run_agent_store_fs::FsStore;

use crate::args::Global;
use crate::config::Config;
use crate::config::locate::{self, Located, Why};
use crate::error::{Code, Failure};
use crate::{find, render, root};

/// Everything that a command knows about its surroundings.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) tree: Tree,
    pub(crate) json: bool,
    flags: Global,
    /// The configuration that a flag or variable names.
    named_config: Option<Located>,
    config: OnceCell<Config>,
    caller: Option<CallerRun>,
    around: OnceCell<Around>,
}

/// The run whose agent called this command.
#[derive(Debug, Clone)]
pub(crate) struct CallerRun {
    pub(crate) name: TaskName,
    pub(crate) run: RunId,
}

/// What the working folder lies in.
#[derive(Debug, Clone, Default)]
struct Around {
    project: Option<ProjectId>,
    task: Option<TaskId>,
}

impl Context {
    /// Opens the root. It is made when it is not there.
    pub(crate) fn open(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, false)
    }

    /// As [`Context::open`], for a command that asks for the configuration: that is where a mistake in it is told.
    pub(crate) fn open_configured(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, true)
    }

    fn open_as(flags: &Global, configured: bool) -> Result<Self, Failure> {
        let named_config = locate::named(flags)?;
        let (root, _) = root::choose(flags, named_config.as_ref())?;
        tracing::info!(root = %root.display(), "storage folder");
        let layout = Layout::new(root);
        let file = root::open(&layout, named_config.as_ref(), configured)?;
        let sync_every = file.options.sync_every;
        let store = Arc::new(FsStore::new(layout.clone(), file.options));
        Ok(Self {
            tree: Tree { layout, store, durability: file.durability, sync_every },
            json: flags.json,
            flags: flags.clone(),
            named_config,
            config: OnceCell::new(),
            caller: caller_of_environment(),
            around: OnceCell::new(),
        })
    }

    /// What the working folder lies in.
    fn around(&self) -> &Around {
        self.around.get_or_init(|| around(&self.tree.layout))
    }

    /// The configuration, read when it is first needed.
    pub(crate) fn config(&self) -> Result<&Config, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let located = locate::find(self.named_config.as_ref(), self.tree.layout.root())?;
        tracing::info!(path = ?located.as_ref().map(|found| &found.path), "configuration");
        let config = Config::read(located.as_ref().map(|found| found.path.as_path()))?;
        root::adopt(&self.tree.layout, located.as_ref(), &config)?;
        if located.is_some_and(|found| found.why == Why::Root) && config.root().is_some() {
            render::say("warning: storage.root is ignored in a configuration that lies inside a root");
        }
        for setting in config.not_in_effect() {
            render::say(&format!("warning: {setting} is set, but this version does not act on it yet"));
        }
        Ok(self.config.get_or_init(|| config))
    }

    /// How long processes get after SIGTERM. Stopping must work while somebody edits the configuration, so a mistake in
    /// it is a warning here.
    pub(crate) fn grace(&self) -> std::time::Duration {
        match self.config() {
            Ok(config) => config.grace(),
            Err(failure) => {
                render::say(&format!("warning: {} (processes get the default grace period)", failure.line()));
                Config::default().grace()
            }
        }
    }

    /// The run whose agent called this command, checked against the folder that it names: commands that act for a run
    /// must not act for a wrong one.
    pub(crate) fn caller(&self) -> Result<Option<&CallerRun>, Failure> {
        if variable("JRUN_ID").is_none() {
            return Ok(None);
        }
        let Some(caller) = &self.caller else {
            return Err(Failure::usage(format!(
                "the environment says that an agent calls (JRUN_ID={}), but its ids are not valid: JRUN_PROJECT_ID={}, JRUN_TASK_ID={}; unset JRUN_ID to call as a person",
                variable("JRUN_ID").unwrap_or_default().escape_debug(),
                variable("JRUN_PROJECT_ID").unwrap_or_default().escape_debug(),
                variable("JRUN_TASK_ID").unwrap_or_default().escape_debug(),
            )));
        };
        let folder = self.tree.run(&caller.name, &caller.run);
        if folder.folder().is_dir() {
            return Ok(Some(caller));
        }
        Err(Failure::usage(format!(
            "the environment says that run {} of {} calls, but {} is not there; unset JRUN_ID to call as a person",
            caller.run,
            caller.name,
            folder.folder().display()
        )))
    }

    /// Who asks, for the stream.
    pub(crate) fn cause(&self) -> Cause {
        match &self.caller {
            Some(caller) => Cause::Run(caller.run.clone()),
            None => Cause::Person(person()),
        }
    }

    /// The project that is meant, if any.
    pub(crate) fn project(&self) -> Result<Option<ProjectId>, Failure> {
        if let Some(name) = &self.flags.project {
            return Ok(Some(ProjectId::parse(name)?));
        }
        if let Some(name) = variable("JRUN_PROJECT_ID") {
            return Ok(Some(ProjectId::parse(&name)?));
        }
        Ok(self.caller.as_ref().map(|c| c.name.project.clone()).or_else(|| self.around().project.clone()))
    }

    /// As [`Context::project`], and the project must be there.
    pub(crate) fn existing_project(&self) -> Result<Option<ProjectId>, Failure> {
        let project = self.project()?;
        if let Some(project) = &project
            && !self.tree.layout.project(project).is_dir()
        {
            let known = self.tree.projects().unwrap_or_default();
            let near = find::near(project.as_str(), known.iter().map(ProjectId::as_str));
            let text = format!("no project `{project}` in {}", self.tree.layout.root().display());
            return Err(Failure::not_found(text)
                .code(Code::UnknownProject)
                .suggest_or(near, "see `run-agent list`"));
        }
        Ok(project)
    }

    /// The task that is meant, if any; it must be there.
    pub(crate) fn task(&self) -> Result<Option<TaskName>, Failure> {
        if let (Some(text), Some(project)) = (&self.flags.task, self.project()?)
            && let Ok(task) = TaskId::parse(text)
        {
            // A full id needs no look around.
            let name = TaskName { project, task };
            if self.tree.task(&name).folder().is_dir() {
                return Ok(Some(name));
            }
        }
        let project = self.existing_project()?;
        if let Some(task) = &self.flags.task {
            return find::task(&self.tree, project.as_ref(), task).map(Some);
        }
        // A project that was named is not the caller's or the folder's, whose task would be another project's.
        let named = self.flags.project.is_some();
        let task = variable("JRUN_TASK_ID").map(|id| TaskId::parse(&id)).transpose()?;
        let own = project.clone().zip(task).map(|(project, task)| TaskName { project, task });
        let own = own.filter(|name| !named || self.tree.task(name).folder().is_dir());
        let here = self.around().project.clone().zip(self.around().task.clone());
        let found = own.or(here.map(|(project, task)| TaskName { project, task }));
        Ok(found.filter(|name| !named || Some(&name.project) == project.as_ref()))
    }

    /// As [`Context::task`], and there must be one.
    pub(crate) fn required_task(&self) -> Result<TaskName, Failure> {
        self.task()?.ok_or_else(|| {
            Failure::usage("which task? name it with --task, or call from inside a task's folder")
        })
    }

    /// The flags with which a command that is printed for a person finds this task from anywhere.
    pub(crate) fn flags_for(&self, name: &TaskName) -> String {
        format!("{} --task {}", self.root_flag(), name.task)
    }

    /// ` --root DIR` where the root was named by a flag: a printed command would look elsewhere without it.
    pub(crate) fn root_flag(&self) -> String {
        self.flags
            .root
            .as_ref()
            .map(|_| format!(" --root {}", self.tree.layout.root().display()))
            .unwrap_or_default()
    }

    /// Who asks, in words for events.
    pub(crate) fn by(&self) -> String {
        match &self.caller {
            Some(caller) => format!("run {}", caller.run),
            None => format!("user {}", person()),
        }
    }

    /// The project that `--project` names, and no other.
    pub(crate) fn named_project(&self) -> Result<Option<ProjectId>, Failure> {
        if self.flags.project.is_some() { self.existing_project() } else { Ok(None) }
    }

    /// The text of `--task`, for commands that may make the task.
    pub(crate) fn task_flag(&self) -> Option<&str> {
        self.flags.task.as_deref()
    }

    /// The stream that `bus` commands use.
    pub(crate) fn stream(&self) -> Result<StreamKey, Failure> {
        self.stream_and_why().map(|(key, _)| key)
    }

    /// The stream that `bus` commands use, and what says that it is that one.
    pub(crate) fn stream_and_why(&self) -> Result<(StreamKey, &'static str), Failure> {
        if let Some(text) = &self.flags.task {
            // A full id names its stream; opening it tells whether it is there.
            let key = match (TaskId::parse(text), self.project()?) {
                (Ok(task), Some(project)) => StreamKey::task(project, task),
                _ => self.required_task()?.key(),
            };
            return Ok((key, "--task"));
        }
        if self.flags.project.is_some() {
            let project = self.existing_project()?.ok_or_else(|| Failure::usage("which project?"))?;
            return Ok((StreamKey::project(project), "--project"));
        }
        if let Some(bus) = variable("JRUN_MESSAGE_BUS") {
            return Ok((self.stream_of_bus(Path::new(&bus))?, "JRUN_MESSAGE_BUS"));
        }
        if let Some(name) = self.task()? {
            let why = if variable("JRUN_TASK_ID").is_some() { "JRUN_TASK_ID" } else { "the working folder" };
            return Ok((name.key(), why));
        }
        match self.existing_project()? {
            Some(project) => {
                let named = variable("JRUN_PROJECT_ID").is_some();
                Ok((
                    StreamKey::project(project),
                    if named { "JRUN_PROJECT_ID" } else { "the working folder" },
                ))
            }
            None => Err(Failure::usage(
                "which message bus? name it with --project and --task, or call from inside a project's or task's folder",
            )),
        }
    }

    /// `JRUN_MESSAGE_BUS` names a bus file below this root.
    fn stream_of_bus(&self, bus: &Path) -> Result<StreamKey, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "JRUN_MESSAGE_BUS={} is no message bus below {}",
                bus.display(),
                self.tree.layout.root().display()
            ))
        };
        let inside = bus.strip_prefix(self.tree.layout.root()).map_err(|_| wrong())?;
        let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
        let key = match parts.as_slice() {
            [project, _bus] => StreamKey::project(ProjectId::parse(project)?),
            [project, task, _bus] => StreamKey::task(ProjectId::parse(project)?, TaskId::parse(task)?),
            _ => return Err(wrong()),
        };
        if self.tree.layout.bus_file(&key) == bus { Ok(key) } else { Err(wrong()) }
    }

    /// The run that the caller's messages carry: its own, in a stream of its own project.
    pub(crate) fn run_for(&self, key: &StreamKey) -> Option<RunId> {
        self.caller
            .as_ref()
            .filter(|caller| caller.name.project == key.project)
            .map(|caller| caller.run.clone())
    }

    /// The folder in which an agent of this project works.
    pub(crate) fn working_folder(
        &self,
        project: &ProjectId,
        flag: Option<&Path>,
    ) -> Result<PathBuf, Failure> {
        let folder = match flag {
            Some(folder) => std::path::absolute(folder).map_err(|e| Failure::io(folder.display(), &e))?,
            None => match project_root(&self.tree, project) {
                Some(root) => root,
                None => std::env::current_dir().map_err(|e| Failure::io("the working folder", &e))?,
            },
        };
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(Failure::usage(format!(
                "the agent's working folder {} is not there; name one with --cwd",
                folder.display()
            )))
        }
    }
}

fn caller_of_environment() -> Option<CallerRun> {
    let project = ProjectId::parse(&variable("JRUN_PROJECT_ID")?).ok()?;
    let task = TaskId::parse(&variable("JRUN_TASK_ID")?).ok()?;
    let run = RunId::parse(&variable("JRUN_ID")?).ok()?;
    Some(CallerRun { name: TaskName { project, task }, run })
}

/// `project_root` of the project's home-folders file.
fn project_root(tree: &Tree, project: &ProjectId) -> Option<PathBuf> {
    let text = std::fs::read_to_string(tree.layout.home_folders(project)).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("project_root:"))?.trim();
    let root = run_agent_core::text::unquote(line).unwrap_or_else(|| line.to_owned());
    Some(PathBuf::from(root)).filter(|root| root.is_absolute())
}

/// The folder and name of the project that the working folder suggests: the git top folder's, or its own.
pub(crate) fn suggested_project() -> Option<(ProjectId, PathBuf)> {
    let here = std::env::current_dir().ok()?;
    let top = here.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&here);
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

/// The project and task whose folder the working folder lies in.
fn around(layout: &Layout) -> Around {
    let Ok(here) = std::env::current_dir() else { return Around::default() };
    let Ok(inside) = here.strip_prefix(layout.root()) else { return Around::default() };
    let mut parts = inside.iter().filter_map(|part| part.to_str());
    let project = parts.next().and_then(|name| ProjectId::parse(name).ok());
    let task = project.as_ref().and_then(|_| parts.next()).and_then(|name| TaskId::parse(name).ok());
    Around { project, task }
}
