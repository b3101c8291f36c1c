//! Places at which a test kills or stops this very process, to see what a crash there leaves, and what a test makes it
//! believe of its machine. Compiled into debug builds alone.

/// Ends (`kill`) or stops (`stop`) this process when `RUN_AGENT_FAILPOINT` says `<name>=kill` or `<name>=stop`.
#[cfg(debug_assertions)]
pub fn here(name: &str) {
    use nix::sys::signal::{Signal, raise};
    let Ok(wanted) = std::env::var("RUN_AGENT_FAILPOINT") else { return };
    let signal = match wanted.split_once('=') {
        Some((point, "kill")) if point == name => Signal::SIGKILL,
        Some((point, "stop")) if point == name => Signal::SIGSTOP,
        _ => return,
    };
    let _ = raise(signal);
}

#[cfg(not(debug_assertions))]
pub fn here(_: &str) {}

/// What a test says instead of what the system does: another boot, another machine.
#[cfg(debug_assertions)]
pub(crate) fn said(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(not(debug_assertions))]
pub(crate) fn said(_: &str) -> Option<String> {
    None
}
