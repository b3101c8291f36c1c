//! A run that keeps the terminal (`wrap`): starter and supervisor are one process in the foreground, which shares its
//! process group, stdin, stdout and stderr with the command. So the terminal's signals reach both, and the shell's job
//! control sees one job. Such a run survives neither its terminal nor, as a usable program, this process.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::super::os::{self, ProcessId};
use super::super::record::{self, Note};
use super::super::start::Made;
use super::{Begun, Starter, SuperviseError, Supervisor, Wake};
use crate::output::Marker;
use crate::tree::Tree;
use crate::view::TaskView;
use crate::{failpoint, files};

/// The terminal halts this process and the command at once. A command that stays halted for so long without this
/// process was halted by somebody else.
const HALTED_ALONE: Duration = Duration::from_millis(100);

/// Runs a command that was made with `Streams::Terminal`, and returns when its end stands in the stream.
///
/// # Errors
/// When the run cannot be prepared or closed; whoever looks next closes it.
pub fn keep_terminal(tree: &Tree, view: TaskView, made: Made) -> Result<(), SuperviseError> {
    let Made { launch, paths: run, lock, .. } = made;
    let marker = Marker::new(&run);
    let modes = Modes::save();
    let mut supervisor = Supervisor { modes, ..Supervisor::new(tree, launch, view, run, lock, marker) };
    take_signals(supervisor.wake.clone()).map_err(SuperviseError::Prepare)?;
    os::cgroup::leave();
    os::become_subreaper();
    record::note(&supervisor.lock, &Note::Supervisor(ProcessId::own())).map_err(SuperviseError::Prepare)?;
    failpoint::here("supervisor.noted");
    say_where_output_went(&supervisor.run, &supervisor.launch.agent).map_err(SuperviseError::Prepare)?;
    match supervisor.start(&mut Starter::default()) {
        Ok(Begun::Running { .. }) => supervisor.watch(),
        Ok(Begun::Refused(refusal)) => supervisor.end_refused(&refusal.to_string()),
        Err(failure) => supervisor.end_not_started(failure),
    }
}

/// The files that every run has. The command may write an `output.md` of its own over this one.
fn say_where_output_went(run: &run_agent_core::layout::RunPaths, agent: &str) -> io::Result<()> {
    for path in [run.stdout(), run.stderr()] {
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    }
    let text = format!("`{agent}` ran on a terminal: what it printed stayed there and was not recorded.\n");
    files::replace(&run.output(), text.as_bytes(), false)
}

/// The terminal sends SIGINT and SIGQUIT to the command as well; what is sent to this process alone is passed on.
fn take_signals(send: Sender<Wake>) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, flag.clone())?;
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if send.send(Wake::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

impl Supervisor<'_> {
    pub(super) fn pass_on(&self, signal: i32) {
        if let (Some(agent), Ok(signal)) = (self.agent, Signal::try_from(signal)) {
            // One that is gone needs no signal.
            let _ = agent.signal(signal);
        }
    }

    /// A command that halts itself, as full-screen programs do on Ctrl-Z, halts its shell's job: without this the shell
    /// would wait for ever.
    pub(super) fn halt_too(&mut self) {
        let deadline = Instant::now() + HALTED_ALONE;
        while self.exit.is_none() {
            match self.wakes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Wake::Continued) => return,
                Ok(Wake::Halted(_)) => {}
                Ok(other) => self.woken(other),
                Err(_) => {
                    let _ = raise(Signal::SIGSTOP);
                    return;
                }
            }
        }
    }
}

/// How a terminal was set.
pub(super) struct Modes(Termios);

impl Modes {
    fn save() -> Option<Self> {
        tcgetattr(io::stdin()).ok().map(Self)
    }

    /// For a command that was killed and could not do it. Only who holds the terminal may.
    pub(super) fn restore(self) {
        let own = rustix::process::getpgrp();
        if tcgetpgrp(io::stdin()).is_ok_and(|holder| holder == own) {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        }
    }
}
