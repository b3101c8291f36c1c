//! The only file that spells paths (spec, section 2). Pure: it joins names that were checked, and looks at nothing.

use std::path::{Path, PathBuf};

use crate::id::{ProjectId, RunId, TaskId};
use crate::store::StreamKey;

/// The tool's own folder below the root; also the reason why no project may begin with a dot.
pub const OWN_FOLDER: &str = ".run-agent";

/// Paths below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("store.yaml")
    }

    /// Locked shared by whoever has the root's store open (`docs/formats/migration.md`).
    #[must_use]
    pub fn store_lock(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("store.lock")
    }

    /// By which appends tell servers which streams to look at (`docs/formats/doorbell.md`).
    #[must_use]
    pub fn doorbell(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("doorbell")
    }

    /// What a server knew of a project's streams when it last wrote it down (`docs/server.md`). Disposable.
    #[must_use]
    pub fn projection(&self, project: &ProjectId) -> PathBuf {
        self.projections().join(project.as_str())
    }

    /// Where the projections of all projects lie.
    #[must_use]
    pub fn projections(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("projections")
    }

    /// Locked by the migration that is under way.
    #[must_use]
    pub fn migrate_lock(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("migrate.lock")
    }

    /// What a task's stream came to, up to some entry (`docs/formats/checkpoint.md`). Disposable.
    #[must_use]
    pub fn checkpoint(&self, project: &ProjectId, task: &TaskId) -> PathBuf {
        self.checkpoints().join(project.as_str()).join(task.as_str())
    }

    /// What lists show of a project's tasks (`docs/formats/checkpoint.md`). Disposable.
    #[must_use]
    pub fn roster(&self, project: &ProjectId) -> PathBuf {
        self.rosters().join(project.as_str())
    }

    /// What was deleted and is not removed yet (`docs/housekeeping.md`). Disposable.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("trash")
    }

    /// What agents' programs answered when they were asked for their versions (`docs/agents.md`). Disposable.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("versions")
    }

    /// Where the checkpoints of all projects lie.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("checkpoints")
    }

    /// Where the rosters of all projects lie.
    #[must_use]
    pub fn rosters(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("roster")
    }

    /// What is synced of a markdown stream, and who syncs (`docs/formats/bus-file.md`, "Syncing"). No task has the name that
    /// a project's own stream has here.
    #[must_use]
    pub fn sync_page(&self, key: &StreamKey) -> PathBuf {
        let name = key.task.as_ref().map_or("project", TaskId::as_str);
        self.sync_pages().join(key.project.as_str()).join(name)
    }

    /// Where the pages of [`Layout::sync_page`] lie.
    #[must_use]
    pub fn sync_pages(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("sync")
    }

    /// Who is at work, and who waits for a slot (`docs/slots.md`).
    #[must_use]
    pub fn slots(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("slots")
    }

    /// The places of the loops that may be driven at once; as [`Layout::slots`].
    #[must_use]
    pub fn loops(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("loops")
    }

    /// Which runs wait for which.
    #[must_use]
    pub fn waits(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("waits")
    }

    /// Who changed what over HTTP (`docs/server.md`).
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.root.join(OWN_FOLDER).join("audit.log")
    }

    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.hcl")
    }

    #[must_use]
    pub fn project(&self, project: &ProjectId) -> PathBuf {
        self.root.join(project.as_str())
    }

    #[must_use]
    pub fn home_folders(&self, project: &ProjectId) -> PathBuf {
        self.project(project).join("home-folders.md")
    }

    #[must_use]
    pub fn task(&self, project: &ProjectId, task: &TaskId) -> TaskPaths {
        TaskPaths { folder: self.project(project).join(task.as_str()) }
    }

    /// The folder in which a stream's files lie, and the stem of their names.
    #[must_use]
    pub fn stream(&self, key: &StreamKey) -> (PathBuf, &'static str) {
        match &key.task {
            Some(task) => (self.task(&key.project, task).folder, TASK_BUS),
            None => (self.project(&key.project), "PROJECT-MESSAGE-BUS"),
        }
    }

    /// The markdown bus file of a stream.
    #[must_use]
    pub fn bus_file(&self, key: &StreamKey) -> PathBuf {
        let (folder, stem) = self.stream(key);
        folder.join(format!("{stem}.md"))
    }

    /// The folder of a stream's segments.
    #[must_use]
    pub fn segments(&self, key: &StreamKey) -> PathBuf {
        self.stream(key).0.join("bus")
    }

    /// A task's markdown bus file, as seen from its project's folder.
    #[must_use]
    pub fn bus_file_below_project(task: &TaskId) -> String {
        format!("{task}/{TASK_BUS}.md")
    }
}

const TASK_BUS: &str = "TASK-MESSAGE-BUS";

/// Paths of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPaths {
    folder: PathBuf,
}

impl TaskPaths {
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[must_use]
    pub fn prompt(&self) -> PathBuf {
        self.folder.join("TASK.md")
    }

    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("TASK_STATE.md")
    }

    #[must_use]
    pub fn done(&self) -> PathBuf {
        self.folder.join(DONE)
    }

    /// The marker, as seen from the project's folder.
    #[must_use]
    pub fn done_below_project(task: &TaskId) -> String {
        format!("{task}/{DONE}")
    }

    /// Held by the loop's driver for as long as it lives, which watches it: a touch wakes it.
    #[must_use]
    pub fn loop_lock(&self) -> PathBuf {
        self.folder.join(LOOP_LOCK)
    }

    /// What the loop's detached drivers say.
    #[must_use]
    pub fn driver_log(&self) -> PathBuf {
        self.folder.join("driver.log")
    }

    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    #[must_use]
    pub fn run(&self, run: &RunId) -> RunPaths {
        RunPaths { folder: self.runs().join(run.as_str()) }
    }
}

/// The file name of the loop's lock.
pub const LOOP_LOCK: &str = "loop.lock";

/// The marker's file name.
pub const DONE: &str = "DONE";

/// Paths of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPaths {
    folder: PathBuf,
}

macro_rules! run_files {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        impl RunPaths {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> PathBuf { self.folder.join($file) })*
        }
    };
}

run_files! {
    info = "run-info.yaml";
    prompt = "prompt.md";
    output = "output.md";
    stdout = "agent-stdout.txt";
    stderr = "agent-stderr.txt";
    supervisor_log = "supervisor.log";
    /// Held by the run's supervisor for as long as it lives; its text is the run's exit record.
    supervisor_lock = "supervisor.lock";
    /// Moments at which output had grown, by which the two streams are merged.
    marks = "output.marks";
    /// A named pipe: a byte wakes the supervisor, which then reads the stream.
    doorbell = "doorbell";
    /// A socket: commands of the run's agent that block say so to the supervisor.
    socket = "supervisor.sock";
    /// What the built-in `shell` agent runs.
    script = "script.sh";
}

/// As [`RunPaths::socket`], of a run of any root.
#[must_use]
pub fn run_socket(folder: &Path) -> PathBuf {
    RunPaths { folder: folder.to_owned() }.socket()
}

impl RunPaths {
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
