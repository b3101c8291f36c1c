//! What only the system knows: processes, their identity, signals that cannot hit a stranger, and how a child is
//! started with exactly the descriptors that it should have.

pub mod cpu;
mod spawn;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use spawn::{Detach, inherited, spawn};

use super::set::Process;

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
        static HERE: std::sync::LazyLock<Machine> = std::sync::LazyLock::new(system::machine);
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

/// Makes this process the parent of its descendants whose own parents end.
pub fn become_subreaper() {
    system::become_subreaper();
}
