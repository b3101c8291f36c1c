//! What takes too long for every commit: the full counts of the crash and load tests, the models of what processes
//! share, the fuzz targets, and the advisory database.

use std::ffi::OsString;

use anyhow::Result;

use crate::{fuzz, models, step::Step, test, tool};

/// The arguments are those of `fuzz`.
pub(crate) fn run(args: &[OsString]) -> Result<()> {
    tool::need("nextest")?;
    tool::need("deny")?;

    test::build_binary()?;
    test::on_second_store(true).args(&["--profile", "deep"]).env("RUN_AGENT_DEEP", "1").run()?;
    test::nextest().args(&["--profile", "deep"]).env("RUN_AGENT_DEEP", "1").run()?;
    models::run()?;
    fuzz::run(args)?;
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
