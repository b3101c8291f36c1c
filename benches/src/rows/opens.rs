//! The first open after a crash: of a segmented stream whose shared page is gone.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::Result;
use run_agent_core::Durability;
use run_agent_core::layout::Layout;

use super::reads::last_segment;
use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench, draft, open};
use crate::side_by_side::medians;

const PROJECT: &str = "open";
/// A stream of a gibibyte, in segments of the ordinary size.
const LARGE: usize = 2_600_000;

pub(crate) fn after_crash(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for messages in bench.pick(vec![1000, 100_000, 1_000_000, LARGE, 10_000_000], vec![1000, 100_000]) {
        let stream = bench.stream(Backend::Segmented, PROJECT, messages, None)?;
        let stats = stream.stats()?;
        let what = format!("{messages} messages, {} MB in {} segments", stats.bytes / 1_000_000, stats.files);
        let round = |_| medians(10, || recover(bench), || read_last(bench, stats.active_bytes));
        let rounds = (0..bench.rounds()).map(round).collect::<Result<_>>()?;
        rows.push(Row::new(what, "us", Reach::RatioAtMost(1.5), rounds));
    }
    rows.push(many_segments(bench)?);
    std::fs::remove_dir_all(bench.root(Backend::Segmented).join(PROJECT))?;
    Ok(rows)
}

/// The same last segment behind many and behind one.
fn many_segments(bench: &Bench) -> Result<Row> {
    let build = |segments: usize| -> Result<f64> {
        let stream = bench.stream(Backend::Segmented, PROJECT, 0, None)?;
        let draft = draft(stream.key());
        for _ in 1..segments {
            stream.append(vec![draft.clone()], Durability::None)?;
            stream.rotate()?;
        }
        stream.append(vec![draft; 1000], Durability::None)?;
        let times = (0..20).map(|_| Ok(recover(bench)?.as_secs_f64() * 1e6)).collect::<Result<Vec<_>>>()?;
        Ok(crate::row::median(times.into_iter()))
    };
    let many = bench.pick(500, 50);
    let rounds = (0..bench.rounds()).map(|_| Ok((build(many)?, build(2)?))).collect::<Result<_>>()?;
    Ok(Row::new(format!("{many} segments, against 2"), "us", Reach::RatioAtMost(1.5), rounds))
}

/// Opens the stream as who comes first after a crash does, and looks where it ends.
fn recover(bench: &Bench) -> Result<Duration> {
    let root = bench.root(Backend::Segmented);
    let stream = open(&root, Backend::Segmented, PROJECT, None)?;
    // Readers make no page.
    let _ = std::fs::remove_file(Layout::new(root).segments(stream.key()).join("ctl"));
    let started = Instant::now();
    black_box(stream.end()?);
    Ok(started.elapsed())
}

fn read_last(bench: &Bench, bytes: u64) -> Result<Duration> {
    let root = bench.root(Backend::Segmented);
    let stream = open(&root, Backend::Segmented, PROJECT, None)?;
    let segment = last_segment(&Layout::new(root).segments(stream.key()))?;
    let started = Instant::now();
    let mut read = Vec::new();
    let _ = File::open(segment)?.take(bytes).read_to_end(&mut read)?;
    black_box(read);
    Ok(started.elapsed())
}
