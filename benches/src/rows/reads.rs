//! A whole stream in order, in one process.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use run_agent_benches::yaml;
use run_agent_core::layout::Layout;
use run_agent_core::{Cursor, Stream};

use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench};
use crate::side_by_side::pairs;

const PAGE: usize = 1000;

pub(crate) fn sequential(bench: &Bench) -> Result<Vec<Row>> {
    let messages = bench.pick(100_000, 20_000);
    let mut rows = Vec::new();
    for backend in Backend::BOTH {
        let stream = bench.stream(backend, "read", messages, None)?;
        let bytes = written(bench, backend, stream.as_ref())?;
        let rate = |took: Duration| bytes.len() as f64 / 1e6 / took.as_secs_f64();
        let ours = || read_all(stream.as_ref(), messages).map(rate);
        let crc = || {
            let started = Instant::now();
            black_box(crc32fast::hash(black_box(&bytes)));
            Ok(rate(started.elapsed()))
        };
        let what = format!("{}: {messages} messages by pages of {PAGE}", backend.word());
        if backend == Backend::Fs {
            let yaml = || read_as_yaml(&bytes, messages).map(rate);
            let against = pairs(bench.rounds(), ours, yaml)?;
            rows.push(Row::new(format!("{what}, against YAML"), "MB/s", Reach::RatioAtLeast(10.0), against));
        }
        let reach = backend.pick(Reach::Ratio, Reach::RatioAtLeast(0.5));
        let against = pairs(bench.rounds(), ours, crc)?;
        rows.push(Row::new(format!("{what}, against crc32"), "MB/s", reach, against));
    }
    rows.extend(growth(bench)?);
    Ok(rows)
}

/// What a message costs among many, against among a thousand.
fn growth(bench: &Bench) -> Result<Vec<Row>> {
    let sizes = bench.pick(vec![100_000, 1_000_000, 10_000_000], vec![100_000]);
    let mut rows = Vec::new();
    for backend in Backend::BOTH {
        let small = bench.stream(backend, "small", PAGE, None)?;
        for messages in sizes.iter().copied() {
            let large = bench.stream(backend, "read", messages, None)?;
            let each = |stream: &dyn Stream, messages: usize| {
                let took = read_all(stream, messages)?;
                Ok(took.as_nanos() as f64 / messages as f64)
            };
            // A read of the small one is over before the clock has seen much of it.
            let few =
                || (0..100).map(|_| each(small.as_ref(), PAGE)).sum::<Result<f64>>().map(|sum| sum / 100.0);
            let rounds = pairs(bench.rounds(), || each(large.as_ref(), messages), few)?;
            let what = format!("{}: a message of {messages}, against one of {PAGE}", backend.word());
            rows.push(Row::new(what, "ns", Reach::RatioAtMost(1.5), rounds));
        }
        std::fs::remove_dir_all(bench.root(backend).join("read"))?;
    }
    Ok(rows)
}

/// The bytes that hold the stream's entries.
fn written(bench: &Bench, backend: Backend, stream: &dyn Stream) -> Result<Vec<u8>> {
    let layout = Layout::new(bench.root(backend));
    let stats = stream.stats()?;
    ensure!(stats.files == 1, "the stream has {} files", stats.files);
    let file = match backend {
        Backend::Fs => layout.bus_file(stream.key()),
        Backend::Segmented => last_segment(&layout.segments(stream.key()))?,
    };
    // A segment is longer than what was written to it.
    let mut bytes = Vec::new();
    let _ = File::open(file)?.take(stats.active_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The segment that is written to.
pub(crate) fn last_segment(folder: &std::path::Path) -> Result<PathBuf> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            segments.push(path);
        }
    }
    segments.into_iter().max().context("the stream has no segment")
}

fn read_as_yaml(bytes: &[u8], messages: usize) -> Result<Duration> {
    let text = std::str::from_utf8(bytes).context("the bus is no text")?;
    let started = Instant::now();
    let read = yaml::entries(text).filter(|entry| black_box(entry).is_ok()).count();
    ensure!(read == messages, "the YAML crate read {read} messages of {messages}");
    Ok(started.elapsed())
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
