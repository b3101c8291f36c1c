//! The starter's part: run folder, lock, prompt, intent, hand-over (steps 1 to 5 of `docs/supervision.md`).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, NewRun, Refusal};
use run_agent_core::event::{Event, LoopRestart, RunEnd, RunIntent, RunOutcome, VerifyStart};
use run_agent_core::layout::RunPaths;
use run_agent_core::plan::Start;
use run_agent_core::policy::budget::Budget;
use run_agent_core::policy::watch::WatchPolicy;
use run_agent_core::{Draft, RunId, Timestamp};

use super::hand_over::hand_over;
use super::launch::{Launch, Order, Program, Report, Streams};
use super::os::{self, Machine};
use super::{close, record};
use crate::above;
use crate::agent::{AgentError, Backend, Work};
use crate::failpoint;
use crate::files;
use crate::hear;
use crate::history::{self, Asked};
use crate::link::{self, Origin};
use crate::prompt::{self, Preamble};
use crate::starting::Starting;
use crate::tree::Tree;
use crate::versions::Versions;
use crate::view::{Proposed, TaskView, ViewError};

/// What is to be started.
#[derive(Debug)]
pub struct Request<'a> {
    pub backend: &'a dyn Backend,
    /// The task's own text, without the preamble.
    pub prompt: &'a str,
    /// Other than [`Streams::Prompt`]: a person's own command, which gets no preamble.
    pub streams: Streams,
    pub cwd: &'a Path,
    pub parent: Option<RunId>,
    /// The parent again, when it is a run of another task: there a link is posted.
    pub origin: Option<&'a Origin>,
    /// For a root run of the loop's.
    pub root: Option<RootStart<'a>>,
    pub key: Option<&'a str>,
    /// The verify command that this run is.
    pub verify: Option<&'a str>,
    /// Levels above this run.
    pub depth: u32,
    pub max_depth: u32,
    pub grace: Duration,
    pub timeout: Option<Duration>,
    pub watch: WatchPolicy,
    /// How many agents of the root may be at work; 0: this run needs no slot.
    pub max_agents: u32,
    /// What the task may use; none for a command that uses no tokens.
    pub budget: Option<Budget>,
    pub cause: &'a Cause,
    /// Known by the run from its intent on; whoever goes on to start more says so itself.
    pub starting: Option<&'a Starting>,
}

#[derive(Debug)]
pub struct RootStart<'a> {
    pub attempt: u32,
    pub why: &'a Start,
    pub previous: Option<RunId>,
    /// Goes into the same append as the intent.
    pub event: Option<LoopRestart>,
    /// The conversation that it takes up, where its agent can.
    pub session: Option<String>,
}

/// A run that was started, or ended before it could be.
#[derive(Debug)]
pub struct Started {
    pub run: RunId,
    pub outcome: StartOutcome,
    /// Comes to its end with the run's supervisor.
    pub supervisor: Option<OwnedFd>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartOutcome {
    Running {
        pid: u32,
    },
    /// Its supervisor waits for a slot; so many others enter before it.
    Parked {
        ahead: u32,
    },
    /// A stop came first.
    Refused {
        why: String,
    },
    Failed {
        why: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Refused(Refusal),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("cannot make the run folder {path}")]
    Folder { path: String, source: io::Error },
    #[error("cannot start an agent with these paths: {0}")]
    Order(String),
    #[error("cannot write {path}")]
    Write { path: String, source: io::Error },
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Starts a run and returns when its agent runs, it waits for a slot, or it is known why it does not start.
///
/// # Errors
/// When nothing was started and no run is known. A run whose start failed is `Ok` with the reason: it has its end.
pub fn start(tree: &Tree, view: &mut TaskView, request: Request<'_>) -> Result<Started, StartError> {
    let Made { launch, order, paths, lock } = make(tree, view, &request)?;
    match hand_over(tree, &launch, &order, &paths, lock) {
        Ok(report) => {
            let (outcome, report) = outcome(tree, view, &launch.run, report);
            Ok(Started { run: launch.run, outcome, supervisor: Some(report.into()) })
        }
        Err((error, lock)) => {
            let why = format!("cannot start the supervisor: {error}");
            let end = RunEnd {
                status: RunOutcome::Failed,
                reason: why.clone(),
                error_class: Some("crash".to_owned()),
                ..RunEnd::default()
            };
            close::end_run(
                tree,
                view,
                &launch.run,
                end,
                &Cause::Process("the supervisor could not be started".to_owned()),
            )?;
            // Until here the run was this process's.
            drop(lock);
            Ok(Started { run: launch.run, outcome: StartOutcome::Failed { why }, supervisor: None })
        }
    }
}

/// A run whose intent stands in the stream, and whose lock is this process's.
#[derive(Debug)]
pub struct Made {
    pub(super) launch: Launch,
    /// As it is sent to a supervisor.
    order: Vec<u8>,
    pub(super) paths: RunPaths,
    pub(super) lock: File,
}

impl Made {
    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.launch.run
    }
}

/// Steps 1 to 4: folder, lock, prompt, intent.
///
/// # Errors
/// When nothing was made, or nothing that any stream knows of.
pub fn make(tree: &Tree, view: &mut TaskView, request: &Request<'_>) -> Result<Made, StartError> {
    let new = NewRun {
        root: request.root.is_some(),
        key: request.key,
        parent: request.parent.as_ref(),
        depth: request.depth,
        max_depth: request.max_depth,
        budget: request.budget,
    };
    view.fold()?;
    // An agent may have put a link there while its loop goes on.
    tree.no_link(&tree.task(&view.name).runs()).map_err(ViewError::from)?;
    // Asked early so that a refusal leaves no folder; asked again under the append lock, where it counts.
    decide::may_make_run(view.task(), new).map_err(StartError::Refused)?;
    // What it is started from in another task is asked when it is linked there.
    let above = request.parent.as_ref().filter(|_| request.origin.is_none() && request.root.is_none());
    if let Some(origin) = above.and_then(|parent| above::above(view.task(), parent)) {
        above::may_spend(tree, &origin, request.budget).map_err(StartError::Refused)?;
    }
    request.backend.check()?;

    let (id, paths) = make_folder(tree, view)?;
    let undo = UndoFolder(Some(paths.folder().to_owned()));
    failpoint::here("starter.folder");
    let lock_path = paths.supervisor_lock();
    let write = |path: PathBuf| move |source| StartError::Write { path: path.display().to_string(), source };
    let lock = record::create(&lock_path).map_err(write(lock_path.clone()))?;
    failpoint::here("starter.lock");

    let call_with = |session| request.backend.call(&paths, Work { prompt: request.prompt, session });
    let mut session = request.root.as_ref().and_then(|root| root.session.as_deref());
    let mut call = call_with(session)?;
    if session.is_some_and(|session| !hear::is_of(view.task(), session, call.stream)) {
        session = None;
        call = call_with(None)?;
    }
    let text = match request.streams {
        Streams::Prompt => prompt_text(tree, view, request, &id, &paths),
        Streams::CallerInput | Streams::Terminal | Streams::Nothing => request.prompt.to_owned(),
    };
    if let Some(max) = request.backend.prompt_max().filter(|max| text.len() > *max) {
        let agent = request.backend.name().to_owned();
        return Err(AgentError::PromptTooLong { agent, bytes: text.len(), max }.into());
    }
    files::replace(&paths.prompt(), text.as_bytes(), false).map_err(write(paths.prompt()))?;
    if let Some(script) = &call.script {
        files::replace(&paths.script(), script.as_bytes(), false).map_err(write(paths.script()))?;
    }
    let program =
        request.backend.program().zip(call.argv.first().map(PathBuf::from)).map(|(program, path)| {
            let version = Versions::of(&tree.layout).known(&path).and_then(|known| known.version);
            Program { path, version, min_version: program.min_version.to_owned() }
        });
    let launch = Launch {
        root: tree.layout.root().to_owned(),
        project: view.name.project.clone(),
        task: view.name.task.clone(),
        run: id.clone(),
        agent: request.backend.name().to_owned(),
        commandline: call.commandline(),
        argv: call.argv,
        env: call.env,
        secrets: call.secrets,
        cwd: request.cwd.to_owned(),
        attempt: request.root.as_ref().map(|root| root.attempt),
        parent: request.parent.clone(),
        depth: request.depth,
        previous: request.root.as_ref().and_then(|root| root.previous.clone()),
        grace_ms: u64::try_from(request.grace.as_millis()).unwrap_or(u64::MAX),
        timeout_ms: request.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        watch: request.watch,
        streams: request.streams,
        max_agents: request.max_agents,
        stream: call.stream,
        before: session.and_then(|session| hear::before(view.task(), session)),
        program,
        request: call.request,
        api: call.api,
    };
    // Known to be sendable before the run is: a path that is no text is not.
    let order = Order::Start(Box::new(launch.clone()));
    let order = serde_json::to_vec(&order).map_err(|e| StartError::Order(e.to_string()))?;
    if let Some(origin) = request.origin {
        link::open(tree, origin, &view.name, Some(&id), request.budget, request.cause)?
            .map_err(StartError::Refused)?;
        failpoint::here("starter.linked");
    }
    let batch = intent(view, request, &id);
    let intended = view.propose(batch, |task| decide::may_make_run(task, new));
    if let (Some(origin), Err(_) | Ok(Proposed::Refused(_))) = (request.origin, &intended) {
        // What cannot be told now, the parent's loop finds by itself.
        let _ = link::close(tree, &origin.name, &view.name, Some(&id));
    }
    match intended? {
        Proposed::Appended(_) => {}
        Proposed::Refused(refusal) => return Err(StartError::Refused(refusal)),
    }
    undo.keep();
    request.starting.inspect(|starting| starting.is_known());
    failpoint::here("starter.intent");
    tracing::info!(run = %id, agent = request.backend.name(), cwd = %request.cwd.display(), "run made");
    Ok(Made { launch, order, paths, lock })
}

/// Removes the folder of a run that no stream ever heard of.
struct UndoFolder(Option<PathBuf>);

impl UndoFolder {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for UndoFolder {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Step 1: `mkdir` decides who owns the id.
fn make_folder(tree: &Tree, view: &TaskView) -> Result<(RunId, RunPaths), StartError> {
    static SEQUENCE: AtomicU32 = AtomicU32::new(1);
    loop {
        let id = RunId::new(Timestamp::now(), std::process::id(), SEQUENCE.fetch_add(1, Ordering::Relaxed));
        let paths = tree.run(&view.name, &id);
        let made = std::fs::DirBuilder::new().mode(0o700).create(paths.folder());
        match made {
            Ok(()) => return Ok((id, paths)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && !tree.task(&view.name).runs().exists() =>
            {
                // The folder of all runs is missing in a task that another tool made.
                let runs = tree.task(&view.name).runs();
                std::fs::create_dir(&runs)
                    .map_err(|source| StartError::Folder { path: runs.display().to_string(), source })?;
            }
            Err(source) => {
                return Err(StartError::Folder { path: paths.folder().display().to_string(), source });
            }
        }
    }
}

fn prompt_text(tree: &Tree, view: &TaskView, request: &Request<'_>, id: &RunId, paths: &RunPaths) -> String {
    let running: Vec<RunId> = match &request.root {
        Some(_) => view.task().active().map(|(id, _)| id.clone()).collect(),
        None => Vec::new(),
    };
    let previous = request.root.as_ref().and_then(|root| root.previous.as_ref());
    let asked = previous.map_or_else(Vec::new, |id| asked_by(tree, view, id));
    let preamble = Preamble {
        name: &view.name,
        task: &tree.task(&view.name),
        run_id: id,
        run: paths,
        root: tree.layout.root(),
        bus: &tree.store.place(&view.name.key()),
        agent: request.backend.name(),
        has_hands: request.backend.has_hands(),
        parent: request.parent.as_ref(),
        depth: request.depth,
        depth_left: request.max_depth.saturating_sub(request.depth),
        now: Timestamp::now(),
        start: request.root.as_ref().map(|root| root.why),
        attempt: request.root.as_ref().map(|root| root.attempt),
        running_children: &running,
        asked: &asked,
    };
    prompt::prompt(&preamble, request.prompt)
}

/// What the root run before asked. A stream that cannot be read keeps nobody from working.
fn asked_by(tree: &Tree, view: &TaskView, id: &RunId) -> Vec<Asked> {
    let Some(run) = view.run(id) else { return Vec::new() };
    let stream = tree.store.open(&view.name.key()).ok();
    stream.and_then(|stream| history::asked_by(stream.as_ref(), id, run.made).ok()).unwrap_or_default()
}

/// Step 4: what goes into one append.
fn intent(view: &TaskView, request: &Request<'_>, id: &RunId) -> Vec<Draft> {
    let here = Machine::here();
    let intent = RunIntent {
        agent: request.backend.name().to_owned(),
        attempt: request.root.as_ref().map(|root| root.attempt),
        parent_run_id: request.parent.clone(),
        parent_project_id: request.origin.map(|origin| origin.name.project.clone()),
        parent_task_id: request.origin.map(|origin| origin.name.task.clone()),
        previous_run_id: request.root.as_ref().and_then(|root| root.previous.clone()),
        key: request.key.map(str::to_owned),
        verify: request.verify.map(str::to_owned),
        depth: request.depth,
        starter_pid: std::process::id(),
        starter_start_ticks: os::ProcessId::own().start_ticks,
        machine_id: here.machine_id.clone(),
        boot_id: here.boot_id.clone(),
        pid_namespace: here.pid_namespace.clone(),
    };
    let scope = |run| view.name.scope(run);
    let line = match (&request.root, &request.parent) {
        _ if request.verify.is_some() => "a verify run is about to start".to_owned(),
        (Some(root), _) => format!("root run {} of {} is about to start", root.attempt, intent.agent),
        (None, Some(parent)) => format!("child run of {} for {parent} is about to start", intent.agent),
        (None, None) => format!("run of {} is about to start", intent.agent),
    };
    let mut batch = Vec::new();
    if let Some(event) = request.root.as_ref().and_then(|root| root.event.clone()) {
        let line = format!("attempt {}: {}", event.attempt, event.reason);
        batch.push(Event::LoopRestart(event).draft(&scope(None), request.cause, line));
    }
    batch.push(Event::RunIntent(intent).draft(&scope(Some(id.clone())), request.cause, line));
    if let Some(command) = request.verify {
        let line = format!("verifying DONE: {command}");
        let event = Event::VerifyStart(VerifyStart { command: command.to_owned() });
        batch.push(event.draft(&scope(Some(id.clone())), request.cause, line));
    }
    batch
}

/// What a supervisor that was handed a run told of it.
pub(super) fn outcome(tree: &Tree, view: &mut TaskView, run: &RunId, report: File) -> (StartOutcome, File) {
    let mut report = BufReader::new(report);
    let mut line = String::new();
    // One line is all that comes. The pipe's end comes when the supervisor's does.
    let _ = report.read_line(&mut line);
    let outcome = match serde_json::from_str(&line) {
        Ok(Report::Started { pid }) => StartOutcome::Running { pid },
        Ok(Report::Parked { ahead }) => StartOutcome::Parked { ahead },
        Ok(Report::Refused { why }) => StartOutcome::Refused { why },
        Ok(Report::Failed { why }) => StartOutcome::Failed { why },
        // It was killed before it could say how it went: the stream and the lock know.
        Err(_) => outcome_from_stream(tree, view, run),
    };
    (outcome, report.into_inner())
}

fn outcome_from_stream(tree: &Tree, view: &mut TaskView, run: &RunId) -> StartOutcome {
    let _ = view.fold();
    let _ = close::close_dead(tree, view);
    match view.run(run) {
        Some(run) if run.is_active() => match run.state.ahead() {
            Some(ahead) => StartOutcome::Parked { ahead },
            None => StartOutcome::Running { pid: run.start().map_or(0, |start| start.pid) },
        },
        Some(run) => {
            let why = run.end().map(|(end, _)| end.reason.clone()).unwrap_or_default();
            StartOutcome::Failed { why }
        }
        None => StartOutcome::Failed { why: "the supervisor was lost".to_owned() },
    }
}

/// The variables by which an agent and its commands know where they are; always overwritten.
pub(super) fn set_environment(command: &mut Command, tree: &Tree, launch: &Launch) {
    let task = tree.layout.task(&launch.project, &launch.task);
    let run = task.run(&launch.run);
    let key = run_agent_core::StreamKey::task(launch.project.clone(), launch.task.clone());
    // Some agents believe this more than where they are.
    command.env("PWD", &launch.cwd);
    command.env("JRUN_PROJECT_ID", launch.project.as_str());
    command.env("JRUN_TASK_ID", launch.task.as_str());
    command.env("JRUN_ID", launch.run.as_str());
    match &launch.parent {
        Some(parent) => command.env("JRUN_PARENT_ID", parent.as_str()),
        None => command.env_remove("JRUN_PARENT_ID"),
    };
    // What it starts in another root lies as deep as in this one.
    command.env("JRUN_DEPTH", launch.depth.to_string());
    command.env("JRUN_ROOT", tree.layout.root());
    command.env("JRUN_RUNS_DIR", task.runs());
    command.env("JRUN_TASK_FOLDER", task.folder());
    command.env("JRUN_RUN_FOLDER", run.folder());
    command.env("JRUN_MESSAGE_BUS", tree.store.place(&key));
    if let Some(path) = path_with_us() {
        command.env("PATH", path);
    }
}

/// PATH with our own folder first, once.
fn path_with_us() -> Option<OsString> {
    let program = std::env::current_exe().ok()?;
    let own = program.parent()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).filter(|folder| folder != own);
    std::env::join_paths(std::iter::once(own.to_owned()).chain(others)).ok()
}

/// The program's name, by which it is looked for where the system does not tell its path.
const NAME: &str = "run-agent";

/// Our own binary. One that was replaced while we run is still found through the process.
#[must_use]
pub fn program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(NAME));
    match os::program_link() {
        Some(link) if !path.exists() => link.to_owned(),
        Some(_) | None => path,
    }
}
