//! What agents left running when they ended, and how it is ended: it gets a moment, then SIGTERM, then SIGKILL. Build
//! daemons and terminal multiplexers, with what hangs below them, are meant to stay.

use run_agent_core::RunId;
use run_agent_core::policy::ladder::Patience;

use super::ladder::Target;
use super::os::ProcessId;
use super::record::Notes;
use super::set::{Owner, Process};

pub(super) const PATIENCE: Patience = Patience { alone_ms: 300, grace_ms: 2000 };

pub(super) const KEEP_BACKGROUND: [&str; 9] = [
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

/// Names and pids for an event, bounded.
pub(super) fn names(processes: &[Process]) -> Option<String> {
    if processes.is_empty() {
        return None;
    }
    let names: Vec<String> = processes.iter().take(20).map(|p| format!("{}[{}]", p.name, p.id.pid)).collect();
    let more = processes.len().saturating_sub(names.len());
    Some(if more > 0 { format!("{} and {more} more", names.join(" ")) } else { names.join(" ") })
}

/// A run that is over whose cgroup is there without a reason: it is empty, or what is in it is the run's and not meant
/// to stay. Gives how many processes that are.
pub(crate) fn in_cgroup<'a>(
    run: &'a RunId,
    agent: Option<ProcessId>,
    notes: &'a Notes,
) -> Option<(Target<'a>, usize)> {
    let target = of_lost([(run, agent, notes)], &KEEP_BACKGROUND);
    let members = target.cgroups.iter().find(|cgroup| cgroup.is_there())?.members().ok()?;
    if members.is_empty() {
        return Some((target, 0));
    }
    let found = target.find().iter().filter(|process| members.contains(&process.id.pid)).count();
    (found > 0).then_some((target, found))
}

/// What is left of runs whose supervisors are gone, as each of them noted it.
pub(crate) fn of_lost<'a>(
    lost: impl IntoIterator<Item = (&'a RunId, Option<ProcessId>, &'a Notes)>,
    keep: &'a [&'a str],
) -> Target<'a> {
    let mut target = Target { keep, ..Target::default() };
    for (run, agent, notes) in lost {
        let asker = std::process::id();
        target.owners.push(Owner { run: run.as_str(), agent, supervisor: None, asker });
        target.cgroups.extend(notes.cgroup_of(run));
    }
    target
}
