//! How a supervisor comes to be: a detached process of its own, with the run's locked descriptor and its order.
//!
//! Where a service manager looks after the user, a supervisor gets a scope of its own (`systemd-run --user --scope`), so
//! that it does not end with the service or session that started it. That is a detour through programs of others:
//! the supervisor is sent its order only when it has said that it is there, and one that does not say so in time is
//! ended before it could do anything, and started without.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use run_agent_core::RunId;
use run_agent_core::layout::RunPaths;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::launch::{HERE, LOCK_FD, Launch, REPORT_FD, STDIN_FD, Streams};
use super::os::{self, Detach, ProcessId, Spawned};
use super::start::{program, set_environment};
use crate::failpoint;
use crate::tree::Tree;

/// How long a supervisor may take to come up in a scope.
const SCOPE_WITHIN: Duration = Duration::from_secs(2);

/// Set once the service manager failed this process: it is not asked again.
static NO_SCOPES: AtomicBool = AtomicBool::new(false);

/// Starts a supervisor and gives it its order and the run's lock. What it reports is read from the result.
///
/// # Errors
/// When none could be started: then the lock is the caller's still.
pub(super) fn hand_over(
    tree: &Tree,
    launch: &Launch,
    order: &[u8],
    paths: &RunPaths,
    lock: File,
) -> Result<File, (io::Error, File)> {
    let (supervisor, mut orders, report) = match spawn(tree, launch, paths, &lock) {
        Ok(started) => started,
        Err(error) => return Err((error, lock)),
    };
    drop(lock);
    failpoint::here("starter.spawned");
    // A supervisor that died already closes the pipe: the report, or the stream, tells of it.
    let _ = orders.write_all(order);
    drop(orders);
    failpoint::here("starter.ordered");
    // Reaped when it ends: a driver outlives many of them.
    let _ = std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || supervisor.wait());
    Ok(report)
}

/// The supervisor, where its order is written, and where its report is read.
type Coming = (Spawned, File, File);

fn spawn(tree: &Tree, launch: &Launch, paths: &RunPaths, lock: &File) -> io::Result<Coming> {
    if let Some(scope) = scope(&launch.run) {
        match spawn_in(tree, launch, paths, lock, Some(scope)) {
            Ok(coming) if is_here(&coming.2) => return Ok(coming),
            Ok((supervisor, ..)) => give_up(supervisor),
            Err(_) => {}
        }
        NO_SCOPES.store(true, Ordering::Relaxed);
        tracing::warn!(run = %launch.run, "systemd-run gives no scope; the supervisor is started without one");
    }
    spawn_in(tree, launch, paths, lock, None)
}

fn spawn_in(
    tree: &Tree,
    launch: &Launch,
    paths: &RunPaths,
    lock: &File,
    scope: Option<Command>,
) -> io::Result<Coming> {
    let (order, order_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (report, report_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(paths.supervisor_log())?;
    let mut command = match scope {
        Some(mut scope) => {
            scope.arg(program()).args(["_supervise", "--here"]);
            scope
        }
        None => {
            let mut plain = Command::new(program());
            plain.arg("_supervise");
            plain
        }
    };
    command.current_dir("/");
    set_environment(&mut command, tree, launch);
    let stdin = io::stdin();
    debug_assert_eq!([REPORT_FD, LOCK_FD, STDIN_FD], [3, 4, 5]);
    let mut fds = vec![report_write.as_fd(), lock.as_fd()];
    if launch.streams == Streams::CallerInput {
        fds.push(stdin.as_fd());
    }
    // A process of a run's is in that run's cgroup; a supervisor belongs to no run.
    let outside = os::cgroup::outside().and_then(|cgroup| cgroup.open().ok());
    let supervisor = os::spawn(&os::Start {
        command: &command,
        streams: Some([order.as_fd(), log.as_fd(), log.as_fd()]),
        fds: &fds,
        detach: Detach::Session,
        into: outside.as_ref().map(AsFd::as_fd),
    });
    Ok((supervisor.map_err(io::Error::other)?, File::from(order_write), File::from(report)))
}

/// The beginning of a command line that gives what follows a scope, where the user has a service manager.
fn scope(run: &RunId) -> Option<Command> {
    if NO_SCOPES.load(Ordering::Relaxed) {
        return None;
    }
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let socket = std::fs::metadata(runtime.join("systemd/private")).ok()?;
    if !socket.file_type().is_socket() {
        return None;
    }
    // Through the process itself, as a binary that was replaced is found, it would be the other program.
    if os::program_link().is_some_and(|link| program() == link) {
        return None;
    }
    let mut command = Command::new(which::which("systemd-run").ok()?);
    command.args(["--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes"]);
    command.arg(format!("--unit=run-agent-supervisor-{run}")).arg("--");
    Some(command)
}

/// True when the supervisor has said in time that it is there.
fn is_here(mut report: &File) -> bool {
    let timeout = Timespec::try_from(SCOPE_WITHIN).ok();
    let ready = poll(&mut [PollFd::new(report, PollFlags::IN)], timeout.as_ref());
    let mut said = [0; HERE.len()];
    ready.is_ok_and(|ready| ready > 0) && report.read_exact(&mut said).is_ok()
}

/// Ends what did not come up. It was sent no order, so that nothing was done.
fn give_up(supervisor: Spawned) {
    if let Some(process) = ProcessId::now(supervisor.pid) {
        let _ = process.signal(Signal::SIGKILL);
    }
    let _ = supervisor.wait();
}
