//! Every test of the workspace, the whole-system ones on the real binary among them, these once on each store.

use std::{env, ffi::OsString};

use anyhow::Result;

use crate::{models, step::Step, tool};

pub(crate) fn run(args: &[OsString]) -> Result<()> {
    tool::get("nextest")?;
    build_binary()?;

    // Who names tests runs those, on the store that `RUN_AGENT_TEST_STORE` says.
    if !args.is_empty() {
        return in_profile(nextest().args(args)).run();
    }
    // The run of all tests comes last, so that its summary does. A failure here does not keep its results back.
    let second = in_profile(on_second_store(false)).run();
    let models = models::every(true).and_then(|()| models::random(true));
    in_profile(nextest()).run()?;
    second.and(models)
}

/// What an agent's program, a terminal or the system does, and what is made of a world: no store has a part in it.
const OF_NO_STORE: &str =
    "agents|agents_shown|cgroups|real_cli|rest|scope|shell_setup|shells|speech|versions|why";

/// The whole-system tests on the store that is not the default; `all`: also those in which no store has a part.
pub(crate) fn on_second_store(all: bool) -> Step {
    // A filter and not a package, so that nothing is compiled with other features.
    let mut filter = "binary_id(run-agent-tests::system)".to_owned();
    if !all {
        filter = format!("{filter} & not test(/^({OF_NO_STORE})::/)");
    }
    nextest().args(&["-E", &filter]).env("RUN_AGENT_TEST_STORE", "segmented")
}

fn in_profile(nextest: Step) -> Step {
    // The variable and not the option, because nextest takes `--profile` only once and a caller may give it.
    if env::var_os("NEXTEST_PROFILE").is_none() && in_ci() {
        return nextest.env("NEXTEST_PROFILE", "ci");
    }
    nextest
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
