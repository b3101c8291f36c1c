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
