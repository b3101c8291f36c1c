//! Starting a loop's driver as a process of its own (steps 2, 3 and 7 of "A loop's driver" in `docs/supervision.md`).
//! What order and report say is their writers' matter; here they are bytes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus};

use rustix::fs::OFlags;

use crate::failpoint;
use crate::files;
use crate::starting::Starting;
use crate::supervise::os::{self, Detach};
use crate::supervise::start::program;
use crate::tree::{TaskName, Tree};

/// The hidden command that a detached driver is called with.
pub const COMMAND: &str = "_drive";

/// The descriptors under which the driver finds its report pipe, and the start that is on its way with it.
const REPORT_FD: i32 = 3;
const STARTING_FD: i32 = 4;

/// What became of a driver that was started.
#[derive(Debug)]
pub enum Answer {
    /// What it reported.
    Reported(Vec<u8>),
    /// It ended before it could: how, where the system tells.
    Silent(Option<ExitStatus>),
}

/// Starts a driver for a task's loop and waits for its report: it comes when the loop is taken, or cannot be.
/// `flags` stand before the command, and say where it works. `starting` is the driver's from here on.
///
/// # Errors
/// When the process cannot be started.
pub fn start(
    tree: &Tree,
    name: &TaskName,
    flags: &[OsString],
    order: &[u8],
    starting: Option<Starting>,
) -> io::Result<Answer> {
    let (order_read, order_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (report, report_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let log = open_log(tree, name)?;
    let mut command = Command::new(program());
    command.args(flags).arg(COMMAND);
    // The caller may be an agent: what it is says nothing about the driver, which may outlive it.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("JRUN_") {
            command.env_remove(variable);
        }
    }
    command.env("JRUN_ROOT", tree.layout.root());
    // A loop that a run starts is not that run's process.
    let outside = os::cgroup::outside().and_then(|cgroup| cgroup.open().ok());
    debug_assert_eq!((REPORT_FD, STARTING_FD), (3, 4));
    let mut fds = vec![report_write.as_fd()];
    fds.extend(starting.as_ref().map(AsFd::as_fd));
    let driver = os::spawn(&os::Start {
        command: &command,
        streams: Some([order_read.as_fd(), log.as_fd(), log.as_fd()]),
        fds: &fds,
        detach: Detach::Session,
        into: outside.as_ref().map(AsFd::as_fd),
    });
    let driver = driver.map_err(io::Error::other)?;
    drop((order_read, report_write, starting));
    failpoint::here("detach.spawned");
    // A driver that died already closes the pipe: that it reports nothing tells.
    let _ = File::from(order_write).write_all(order);
    failpoint::here("detach.ordered");
    let mut text = Vec::new();
    File::from(report).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(Answer::Silent(driver.wait().ok()));
    }
    // Reaped when it ends, should this process live so long.
    let _ = std::thread::Builder::new().name("driver".to_owned()).spawn(move || driver.wait());
    Ok(Answer::Reported(text))
}

/// Opens the task's log. An agent can put anything there: a link is not followed, and a pipe not waited on.
fn open_log(tree: &Tree, name: &TaskName) -> io::Result<File> {
    let path = tree.task(name).driver_log();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let open = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(&path);
    open.and_then(files::regular).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// What the starter of this process was about to start: once, and nothing where a loop is adopted.
#[must_use]
pub fn starting() -> Option<Starting> {
    Starting::inherited(STARTING_FD)
}

/// The driver's end of the report pipe.
#[derive(Debug)]
pub struct Reporter(File);

impl Reporter {
    /// Takes what [`start`] gave this process, once.
    ///
    /// # Errors
    /// When it was not started so.
    pub fn inherited() -> io::Result<Self> {
        os::inherited(REPORT_FD).map(Self)
    }

    /// Says how it went. False when the starter is gone, and nobody hears it.
    #[must_use]
    pub fn report(mut self, text: &[u8]) -> bool {
        let heard = self.0.write_all(text).is_ok();
        failpoint::here("driver.reported");
        heard
    }
}
