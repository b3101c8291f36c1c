//! What takes too long for every commit: the full counts of the crash and load tests, and the advisory database.

use anyhow::Result;

use crate::{step::Step, test, tool};

pub(crate) fn run() -> Result<()> {
    tool::need("nextest")?;
    tool::need("deny")?;

    test::build_binary()?;
    test::nextest().args(&["--profile", "deep"]).env("RUN_AGENT_DEEP", "1").run()?;
    advisories()
}

/// Fetching is a step of its own, because `cargo deny check` ends with the same exit code for a database that cannot
/// be reached as for an advisory that applies. The second is a finding; the first says nothing about this workspace.
fn advisories() -> Result<()> {
    if !Step::cargo(["deny", "fetch", "db", "index"]).succeeds()? {
        eprintln!("advisories: skipped: the advisory database could not be fetched");
        return Ok(());
    }
    Step::cargo(["deny", "--offline", "check", "advisories"]).run()
}
