//! Ending the processes of runs, to the last one: scans, signals and sleeps as the table of
//! `run_agent_core::policy::ladder` says.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use run_agent_core::policy::ladder::{self, Action, Look, Patience, Rung};

use super::os::{self, Cgroup};
use super::set::{self, Owner, Process};

/// Whose processes are to be ended.
#[derive(Debug, Clone, Default)]
pub struct Target<'a> {
    pub owners: Vec<Owner<'a>>,
    /// Those of the owners that have one.
    pub cgroups: Vec<Cgroup>,
    /// Programs that may stay, with what hangs below them.
    pub keep: &'a [&'a str],
}

/// What became of a climb.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Climbed {
    /// What did not end by itself.
    pub asked: Vec<Process>,
    /// What could not be ended.
    pub left: Vec<Process>,
}

impl Target<'_> {
    /// The processes as they are now.
    #[must_use]
    pub fn find(&self) -> Vec<Process> {
        if self.owners.is_empty() {
            return Vec::new();
        }
        let snapshot = os::processes().unwrap_or_default();
        let of = |owner: &Owner<'_>| set::without(set::of_run(&snapshot, *owner), self.keep);
        self.owners.iter().flat_map(of).collect()
    }

    fn kill(&self, found: &[Process]) {
        // Stopped first: a process that starts others faster than it is killed must hold still.
        signal_all(found, Signal::SIGSTOP);
        // What was started until then is in none of the lists; the kernel knows it all the same. Only what belongs to
        // nobody else is ended as a whole.
        for cgroup in &self.cgroups {
            let found = self.find();
            let all_ours = |pid: &u32| found.iter().any(|process| process.id.pid == *pid);
            if cgroup.members().is_ok_and(|members| members.iter().all(all_ours)) {
                // Older kernels cannot: then each is killed alone.
                let _ = cgroup.kill();
            }
        }
        signal_all(found, Signal::SIGKILL);
    }
}

/// Ends a target's processes, and removes the cgroups that are empty then. `pause` sleeps at most so long.
pub fn end(target: &Target<'_>, patience: Patience, mut pause: impl FnMut(Duration)) -> Climbed {
    let began = Instant::now();
    let mut rung = Rung::Ground;
    let mut climbed = Climbed::default();
    loop {
        let found = target.find();
        let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let action = ladder::next(Look { now_ms, patience, found: found.len(), rung });
        if rung == Rung::Ground && matches!(action, Action::Ask | Action::Kill) {
            climbed.asked.clone_from(&found);
        }
        match action {
            Action::Ask => {
                signal_all(&found, Signal::SIGTERM);
                rung = Rung::asked(now_ms);
            }
            Action::Kill => {
                target.kill(&found);
                rung = rung.killed(now_ms);
            }
            Action::Wait { ms } => pause(Duration::from_millis(ms)),
            Action::Done | Action::GiveUp => {
                climbed.left = found;
                break;
            }
        }
    }
    target.cgroups.iter().for_each(Cgroup::remove);
    climbed
}

fn signal_all(processes: &[Process], signal: Signal) {
    for process in processes {
        // One that is gone needs no signal; one that may not be signalled is found again and reported.
        let _ = process.id.signal(signal);
    }
}
