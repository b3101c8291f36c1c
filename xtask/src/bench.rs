//! The load driver's tables, measured on the release build of the binary that people get.

use std::ffi::OsString;

use anyhow::Result;

use crate::{metadata, step::Step};

pub(crate) fn run(args: &[OsString]) -> Result<()> {
    // Both are built by one command: each alone could unify features differently and build the shared crates twice.
    Step::cargo([
        "build",
        "--release",
        "-p",
        "run-agent",
        "-p",
        "run-agent-benches",
        "--features",
        "run-agent-benches/databases",
    ])
    .run()?;
    // The driver is started directly, so that cargo is not one of the processes that it measures beside.
    let driver = metadata::read()?.target_directory.join("release/run-agent-bench");
    Step::program(driver).args(args).run()
}
