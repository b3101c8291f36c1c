//! Ending a set of processes: ask, wait, then make sure until a snapshot shows that none is left.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::set::Process;

/// How long the last rung is climbed again before what is left is reported: such a process hangs in the kernel.
const LAST_RUNG_MAX: Duration = Duration::from_secs(20);

/// Ends what `find` finds: SIGTERM, up to `grace` of waiting, then SIGSTOP and SIGKILL again and again. `pause` sleeps
/// at most so long. Returns what could not be ended.
pub fn end(
    mut find: impl FnMut() -> Vec<Process>,
    grace: Duration,
    mut pause: impl FnMut(Duration),
) -> Vec<Process> {
    let found = find();
    if found.is_empty() {
        return found;
    }
    if !grace.is_zero() {
        signal_all(&found, Signal::SIGTERM);
        if wait_until_gone(&mut find, grace, &mut pause).is_empty() {
            return Vec::new();
        }
    }
    let deadline = Instant::now() + LAST_RUNG_MAX;
    loop {
        let left = find();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        // Stopped first: a process that starts others faster than it is killed must hold still.
        signal_all(&left, Signal::SIGSTOP);
        signal_all(&left, Signal::SIGKILL);
        wait_until_gone(&mut find, Duration::from_millis(100), &mut pause);
    }
}

/// Waits until nothing is found, looking ever more rarely. Returns what is left.
pub fn wait_until_gone(
    find: &mut impl FnMut() -> Vec<Process>,
    limit: Duration,
    pause: &mut impl FnMut(Duration),
) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    let mut nap = Duration::from_millis(2);
    loop {
        let left = find();
        let remaining = deadline.saturating_duration_since(Instant::now());
        if left.is_empty() || remaining.is_zero() {
            return left;
        }
        pause(nap.min(remaining));
        nap = (nap * 2).min(Duration::from_millis(250));
    }
}

fn signal_all(processes: &[Process], signal: Signal) {
    for process in processes {
        // One that is gone needs no signal; one that may not be signalled is found again and reported.
        let _ = process.id.signal(signal);
    }
}
