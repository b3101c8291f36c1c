//! Asking in a process of its own, so that whoever wants to know neither waits nor has the program below itself: the
//! steps are in `docs/agents.md`, "Versions".

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use run_agent_core::layout::Layout;

use super::{NoAnswer, Stamp, Versions, ask};
use crate::supervise::os::{self, Detach, Start};
use crate::supervise::start::program as own_program;

/// The hidden command.
const COMMAND: &str = "_version";
/// The descriptor under which it finds the lock.
const LOCK_FD: i32 = 3;
/// How long a program may take that is asked at the lowest priority.
const LIMIT: Duration = Duration::from_secs(60);
/// The lowest priority.
const NICE: i32 = 19;

/// Steps 2 and 3: has a program asked that was not asked lately. The question is given up when what this gives is
/// closed; `None` where nobody is asked.
pub(crate) fn ask_aside(layout: &Layout, program: &Path) -> io::Result<Option<File>> {
    let Some(lock) = Versions::of(layout).lock_to_ask(program) else { return Ok(None) };
    let (until, asker) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let nothing = File::options().write(true).open("/dev/null")?;
    let mut command = Command::new(own_program());
    command.arg(COMMAND).arg(layout.root()).arg(program).current_dir("/");
    // It is no process of the run's.
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"JRUN_")) {
        command.env_remove(name);
    }
    debug_assert_eq!(LOCK_FD, 3);
    let started = os::spawn(&Start {
        command: &command,
        streams: Some([until.as_fd(), nothing.as_fd(), nothing.as_fd()]),
        fds: &[lock.as_fd()],
        detach: Detach::Session,
        into: None,
    });
    // Reaped with whatever else the supervisor starts.
    started.map_err(io::Error::other)?;
    Ok(Some(File::from(asker)))
}

/// Steps 4 to 6: the hidden command's whole work.
///
/// # Errors
/// When this process was not started as it should be.
pub fn ask_for_supervisor(layout: &Layout, program: &Path) -> io::Result<()> {
    let _lock = os::inherited(LOCK_FD)?;
    let _ = rustix::process::nice(NICE);
    let stdin = io::stdin();
    // Before the question: a program that is replaced meanwhile is asked again.
    let Some(stamp) = Stamp::of(program) else { return Ok(()) };
    match ask(program, LIMIT, Some(stdin.as_fd())) {
        Ok(version) => Versions::of(layout).keep(program, stamp, Some(version)),
        Err(NoAnswer::GivenUp) => {}
        // Left alone for a while.
        Err(_) => Versions::of(layout).keep(program, stamp, None),
    }
    Ok(())
}
