//! The load driver: measures between processes and against the file system, and says of each row whether it is met.
//!
//! | question | file |
//! | --- | --- |
//! | which rows are there? | `rows`, `rows/<what is measured>` |
//! | what is a row's figure and verdict, and how is it shown? | `row`, `report`, `machine` |
//! | where do the streams and processes of a measurement live? | `scratch` |
//! | how are two things measured side by side? | `side_by_side` |
//! | what are other databases asked to do? | `databases` |
//! | how do many writers post at once? | `fleet`, which starts the driver itself as a `worker` |
//! | what is served, and how does it look from outside? | `served` |
//! | what do those do who ask a server? | `load`, which is the driver started by itself, over `http` |
//! | how much memory does a command take? | `peak`, which starts the driver itself as its parent |
//!
//! Every figure compares with a floor of the same run, taken in turns with it. No number here is a test: a row that
//! is missed changes no exit code.

#[cfg(feature = "databases")]
mod databases;
mod fleet;
mod http;
mod load;
mod machine;
mod peak;
mod report;
mod row;
mod rows;
mod scratch;
mod served;
mod side_by_side;
mod worker;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::report::Report;
use crate::rows::{GROUPS, Group, swarm, world};
use crate::scratch::Bench;

const USAGE: &str = "run-agent-bench [--quick] [--write] [--only GROUP]…

  --quick        fewer and shorter rounds, smaller streams
  --only GROUP   only the groups whose name contains this word; repeatable
  --write        put the tables of the measured groups into docs/performance.md";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run-agent-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [worker::VERB, order] => return worker::run(order),
        [load::VERB, order] => return load::run(order),
        [peak::VERB, command @ ..] => return peak::run(command),
        [world::VERB, tasks] => return world::hold(tasks),
        [swarm::VERB, order] => return swarm::run(order),
        _ => {}
    }
    let (mut quick, mut write, mut only) = (false, false, Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word {
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--quick" => quick = true,
            "--write" => write = true,
            "--only" => only.push(words.next().context("--only needs the name of a group")?),
            other => bail!("{other} is not known\n\n{USAGE}"),
        }
    }
    ensure!(!(write && quick), "--write keeps what a full run measures: leave out --quick");
    let is_wanted = |group: &&Group| only.is_empty() || only.iter().any(|word| group.name.contains(word));
    let groups: Vec<&Group> = GROUPS.iter().filter(is_wanted).collect();
    ensure!(
        !groups.is_empty(),
        "there are only the groups {}",
        GROUPS.iter().map(|group| group.name).collect::<Vec<_>>().join(", ")
    );

    let bench = Bench::new(quick)?;
    let mut report = Report::new(&bench);
    for group in groups {
        report.add(group, &(group.run)(&bench)?)?;
    }
    if write { report.write_docs() } else { Ok(()) }
}
