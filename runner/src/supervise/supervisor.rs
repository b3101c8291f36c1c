//! The supervisor: one small detached process that owns one run (steps 6 to 10 of starting, and all of ending, in
//! `docs/supervision.md`), or takes over one whose supervisor was lost. It sleeps while nothing happens.

mod begin;
mod ears;
mod end;
pub(crate) mod hearing;
mod silence;
mod slot;
mod take_over;
mod terminal;
mod version;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use run_agent_core::cause::Cause;
use run_agent_core::event::{RunOutcome, Stopping};
use run_agent_core::follow::FollowError;
use run_agent_core::layout::RunPaths;
use run_agent_core::store::ReadError;

use self::begin::Begun;
use self::ears::{Commands, Heard};
use self::hearing::Hearing;
use self::silence::Silence;
pub use self::terminal::keep_terminal;
use super::launch::{HERE, LOCK_FD, Order, REPORT_FD, Report, STDIN_FD};
use super::os::{self, Cgroup, ProcessId};
use super::record::{self, Note};
use super::{Launch, Streams, close};
use crate::agent::rest::{Calling, Over};
use crate::agent::secrets::Secrets;
use crate::failpoint;
use crate::output::Marker;
use crate::slots::Slots;
use crate::sync_clock;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};

/// How close two marks of output may stand.
const MARK_EVERY: Duration = Duration::from_millis(20);
/// A lost ring of the doorbell is made good after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

enum Wake {
    /// This process has ended.
    Ended(u32, Exit),
    /// The request is over.
    Asked(Over),
    /// On a terminal: the command was halted, or goes on.
    Halted(u32),
    Continued,
    /// On a terminal: what only this process was sent, and the command is to have.
    Signal(i32),
    Bell,
    /// A command of the agent's blocks, returns, or is gone.
    Command(Heard),
    /// Output has grown; the flag says that this hint is on its way, so that one is enough.
    Output(Arc<AtomicBool>),
}

/// How the agent's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Code(i32),
    Signal(i32),
    /// Somebody else was its parent, and the kernel does not tell.
    Unknown,
}

struct Supervisor<'a> {
    tree: &'a Tree,
    launch: Launch,
    view: TaskView,
    run: RunPaths,
    lock: File,
    wakes: Receiver<Wake>,
    wake: Sender<Wake>,
    agent: Option<ProcessId>,
    /// What the agent is when it has no process.
    calling: Option<Calling>,
    /// The one before this was the agent's parent: orphans do not come here.
    took_over: bool,
    /// The run's own, where it has one.
    cgroup: Option<Cgroup>,
    exit: Option<Exit>,
    /// Its part of the limit; absent where nobody counts.
    slots: Option<Slots>,
    /// While it waits for a slot: when it looks again.
    look_at: Option<Instant>,
    /// The agent's commands that block.
    commands: Commands,
    /// What the agent is to read instead of its prompt.
    stdin: Option<File>,
    /// How the terminal was set when it was lent to the command.
    modes: Option<terminal::Modes>,
    began: Instant,
    marker: Marker,
    /// Output has grown: when a mark of it is made, and what tells that it was.
    mark: Option<(Instant, Arc<AtomicBool>)>,
    /// What is told nowhere.
    secrets: Secrets,
    /// What its output says, where somebody can read it.
    hearing: Option<Hearing>,
    silence: Silence,
    /// While somebody asks the agent's program for its version: given up when this is closed.
    asking: Option<File>,
}

/// How and why this supervisor ends its run.
struct Ending {
    outcome: RunOutcome,
    reason: String,
    cause: Cause,
}

impl Ending {
    fn on_request(by: &str) -> Self {
        Self {
            outcome: RunOutcome::Stopped,
            reason: format!("stopped on request of {by}"),
            cause: Cause::Person(by.to_owned()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("the supervisor was not started by run-agent: {0}")]
    Handover(io::Error),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("cannot prepare the run")]
    Prepare(#[source] io::Error),
}

/// The hidden subcommand's whole work, with the order that was read from stdin.
///
/// # Errors
/// When the run cannot even be closed; whoever looks next closes it.
pub fn supervise(tree: &Tree, order: Order) -> Result<(), SuperviseError> {
    let report = os::inherited(REPORT_FD).map_err(SuperviseError::Handover)?;
    let lock = os::inherited(LOCK_FD).map_err(SuperviseError::Handover)?;
    ignore_signals().map_err(SuperviseError::Prepare)?;
    os::cgroup::leave();
    let (launch, is_new) = match order {
        Order::Start(launch) => (*launch, true),
        Order::TakeOver(launch) => (*launch, false),
    };
    let stdin = match launch.streams {
        Streams::CallerInput if is_new => Some(os::inherited(STDIN_FD).map_err(SuperviseError::Handover)?),
        Streams::Prompt | Streams::CallerInput | Streams::Terminal | Streams::Nothing => None,
    };
    let name = TaskName { project: launch.project.clone(), task: launch.task.clone() };
    if !is_new {
        sync_clock::keep_synced(tree, &name.key());
        return take_over::take_over(tree, &name, launch, lock, report);
    }
    os::become_subreaper();
    record::note(&lock, &Note::Supervisor(ProcessId::own())).map_err(SuperviseError::Prepare)?;
    failpoint::here("supervisor.noted");
    let view = TaskView::open(tree, &name)?;
    let run = tree.run(&name, &launch.run);
    let marker = Marker::new(&run);
    let slots = Slots::of(tree, &name, &launch.run, launch.max_agents);
    Supervisor { stdin, slots, ..Supervisor::new(tree, launch, view, run, lock, marker) }
        .begin_to_hear()
        .run(Starter::new(report))
}

/// Tells the starter that this process has come up, before it is sent the order: one that was to come up by a detour.
///
/// # Errors
/// When this process was not started as it should be.
pub fn say_here() -> Result<(), SuperviseError> {
    let mut report = os::inherited(REPORT_FD).map_err(SuperviseError::Handover)?;
    // Blank: what follows is the report itself. A starter that is gone reads nothing.
    let _ = report.write_all(HERE);
    // It is taken once more when the order has come.
    let _ = report.into_raw_fd();
    Ok(())
}

/// A supervisor that got no whole order: its starter was killed. It closes the run.
///
/// # Errors
/// When it cannot; whoever looks next does.
pub fn close_without_order(tree: &Tree, name: &TaskName) -> Result<(), SuperviseError> {
    let lock = os::inherited(LOCK_FD).map_err(SuperviseError::Handover)?;
    drop(lock);
    let mut view = TaskView::open(tree, name)?;
    close::close_dead(tree, &mut view)?;
    Ok(())
}

/// Only `run-agent stop` stops a run: a supervisor survives what a terminal or a service manager sends around.
fn ignore_signals() -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    // A handler that does nothing, unlike SIG_IGN, is not inherited through exec.
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(())
}

/// Who started this supervisor, and waits to hear how it went. Told once.
/// It may wait on for the pipe's end, which comes with this process's.
#[derive(Default)]
struct Starter {
    report: Option<File>,
    told: bool,
}

impl Starter {
    fn new(report: File) -> Self {
        Self { report: Some(report), told: false }
    }

    fn tell(&mut self, what: &Report) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let (Some(report), Ok(mut line)) = (&mut self.report, serde_json::to_vec(what)) else { return };
        line.push(b'\n');
        // A starter that was killed reads nothing: the stream tells as well.
        let _ = report.write_all(&line);
    }
}

impl<'a> Supervisor<'a> {
    fn new(
        tree: &'a Tree,
        launch: Launch,
        view: TaskView,
        run: RunPaths,
        lock: File,
        marker: Marker,
    ) -> Self {
        let (wake, wakes) = channel();
        let (agent, cgroup, exit, stdin, modes) = (None, None, None, None, None);
        let (began, silence) = (Instant::now(), Silence::new(&launch));
        let secrets = Secrets::of(&launch.secrets, &launch.env);
        Self {
            tree,
            launch,
            view,
            run,
            lock,
            wakes,
            wake,
            agent,
            calling: None,
            took_over: false,
            cgroup,
            exit,
            slots: None,
            look_at: None,
            commands: Commands::default(),
            stdin,
            modes,
            began,
            marker,
            mark: None,
            secrets,
            hearing: None,
            silence,
            asking: None,
        }
    }

    fn begin_to_hear(mut self) -> Self {
        self.hearing = Hearing::of(&self);
        self
    }

    fn run(mut self, mut starter: Starter) -> Result<(), SuperviseError> {
        match self.start(&mut starter) {
            Ok(Begun::Running { pid }) => {
                starter.tell(&Report::Started { pid });
                failpoint::here("supervisor.reported");
                self.ask_version();
                self.watch()
            }
            Ok(Begun::Refused(refusal)) => {
                let why = refusal.to_string();
                self.end_refused(&why)?;
                starter.tell(&Report::Refused { why });
                Ok(())
            }
            Err(failure) => {
                let why = failure.why.clone();
                self.end_not_started(failure)?;
                starter.tell(&Report::Failed { why });
                Ok(())
            }
        }
    }

    /// Sleeps until the agent ends, a stop is asked for, its time is up, or it hangs.
    fn watch(mut self) -> Result<(), SuperviseError> {
        let mut next_look = Instant::now() + LOOK_AGAIN;
        loop {
            if let Some(exit) = self.exit {
                return self.after_exit(exit);
            }
            if let Some(stopping) = self.stop_asked_for() {
                let ending = Ending::on_request(&stopping.by);
                return self.stop(&stopping, ending);
            }
            if let Some((how, ending)) = self.overdue() {
                return self.stop(&how, ending);
            }
            self.see_to_slot();
            let next = self.look_at.map_or(next_look, |at| at.min(next_look));
            let nap = self.silence.nap().min(next.saturating_duration_since(Instant::now()));
            self.sleep(nap);
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_AGAIN;
                // What cannot be read now is read at the next look. A task that was deleted under its agent is another
                // matter: no command can reach the agent any more.
                if let Err(ViewError::Follow(FollowError::Read(ReadError::Gone { .. }))) = self.view.refresh()
                {
                    let how = Stopping { by: "deletion of the task".to_owned(), ..Stopping::default() };
                    let ending = Ending::on_request(&how.by);
                    return self.stop(&how, ending);
                }
            }
        }
    }

    /// Sleeps until something happens, at most `nap`.
    fn sleep(&mut self, nap: Duration) {
        let mark_in = self.mark.as_ref().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let news_in = self.hearing.as_ref().and_then(Hearing::due_at);
        let news_in = news_in.map(|at| at.saturating_duration_since(Instant::now()));
        let nap = mark_in.into_iter().chain(news_in).fold(nap, Duration::min);
        self.silence.before_sleep(nap);
        let woken = self.wakes.recv_timeout(nap);
        self.silence.after_sleep();
        match woken {
            Ok(wake) => self.woken(wake),
            // This value holds a sender: the channel never closes.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if self.mark.as_ref().is_some_and(|(at, _)| *at <= Instant::now()) {
            self.make_mark();
        } else if news_in.is_some() {
            self.tell_news();
        }
    }

    fn make_mark(&mut self) {
        let Some((_, grown)) = self.mark.take() else { return };
        // Cleared first: what grows while the mark is made sends another hint.
        grown.store(false, Ordering::Relaxed);
        self.marker.look(&self.run);
        self.silence.output_grew();
        if self.hear() {
            self.mark = Some((Instant::now(), grown));
        }
    }

    fn woken(&mut self, wake: Wake) {
        match wake {
            Wake::Ended(pid, exit) => {
                if self.is_agent(pid) {
                    self.exit = Some(exit);
                }
            }
            Wake::Asked(over) => self.exit = Some(Exit::of_request(over)),
            Wake::Halted(pid) if self.is_agent(pid) => self.halt_too(),
            Wake::Halted(_) | Wake::Continued => {}
            Wake::Signal(signal) => self.pass_on(signal),
            Wake::Command(heard) => self.commands.hear(heard),
            Wake::Bell => {
                self.look_at = self.look_at.map(|_| Instant::now());
                // What the stream cannot tell now it tells at the next look.
                let _ = self.view.refresh();
            }
            // Marked a little later, so that much output makes few marks; what ends the agent is not kept waiting.
            Wake::Output(grown) => self.mark = Some((Instant::now() + MARK_EVERY, grown)),
        }
    }

    fn is_agent(&self, pid: u32) -> bool {
        self.agent.is_some_and(|agent| agent.pid == pid)
    }

    fn stop_asked_for(&self) -> Option<Stopping> {
        let task = self.view.task();
        let own = self.view.run(&self.launch.run).and_then(|run| run.stopping.as_deref().cloned());
        own.or_else(|| task.ralph.stopping.as_ref().map(|request| request.how.clone()))
    }
}

/// Reaps the agent and every orphan that this process inherits, until there is nothing left to wait for. `halts`: tells
/// of those that were halted and go on, too.
fn reap(send: Sender<Wake>, halts: bool) {
    let flags = halts.then_some(WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED);
    let reaper = std::thread::Builder::new().name("reaper".to_owned());
    let _ = reaper.spawn(move || {
        loop {
            let pid_of = |pid: nix::unistd::Pid| u32::try_from(pid.as_raw()).unwrap_or(0);
            let wake = match waitpid(None, flags) {
                Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) => {
                    Wake::Ended(pid_of(pid), Exit::of(status))
                }
                Ok(WaitStatus::Stopped(pid, _)) => Wake::Halted(pid_of(pid)),
                Ok(WaitStatus::Continued(_)) => Wake::Continued,
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return,
            };
            if send.send(wake).is_err() {
                return;
            }
        }
    });
}
