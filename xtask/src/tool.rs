//! Cargo subcommands that do not come with Rust.

use anyhow::{Result, bail};

use crate::step::Step;

/// Fails with the line that installs the tool, where it is missing.
pub(crate) fn need(subcommand: &str) -> Result<()> {
    if Step::cargo([subcommand, "--version"]).answers() {
        return Ok(());
    }
    bail!("cargo-{subcommand} is not installed: `cargo install cargo-{subcommand} --locked`");
}

/// Installs the tool where it is missing: the test command does all the set-up that it needs.
pub(crate) fn get(subcommand: &str) -> Result<()> {
    if Step::cargo([subcommand, "--version"]).answers() {
        return Ok(());
    }
    Step::cargo(["install", "--locked", "--quiet", &format!("cargo-{subcommand}")]).run()
}
