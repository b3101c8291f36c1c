//! Many writer processes at once, started together and measured together.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use run_agent_store_fs::Options;

use crate::scratch::Bench;
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
    bench.stream(PROJECT, 0, Options::default())?;
    let mut workers = (0..load.writers)
        .map(|index| start(bench, &Order { root: bench.root(), kind, index, load }))
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

fn start(bench: &Bench, order: &Order) -> Result<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut command = bench.program("run-agent-bench");
    command.args([worker::VERB, &serde_json::to_string(order)?]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().context("cannot start a worker")?;
    let stdout = child.stdout.take().context("a worker has no stdout")?;
    Ok((child, BufReader::new(stdout).lines()))
}
