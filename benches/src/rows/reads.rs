//! A whole stream in order, in one process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use run_agent_benches::yaml;
use run_agent_core::layout::Layout;
use run_agent_core::{Cursor, Stream};
use run_agent_store_fs::Options;

use crate::row::{Reach, Row};
use crate::scratch::Bench;
use crate::side_by_side::pairs;

const PAGE: usize = 1000;

pub(crate) fn sequential(bench: &Bench) -> Result<Vec<Row>> {
    let messages = bench.pick(100_000, 20_000);
    let stream = bench.stream("read", messages, Options::default())?;
    let bytes = std::fs::read(Layout::new(bench.root()).bus_file(stream.key()))?;
    let rate = |took: Duration| bytes.len() as f64 / 1e6 / took.as_secs_f64();
    let ours = || read_all(stream.as_ref(), messages).map(rate);
    let yaml = || {
        let text = std::str::from_utf8(&bytes).context("the bus is no text")?;
        let started = Instant::now();
        let read = yaml::entries(text).filter(|entry| black_box(entry).is_ok()).count();
        ensure!(read == messages, "the YAML crate read {read} messages of {messages}");
        Ok(rate(started.elapsed()))
    };
    let crc = || {
        let started = Instant::now();
        black_box(crc32fast::hash(black_box(&bytes)));
        Ok(rate(started.elapsed()))
    };
    let what = format!("{messages} messages by pages of {PAGE}");
    let against_yaml = pairs(bench.rounds(), ours, yaml)?;
    let against_crc = pairs(bench.rounds(), ours, crc)?;
    Ok(vec![
        Row::new(format!("{what}, against YAML"), "MB/s", Reach::RatioAtLeast(10.0), against_yaml),
        Row::new(format!("{what}, against crc32"), "MB/s", Reach::Ratio, against_crc),
    ])
}

fn read_all(stream: &dyn Stream, messages: usize) -> Result<Duration> {
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
    ensure!(entries == messages, "{entries} messages were read of {messages}");
    Ok(started.elapsed())
}
