//! The end of a stream, and what came since a message: as whole commands, on streams of several sizes, in one file and
//! in many archives.

use anyhow::{Context, Result};

use super::processes::{EMPTY, walls};
use crate::peak;
use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench};

/// Messages that the commands print.
const SHOWN: usize = 20;
/// A rotated stream's files are so small that the largest has hundreds.
const ARCHIVE_BYTES: u64 = 1 << 20;

/// A stream that is measured.
struct Size {
    messages: usize,
    rotated: bool,
}

fn sizes(bench: &Bench) -> Vec<Size> {
    let plain = |messages| Size { messages, rotated: false };
    let largest = bench.pick(1_000_000, 100_000);
    let mut sizes = vec![plain(1000), plain(100_000)];
    if largest > 100_000 {
        sizes.push(plain(largest));
    }
    sizes.push(Size { messages: largest, rotated: true });
    sizes
}

pub(crate) fn last(bench: &Bench) -> Result<Vec<Row>> {
    rows(bench, "tail", |_| Ok(vec!["--tail".to_owned(), SHOWN.to_string()]))
}

pub(crate) fn since(bench: &Bench) -> Result<Vec<Row>> {
    rows(bench, "since", |stream| {
        let shown = stream.last(SHOWN + 1)?;
        let id = &shown.entries.first().context("the stream is empty")?.message.id;
        Ok(vec!["--since".to_owned(), id.to_string()])
    })
}

fn rows(
    bench: &Bench,
    word: &str,
    args: impl Fn(&dyn run_agent_core::Stream) -> Result<Vec<String>>,
) -> Result<Vec<Row>> {
    let both = Backend::BOTH.into_iter().map(|backend| rows_of(bench, backend, word, &args));
    Ok(both.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn rows_of(
    bench: &Bench,
    backend: Backend,
    word: &str,
    args: impl Fn(&dyn run_agent_core::Stream) -> Result<Vec<String>>,
) -> Result<Vec<Row>> {
    let (mut rows, mut peaks) = (Vec::new(), Vec::new());
    for Size { messages, rotated } in sizes(bench) {
        let stream = bench.stream(backend, word, messages, rotated.then_some(ARCHIVE_BYTES))?;
        let files = stream.stats()?.files;
        let place = if rotated { format!(" in {files} files") } else { String::new() };
        let what = format!("{}: bus read --{word}, of {messages} messages{place}", backend.word());
        let args = args(stream.as_ref())?;
        let mut words = vec!["bus", "read"];
        words.extend(args.iter().map(String::as_str));
        let mut ours = bench.run_agent(backend, word, &words);
        let walls = walls(bench, bench.pick(100, 30), &mut ours, &mut bench.program(EMPTY))?;
        rows.push(Row::new(what, "us", Reach::ExtraAtMost(1000.0), walls));
        let peak = (0..bench.rounds()).map(|_| peak::of(bench, &ours)).collect::<Result<Vec<_>>>()?;
        peaks.push((format!("{}: peak memory, of {messages} messages{place}", backend.word()), peak));
    }
    // Flat: that of the smallest stream is the floor of all others.
    let Some((_, floor)) = peaks.first().cloned() else { return Ok(rows) };
    for (what, peak) in peaks.into_iter().skip(1) {
        let rounds = peak.into_iter().zip(floor.iter().copied()).collect();
        rows.push(Row::new(what, "KiB", Reach::RatioAtMost(1.1), rounds));
    }
    std::fs::remove_dir_all(bench.root(backend).join(word))?;
    Ok(rows)
}
