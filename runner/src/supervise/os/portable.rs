//! The portable twin: `ps` and `kill`. Between the check of a process's start and its signal a pid could be reused;
//! systems without pidfd have nothing better. There is no subreaper and no environment of others: a run's set is its
//! group and its agent's descendants.

use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::set::{Process, is_our_infrastructure};
use super::{LowLimit, Machine, ProcessId};

pub(super) fn machine() -> Machine {
    let sysctl = |name: &str| {
        let output = Command::new("sysctl").args(["-n", name]).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    let host = nix::unistd::gethostname().map(|h| h.to_string_lossy().into_owned()).unwrap_or_default();
    Machine {
        machine_id: format!("host:{host}"),
        boot_id: sysctl("kern.boottime"),
        pid_namespace: String::new(),
    }
}

/// `ps` tells when a process started as text; a hash of it is as good as a number of ticks.
fn list(pid: Option<u32>) -> io::Result<Vec<Process>> {
    let mut command = Command::new("ps");
    match pid {
        Some(pid) => command.args(["-p", &pid.to_string()]),
        None => command.arg("-A"),
    };
    let output =
        command.args(["-o", "pid=,ppid=,pgid=,state=,lstart=,command="]).env("LC_ALL", "C").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Process> {
    let mut words = line.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let ppid = words.next()?.parse().ok()?;
    let pgid = words.next()?.parse().ok()?;
    if words.next()?.starts_with('Z') {
        return None;
    }
    let started: Vec<&str> = words.by_ref().take(5).collect();
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    started.hash(&mut hasher);
    let args: Vec<String> = words.map(str::to_owned).collect();
    let name = args.first().and_then(|arg| arg.rsplit('/').next()).unwrap_or_default().to_owned();
    let ours = is_our_infrastructure(&args);
    Some(Process { id: ProcessId { pid, start_ticks: hasher.finish() }, ppid, pgid, run: None, ours, name })
}

pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    list(Some(pid)).ok()?.first().map(|process| process.id.start_ticks)
}

pub(super) fn processes() -> io::Result<Vec<Process>> {
    list(None)
}

pub(super) fn signal(process: ProcessId, signal: Signal) -> io::Result<bool> {
    if start_ticks(process.pid) != Some(process.start_ticks) {
        return Ok(false);
    }
    let Ok(pid) = i32::try_from(process.pid) else { return Ok(false) };
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::ESRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Through a link to the folder, which has a short path of its own.
pub(super) fn near<T>(socket: &Path, use_it: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let short = tempfile::Builder::new().prefix("ra-").tempdir()?;
    let link = short.path().join("run");
    std::os::unix::fs::symlink(folder, &link)?;
    use_it(&link.join(name))
}

pub(super) fn user_of(socket: &UnixStream) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(socket)?.0.as_raw())
}

/// Without a subreaper what is left belongs to somebody else: it has to be looked for.
pub(super) fn has_children() -> bool {
    true
}

pub(super) fn become_subreaper() {}

pub(super) fn program_link() -> Option<&'static Path> {
    None
}

/// Kqueue has none of the kind.
pub(super) fn low_watch_limits() -> Vec<LowLimit> {
    Vec::new()
}

/// Nothing is known to.
pub(super) fn ended_at_logout() -> Option<String> {
    None
}
