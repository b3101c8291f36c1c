//! Many writer processes at once, started together and measured together.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::scratch::{Backend, Bench};
use crate::worker::{self, Kind, Load, Order, PROJECT, Posts};

/// Until then every worker has read its start.
const HEAD_START: Duration = Duration::from_millis(20);

/// What a fleet came to.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// What the slowest writer got, as a part of what each would have had if all had the same.
    pub(crate) slowest_share: f64,
}

/// Lets as many processes as the load says post into a new stream or floor.
pub(crate) fn run(bench: &Bench, kind: Kind, load: Load) -> Result<Fleet> {
    let root = match kind {
        Kind::Store { backend, .. } => fresh(bench, backend)?,
        Kind::Floor { .. } => fresh(bench, Backend::Fs)?,
        #[cfg(feature = "databases")]
        Kind::Database(_) => bench.beside().join("database"),
    };
    let (processes, threads) = match kind {
        #[cfg(feature = "databases")]
        Kind::Database(which) if !which.is_shared() => (1, load.writers as usize),
        _ => (load.writers, 1),
    };
    let mut workers = (0..processes)
        .map(|index| start(bench, &Order { root: root.clone(), kind, index, threads, load }))
        .collect::<Result<Vec<_>>>()?;
    for (_, said) in &mut workers {
        ensure!(said.next().transpose()?.as_deref() == Some("ready"), "a worker did not get ready");
    }
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + HEAD_START;
    for (child, _) in &mut workers {
        writeln!(child.stdin.as_ref().context("a worker has no stdin")?, "{}", start.as_nanos())?;
    }
    let (mut fewest, mut all_us, mut took_us) = (usize::MAX, Vec::new(), 0.0);
    for (mut child, mut said) in workers {
        let posts: Posts = serde_json::from_str(&said.next().context("a worker said nothing")??)?;
        ensure!(child.wait()?.success(), "a worker failed");
        fewest = fewest.min(posts.each_us.len());
        all_us.extend(posts.each_us);
        took_us = posts.took_us.max(took_us);
    }
    ensure!(!all_us.is_empty(), "nobody posted anything");
    all_us.sort_by(f64::total_cmp);
    let percentile = |n: usize| all_us[(all_us.len() - 1) * n / 100];
    Ok(Fleet {
        per_second: all_us.len() as f64 * 1e6 / took_us,
        p50_us: percentile(50),
        p99_us: percentile(99),
        slowest_share: fewest as f64 * f64::from(load.writers) / all_us.len() as f64,
    })
}

/// A root with a stream that holds nothing.
fn fresh(bench: &Bench, backend: Backend) -> Result<PathBuf> {
    bench.stream(backend, PROJECT, 0, None)?;
    Ok(bench.root(backend))
}

fn start(bench: &Bench, order: &Order) -> Result<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut command = slowed(bench.program("run-agent-bench"), order.load.slow_sync);
    command.args([worker::VERB, &serde_json::to_string(order)?]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().context("cannot start a worker")?;
    let stdout = child.stdout.take().context("a worker has no stdout")?;
    Ok((child, BufReader::new(stdout).lines()))
}

/// Whether syncs can be made slow here.
pub(crate) fn can_be_slowed() -> bool {
    Command::new("strace")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program under a tracer that makes its syncs take longer, and that no other system call meets.
fn slowed(program: Command, by: Option<Duration>) -> Command {
    let Some(by) = by else { return program };
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"]);
    command.arg(format!("inject=fdatasync:delay_enter={}", by.as_micros())).arg(program.get_program());
    command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    command
}
