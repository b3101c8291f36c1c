//! The product at work, from a fresh clone, in one line.

use anyhow::Result;

use crate::step::Step;

pub(crate) fn run() -> Result<()> {
    Step::cargo(["run", "-q", "-p", "run-agent", "--", "demo"]).run()
}
