//! Linux: `/proc`, pidfd, subreaper.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use rustix::process::{Pid, kill_process, pidfd_send_signal};

use super::super::set::Process;
use super::{LowLimit, Machine, ProcessId, cgroup, pidfd};

pub(super) fn machine() -> Machine {
    let read =
        |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut machine_id = read("/etc/machine-id");
    if machine_id.is_empty() {
        machine_id = format!("host:{}", read("/proc/sys/kernel/hostname"));
    }
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string());
    Machine {
        machine_id,
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        pid_namespace: namespace.unwrap_or_default(),
    }
}

/// What `/proc/<pid>/stat` says that matters here.
struct Stat {
    ppid: u32,
    pgid: u32,
    start_ticks: u64,
    zombie: bool,
    name: String,
}

fn stat(pid: u32) -> Option<Stat> {
    // The name may hold anything, also blanks and brackets: the last bracket ends it.
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (head, rest) = text.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    let ppid = fields.next()?.parse().ok()?;
    let pgid = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat { ppid, pgid, start_ticks, zombie, name })
}

/// `None` for a process that is not there, and for a zombie: it runs nothing any more.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).filter(|stat| !stat.zombie).map(|stat| stat.start_ticks)
}

pub(super) fn processes() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends while it is looked at is not there.
        let Some(stat) = stat(pid) else { continue };
        if stat.zombie {
            continue;
        }
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let run = environ
            .split(|b| *b == 0)
            .find_map(|var| var.strip_prefix(b"JRUN_ID="))
            .map(|id| String::from_utf8_lossy(id).into_owned())
            // Emptied, or overwritten with something else: then its cgroup or its parent tells whose it is.
            .filter(|id| run_agent_core::RunId::parse(id).is_ok());
        let run = run.or_else(|| cgroup::run_of(pid).map(|run| run.to_string()));
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args: Vec<String> = cmdline
            .split(|b| *b == 0)
            .filter(|arg| !arg.is_empty())
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect();
        processes.push(Process {
            id: ProcessId { pid, start_ticks: stat.start_ticks },
            ppid: stat.ppid,
            pgid: stat.pgid,
            run,
            ours: super::super::set::is_our_infrastructure(&args),
            name: stat.name,
        });
    }
    Ok(processes)
}

pub(super) fn signal(process: ProcessId, signal: Signal) -> io::Result<bool> {
    let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let handle = match pidfd::open(process.pid) {
        Ok(Some(handle)) => Some(handle),
        Ok(None) => return Ok(false),
        Err(error) if pidfd::is_missing(&error) => None,
        Err(error) => return Err(error),
    };
    // The handle pins the process: what is checked now is what is signalled then. Where there are none the moment
    // between the two is as short as it can be.
    if start_ticks(process.pid) != Some(process.start_ticks) {
        return Ok(false);
    }
    let sent = match &handle {
        Some(handle) => pidfd_send_signal(handle, signal),
        None => match i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
            Some(pid) => kill_process(pid, signal),
            None => return Ok(false),
        },
    };
    match sent {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Through a descriptor of the folder, which has a short path of its own.
pub(super) fn near<T>(socket: &Path, use_it: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use rustix::fs::{Mode, OFlags, open};
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    let folder_path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    use_it(&folder_path.join(name))
}

pub(super) fn user_of(socket: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

pub(super) fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(rustix::io::Errno::CHILD))
}

pub(super) fn become_subreaper() {
    // Without it, orphans go to init and are found by their environment instead.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

pub(super) fn program_link() -> Option<&'static Path> {
    Some(Path::new("/proc/self/exe")).filter(|link| link.exists())
}

const WATCHES: [(&str, u64); 2] =
    [("/proc/sys/fs/inotify/max_user_instances", 128), ("/proc/sys/fs/inotify/max_user_watches", 8192)];

pub(super) fn low_watch_limits() -> Vec<LowLimit> {
    let low = |(path, wanted): (&str, u64)| {
        let limit = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (limit < wanted).then(|| LowLimit { path: path.into(), limit, wanted })
    };
    WATCHES.into_iter().filter_map(low).collect()
}

/// A user manager that ends with the last login takes what runs below it along. Whom the system keeps it for stands in a
/// folder of the login daemon's, which is what `loginctl show-user` reads too.
pub(super) fn ended_at_logout() -> Option<String> {
    let uid = nix::unistd::geteuid();
    let managed = Path::new("/run/user").join(uid.to_string()).join("systemd/private").exists();
    let user = nix::unistd::User::from_uid(uid).ok().flatten()?.name;
    let kept = Path::new("/var/lib/systemd/linger").join(&user).exists();
    (managed && !kept && !uid.is_root()).then_some(user)
}
