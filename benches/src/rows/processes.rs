//! Whole commands, from start to end of their process: `bus post`, `job`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::row::{Reach, Round, Row};
use crate::scratch::{Backend, Bench, body};
use crate::side_by_side::{medians, pairs, wall};

pub(crate) const EMPTY: &str = "run-agent-bench-empty";

pub(crate) fn post(bench: &Bench) -> Result<Vec<Row>> {
    let both = Backend::BOTH.into_iter().map(|backend| post_to(bench, backend));
    Ok(both.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn post_to(bench: &Bench, backend: Backend) -> Result<Vec<Row>> {
    bench.stream(backend, "post", 1, None)?;
    let mut ours = bench.run_agent(backend, "post", &["bus", "post", "--type", "FACT", "--body", &body()]);
    let mut floor = bench.program(EMPTY);
    let walls = walls(bench, bench.pick(300, 100), &mut ours, &mut floor)?;
    let name = |what| format!("{}: {what}", backend.word());
    let wall = Row::new(name("wall time of start and wait"), "us", Reach::RatioAtMost(1.5), walls);
    let (calls, extras) = (name("system calls"), name("threads started, configurations opened"));
    if Command::new("strace").arg("--version").output().is_err() {
        let why = "strace is not installed";
        return Ok(vec![wall, Row::skipped(&calls, why), Row::skipped(&extras, why)]);
    }
    let traces = pairs(bench.rounds(), || trace(bench, &ours), || trace(bench, &floor))?;
    let count = |of: fn(&str) -> usize| {
        traces.iter().map(|(ours, floor)| (of(ours) as f64, of(floor) as f64)).collect()
    };
    let calls = Row::new(calls, "calls", Reach::ExtraAtMost(25.0), count(system_calls));
    // A runtime would start threads; a parsed configuration would have been opened.
    let extras = Row::new(extras, "", Reach::ExtraAtMost(0.0), count(threads_and_configurations));
    Ok(vec![wall, calls, extras])
}

pub(crate) fn job(bench: &Bench) -> Result<Vec<Row>> {
    let mut floor = bench.program("run-agent-bench-bare-job");
    floor.arg(bench.beside());
    let round = |n| {
        // A task of its own for each round: a job folds its task's stream, which grows by every run.
        let args = ["job", "--agent", "shell", "--prompt", "true"];
        let mut ours = bench.run_agent(Backend::Fs, &format!("job-{n}"), &args);
        wall(&mut ours)?;
        medians(bench.pick(20, 8), || wall(&mut ours), || wall(&mut floor))
    };
    let rounds = (0..bench.rounds()).map(round).collect::<Result<_>>()?;
    let job = Row::new("job --agent shell --prompt true", "us", Reach::RatioAtMost(4.0), rounds);
    Ok(vec![job, done_to_end(bench)?])
}

/// From the last thing that the agent of a loop does, after it has said DONE, until `LOOP_END` is in the stream; and until
/// a bare shell that did it was waited for.
fn done_to_end(bench: &Bench) -> Result<Row> {
    let stamp = bench.beside().join("stamp");
    let last = format!("date +%s%N > '{}'", stamp.display());
    let prompt = format!("run-agent done\n{last}");
    let root = bench.root(Backend::Fs);
    let mut count = 0;
    let mut ours = || {
        count += 1;
        let task = format!("done-{count}");
        let args = ["task", "--project", "done", "--task", &task, "--agent", "shell", "--prompt", &prompt];
        let mut command = bench.run_agent_in(&root, &args);
        wall(&mut command)?;
        let bus = Command::new("/bin/sh")
            .args(["-c", &format!("cat '{}'/done/task-*-{task}/TASK-MESSAGE-BUS.md", root.display())])
            .output()?;
        let bus = String::from_utf8(bus.stdout)?;
        let end = bus.rfind("type: \"LOOP_END\"").or(bus.rfind("type: LOOP_END")).context("no LOOP_END")?;
        let ts = bus[..end].rfind("ts: ").context("no time")?;
        let ts = bus[ts + 4..].lines().next().unwrap_or_default().trim_matches('"');
        let ended = ts.parse::<run_agent_core::Timestamp>()?.as_nanosecond();
        let noted: i128 = std::fs::read_to_string(&stamp)?.trim().parse()?;
        Ok(Duration::from_nanos(u64::try_from(ended - noted)?))
    };
    let mut bare = Command::new("/bin/sh");
    bare.args(["-c", &last]);
    let round = |_| {
        let (ours, floor) = medians(bench.pick(10, 5), &mut ours, || since_stamp(&mut bare, &stamp))?;
        Ok((ours / 1e3, floor / 1e3))
    };
    let rounds = (0..bench.rounds()).map(round).collect::<Result<_>>()?;
    Ok(Row::new("LOOP_END after the agent's last command", "ms", Reach::AtMost(10.0), rounds))
}

/// The time from the moment that a command noted in a file until it was waited for.
fn since_stamp(command: &mut Command, stamp: &Path) -> Result<Duration> {
    wall(command)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let noted: u64 = std::fs::read_to_string(stamp)?.trim().parse()?;
    Ok(now.saturating_sub(Duration::from_nanos(noted)))
}

pub(crate) fn walls(
    bench: &Bench,
    spawns: usize,
    ours: &mut Command,
    floor: &mut Command,
) -> Result<Vec<Round>> {
    (0..bench.rounds()).map(|_| medians(spawns, || wall(ours), || wall(floor))).collect()
}

/// What the command asks of the system, a line a call.
fn trace(bench: &Bench, command: &Command) -> Result<String> {
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
    Ok(std::fs::read_to_string(&trace)?)
}

/// A line is `<pid> <call>(…`; signals, exits and the second halves of calls begin with a sign.
fn system_calls(trace: &str) -> usize {
    let calls = trace.lines().filter_map(|line| line.split_whitespace().nth(1));
    calls.filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic())).count()
}

fn threads_and_configurations(trace: &str) -> usize {
    let is_one = |line: &&str| {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        call.starts_with("clone") || (call.starts_with("open") && line.contains("config."))
    };
    trace.lines().filter(is_one).count()
}
