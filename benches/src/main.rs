//! The load driver: measures between processes and against the file system, and says of each row whether it is met.
//!
//! | question | file |
//! | --- | --- |
//! | which rows are there? | `rows`, `rows/<what is measured>` |
//! | what is a row's figure and verdict, and how is it shown? | `row`, `report` |
//! | where do the streams and processes of a measurement live? | `scratch` |
//! | how are two things measured side by side? | `side_by_side` |
//! | how do many writers post at once? | `fleet`, which starts the driver itself as a `worker` |
//!
//! Every figure compares with a floor of the same run, taken in turns with it. No number here is a test: a row that
//! is missed changes no exit code.

mod fleet;
mod report;
mod row;
mod rows;
mod scratch;
mod side_by_side;
mod worker;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use crate::report::Report;
use crate::rows::{GROUPS, Group};
use crate::scratch::Bench;

const USAGE: &str = "run-agent-bench [--quick] [--write-docs] [GROUP…]

  --quick        fewer and shorter rounds
  --write-docs   put the tables into docs/performance.md
  GROUP          only the groups whose name contains one of these words";

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
    if let [worker::VERB, order] = args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        return worker::run(order);
    }
    let (mut quick, mut write_docs, mut words) = (false, false, Vec::new());
    for arg in &args {
        match arg.as_str() {
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--quick" => quick = true,
            "--write-docs" => write_docs = true,
            flag if flag.starts_with('-') => bail!("unknown flag {flag}\n\n{USAGE}"),
            word => words.push(word),
        }
    }
    ensure!(
        !write_docs || (!quick && words.is_empty()),
        "--write-docs keeps a whole run: leave out --quick and the groups"
    );
    let is_wanted = |group: &&Group| words.is_empty() || words.iter().any(|word| group.name.contains(word));
    let groups: Vec<&Group> = GROUPS.iter().filter(is_wanted).collect();
    ensure!(!groups.is_empty(), "there are only the groups {}", GROUPS.map(|group| group.name).join(", "));

    let bench = Bench::new(quick)?;
    let mut report = Report::new(bench.rounds());
    for group in groups {
        report.add(group, (group.run)(&bench)?);
    }
    report.write_json()?;
    if write_docs { report.write_docs() } else { Ok(()) }
}
