//! Where a command works: which root, with which store and configuration, and which project, task and run the caller
//! stands in. Explicit flags win over variables, and variables over folders.

mod surroundings;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use run_agent_core::layout::{Layout, run_socket};
use run_agent_core::{Cause, ProjectId, RunId, StreamKey, TaskId};
use run_agent_runner::Tree;
use run_agent_runner::blocked::Blocked;
use run_agent_runner::doctor::Finding;
use run_agent_runner::tree::TaskName;

use crate::args::Global;
use crate::config::Config;
use crate::config::locate::{self, Located, Why};
use crate::error::Failure;
use crate::store_file::StoreFile;
use crate::stores::{self, Backend};
use crate::{find, render, root};

use surroundings::{Around, around, below, caller_of_environment, project_root, variables_count};
pub(crate) use surroundings::{CallerRun, here, person, suggested_project, variable, with_task_split};

/// Everything that a command knows about its surroundings.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) tree: Tree,
    /// The store that holds its events.
    pub(crate) backend: Backend,
    pub(crate) json: bool,
    flags: Global,
    /// The configuration that a flag or variable names.
    named_config: Option<Located>,
    config: OnceCell<Config>,
    manner: Manner,
    /// The variables of an agent's environment count: they are of this root.
    variables: bool,
    caller: Option<CallerRun>,
    around: OnceCell<Around>,
}

/// What a root is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Working,
    /// A message makes the root.
    Posting,
    /// The command reads the configuration itself, and tells of a mistake in it.
    Steering,
    /// As `Steering`, and makes root, project and task.
    Starting,
    /// A shell asks for names.
    Looking,
}

/// As [`Context::blocks`].
pub(crate) fn blocks() -> Blocked {
    let folder = variable("JRUN_ID").and_then(|_| variable("JRUN_RUN_FOLDER"));
    Blocked::begin(folder.map(|folder| run_socket(Path::new(&folder))).as_deref())
}

/// As [`Context::flags_for`].
pub(crate) fn flags_for(tree: &Tree, name: &TaskName) -> String {
    let mut others = tree.projects().unwrap_or_default().into_iter().filter(|p| *p != name.project);
    let clash = others.any(|other| tree.layout.task(&other, &name.task).folder().is_dir());
    let project = if clash { format!(" --project {}", name.project) } else { String::new() };
    format!("{}{project} --task {}", render::place(), name.task)
}

impl Context {
    /// Opens a root that is there. The default one need not be, and holds nothing then.
    pub(crate) fn open(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, Manner::Working)
    }

    /// As [`Context::open`], and makes the root where it is not there.
    pub(crate) fn open_or_make(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, Manner::Posting)
    }

    /// As [`Context::open`], for a command that asks for the configuration: that is where a mistake in it is told.
    pub(crate) fn open_to_steer(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, Manner::Steering)
    }

    /// As [`Context::open_to_steer`], for a command that makes what is not there: the root, a project, a task.
    pub(crate) fn open_configured(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, Manner::Starting)
    }

    /// As [`Context::open`], of a root that is there: nothing is written, and nothing is said.
    pub(crate) fn look(flags: &Global) -> Result<Self, Failure> {
        Self::open_as(flags, Manner::Looking)
    }

    /// A root that is looked at as it is: nothing is written, and what is wrong with its own file is a finding.
    pub(crate) fn examine(flags: &Global) -> Result<(Self, Option<Finding>), Failure> {
        let named_config = locate::named(flags)?;
        let (root, why) = root::choose(flags, named_config.as_ref())?;
        let layout = Layout::new(root);
        let _ = stores::hold(&layout)?;
        let (file, finding) = root::examine(&layout, why)?;
        Ok((Self::with(flags, named_config, layout, Manner::Looking, file)?, finding))
    }

    /// A root whose events are to go over to another store: it is not said that this process has it open, and nothing is
    /// written.
    pub(crate) fn open_to_move(flags: &Global) -> Result<Self, Failure> {
        let named_config = locate::named(flags)?;
        let (root, why) = root::choose(flags, named_config.as_ref())?;
        let layout = Layout::new(root);
        let (file, finding) = root::examine(&layout, why)?;
        if finding.is_some() {
            let path = layout.store_file();
            return Err(Failure::usage(format!("{} does not say which store this root has", path.display()))
                .hint("`run-agent doctor` says more"));
        }
        Self::with(flags, named_config, layout, Manner::Looking, file)
    }

    /// The configuration that counts here, or where it would lie.
    pub(crate) fn config_path(&self) -> PathBuf {
        let located = locate::find(self.named_config.as_ref(), self.tree.layout.root()).ok().flatten();
        located.map_or_else(|| self.tree.layout.config_file(), |found| found.path)
    }

    fn open_as(flags: &Global, manner: Manner) -> Result<Self, Failure> {
        let named_config = locate::named(flags)?;
        let (root, why) = root::choose(flags, named_config.as_ref())?;
        tracing::info!(root = %root.display(), "storage folder");
        let layout = Layout::new(root);
        let variables = variables_count(flags);
        let agent = variables && variable("JRUN_ID").is_some();
        let open = |makes, quiet| {
            root::open(&layout, named_config.as_ref(), why, root::Manner { makes, quiet, agent })
        };
        let held = stores::hold(&layout)?;
        let mut file = match manner {
            Manner::Looking => root::settled(&layout)?,
            Manner::Working => open(false, false)?,
            Manner::Posting => open(true, false)?,
            Manner::Steering => open(false, true)?,
            Manner::Starting => open(true, true)?,
        };
        // A new root: what was read without the lock is read again.
        if !held
            && stores::hold(&layout)?
            && let Some(now) = StoreFile::read(&layout.store_file())?
        {
            file.backend = now.backend;
        }
        Self::with(flags, named_config, layout, manner, file)
    }

    fn with(
        flags: &Global,
        named_config: Option<Located>,
        layout: Layout,
        manner: Manner,
        file: StoreFile,
    ) -> Result<Self, Failure> {
        let variables = variables_count(flags);
        let own_flags = with_task_split(flags, (manner == Manner::Starting).then_some(&layout))?;
        Ok(Self {
            backend: file.backend,
            tree: file.tree(layout),
            json: flags.json,
            flags: own_flags,
            named_config,
            config: OnceCell::new(),
            manner,
            variables,
            caller: if variables { caller_of_environment() } else { None },
            around: OnceCell::new(),
        })
    }

    /// A variable that says which project, task, run or bus is meant.
    fn variable(&self, name: &str) -> Option<String> {
        variable(name).filter(|_| self.variables)
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
        let config = Config::read(located.as_ref())?;
        if self.manner == Manner::Looking {
            return Ok(self.config.get_or_init(|| config));
        }
        root::adopt(&self.tree.layout, located.as_ref(), &config)?;
        if located.is_some_and(|found| found.why == Why::Root) && config.root().is_some() {
            render::say("warning: storage.root is ignored in a configuration that lies inside a root");
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

    /// Held while a command waits for somebody else: the run that called it counts as waiting, in whichever root it is.
    pub(crate) fn blocks(&self) -> Blocked {
        blocks()
    }

    /// The run whose agent called this command, checked against the folder that it names: commands that act for a run
    /// must not act for a wrong one.
    pub(crate) fn caller(&self) -> Result<Option<&CallerRun>, Failure> {
        if self.variable("JRUN_ID").is_none() {
            return Ok(None);
        }
        let Some(caller) = &self.caller else {
            return Err(Failure::usage(format!(
                "the environment says that an agent calls (JRUN_ID={}), but its ids are not valid: JRUN_PROJECT_ID={}, JRUN_TASK_ID={}; unset JRUN_ID to call as a person",
                render::value(&variable("JRUN_ID").unwrap_or_default()),
                render::value(&variable("JRUN_PROJECT_ID").unwrap_or_default()),
                render::value(&variable("JRUN_TASK_ID").unwrap_or_default()),
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
        let project = self.project_by_name()?;
        if let Some(project) = &project {
            self.tree.no_link(&self.tree.layout.project(project))?;
        }
        Ok(project)
    }

    /// As [`Context::project`]; whether a link lies there is not looked at yet.
    fn project_by_name(&self) -> Result<Option<ProjectId>, Failure> {
        if let Some(name) = self.flags.project.clone().or_else(|| self.variable("JRUN_PROJECT_ID")) {
            return Ok(Some(ProjectId::parse(&name)?));
        }
        Ok(self.caller.as_ref().map(|c| c.name.project.clone()).or_else(|| self.around().project.clone()))
    }

    /// As [`Context::project`], and the project must be there.
    pub(crate) fn existing_project(&self) -> Result<Option<ProjectId>, Failure> {
        let project = self.project()?;
        if let Some(project) = &project {
            find::project(&self.tree, project)?;
        }
        Ok(project)
    }

    /// The task that is meant, if any; it must be there.
    pub(crate) fn task(&self) -> Result<Option<TaskName>, Failure> {
        if let (Some(text), Some(project)) = (&self.flags.task, self.project_by_name()?)
            && let Ok(task) = TaskId::parse(text)
        {
            // A full id needs no look around.
            let name = TaskName { project, task };
            self.tree.no_link(self.tree.task(&name).folder())?;
            if self.tree.task(&name).folder().is_dir() {
                return Ok(Some(name));
            }
        }
        let project = self.existing_project()?;
        if let Some(task) = &self.flags.task {
            return find::task(&self.tree, project.as_ref(), task).map(Some);
        }
        let task = self.variable("JRUN_TASK_ID").map(|id| TaskId::parse(&id)).transpose()?;
        let own = project.clone().zip(task).map(|(project, task)| TaskName { project, task });
        // A project that a flag names need not be the caller's.
        let own = own.filter(|n| self.flags.project.is_none() || self.tree.task(n).folder().is_dir());
        let here = || {
            let around = self.around();
            let (project, task) = around.project.clone().zip(around.task.clone())?;
            Some(TaskName { project, task })
        };
        // A task of the folder's is none of another project that was named.
        let found = own.or_else(here).filter(|name| Some(&name.project) == project.as_ref());
        if let Some(name) = &found {
            self.tree.no_link(self.tree.task(name).folder())?;
        }
        Ok(found)
    }

    /// The task that a word of the command line names. One that says its project means that one, wherever the caller
    /// stands.
    pub(crate) fn task_named(&self, text: &str) -> Result<TaskName, Failure> {
        let project = match find::split(text) {
            Some(_) => self.named_project()?,
            None => self.existing_project()?,
        };
        find::task(&self.tree, project.as_ref(), text)
    }

    /// As [`Context::task`], and there must be one.
    pub(crate) fn required_task(&self) -> Result<TaskName, Failure> {
        self.task()?.ok_or_else(|| {
            Failure::usage("which task? name it with --task, or call from inside a task's folder")
        })
    }

    /// The flags with which a command that is printed for a person finds this task from anywhere.
    pub(crate) fn flags_for(&self, name: &TaskName) -> String {
        flags_for(&self.tree, name)
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

    /// A flag names the root.
    pub(crate) fn names_root(&self) -> bool {
        self.flags.root.is_some()
    }

    /// The configuration that a flag or variable names.
    pub(crate) fn config_named(&self) -> Option<&Path> {
        self.named_config.as_ref().map(|located| located.path.as_path())
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
            let key = match (TaskId::parse(text), self.project_by_name()?) {
                (Ok(task), Some(project)) => {
                    self.tree.no_link(self.tree.layout.task(&project, &task).folder())?;
                    StreamKey::task(project, task)
                }
                _ => self.required_task()?.key(),
            };
            return Ok((key, "--task"));
        }
        if self.flags.project.is_some() {
            let project = self.existing_project()?.ok_or_else(|| Failure::usage("which project?"))?;
            return Ok((StreamKey::project(project), "--project"));
        }
        if let Some(bus) = self.variable("JRUN_MESSAGE_BUS") {
            return Ok((self.stream_of_bus(Path::new(&bus))?, "JRUN_MESSAGE_BUS"));
        }
        if let Some(name) = self.task()? {
            let why =
                if self.variable("JRUN_TASK_ID").is_some() { "JRUN_TASK_ID" } else { "the working folder" };
            return Ok((name.key(), why));
        }
        match self.existing_project()? {
            Some(project) => {
                let named = self.variable("JRUN_PROJECT_ID").is_some();
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

    /// `JRUN_MESSAGE_BUS` names a bus below this root: the file or folder that its store has for it.
    fn stream_of_bus(&self, bus: &Path) -> Result<StreamKey, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "JRUN_MESSAGE_BUS={} is no message bus below {}",
                bus.display(),
                self.tree.layout.root().display()
            ))
        };
        let (Some(folder), Some(file)) = (bus.parent(), bus.file_name()) else { return Err(wrong()) };
        let inside = below(folder, self.tree.layout.root()).ok_or_else(wrong)?;
        let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
        let key = match parts.as_slice() {
            [project] => StreamKey::project(ProjectId::parse(project)?),
            [project, task] => StreamKey::task(ProjectId::parse(project)?, TaskId::parse(task)?),
            _ => return Err(wrong()),
        };
        self.tree.no_link(&self.tree.layout.stream(&key).0)?;
        if self.tree.store.place(&key).file_name() == Some(file) { Ok(key) } else { Err(wrong()) }
    }

    /// The run that the caller's messages carry: its own, in a stream of its own project.
    pub(crate) fn run_for(&self, key: &StreamKey) -> Option<RunId> {
        self.caller
            .as_ref()
            .filter(|caller| caller.name.project == key.project)
            .map(|caller| caller.run.clone())
    }

    /// The folder that the project itself names for its agents.
    pub(crate) fn project_root(&self, project: &ProjectId) -> Result<Option<PathBuf>, Failure> {
        project_root(&self.tree, project)
    }

    /// The folder in which an agent of this project works.
    pub(crate) fn working_folder(
        &self,
        project: &ProjectId,
        flag: Option<&Path>,
    ) -> Result<PathBuf, Failure> {
        let folder = match flag {
            Some(folder) => std::path::absolute(folder).map_err(|e| Failure::io(folder.display(), &e))?,
            None => match self.project_root(project)? {
                Some(root) => root,
                None => here()?,
            },
        };
        if folder.is_dir() {
            Ok(folder)
        } else {
            let why = if folder.exists() { "no folder" } else { "not there" };
            Err(Failure::usage(format!(
                "the agent's working folder {} is {why}; name one with --cwd",
                folder.display()
            )))
        }
    }
}
