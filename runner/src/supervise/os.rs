//! What only the system knows: processes, their identity, signals that cannot hit a stranger, and how a child is
//! started with exactly the descriptors that it should have.

mod spawn;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod linux_cpu;
#[cfg(target_os = "linux")]
use {linux as system, linux_cpu as cpu};

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
mod portable_cpu;
#[cfg(not(target_os = "linux"))]
use {portable as system, portable_cpu as cpu};

use std::io;

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

/// Makes this process the parent of its descendants whose own parents end.
pub fn become_subreaper() {
    system::become_subreaper();
}

/// The CPU time in ms that each of these used, with the children that it waited for. Those that are gone are left out.
#[must_use]
pub fn cpu_used_ms(of: &[ProcessId]) -> Vec<(ProcessId, u64)> {
    cpu::used_ms(of)
}

/// The CPU time in ms of the processes that this one started or inherited, and waited for.
#[must_use]
pub fn cpu_reaped_ms() -> u64 {
    cpu::reaped_ms()
}

/// How many processes wanted each CPU of the machine over the last minute, times 100.
#[must_use]
pub fn load_percent() -> u64 {
    cpu::load_percent()
}

/// The same from a load average as systems print it, such as `2.50`.
fn load_percent_of(average: &str) -> u64 {
    let (whole, parts) = average.split_once(['.', ',']).unwrap_or((average, ""));
    let hundredths: String = parts.chars().chain("00".chars()).take(2).collect();
    let load: u64 = format!("{whole}{hundredths}").parse().unwrap_or(0);
    load / std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

/// A time as `ps` prints it: `[[days-]hours:]minutes:seconds`, on some systems with hundredths.
#[cfg_attr(target_os = "linux", allow(dead_code))]
fn clock_ms(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let (clock, hundredths) = clock.split_once('.').unwrap_or((clock, "0"));
    let days: u64 = days.parse().ok()?;
    let parts: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes, seconds] => (hours, minutes, seconds),
        [minutes, seconds] if days == 0 => (0, minutes, seconds),
        _ => return None,
    };
    let hours = days.checked_mul(24)?.checked_add(hours)?;
    let seconds = hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?.checked_add(seconds)?;
    seconds.checked_mul(1000)?.checked_add(hundredths.parse::<u64>().ok()?.checked_mul(10)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_of_ps_are_read() {
        for (text, ms) in [
            ("0:00.07", Some(70)),
            ("00:01:02", Some(62_000)),
            ("1-02:03:04", Some(93_784_000)),
            ("12:34.56", Some(754_560)),
        ] {
            assert_eq!(clock_ms(text), ms, "{text}");
        }
        for text in ["", "7", "a:b", "1:2:3:4", "1-2:3"] {
            assert_eq!(clock_ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_load_average_is_told_for_each_cpu() {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        for (text, hundredths) in [("0.00", 0), ("2.5", 250), ("12.34", 1234), ("3", 300), ("", 0), ("x", 0)]
        {
            assert_eq!(load_percent_of(text), hundredths / cpus, "{text}");
        }
    }
}
