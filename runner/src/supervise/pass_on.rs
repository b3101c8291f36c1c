//! What a terminal does for a command in its own session, done for one that has a supervisor: a signal for the whole
//! process group.

use nix::sys::signal::Signal;
use run_agent_core::event::RunStart;

use super::os::{self, ProcessId};
use super::ownership;

/// Sends a signal to the agent's process group, each process through a handle on that very process. Nothing happens
/// when the agent is gone, or never had a process: its group may be somebody else's.
pub fn signal_agent(start: &RunStart, signal: i32) {
    let Ok(signal) = Signal::try_from(signal) else { return };
    if !ownership::agent(start).is_some_and(ProcessId::is_alive) {
        return;
    }
    for process in os::processes().unwrap_or_default() {
        if process.pgid == start.pgid && !process.ours {
            // One that ended in the meantime needs no signal.
            let _ = process.id.signal(signal);
        }
    }
}
