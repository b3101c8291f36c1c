//! The portable twin: what processes used of the CPUs, from `ps` and `sysctl`. `ps` does not tell what a process waited
//! for: work that is done between two looks by processes that begin and end there is not seen.

use std::process::Command;

use super::super::ProcessId;

pub(super) fn used_ms(of: &[ProcessId]) -> Vec<(ProcessId, u64)> {
    if of.is_empty() {
        return Vec::new();
    }
    let pids: Vec<String> = of.iter().map(|id| id.pid.to_string()).collect();
    let output =
        Command::new("ps").args(["-o", "pid=,time=", "-p", &pids.join(",")]).env("LC_ALL", "C").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let look = |line: &str| {
        let mut words = line.split_whitespace();
        let pid: u32 = words.next()?.parse().ok()?;
        let used_ms = super::clock_ms(words.next()?)?;
        of.iter().find(|id| id.pid == pid).map(|id| (*id, used_ms))
    };
    text.lines().filter_map(look).collect()
}

pub(super) fn reaped_ms() -> u64 {
    0
}

pub(super) fn load_percent() -> u64 {
    // `{ 1.20 1.10 1.00 }`
    let output = Command::new("sysctl").args(["-n", "vm.loadavg"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    super::load_percent_of(text.split_whitespace().find(|word| *word != "{").unwrap_or_default())
}
