//! A whole stream in order, in one process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use run_agent_core::layout::Layout;
use run_agent_core::{Cursor, Stream};

use crate::row::{Reach, Row};
use crate::scratch::Bench;
use crate::side_by_side::pairs;

const MESSAGES: usize = 100_000;
const PAGE: usize = 1000;

pub(crate) fn sequential(bench: &Bench) -> Result<Vec<Row>> {
    let stream = bench.stream("read", MESSAGES)?;
    let bytes = std::fs::read(Layout::new(bench.root()).bus_file(stream.key()))?;
    let rate = |took: Duration| bytes.len() as f64 / 1e6 / took.as_secs_f64();
    let ours = || read_all(stream.as_ref()).map(rate);
    let floor = || {
        let started = Instant::now();
        black_box(crc32fast::hash(black_box(&bytes)));
        Ok(rate(started.elapsed()))
    };
    let rounds = pairs(bench.rounds(), ours, floor)?;
    let what = format!("{MESSAGES} messages by pages of {PAGE}");
    Ok(vec![Row::new(what, "MB/s", Reach::Ratio, rounds)])
}

fn read_all(stream: &dyn Stream) -> Result<Duration> {
    let started = Instant::now();
    let (mut from, mut entries) = (Cursor::START, 0);
    loop {
        let page = black_box(stream.read(from, PAGE)?);
        if page.next == from {
            break;
        }
        entries += page.entries.len();
        from = page.next;
    }
    ensure!(entries == MESSAGES, "{entries} messages were read of {MESSAGES}");
    Ok(started.elapsed())
}
