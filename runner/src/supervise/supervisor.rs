//! The supervisor: one small detached process that owns one run (steps 6 to 10 of starting, and all of ending, in
//! `docs/supervision.md`). It sleeps while nothing happens.

mod begin;
mod ears;
mod silence;
mod slot;
mod terminal;

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use notify::{RecursiveMode, Watcher};
use run_agent_core::cause::Cause;
use run_agent_core::event::{RunEnd, RunOutcome, Stopping};
use run_agent_core::follow::FollowError;
use run_agent_core::layout::RunPaths;
use run_agent_core::store::ReadError;

use self::begin::{Begun, StartFailure};
use self::ears::{Commands, Heard};
use self::silence::Silence;
pub use self::terminal::keep_terminal;
use super::launch::{LOCK_FD, REPORT_FD, Report, STDIN_FD};
use super::os::{self, ProcessId};
use super::record::{self, Note};
use super::set::{self, Owner};
use super::{Launch, Streams, close, ladder, left_overs};
use crate::failpoint;
use crate::output::Marker;
use crate::slots::Slots;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};

/// How close two marks of output may stand.
const MARK_EVERY: Duration = Duration::from_millis(20);
/// A lost ring of the doorbell is made good after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How often, and how far apart, it is looked whether anything outlives the agent, before every process of the system
/// is looked at.
const NOTHING_LEFT_LOOKS: u32 = 10;
const NOTHING_LEFT_NAP: Duration = Duration::from_millis(3);

enum Wake {
    Reaped(u32, WaitStatus),
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

struct Supervisor<'a> {
    tree: &'a Tree,
    launch: Launch,
    view: TaskView,
    run: RunPaths,
    lock: File,
    wakes: Receiver<Wake>,
    wake: Sender<Wake>,
    agent: Option<ProcessId>,
    exit: Option<WaitStatus>,
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
    silence: Silence,
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
pub fn supervise(tree: &Tree, launch: Launch) -> Result<(), SuperviseError> {
    let report = os::inherited(REPORT_FD).map_err(SuperviseError::Handover)?;
    let lock = os::inherited(LOCK_FD).map_err(SuperviseError::Handover)?;
    let stdin = match launch.streams {
        Streams::CallerInput => Some(os::inherited(STDIN_FD).map_err(SuperviseError::Handover)?),
        Streams::Prompt | Streams::Terminal | Streams::Nothing => None,
    };
    ignore_signals().map_err(SuperviseError::Prepare)?;
    os::become_subreaper();
    record::note(&lock, &Note::Supervisor(ProcessId::own())).map_err(SuperviseError::Prepare)?;
    failpoint::here("supervisor.noted");

    let name = TaskName { project: launch.project.clone(), task: launch.task.clone() };
    let view = TaskView::open(tree, &name)?;
    let run = tree.run(&name, &launch.run);
    let marker = Marker::new(&run).map_err(SuperviseError::Prepare)?;
    let (wake, wakes) = channel();
    let began = Instant::now();
    crate::sync_clock::keep_synced(tree, &name.key());
    let slots = Slots::of(tree, &name, &launch.run, launch.max_agents);
    let (agent, exit, modes, look_at, commands) = (None, None, None, None, Commands::default());
    let silence = Silence::new(&launch);
    Supervisor {
        tree,
        launch,
        view,
        run,
        lock,
        wakes,
        wake,
        agent,
        exit,
        slots,
        look_at,
        commands,
        stdin,
        modes,
        began,
        marker,
        silence,
    }
    .run(Starter(Some(report)))
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
struct Starter(Option<File>);

impl Starter {
    fn tell(&mut self, what: &Report) {
        let Some(mut report) = self.0.take() else { return };
        // A starter that was killed reads nothing: the stream tells as well.
        let _ = serde_json::to_writer(&report, what).map(|()| report.flush());
    }
}

impl Supervisor<'_> {
    fn run(mut self, mut starter: Starter) -> Result<(), SuperviseError> {
        match self.start(&mut starter) {
            Ok(Begun::Running(agent)) => {
                starter.tell(&Report::Started { pid: agent.pid });
                failpoint::here("supervisor.reported");
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

    fn end_refused(self, why: &str) -> Result<(), SuperviseError> {
        let end = RunEnd {
            status: RunOutcome::Stopped,
            reason: "stopped before it started".to_owned(),
            ..RunEnd::default()
        };
        self.end(end, &Cause::Process(why.to_owned()))
    }

    fn end_not_started(self, failure: StartFailure) -> Result<(), SuperviseError> {
        let end = RunEnd {
            status: RunOutcome::Failed,
            reason: failure.why,
            error_class: Some(failure.class.to_owned()),
            ..RunEnd::default()
        };
        self.end(end, &Cause::Process("the agent could not be started".to_owned()))
    }

    /// Sleeps until the agent ends, a stop is asked for, its time is up, or it hangs.
    fn watch(mut self) -> Result<(), SuperviseError> {
        let grown = Arc::new(AtomicBool::new(false));
        let to_files = self.launch.streams != Streams::Terminal;
        let _watcher = to_files.then(|| watch_output(&self.run, self.wake.clone(), grown.clone()));
        let mut next_look = Instant::now() + LOOK_AGAIN;
        self.silence.begin(self.began);
        loop {
            if let Some(status) = self.exit {
                return self.after_exit(status);
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
        self.silence.before_sleep(nap);
        let woken = self.wakes.recv_timeout(nap);
        self.silence.after_sleep();
        match woken {
            Ok(wake) => self.woken(wake),
            // This value holds a sender: the channel never closes.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    fn woken(&mut self, wake: Wake) {
        match wake {
            Wake::Reaped(pid, status) => {
                if self.is_agent(pid) {
                    self.exit = Some(status);
                }
            }
            Wake::Halted(pid) if self.is_agent(pid) => self.halt_too(),
            Wake::Halted(_) | Wake::Continued => {}
            Wake::Signal(signal) => self.pass_on(signal),
            Wake::Command(heard) => self.commands.hear(heard),
            Wake::Bell => {
                self.look_at = self.look_at.map(|_| Instant::now());
                // What the stream cannot tell now it tells at the next look.
                let _ = self.view.refresh();
            }
            Wake::Output(grown) => {
                std::thread::sleep(MARK_EVERY);
                // Cleared first: what grows while the mark is made sends another hint.
                grown.store(false, Ordering::Relaxed);
                self.marker.look(&self.run);
                self.silence.output_grew();
            }
        }
    }

    fn is_agent(&self, pid: u32) -> bool {
        self.agent.is_some_and(|agent| agent.pid == pid)
    }

    fn stop_asked_for(&self) -> Option<Stopping> {
        let task = self.view.task();
        let own = self.view.run(&self.launch.run).and_then(|run| run.stopping.clone());
        own.or_else(|| task.ralph.stopping.as_ref().map(|request| request.how.clone()))
    }

    fn after_exit(mut self, status: WaitStatus) -> Result<(), SuperviseError> {
        failpoint::here("supervisor.reaped");
        self.commands.let_go();
        self.marker.look(&self.run);
        // What a person's own command on a terminal leaves running is the person's.
        let streams = self.launch.streams;
        let left = match streams {
            Streams::Terminal => Vec::new(),
            // A look at every process of the system costs more than the rest of a run.
            _ if self.nothing_is_left() => Vec::new(),
            Streams::Prompt | Streams::CallerInput | Streams::Nothing => {
                left_overs::end(&[Self::owner(self.launch.run.as_str(), self.agent)])
            }
        };
        let (exit_code, signal) = code_of(status);
        // A stop that was asked for in the same moment counts as what ended it.
        let _ = self.view.refresh();
        let asked = self.stop_asked_for();
        let mut end = self.end_with(exit_code, signal);
        end.left_overs = left_overs::names(&left);
        let cause = match signal {
            Some(signal) => Cause::Signal(signal_name(signal)),
            None => Cause::Process(format!("exit:{exit_code}")),
        };
        if let Some(stopping) = asked {
            end.status = RunOutcome::Stopped;
            end.reason = format!("stopped on request of {}", stopping.by);
            end.error_class = None;
        }
        self.end(end, &cause)
    }

    /// What ends with the agent gets a moment: supervisors of its children, which it inherits, post their ends first.
    fn nothing_is_left(&mut self) -> bool {
        for _ in 0..NOTHING_LEFT_LOOKS {
            if !os::has_children() {
                return true;
            }
            self.sleep(NOTHING_LEFT_NAP);
        }
        false
    }

    fn end_with(&self, exit_code: i32, signal: Option<i32>) -> RunEnd {
        let (reason, class) = match (exit_code, signal) {
            (_, Some(signal)) => (format!("killed by {}", signal_name(signal)), Some("killed")),
            (0, None) => ("exit code 0".to_owned(), None),
            (code, None) => (format!("exit code {code}"), Some("crash")),
        };
        RunEnd {
            status: if exit_code == 0 { RunOutcome::Completed } else { RunOutcome::Failed },
            exit_code: Some(exit_code),
            signal,
            duration_ms: Some(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            reason,
            error_class: class.map(str::to_owned),
            output_path: Some(self.run.output().display().to_string()),
            left_overs: None,
        }
    }

    /// Whose processes this supervisor's are.
    fn owner<'a>(run: &'a str, agent: Option<ProcessId>) -> Owner<'a> {
        let own = std::process::id();
        Owner { run, agent, supervisor: Some(own), asker: own }
    }

    /// The ladder, then the end.
    fn stop(mut self, how: &Stopping, ending: Ending) -> Result<(), SuperviseError> {
        failpoint::here("supervisor.stopping");
        self.commands.let_go();
        let (run, agent) = (self.launch.run.to_string(), self.agent);
        let find = || set::of_run(&os::processes().unwrap_or_default(), Self::owner(&run, agent));
        let grace = Duration::from_millis(how.grace_ms);
        let left = ladder::end(find, grace, |nap| self.sleep(nap));
        self.marker.look(&self.run);
        // The agent is gone; its status may be on its way through the reaper's channel.
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.exit.is_none() && left.is_empty() && Instant::now() < deadline {
            self.sleep(Duration::from_millis(20));
        }
        let (exit_code, signal) = self.exit.map_or((-1, None), code_of);
        let mut end = self.end_with(exit_code, signal);
        (end.status, end.reason) = (ending.outcome, ending.reason);
        end.error_class = (ending.outcome == RunOutcome::Failed).then(|| "killed".to_owned());
        end.left_overs = left_overs::names(&left).map(|names| format!("could not be ended: {names}"));
        self.end(end, &ending.cause)
    }

    fn end(mut self, end: RunEnd, cause: &Cause) -> Result<(), SuperviseError> {
        if let (Some(modes), Some(_)) = (self.modes.take(), end.signal) {
            modes.restore();
        }
        // The next process that looks finishes with this note what is not finished here.
        let _ = record::note(&self.lock, &Note::Exit(Box::new(end.clone())));
        failpoint::here("supervisor.exit_noted");
        let id = self.launch.run.clone();
        let ended = close::end_run(self.tree, &mut self.view, &id, end, cause);
        failpoint::here("supervisor.ended");
        // After the end is told: nobody who reads the stream sees more at work than there are slots.
        self.leave_slot();
        ended?;
        Ok(())
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
                    Wake::Reaped(pid_of(pid), status)
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

fn watch_output(
    run: &RunPaths,
    send: Sender<Wake>,
    grown: Arc<AtomicBool>,
) -> Option<notify::RecommendedWatcher> {
    let names = [run.stdout(), run.stderr()];
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns =
            event.is_ok_and(|event| event.kind.is_modify() && event.paths.iter().any(|p| names.contains(p)));
        if concerns && !grown.swap(true, Ordering::Relaxed) {
            let _ = send.send(Wake::Output(grown.clone()));
        }
    });
    watcher.and_then(|mut w| w.watch(run.folder(), RecursiveMode::NonRecursive).map(|()| w)).ok()
}

fn code_of(status: WaitStatus) -> (i32, Option<i32>) {
    match status {
        WaitStatus::Exited(_, code) => (code, None),
        WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal as i32)),
        _ => (-1, None),
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.as_str().to_owned())
}
