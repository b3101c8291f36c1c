//! Many writer processes at once, started together and measured together.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::scratch::Bench;
use crate::worker::{self, Kind, Order, Posts};

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

/// Lets `writers` processes post into a new stream or floor for as long as `window`.
pub(crate) fn run(
    bench: &Bench,
    kind: Kind,
    writers: u32,
    rate: Option<u32>,
    window: Duration,
) -> Result<Fleet> {
    let project = "fleet";
    bench.stream(project, 0)?;
    let order =
        |index| Order { kind, root: bench.root(), project: project.to_owned(), index, writers, rate, window };
    let mut workers = (0..writers).map(|index| start(bench, &order(index))).collect::<Result<Vec<_>>>()?;
    for (_, stdout) in &mut workers {
        ensure!(line(stdout)? == "ready\n", "a worker did not get ready");
    }
    let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + HEAD_START;
    for (child, _) in &mut workers {
        writeln!(child.stdin.as_ref().context("a worker has no stdin")?, "{}", start.as_nanos())?;
    }
    let (mut counts, mut all_us, mut took_us) = (Vec::new(), Vec::new(), 0.0);
    for (mut child, mut stdout) in workers {
        let posts: Posts = serde_json::from_str(&line(&mut stdout)?).context("a worker said nothing")?;
        ensure!(child.wait()?.success(), "a worker failed");
        counts.push(posts.each_us.len());
        all_us.extend(posts.each_us);
        took_us = posts.took_us.max(took_us);
    }
    bench.remove(project)?;
    all_us.sort_by(f64::total_cmp);
    let percentile = |n: usize| all_us.get(all_us.len().saturating_sub(1) * n / 100).copied();
    let fewest = counts.iter().copied().min().unwrap_or(0) as f64;
    Ok(Fleet {
        per_second: all_us.len() as f64 * 1e6 / took_us,
        p50_us: percentile(50).context("nobody posted anything")?,
        p99_us: percentile(99).context("nobody posted anything")?,
        slowest_share: fewest * f64::from(writers) / all_us.len() as f64,
    })
}

fn start(bench: &Bench, order: &Order) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut command = bench.program("run-agent-bench");
    command.args([worker::VERB, &serde_json::to_string(order)?]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().context("cannot start a worker")?;
    let stdout = child.stdout.take().context("a worker has no stdout")?;
    Ok((child, BufReader::new(stdout)))
}

fn line(stdout: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    Ok(line)
}
