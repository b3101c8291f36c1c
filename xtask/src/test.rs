//! Every test of the workspace, the whole-system ones on the real binary among them.

use std::{env, ffi::OsString};

use anyhow::Result;

use crate::{step::Step, tool};

pub(crate) fn run(args: &[OsString]) -> Result<()> {
    tool::get("nextest")?;
    build_binary()?;

    let mut nextest = nextest().args(args);
    // The variable and not the option, because nextest takes `--profile` only once and a caller may give it.
    if env::var_os("NEXTEST_PROFILE").is_none() && in_ci() {
        nextest = nextest.env("NEXTEST_PROFILE", "ci");
    }
    nextest.run()
}

/// Whole-system tests run the binary as it is built for people. Nextest alone would build it only for tests of its
/// own package, and with the features that every other crate asks for.
pub(crate) fn build_binary() -> Result<()> {
    Step::cargo(["build", "-p", "run-agent"]).run()
}

pub(crate) fn nextest() -> Step {
    Step::cargo(["nextest", "run", "--workspace", "--all-features"])
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}
