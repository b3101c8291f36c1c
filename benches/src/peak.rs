//! The greatest resident memory of a command. The system tells it of all children of a process together, so each
//! command gets a driver of its own as parent.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};

use crate::scratch::Bench;

/// The first argument of a driver that is such a parent.
pub(crate) const VERB: &str = "peak";

/// In KiB.
pub(crate) fn of(bench: &Bench, command: &Command) -> Result<f64> {
    let mut parent = bench.program("run-agent-bench");
    parent.arg(VERB).arg(command.get_program()).args(command.get_args());
    parent.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = parent.stdout(Stdio::piped()).output().context("cannot start the driver")?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (program, args) = words.split_first().context("no command is given")?;
    let status = Command::new(program).args(args).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{program}: {status}");
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}
