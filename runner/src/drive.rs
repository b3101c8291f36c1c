//! The loop's driver: gather, fold, ask the plan, do its one step, look again. It holds no state that matters; a
//! driver that was killed is followed by one that goes on in the same place.

pub mod detach;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, LoopEnd, LoopOutcome, LoopRestart, LoopStart, Scope, SupervisorRestart};
use run_agent_core::layout::DONE;
use run_agent_core::plan::{self, Clock, Look, Start, Step, reason};
use run_agent_core::policy::LoopPolicy;
use run_agent_core::world::{Marker, Task};
use run_agent_core::{Draft, Entry, Kind, Parent, RunId};

use crate::agent::Backend;
use crate::supervise::os::{self, Machine};
use crate::supervise::start::{Request, RootStart, StartError, StartOutcome, Started, start};
use crate::supervise::{Streams, close, ring};
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView, ViewError};
use crate::wake::Wake;
use crate::{adopt, failpoint, files, marker};

/// What a loop is driven with.
#[derive(Debug)]
pub struct Loop<'a> {
    pub backend: &'a dyn Backend,
    pub prompt: &'a str,
    pub cwd: &'a Path,
    pub policy: &'a LoopPolicy,
    pub max_depth: u32,
    pub grace: Duration,
    pub timeout: Option<Duration>,
    /// Set the counters back, as `resume` does.
    pub fresh: bool,
    /// Take only a loop that is open, as `adopt` does.
    pub adopt: bool,
    /// What the loop was asked for, as JSON: `LOOP_START` keeps it for whoever adopts it.
    pub settings: &'a str,
    pub cause: &'a Cause,
    /// Of the run that started this loop, when one did.
    pub parent: Option<RunId>,
    pub depth: u32,
    /// The flags with which a command that is printed for a person finds this task from anywhere.
    pub flags: &'a str,
}

/// What the driver tells while it works; the caller shows it.
#[derive(Debug)]
pub enum Talk<'a> {
    /// The loop is taken: this process drives it.
    Driving,
    /// New entries of the stream, in order.
    New(&'a [Entry]),
    /// A live root run was found and joined.
    Joined(&'a RunId),
    Started(&'a Started),
    WaitingFor(&'a [RunId]),
}

#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(
        "task {task} is driven already by {holder}; look at it with `run-agent status{flags}`, or stop it with `run-agent stop{flags}`"
    )]
    Locked { task: TaskName, holder: String, flags: String },
    #[error("cannot lock {path}")]
    Lock { path: String, source: io::Error },
    #[error("cannot look at {path}")]
    Marker { path: String, source: io::Error },
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Start(StartError),
    #[error("another driver took the loop of {0}")]
    Taken(TaskName),
}

/// Drives the loop of a task to its end. `wake` tells of signals; an interrupted driver ends and leaves the agent.
///
/// # Errors
/// When somebody else drives it, or the stream or the task's folder cannot be used.
pub fn drive(
    tree: &Tree,
    view: &mut TaskView,
    what: &Loop<'_>,
    wake: &mut Wake,
    talk: &mut dyn FnMut(Talk<'_>),
) -> Result<LoopEnd, DriveError> {
    let _lock = take_lock(tree, view, what.flags)?;
    failpoint::here("driver.lock");
    crate::sync_clock::keep_synced(tree, &view.name.key());
    wake.watch_stream(tree, &view.name);
    wake.watch_files(tree.task(&view.name).folder(), &[DONE]);
    let mut driver = Driver::begin(tree, view, what)?;
    failpoint::here("driver.began");
    talk(Talk::Driving);
    if let Some(root) = driver.view.task().active_root() {
        talk(Talk::Joined(root));
    }
    loop {
        let new = driver.view.refresh()?;
        if !new.is_empty() {
            talk(Talk::New(&new));
        }
        if wake.interrupted() {
            return driver.interrupted(talk);
        }
        if let Some(end) = driver.turn(wake, talk)? {
            return Ok(end);
        }
    }
}

/// One loop a task: the lock is held for as long as its driver lives.
fn take_lock(tree: &Tree, view: &TaskView, flags: &str) -> Result<File, DriveError> {
    let path = tree.task(&view.name).loop_lock();
    let error = |source| DriveError::Lock { path: path.display().to_string(), source };
    let locked =
        |holder: String| DriveError::Locked { task: view.name.clone(), holder, flags: flags.to_owned() };
    // An agent may have removed the file under a driver that lives.
    let ralph = &view.task().ralph;
    if let Some(driver) = ralph.driver.as_ref().filter(|_| ralph.is_open() && !path.exists())
        && adopt::is_alive(driver)
    {
        return Err(locked(format!("process {}", driver.driver_pid)));
    }
    let mut lock = files::open_lock(&path).map_err(error)?;
    if !files::try_lock_for_good(&lock).map_err(error)? {
        let mut holder = String::new();
        let _ = lock.read_to_string(&mut holder);
        // Whoever has just taken the lock has not written its name yet, and a lock that is not ours may have none.
        let holder = Some(holder.trim()).filter(|holder| !holder.is_empty()).unwrap_or("another process");
        return Err(locked(holder.to_owned()));
    }
    lock.set_len(0).map_err(error)?;
    lock.write_all(format!("process {}\n", std::process::id()).as_bytes()).map_err(error)?;
    Ok(lock)
}

struct Driver<'a> {
    tree: &'a Tree,
    view: &'a mut TaskView,
    what: &'a Loop<'a>,
    /// The loop's own time up to `counted_at`.
    active: Duration,
    counted_at: Instant,
    /// What passes now is waiting and does not count.
    waiting: Option<Instant>,
    root_ended: Instant,
    had_root: bool,
}

impl<'a> Driver<'a> {
    fn begin(tree: &'a Tree, view: &'a mut TaskView, what: &'a Loop<'a>) -> Result<Self, DriveError> {
        close::close_dead(tree, view)?;
        let active_ms = loop {
            // Whether a driver was lost is decided under the append lock too: a stop may end the loop in between.
            let open = view.task().ralph.is_open();
            let active_ms = if what.fresh { 0 } else { view.task().ralph.active_ms };
            let may = |task: &Task| match (task.ralph.is_open() == open, what.adopt) {
                (false, _) => Err(Refusal::Moot),
                (true, true) => decide::may_adopt_loop(task),
                (true, false) => decide::may_start_loop(task),
            };
            match view.propose(opening(view, what, active_ms), may)? {
                Proposed::Appended(_) => break active_ms,
                Proposed::Refused(Refusal::Moot) => {}
                Proposed::Refused(refusal) => return Err(DriveError::Start(StartError::Refused(refusal))),
            }
        };
        let now = Instant::now();
        let had_root = view.task().active_root().is_some();
        let active = Duration::from_millis(active_ms);
        Ok(Self { tree, view, what, active, counted_at: now, waiting: None, root_ended: now, had_root })
    }

    /// One look and one step. `Some`: the loop is over.
    fn turn(&mut self, wake: &Wake, talk: &mut dyn FnMut(Talk<'_>)) -> Result<Option<LoopEnd>, DriveError> {
        close::close_dead(self.tree, self.view)?;
        let marker = self.reconcile_marker()?;
        let clock = self.clock();
        let look = Look { task: self.view.task(), marker, policy: self.what.policy, clock };
        let step = plan::next(look);
        let limit = plan::limit_reached(look);
        if !matches!(step, Step::WaitRuns { event: Some(_), .. }) && !self.is_wait_for_children(&step) {
            self.waiting = None;
        }
        match step {
            Step::StartRoot { attempt, why, event, previous } => {
                self.start_root(attempt, &why, event, previous, talk)?;
            }
            Step::StopRuns(runs) => {
                for run in &runs {
                    ring(&self.tree.run(&self.view.name, run));
                }
                wake.sleep(Duration::from_millis(200));
            }
            Step::WaitRuns { runs, event, look_again_ms } => {
                let children = event.is_some() || self.is_waiting_in_stream();
                if children && self.waiting.is_none() {
                    self.waiting = Some(Instant::now());
                }
                if let Some(event) = event {
                    talk(Talk::WaitingFor(&runs));
                    let line = format!("waiting for {}", count(runs.len() as u64, "active run"));
                    self.post_while_open(event, Cause::Process("runs are active".to_owned()), &line)?;
                } else {
                    wake.sleep(look_again_ms.map_or(Duration::MAX, Duration::from_millis));
                }
            }
            Step::Pause { ms, event } => match event {
                Some(event) => {
                    let line = format!("pausing {}.{} s before the next attempt", ms / 1000, ms % 1000 / 100);
                    self.post_while_open(event, Cause::Timer("backoff".to_owned()), &line)?;
                }
                None => wake.sleep(Duration::from_millis(ms)),
            },
            Step::End(end) => return self.end(end, limit, talk).map(Some),
        }
        Ok(None)
    }

    fn is_waiting_in_stream(&self) -> bool {
        matches!(self.view.task().ralph.state, run_agent_core::world::RalphState::Waiting { .. })
    }

    fn is_wait_for_children(&self, step: &Step) -> bool {
        matches!(step, Step::WaitRuns { .. }) && self.is_waiting_in_stream()
    }

    /// The driver's clock. Monotonic: it stands still while the machine sleeps.
    fn clock(&mut self) -> Clock {
        let now = Instant::now();
        if self.waiting.is_none() {
            self.active += now - self.counted_at;
        }
        self.counted_at = now;
        let has_root = self.view.task().active_root().is_some();
        if self.had_root && !has_root {
            self.root_ended = now;
        }
        self.had_root = has_root;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Clock {
            active_ms: ms(self.active),
            since_root_ms: ms(now - self.root_ended),
            waited_ms: self.waiting.map_or(0, |since| ms(now - since)),
        }
    }

    /// Posts what marker and stream disagree about; the marker wins.
    fn reconcile_marker(&mut self) -> Result<Marker, DriveError> {
        let path = self.tree.task(&self.view.name).done();
        let marker = files::marker(&path)
            .map_err(|source| DriveError::Marker { path: path.display().to_string(), source })?;
        marker::reconcile(self.view, marker)?;
        Ok(marker)
    }

    fn scope(&self) -> Scope {
        self.view.name.scope(None)
    }

    fn post_while_open(&mut self, event: Event, cause: Cause, line: &str) -> Result<(), DriveError> {
        let draft = event.draft(&self.scope(), &cause, line);
        let posted = self.view.propose(vec![draft], |task| match &task.ralph.stopping {
            Some(_) => Err(Refusal::Moot),
            None if task.ralph.is_open() => Ok(()),
            None => Err(Refusal::LoopNotOpen),
        })?;
        match posted {
            // Ended by somebody else, while this driver lives.
            Proposed::Refused(Refusal::LoopNotOpen) => Err(DriveError::Taken(self.view.name.clone())),
            // A stop that came in between wins: the next look sees it.
            Proposed::Refused(_) | Proposed::Appended(_) => Ok(()),
        }
    }

    fn start_root(
        &mut self,
        attempt: u32,
        why: &Start,
        event: Option<LoopRestart>,
        previous: Option<RunId>,
        talk: &mut dyn FnMut(Talk<'_>),
    ) -> Result<(), DriveError> {
        let cause = match why {
            Start::First | Start::Resumed => self.what.cause.clone(),
            Start::Again { .. } => previous
                .clone()
                .map_or(Cause::Timer("restart".to_owned()), |id| Cause::Process(format!("end of {id}"))),
            Start::CatchUp => Cause::Process("late results of children".to_owned()),
        };
        let request = Request {
            backend: self.what.backend,
            prompt: self.what.prompt,
            streams: Streams::Prompt,
            cwd: self.what.cwd,
            parent: self.what.parent.clone(),
            root: Some(RootStart { attempt, why, previous, event }),
            key: None,
            depth: self.what.depth,
            max_depth: self.what.max_depth,
            grace: self.what.grace,
            timeout: self.what.timeout,
            cause: &cause,
        };
        match start(self.tree, self.view, request) {
            Ok(started) => {
                talk(Talk::Started(&started));
                if let StartOutcome::Running { .. } = started.outcome {
                    self.had_root = true;
                } else {
                    self.root_ended = Instant::now();
                }
                Ok(())
            }
            // Something came first: a stop, or a root run of another driver. The next look sees it.
            Err(StartError::Refused(Refusal::LoopNotOpen)) => Err(DriveError::Taken(self.view.name.clone())),
            Err(StartError::Refused(Refusal::Stopping { .. } | Refusal::RootActive(_))) => Ok(()),
            // What stays refused however often it is tried ends the driver.
            Err(error) => Err(DriveError::Start(error)),
        }
    }

    fn end(
        &mut self,
        end: LoopEnd,
        limit: Option<&'static str>,
        talk: &mut dyn FnMut(Talk<'_>),
    ) -> Result<LoopEnd, DriveError> {
        let cause = match end.reason.as_str() {
            reason::EXHAUSTED => Cause::Limit(limit.unwrap_or("max_restarts").to_owned()),
            reason::CHILDREN => Cause::Limit("child_wait_timeout".to_owned()),
            reason::DONE | reason::DONE_NOT_A_FILE => Cause::File(DONE.to_owned()),
            _ => Cause::Process(end.reason.clone()),
        };
        let trouble = self.trouble(&end, limit);
        let line = format!("loop {}: {}", end.outcome, end.reason);
        self.post_end(&end, &cause, line, trouble)?;
        let new = self.view.refresh()?;
        talk(Talk::New(&new));
        Ok(end)
    }

    /// What a person should know about a loop that failed.
    fn trouble(&self, end: &LoopEnd, limit: Option<&'static str>) -> Option<String> {
        if end.outcome != LoopOutcome::Failed {
            return None;
        }
        let flags = self.what.flags;
        Some(match end.reason.as_str() {
            reason::EXHAUSTED => format!(
                "the loop gave up: {} reached after {}; see the last run with `run-agent status{flags}`, go on with `run-agent resume{flags}`",
                limit.unwrap_or("a limit"),
                count(u64::from(end.restarts), "restart")
            ),
            reason::DONE_NOT_A_FILE => format!(
                "{} is not a regular file; remove it, and go on with `run-agent resume{flags}`",
                self.tree.task(&self.view.name).done().display()
            ),
            reason::CHILDREN => format!(
                "DONE is set, but {} had not ended at the end of child_wait_timeout",
                count(self.view.task().active().count() as u64, "child run")
            ),
            other => format!("the loop failed: {other}"),
        })
    }

    fn post_end(
        &mut self,
        end: &LoopEnd,
        cause: &Cause,
        line: String,
        trouble: Option<String>,
    ) -> Result<(), DriveError> {
        let draft = Event::LoopEnd(end.clone()).draft(&self.scope(), cause, line);
        let boot = Machine::here().boot_id.clone();
        let own = (std::process::id(), boot.as_str());
        match self.view.propose(vec![draft], |task| decide::may_end_loop(task, Some(own)))? {
            Proposed::Appended(entries) => {
                if let (Some(trouble), Some(entry)) = (trouble, entries.first()) {
                    let mut error = Draft::new(
                        Kind::ERROR,
                        self.view.name.project.clone(),
                        Some(self.view.name.task.clone()),
                        trouble,
                    );
                    error.parents = vec![Parent::new(entry.message.id.clone(), Some("about"))];
                    self.view.post(vec![error])?;
                }
                Ok(())
            }
            // A stop ended it first.
            Proposed::Refused(Refusal::LoopTaken) => Err(DriveError::Taken(self.view.name.clone())),
            Proposed::Refused(_) => Ok(()),
        }
    }

    /// Ctrl-C or SIGTERM: the driver ends, the agent goes on.
    fn interrupted(&mut self, talk: &mut dyn FnMut(Talk<'_>)) -> Result<LoopEnd, DriveError> {
        let clock = self.clock();
        let end = LoopEnd {
            outcome: LoopOutcome::Stopped,
            reason: reason::INTERRUPTED.to_owned(),
            restarts: self.view.task().ralph.restarts,
            active_ms: clock.active_ms,
        };
        let line = "the driver was interrupted; what runs goes on".to_owned();
        self.post_end(&end, &Cause::Signal("SIGINT or SIGTERM".to_owned()), line, None)?;
        let new = self.view.refresh()?;
        talk(Talk::New(&new));
        Ok(end)
    }
}

/// What a driver posts when it takes the loop; first of all that one was lost, if the loop is open.
fn opening(view: &TaskView, what: &Loop<'_>, active_ms: u64) -> Vec<Draft> {
    let (here, own) = (Machine::here(), os::ProcessId::own());
    let scope = view.name.scope(None);
    let mut batch = Vec::new();
    let ralph = &view.task().ralph;
    if ralph.is_open() {
        let previous_pid = ralph.driver.as_ref().map(|driver| driver.driver_pid);
        let restart = SupervisorRestart { reason: "driver lost".to_owned(), previous_pid };
        let before = previous_pid.map(|pid| format!(", process {pid},")).unwrap_or_default();
        let line = format!("the loop's driver{before} is gone; process {} goes on", own.pid);
        let cause = Cause::Process("driver lost".to_owned());
        batch.push(Event::SupervisorRestart(restart).draft(&scope, &cause, line));
    }
    let start = LoopStart {
        driver_pid: own.pid,
        driver_start_ticks: own.start_ticks,
        machine_id: here.machine_id.clone(),
        boot_id: here.boot_id.clone(),
        pid_namespace: here.pid_namespace.clone(),
        fresh: what.fresh,
        active_ms,
        settings: Some(what.settings.to_owned()).filter(|text| text.len() <= SETTINGS_MAX),
        parent_run_id: what.parent.clone(),
        depth: what.depth,
    };
    let line = if what.fresh { "loop taken up again, counters set back" } else { "loop started" };
    batch.push(Event::LoopStart(start).draft(&scope, what.cause, line));
    batch
}

/// What `LOOP_START` keeps of the settings, in bytes: its fields have a bound. Larger ones are left out, and the loop
/// is adopted with what the configuration says.
const SETTINGS_MAX: usize = 16 * 1024;

/// `1 restart`, `2 restarts`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
