//! Asking a program which version it is of: in a process group of its own, for a bounded time, with nothing of its
//! output going anywhere.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use run_agent_core::policy::versions;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::interrupt::{self, Interrupt, Waited};

/// What keeps the CLIs from doing more than they are asked for.
const QUIET: [(&str, &str); 4] = [
    ("DISABLE_AUTOUPDATER", "1"),
    ("GEMINI_CLI_NO_RELAUNCH", "true"),
    ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
    ("NO_COLOR", "1"),
];
/// More than this a program does not say about its version: a pipe holds as much.
const ANSWER_MAX: u64 = 64 * 1024;

/// Why a program's version is not known.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    #[error("it cannot be started ({0})")]
    NotStarted(#[from] io::Error),
    #[error("`--version` fails ({0})")]
    Failed(ExitStatus),
    #[error("`--version` does not end within {} s", .0.as_secs())]
    Late(Duration),
    #[error("`--version` prints no version")]
    NoVersion,
    #[error("the question was given up")]
    GivenUp,
}

/// Asks, for so long at most. Given up when something is to be read from `until`, or its other end is closed. Nothing of
/// the program's process group is left when this returns.
///
/// # Errors
/// When there is no answer.
pub fn ask(program: &Path, limit: Duration, until: Option<BorrowedFd<'_>>) -> Result<String, NoAnswer> {
    let (mut answer, theirs) = io::pipe()?;
    let mut command = Command::new(program);
    command.arg("--version").envs(QUIET).current_dir("/").process_group(0);
    // It is no process of the run that asks.
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"JRUN_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // It holds the write end, and with it a program that has ended would seem to go on.
    drop(command);
    let ended = wait(&child, limit, until);
    // Not reaped yet: its number is its own, and so is that of its group.
    end_group(&child);
    let status = child.wait()?;
    ended?;
    if !status.success() {
        return Err(NoAnswer::Failed(status));
    }
    versions::printed(&text(&mut answer)?).map(str::to_owned).ok_or(NoAnswer::NoVersion)
}

/// Asks several at once, for a person who waits: an interrupt gives all questions up.
#[must_use]
pub fn ask_all<'a>(
    programs: impl IntoIterator<Item = &'a Path>,
    limit: Duration,
    interrupt: &Interrupt,
) -> Vec<Result<String, NoAnswer>> {
    let until = interrupt.as_fd();
    std::thread::scope(|scope| {
        let ask = |program: &'a Path| scope.spawn(move || ask(program, limit, Some(until)));
        let asked: Vec<_> = programs.into_iter().map(ask).collect();
        let gone = |_| Err(NoAnswer::GivenUp);
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
    })
}

/// Waits for the program's end, and leaves it to be reaped.
fn wait(child: &Child, limit: Duration, until: Option<BorrowedFd<'_>>) -> Result<(), NoAnswer> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput).map_err(io::Error::from)?;
    let (ended, ends) = io::pipe()?;
    // Ends with the program, which is ended in any case.
    std::thread::Builder::new().name("asked".to_owned()).spawn(move || {
        let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), end) {}
        drop(ends);
    })?;
    match interrupt::wait(&ended, limit, until)? {
        Waited::Ended => Ok(()),
        Waited::Late => Err(NoAnswer::Late(limit)),
        Waited::GivenUp => Err(NoAnswer::GivenUp),
    }
}

fn end_group(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // What has ended already needs no signal.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// What stands in the pipe: whoever else holds it open is not waited for.
fn text(answer: &mut PipeReader) -> io::Result<String> {
    let flags = rustix::fs::fcntl_getfl(answer.as_fd())?;
    rustix::fs::fcntl_setfl(answer.as_fd(), flags | rustix::fs::OFlags::NONBLOCK)?;
    let mut bytes = Vec::new();
    match answer.take(ANSWER_MAX).read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}
