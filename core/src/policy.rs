//! The numbers that the loop follows, and the pure functions that use them.

pub mod agents;
pub mod budget;
pub mod counted;
pub mod ladder;
pub mod slots;
pub mod versions;
pub mod watch;

use serde::{Deserialize, Serialize};

/// The `loop` block of the configuration; the defaults are those of the spec, section 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopPolicy {
    /// How often the root agent is started again before the loop gives up.
    pub max_restarts: u32,
    /// The loop's own time: what it spends waiting is not counted. 0 = no limit.
    pub max_wall_time_ms: u64,
    pub restart_delay_ms: u64,
    /// How long DONE waits for children. 0 = as long as they live.
    pub child_wait_timeout_ms: u64,
    pub after_children: AfterChildren,
    pub restart_with_children: RestartWithChildren,
    pub on_dependency_failure: OnDependencyFailure,
    /// How long a blocking question of a root run holds the loop. 0 = until it is answered.
    pub question_timeout_ms: u64,
    /// Commands that must succeed before DONE counts.
    pub verify: Vec<String>,
    /// So many rejected DONEs end the loop. 0 = no limit.
    pub verify_attempts: u32,
    pub breaker: Breaker,
    pub budget: budget::Budget,
    pub session: Session,
}

/// Whether the next root run takes up the conversation of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    #[default]
    Fresh,
    /// Where its agent can, and it is the same agent.
    Resume,
}

/// Pauses a loop whose root agent fails at once, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many quick failures in a row open it. 0 = never.
    pub failures: u32,
    /// A failure within this time is quick.
    pub quick_ms: u64,
    pub cooldown_ms: u64,
    /// The opening that ends the loop.
    pub trips: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, quick_ms: 120_000, cooldown_ms: 600_000, trips: 3 }
    }
}

/// What a dependency that failed, is missing or leads back to the task does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDependencyFailure {
    /// It waits: the dependency may be taken up again.
    #[default]
    Wait,
    Fail,
}

/// What a child's late result does to a task that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterChildren {
    /// The root is started once more, to take it in.
    #[default]
    CatchUp,
    Complete,
}

/// Whether the next root run waits for the children of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartWithChildren {
    #[default]
    Wait,
    Overlap,
}

impl Default for LoopPolicy {
    fn default() -> Self {
        Self {
            max_restarts: 20,
            max_wall_time_ms: 8 * 60 * 60 * 1000,
            restart_delay_ms: 1000,
            child_wait_timeout_ms: 0,
            after_children: AfterChildren::CatchUp,
            restart_with_children: RestartWithChildren::Wait,
            on_dependency_failure: OnDependencyFailure::Wait,
            question_timeout_ms: 4 * 60 * 60 * 1000,
            verify: Vec::new(),
            verify_attempts: 5,
            breaker: Breaker::default(),
            budget: budget::Budget::default(),
            session: Session::Fresh,
        }
    }
}

/// The longest pause after failures.
const BACKOFF_MAX_MS: u64 = 60_000;

/// How long to pause after `failures` root runs failed in a row: one second, doubling, at most a minute, less up to a
/// fifth of jitter, so that loops which failed together do not start together. `seed` picks the jitter: the same seed
/// gives the same pause in every process.
#[must_use]
pub fn backoff_ms(failures: u32, seed: &str) -> u64 {
    let doublings = failures.saturating_sub(1).min(6);
    let full = (1000u64 << doublings).min(BACKOFF_MAX_MS);
    full - full / 5 * (spread(seed) % 1000) / 1000
}

/// A number from a text: FNV-1a, the same everywhere. Not for anything that an enemy may choose.
#[must_use]
pub fn spread(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_minute_with_jitter() {
        let mut pauses = Vec::new();
        for failures in 1..12 {
            let pause = backoff_ms(failures, "20261121-0930001234-1-1");
            let full = (1000u64 << (failures - 1).min(6)).min(BACKOFF_MAX_MS);
            assert!((full * 4 / 5..=full).contains(&pause), "{failures}: {pause}");
            pauses.push(pause);
        }
        assert_eq!(pauses.last(), pauses.get(8), "it stays at its greatest");
        assert_ne!(backoff_ms(3, "a"), backoff_ms(3, "b"), "other seeds, other pauses");
    }
}
