//! Whose process an agent is, as its start event tells: the one place that makes a process of it.

use run_agent_core::event::RunStart;

use super::os::ProcessId;

/// A process that the supervisor started in a group of its own.
pub(super) const MANAGED: &str = "managed";
/// No process group of ours: a command that keeps its terminal, or a request of the supervisor's.
pub(super) const EXTERNAL: &str = "external";
/// The pid of a run that has no process.
pub(super) const NO_PROCESS: u32 = 0;

/// The agent's process. `None`: it is a request, which lives and ends with its supervisor.
pub(super) fn agent(start: &RunStart) -> Option<ProcessId> {
    let process = ProcessId { pid: start.pid, start_ticks: start.pid_start_ticks };
    (start.pid != NO_PROCESS).then_some(process)
}

/// A command by hand on a terminal: what it leaves running is the person's, and nobody takes it over.
pub(super) fn keeps_terminal(start: &RunStart) -> bool {
    start.process_ownership == EXTERNAL && start.pid != NO_PROCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(process_ownership: &str, pid: u32) -> RunStart {
        let process_ownership = process_ownership.to_owned();
        RunStart { process_ownership, pid, pid_start_ticks: 7, ..RunStart::default() }
    }

    #[test]
    fn a_request_has_no_process_and_keeps_no_terminal() {
        let (request, by_hand) = (start(EXTERNAL, NO_PROCESS), start(EXTERNAL, 5));
        assert_eq!((agent(&request), keeps_terminal(&request)), (None, false));
        let process = ProcessId { pid: 5, start_ticks: 7 };
        assert_eq!((agent(&by_hand), keeps_terminal(&by_hand)), (Some(process), true));
        assert!(!keeps_terminal(&start(MANAGED, 5)));
    }
}
