//! What only the system knows: processes, their identity, signals that cannot hit a stranger, cgroups, and how a child
//! is started with exactly the descriptors that it should have.

pub mod cpu;
mod spawn;

#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod pidfd;
#[cfg(target_os = "linux")]
pub mod unnamed;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
#[path = "os/no_cgroup.rs"]
pub mod cgroup;
#[cfg(not(target_os = "linux"))]
#[path = "os/no_pidfd.rs"]
mod pidfd;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
#[path = "os/no_unnamed.rs"]
pub mod unnamed;
#[cfg(not(target_os = "linux"))]
use portable as system;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use cgroup::Cgroup;
pub use pidfd::Watched;
pub use spawn::{Detach, Gate, NotExecuted, Spawned, Start, inherited, spawn, spawn_held};

use super::set::Process;
use crate::failpoint;

/// A process, so that a reused pid is never mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    pub start_ticks: u64,
}

impl ProcessId {
    /// This very process.
    #[must_use]
    pub fn own() -> Self {
        let pid = std::process::id();
        Self { pid, start_ticks: system::start_ticks(pid).unwrap_or(0) }
    }

    /// The process that has this pid now.
    #[must_use]
    pub fn now(pid: u32) -> Option<Self> {
        system::start_ticks(pid).map(|start_ticks| Self { pid, start_ticks })
    }

    /// True while this very process lives. Meaningful within one boot and pid namespace.
    #[must_use]
    pub fn is_alive(self) -> bool {
        system::start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Sends a signal to this process and no other. `false`: it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        system::signal(self, signal)
    }
}

/// Where a pid means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub machine_id: String,
    pub boot_id: String,
    pub pid_namespace: String,
}

impl Machine {
    /// The machine that this process runs on.
    #[must_use]
    pub fn here() -> &'static Self {
        static HERE: std::sync::LazyLock<Machine> = std::sync::LazyLock::new(|| {
            let Machine { machine_id, boot_id, pid_namespace } = system::machine();
            let said = |name, is: String| failpoint::said(name).unwrap_or(is);
            Machine {
                machine_id: said("RUN_AGENT_FAKE_MACHINE_ID", machine_id),
                boot_id: said("RUN_AGENT_FAKE_BOOT_ID", boot_id),
                pid_namespace: said("RUN_AGENT_FAKE_PID_NAMESPACE", pid_namespace),
            }
        });
        &HERE
    }

    /// Pids of that place mean nothing here, and never did: another machine, or another pid namespace of this boot. One
    /// whose namespace nobody noted is taken as this one.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let here = Self::here();
        let same_namespace = self.pid_namespace.is_empty() || self.pid_namespace == here.pid_namespace;
        self.machine_id != here.machine_id || (self.boot_id == here.boot_id && !same_namespace)
    }
}

/// Milliseconds on the clock that all processes of this boot share, and that stands still while the machine sleeps.
#[must_use]
pub fn clock_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or(0)
}

/// All processes of this system that can be seen.
///
/// # Errors
/// When the system does not list them.
pub fn processes() -> io::Result<Vec<Process>> {
    system::processes()
}

/// Gives a path by which a socket can be bound or reached: one of its own may be longer than the system takes.
///
/// # Errors
/// When its folder cannot be opened, and those of `use_it`.
pub fn near<T>(socket: &Path, use_it: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    system::near(socket, use_it)
}

/// True when the other end of the socket is a process of the user that this one runs as.
#[must_use]
pub fn is_of_this_user(socket: &UnixStream) -> bool {
    system::user_of(socket).is_ok_and(|user| user == nix::unistd::geteuid().as_raw())
}

/// False when this process has no child, alive or dead, that was not waited for. Of a subreaper that says that nothing
/// is left of all that it started, without a look at every process of the system.
#[must_use]
pub fn has_children() -> bool {
    system::has_children()
}

/// By which this very program is found, also when its file was replaced since, where the system knows such a path.
#[must_use]
pub fn program_link() -> Option<&'static Path> {
    system::program_link()
}

/// A limit of this system's that is lower than where many work: where it is set, what it is, and what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowLimit {
    pub path: PathBuf,
    pub limit: u64,
    pub wanted: u64,
}

/// Limits of watches for changed files that are low for a swarm of the default size.
#[must_use]
pub fn low_watch_limits() -> Vec<LowLimit> {
    system::low_watch_limits()
}

/// The user whose processes the system ends at logout, if it does so to this one.
#[must_use]
pub fn ended_at_logout() -> Option<String> {
    system::ended_at_logout()
}

/// Makes this process the parent of its descendants whose own parents end.
pub fn become_subreaper() {
    system::become_subreaper();
}
