//! The models of what processes share (`docs/testing.md`, "Interleavings"). Each checker has a target folder of its own: its
//! flag changes every crate.

use anyhow::Result;

use crate::step::Step;

/// Every interleaving that the models state. Bounded: with at most one preemption more than threads need.
pub(crate) fn every(bounded: bool) -> Result<()> {
    let step = of("loom");
    if bounded { step.env("LOOM_MAX_PREEMPTIONS", "1") } else { step }.run()
}

/// Schedules at random, from seeds that are printed.
pub(crate) fn random(bounded: bool) -> Result<()> {
    of("shuttle").env("RUN_AGENT_SCHEDULES", if bounded { "300" } else { "100000" }).run()
}

pub(crate) fn run() -> Result<()> {
    every(false)?;
    random(false)
}

fn of(checker: &str) -> Step {
    let (shared, segmented) = ("run-agent-store-shared", "run-agent-store-segmented");
    Step::cargo(["test", "--release", "--package", shared, "--package", segmented, "--lib", "models"])
        .env("RUSTFLAGS", &format!("--cfg {checker}"))
        .env("CARGO_TARGET_DIR", &format!("target/{checker}"))
        // Optimising across crates takes longer here than it saves.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
}
