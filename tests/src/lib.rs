//! What the whole-system tests share: a root of their own, the real binary, and waiting for conditions.
//!
//! Tests never sleep to wait: they wait for a condition with a deadline and print the state when it passes.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]

pub mod many;
pub mod scripted;
pub mod stand_in;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{Message, ProjectId, RunId, Store, TaskId};
use run_agent_runner::supervise::record;
use run_agent_runner::tree::TaskName;
use run_agent_runner::{TaskView, Tree};
use run_agent_store_fs::FsStore;
use run_agent_store_segmented::SegmentedStore;

/// How long a condition may take on a busy machine before the test says what it saw instead.
const DEADLINE: Duration = Duration::from_secs(60);

/// The binary under test, as `cargo xtask test` builds it.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let binary = test.ancestors().nth(2).unwrap().join("run-agent");
    let built = match std::fs::metadata(&binary).and_then(|meta| meta.modified()) {
        Ok(built) => built,
        Err(error) => panic!("{}: {error}; build it with `cargo build -p run-agent`", binary.display()),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for source in [
        "core/src",
        "store-shared/src",
        "store-fs/src",
        "store-segmented/src",
        "runner/src",
        "server/src",
        "cli/src",
    ] {
        let newest = newest_in(&workspace.join(source));
        assert!(
            newest <= built,
            "{} is older than {source}; build it with `cargo build -p run-agent`",
            binary.display()
        );
    }
    binary
}

fn newest_in(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let time = if meta.is_dir() { newest_in(&entry.path()) } else { meta.modified().unwrap() };
        newest = newest.max(time);
    }
    newest
}

/// By which the suite runs on another store (`docs/testing.md`).
pub const TEST_STORE: &str = "RUN_AGENT_TEST_STORE";

/// Which store the roots of a test have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Fs,
    Segmented,
}

impl Backend {
    fn of_this_run() -> Self {
        match std::env::var(TEST_STORE).as_deref() {
            Err(_) | Ok("fs") => Self::Fs,
            Ok("segmented") => Self::Segmented,
            Ok(other) => panic!("{TEST_STORE}={other} is no store"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::Segmented => "segmented",
        }
    }

    fn open(self, root: &Path, options: Options) -> Arc<dyn Store> {
        let layout = Layout::new(root.to_owned());
        match self {
            Self::Fs => Arc::new(FsStore::new(layout, options)),
            Self::Segmented => Arc::new(SegmentedStore::new(layout, options)),
        }
    }
}

/// The store of a root of this run, for a process that has only its path.
#[must_use]
pub fn store_at(root: &Path, options: Options) -> Arc<dyn Store> {
    Backend::of_this_run().open(root, options)
}

/// A root of a test's own, gone with it. What still runs below it is ended.
#[derive(Debug)]
pub struct Root {
    folder: tempfile::TempDir,
    binary: PathBuf,
    backend: Backend,
}

impl Default for Root {
    fn default() -> Self {
        Self::new()
    }
}

impl Root {
    #[must_use]
    pub fn new() -> Self {
        Self::of(Backend::of_this_run())
    }

    fn of(backend: Backend) -> Self {
        let folder = tempfile::Builder::new().prefix("ra-").tempdir().unwrap();
        Self { folder, binary: binary(), backend }
    }

    /// A root whose store is `fs` whatever the suite runs on: for what is about the markdown file itself.
    #[must_use]
    pub fn of_markdown() -> Self {
        Self::of(Backend::Fs)
    }

    /// As [`Root::made`], of [`Root::of_markdown`].
    #[must_use]
    pub fn made_of_markdown() -> Self {
        let root = Self::of_markdown();
        let _ = root.ok(&["config", "init"]);
        root
    }

    /// A root that is there and holds nothing.
    #[must_use]
    pub fn made() -> Self {
        let root = Self::new();
        let _ = root.ok(&["config", "init"]);
        root
    }

    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A folder beside the root, for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Programs that the commands of this root find before all others, once it is there.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// A file of that name, beside the root: what a stand-in waits for.
    pub fn lets(&self, name: &str) {
        std::fs::write(self.scratch().join(name), "").unwrap();
    }

    /// The command, with nothing of the caller's own surroundings.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("JRUN_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("JRUN_ROOT", self.path())
            .env("HOME", self.folder.path())
            .env(TEST_STORE, self.backend.name())
            .env_remove("RUN_AGENT_CONFIG")
            .env_remove("RUN_AGENT_LOG")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .env_remove("CLICOLOR_FORCE")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        if self.bin().is_dir() {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", self.bin().display()));
        }
        command
    }

    #[must_use]
    pub fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap(), args)
    }

    /// Runs a command that must end with 0, and gives its stdout without the last newline.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.trim_end_matches('\n').to_owned()
    }

    /// As [`Root::ok`], with JSON on stdout.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    #[must_use]
    pub fn tree(&self) -> Tree {
        Tree {
            store: self.store(Options::default()),
            layout: Layout::new(self.path()),
            durability: run_agent_core::Durability::None,
            sync_every: Duration::from_millis(200),
        }
    }

    /// The root's store, with other settings than the usual ones.
    #[must_use]
    pub fn store(&self, options: Options) -> Arc<dyn Store> {
        self.backend.open(&self.path(), options)
    }

    /// The other store over the same folders.
    #[must_use]
    pub fn other_store(&self) -> Arc<dyn Store> {
        let other = match self.backend {
            Backend::Fs => Backend::Segmented,
            Backend::Segmented => Backend::Fs,
        };
        other.open(&self.path(), Options::default())
    }

    /// As `storage.backend` names it.
    #[must_use]
    pub fn store_name(&self) -> &'static str {
        self.backend.name()
    }

    /// What is about the markdown file itself is to be done only where there is one.
    #[must_use]
    pub fn is_markdown(&self) -> bool {
        self.backend == Backend::Fs
    }

    /// What names a task's stream: a file, or a folder.
    #[must_use]
    pub fn bus(&self, name: &TaskName) -> PathBuf {
        self.tree().store.place(&name.key())
    }

    /// The file in which a task's messages lie, in a store that did not rotate.
    #[must_use]
    pub fn bus_data(&self, name: &TaskName) -> PathBuf {
        let bus = self.bus(name);
        match self.backend {
            Backend::Fs => bus,
            Backend::Segmented => bus.join("00000000000000000000.log"),
        }
    }

    /// The only task of this root.
    #[must_use]
    pub fn only_task(&self) -> TaskName {
        let mut tasks = Vec::new();
        for project in self.tree().projects().unwrap() {
            for task in self.tree().tasks(&project).unwrap() {
                tasks.push(TaskName { project: project.clone(), task });
            }
        }
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    /// A loop's driver, at work on a task with the shell agent.
    #[must_use]
    pub fn drive(&self, task: &TaskName, prompt: &str) -> Child {
        let mut command = self.command(&shell_args("task", task, prompt, &[]));
        command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Makes a task with one blocking job that the test ends itself; returns its name.
    #[must_use]
    pub fn task_with(&self, slug: &str, prompt: &str) -> TaskName {
        let name = name(slug);
        let out = self.run(&shell_args("job", &name, prompt, &[]));
        assert_eq!(out.code, 0, "{out:?}");
        name
    }

    #[must_use]
    pub fn view(&self, name: &TaskName) -> TaskView {
        TaskView::open(&self.tree(), name).unwrap()
    }

    /// Every message of a task's stream.
    #[must_use]
    pub fn messages(&self, name: &TaskName) -> Vec<Message> {
        let page = self.tree().store.open(&name.key()).unwrap().last(usize::MAX).unwrap();
        assert_eq!(page.damage, []);
        page.entries.into_iter().map(|e| e.message).collect()
    }

    /// The types of a task's messages that are `wanted`, with the runs that they are about.
    #[must_use]
    pub fn count(&self, name: &TaskName, kind: &str) -> usize {
        self.messages(name).iter().filter(|m| m.content.kind.as_str() == kind).count()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // A test that failed may leave agents behind: those of this root alone are ended.
        let root = self.path();
        for process in run_agent_runner::supervise::os::processes().unwrap_or_default() {
            let environ = std::fs::read(format!("/proc/{}/environ", process.id.pid)).unwrap_or_default();
            let wanted = format!("JRUN_ROOT={}", root.display());
            let ours = environ.split(|b| *b == 0).any(|var| var == wanted.as_bytes());
            if ours && process.id.pid != std::process::id() {
                kill(process.id.pid, "KILL");
            }
        }
        remove_cgroups(&root);
    }
}

/// Ends what is left in the cgroups of a root's runs, and removes them.
fn remove_cgroups(root: &Path) {
    let folders = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let runs = folders(root).into_iter().flat_map(|project| folders(&project));
    for run in runs.flat_map(|task| folders(&task.join("runs"))) {
        let id = run.file_name().and_then(|name| name.to_str()).and_then(|name| RunId::parse(name).ok());
        let notes = record::notes(&run.join("supervisor.lock")).unwrap_or_default();
        let Some(cgroup) = id.and_then(|id| notes.cgroup_of(&id)) else { continue };
        let _ = cgroup.kill();
        let deadline = Instant::now() + Duration::from_secs(2);
        while cgroup.members().is_ok_and(|members| !members.is_empty()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        cgroup.remove();
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub args: Vec<String>,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[must_use]
    pub fn of(output: Output, args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// `job` or `task` with the shell agent, in a task of project `p`.
#[must_use]
pub fn shell_args<'a>(
    command: &'a str,
    task: &'a TaskName,
    prompt: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let mut args =
        vec![command, "--project", "p", "--task", task.task.as_str(), "--agent", "shell", "--prompt", prompt];
    args.extend(more);
    args
}

/// A task of project `p`.
#[must_use]
pub fn name(slug: &str) -> TaskName {
    TaskName {
        project: ProjectId::parse("p").unwrap(),
        task: TaskId::parse(&format!("task-20261121-093000-{slug}")).unwrap(),
    }
}

/// Waits until `look` gives something; `state` is printed when it does not in time.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>, state: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}\n{}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a file is there, and gives its text without blanks around it.
#[must_use]
pub fn text_of(path: &Path) -> String {
    until(
        &format!("{} has text", path.display()),
        || std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()),
        String::new,
    )
}

/// True while a process has this pid and is no zombie.
#[must_use]
pub fn alive(pid: u32) -> bool {
    run_agent_runner::supervise::os::ProcessId::now(pid).is_some()
}

/// Sends a signal by name.
pub fn kill(pid: u32, signal: &str) {
    let status =
        Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
    assert!(status.is_ok());
}

/// The agent's processes of a run: those whose environment carries its id, but for the tool's own.
#[must_use]
pub fn processes_of(run: &RunId) -> Vec<u32> {
    of_run(run, false)
}

/// Waits until the run's supervisor, which posts the run's end a moment before its own, is gone too.
pub fn supervisor_ends(run: &RunId) {
    until("the supervisor ends", || of_run(run, true).is_empty().then_some(()), String::new);
}

fn of_run(run: &RunId, ours: bool) -> Vec<u32> {
    run_agent_runner::supervise::os::processes()
        .unwrap()
        .into_iter()
        .filter(|p| p.run.as_deref() == Some(run.as_str()) && p.ours == ours)
        .map(|p| p.id.pid)
        .collect()
}
