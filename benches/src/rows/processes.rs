//! Whole commands, from start to end of their process: `bus post`, `bus read --tail`, `job`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::row::{Reach, Round, Row};
use crate::scratch::{Bench, body};
use crate::side_by_side::{medians, pairs, wall};

const EMPTY: &str = "run-agent-bench-empty";

pub(crate) fn post(bench: &Bench) -> Result<Vec<Row>> {
    bench.stream("post", 1)?;
    let mut ours = bench.run_agent("post", &["bus", "post", "--type", "FACT", "--body", &body()]);
    let mut floor = bench.program(EMPTY);
    let walls = walls(bench, bench.pick(300, 100), &mut ours, &mut floor)?;
    let wall = Row::new("wall time of start and wait", "us", Reach::RatioAtMost(1.5), walls);
    let what = "system calls";
    let calls = if Command::new("strace").arg("--version").output().is_ok() {
        let calls = pairs(bench.rounds(), || system_calls(bench, &ours), || system_calls(bench, &floor))?;
        Row::new(what, "calls", Reach::ExtraAtMost(25.0), calls)
    } else {
        Row::skipped(what, "strace is not installed")
    };
    Ok(vec![wall, calls])
}

pub(crate) fn last(bench: &Bench) -> Result<Vec<Row>> {
    let row = |messages| {
        let project = format!("last-{messages}");
        bench.stream(&project, messages)?;
        let mut ours = bench.run_agent(&project, &["bus", "read", "--tail", "20"]);
        let walls = walls(bench, bench.pick(100, 40), &mut ours, &mut bench.program(EMPTY))?;
        let what = format!("bus read --tail 20, of {messages} messages");
        Ok(Row::new(what, "us", Reach::ExtraAtMost(1000.0), walls))
    };
    [1000, 100_000].into_iter().map(row).collect()
}

pub(crate) fn job(bench: &Bench) -> Result<Vec<Row>> {
    let mut floor = bench.program("run-agent-bench-bare-job");
    floor.arg(bench.beside());
    let round = |n| {
        // A task of its own for each round: a job folds its task's stream, which grows by every run.
        let mut ours = bench.run_agent(&format!("job-{n}"), &["job", "--agent", "shell", "--prompt", "true"]);
        wall(&mut ours)?;
        medians(bench.pick(20, 8), || wall(&mut ours), || wall(&mut floor))
    };
    let rounds = (0..bench.rounds()).map(round).collect::<Result<_>>()?;
    Ok(vec![Row::new("job --agent shell --prompt true", "us", Reach::RatioAtMost(4.0), rounds)])
}

fn walls(bench: &Bench, spawns: usize, ours: &mut Command, floor: &mut Command) -> Result<Vec<Round>> {
    (0..bench.rounds()).map(|_| medians(spawns, || wall(ours), || wall(floor))).collect()
}

fn system_calls(bench: &Bench, command: &Command) -> Result<f64> {
    let trace = bench.beside().join("strace.txt");
    let output = Command::new("strace")
        .args([Path::new("-f"), Path::new("-o"), &trace, Path::new(command.get_program())])
        .args(command.get_args())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(bench.beside())
        .output()
        .context("cannot start strace")?;
    ensure!(output.status.success(), "strace: {}", String::from_utf8_lossy(&output.stderr));
    // A line is `<pid> <call>(…`; signals, exits and the second halves of calls begin with a sign.
    let text = std::fs::read_to_string(&trace)?;
    let calls = text.lines().filter_map(|line| line.split_whitespace().nth(1));
    Ok(calls.filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic())).count() as f64)
}
