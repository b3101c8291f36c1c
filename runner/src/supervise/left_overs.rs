//! What agents left running when they ended, and how it is ended: it gets a moment, then SIGTERM, then SIGKILL. Build
//! daemons and terminal multiplexers, with what hangs below them, are meant to stay.

use std::time::Duration;

use super::os::{self, ProcessId};
use super::set::{self, Owner, Process};
use super::{ladder, set::without};

/// To end by itself, and then after SIGTERM.
const ALONE: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_secs(2);

const KEEP_BACKGROUND: [&str; 9] = [
    "tmux",
    "tmux: server",
    "screen",
    "ssh-agent",
    "gpg-agent",
    "sccache",
    "watchman",
    "bazel",
    "dbus-daemon",
];

/// Ends what these runs left, all at once. Returns what was found.
pub(super) fn end(owners: &[Owner<'_>]) -> Vec<Process> {
    let mut find = || {
        let snapshot = os::processes().unwrap_or_default();
        owners.iter().flat_map(|owner| without(set::of_run(&snapshot, *owner), &KEEP_BACKGROUND)).collect()
    };
    let found: Vec<Process> = find();
    if found.is_empty() || ladder::wait_until_gone(&mut find, ALONE, &mut std::thread::sleep).is_empty() {
        return Vec::new();
    }
    ladder::end(find, GRACE, std::thread::sleep);
    found
}

/// Names and pids for an event, bounded.
pub(super) fn names(processes: &[Process]) -> Option<String> {
    if processes.is_empty() {
        return None;
    }
    let names: Vec<String> = processes.iter().take(20).map(|p| format!("{}[{}]", p.name, p.id.pid)).collect();
    let more = processes.len().saturating_sub(names.len());
    Some(if more > 0 { format!("{} and {more} more", names.join(" ")) } else { names.join(" ") })
}

/// Whose left-overs a closer ends, for a run whose supervisor is gone.
pub(super) fn of_lost<'a>(run: &'a str, agent: Option<ProcessId>) -> Owner<'a> {
    Owner { run, agent, supervisor: None, asker: std::process::id() }
}
