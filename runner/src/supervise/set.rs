//! Whose processes are these? Pure: one snapshot in, a run's set out.

use std::collections::BTreeMap;

use super::os::ProcessId;

/// One process of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub id: ProcessId,
    pub ppid: u32,
    pub pgid: u32,
    /// `JRUN_ID` of its environment; without one, the run whose cgroup it is in.
    pub run: Option<String>,
    /// A supervisor, loop driver or server of this tool.
    pub ours: bool,
    pub name: String,
}

/// Whose set is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub run: &'a str,
    pub agent: Option<ProcessId>,
    /// The run's supervisor, while it lives: what it inherits is the run's.
    pub supervisor: Option<u32>,
    /// Whoever asks; never in a set.
    pub asker: u32,
}

/// The processes of a run.
#[must_use]
pub fn of_run(snapshot: &[Process], owner: Owner<'_>) -> Vec<Process> {
    let by_pid: BTreeMap<u32, &Process> = snapshot.iter().map(|process| (process.id.pid, process)).collect();
    let agent_lives = |agent: ProcessId| by_pid.get(&agent.pid).is_some_and(|p| p.id == agent);
    // A group number is not reused while a member lives; whether the members are ours is only sure while the agent
    // lives or a member is known by its environment.
    let group = owner.agent.filter(|agent| {
        agent_lives(*agent)
            || snapshot.iter().any(|p| p.pgid == agent.pid && p.run.as_deref() == Some(owner.run))
    });
    let belongs = |process: &Process| {
        if process.ours || process.id.pid == owner.asker || Some(process.id.pid) == owner.supervisor {
            return false;
        }
        match claim(process, &by_pid, owner) {
            Claim::Run => true,
            Claim::Other => false,
            Claim::Unknown => group.is_some_and(|agent| process.pgid == agent.pid),
        }
    };
    snapshot.iter().filter(|process| belongs(process)).cloned().collect()
}

/// `found` without the processes of these names and what hangs below them: build daemons, terminal multiplexers.
#[must_use]
pub fn without(found: Vec<Process>, keep: &[&str]) -> Vec<Process> {
    let mut kept: Vec<u32> =
        found.iter().filter(|p| keep.contains(&p.name.as_str())).map(|p| p.id.pid).collect();
    let mut next = 0;
    while let Some(parent) = kept.get(next).copied() {
        next += 1;
        for process in found.iter().filter(|p| p.ppid == parent) {
            if !kept.contains(&process.id.pid) {
                kept.push(process.id.pid);
            }
        }
    }
    found.into_iter().filter(|process| !kept.contains(&process.id.pid)).collect()
}

enum Claim {
    Run,
    Other,
    Unknown,
}

/// Walks up from a process to the first that tells whose it is.
fn claim(process: &Process, by_pid: &BTreeMap<u32, &Process>, owner: Owner<'_>) -> Claim {
    let mut at = process;
    // No ancestry is deeper than there are processes: a snapshot that is not of one moment may hold a circle.
    for _ in 0..by_pid.len() {
        if let Some(run) = &at.run {
            return if run == owner.run { Claim::Run } else { Claim::Other };
        }
        if owner.agent == Some(at.id) || Some(at.ppid) == owner.supervisor {
            return Claim::Run;
        }
        match by_pid.get(&at.ppid) {
            Some(parent) if parent.ours => return Claim::Other,
            Some(parent) => at = parent,
            None => return Claim::Unknown,
        }
    }
    Claim::Unknown
}

/// The commands of this tool that own runs of their own, or belong to nobody.
const INFRASTRUCTURE: [&str; 9] =
    ["_supervise", "_drive", "_version", "wrap", "task", "resume", "demo", "serve", "adopt"];

/// Is this the command line of a supervisor, loop driver or server of ours?
pub(crate) fn is_our_infrastructure(args: &[String]) -> bool {
    let Some((program, rest)) = args.split_first() else { return false };
    if program.rsplit('/').next() != Some("run-agent") {
        return false;
    }
    let mut rest = rest.iter();
    while let Some(arg) = rest.next() {
        if matches!(arg.as_str(), "--root" | "--config" | "--project" | "--task" | "--color") {
            rest.next();
        } else if !arg.starts_with('-') {
            return INFRASTRUCTURE.contains(&arg.as_str());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32, pgid: u32, run: &str) -> Process {
        let run = (!run.is_empty()).then(|| run.to_owned());
        Process { id: ProcessId { pid, start_ticks: 1 }, ppid, pgid, run, ours: false, name: String::new() }
    }

    fn ours(pid: u32, ppid: u32, run: &str) -> Process {
        Process { ours: true, ..process(pid, ppid, pid, run) }
    }

    fn set(snapshot: &[Process], supervisor: Option<u32>) -> Vec<u32> {
        let owner =
            Owner { run: "R", agent: Some(ProcessId { pid: 10, start_ticks: 1 }), supervisor, asker: 999 };
        of_run(snapshot, owner).iter().map(|p| p.id.pid).collect()
    }

    #[test]
    fn the_group_the_sessions_and_the_orphans_are_the_runs() {
        let snapshot = [
            ours(5, 1, "R"),
            process(10, 5, 10, "R"),
            process(11, 10, 10, "R"),
            process(12, 11, 12, "R"), // a session of its own
            process(13, 5, 13, ""),   // inherited by the supervisor, its environment emptied
            process(14, 13, 14, ""),  // below that one
            process(15, 1, 10, ""),   // in the group, reparented, environment emptied
            process(16, 1, 16, "R"),  // known by its environment alone
            process(20, 1, 20, ""),   // a stranger
        ];
        assert_eq!(set(&snapshot, Some(5)), [10, 11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn another_run_and_its_supervisor_are_never_taken_wherever_they_hang() {
        let snapshot = [
            ours(5, 1, "R"),
            process(10, 5, 10, "R"),
            ours(30, 5, "C"), // a child's supervisor, reparented to the outer one
            process(31, 30, 31, "C"),
            process(32, 31, 31, ""),
            process(33, 5, 33, "C"), // a child agent whose supervisor was killed
            process(34, 33, 33, ""),
            ours(40, 10, "R"), // a loop driver that the agent started
            process(41, 40, 41, ""),
        ];
        assert_eq!(set(&snapshot, Some(5)), [10]);
    }

    #[test]
    fn a_stranger_with_the_agents_old_pid_is_not_the_runs() {
        let mut stranger = process(10, 1, 10, "");
        stranger.id.start_ticks = 2;
        assert_eq!(set(&[stranger.clone(), process(11, 10, 10, "")], None), [0u32; 0]);
        // The group still has a member that is known: then an unknown one in it is the run's.
        assert_eq!(set(&[process(12, 1, 10, "R"), process(13, 1, 10, "")], None), [12, 13]);
    }

    #[test]
    fn what_is_kept_keeps_what_hangs_below_it() {
        let mut server = process(20, 5, 20, "R");
        server.name = "tmux: server".to_owned();
        let found = vec![process(10, 5, 10, "R"), server, process(21, 20, 21, "R"), process(22, 21, 22, "R")];
        let left: Vec<u32> = without(found, &["tmux: server"]).iter().map(|p| p.id.pid).collect();
        assert_eq!(left, [10]);
    }

    #[test]
    fn a_circle_of_parents_is_survived() {
        assert_eq!(set(&[process(50, 51, 50, ""), process(51, 50, 51, "")], None), [0u32; 0]);
    }

    #[test]
    fn command_lines_of_ours_are_known() {
        let is = |line: &str| is_our_infrastructure(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(
            is("/usr/bin/run-agent _supervise")
                && is("run-agent --project p --task t _drive")
                && is("run-agent --root /x task --prompt y")
                && is("run-agent serve")
                && is("run-agent wrap -- claude job")
        );
        assert!(
            !is("run-agent job --task task")
                && !is("run-agent bus post task")
                && !is("vim task")
                && !is("run-agent")
        );
    }
}
