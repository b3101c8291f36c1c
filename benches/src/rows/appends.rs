//! Appends by one writer: on streams of several sizes, and many messages in one call.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use run_agent_core::Durability;

use crate::row::{Reach, Round, Row};
use crate::scratch::{Backend, Bench, draft};
use crate::side_by_side::medians;
use crate::worker::{Kind, Target};

/// Appends in one turn. A turn of one would measure the clock and cold caches as well.
const TURN: u32 = 20;
/// Messages in one call.
const BATCH: usize = 1000;

/// A floor that writes as many bytes as the store does for a message.
pub(crate) fn floor(bench: &Bench, backend: Backend, sync: bool) -> Result<Kind> {
    let stream = bench.stream(backend, "probe", 0, None)?;
    stream.append(vec![draft(stream.key())], Durability::None)?;
    let entry_bytes = usize::try_from(stream.stats()?.appended_bytes)?;
    ensure!(entry_bytes > 0, "an append wrote nothing");
    Ok(Kind::Floor { entry_bytes, sync })
}

pub(crate) fn append(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for backend in Backend::BOTH {
        let floor = floor(bench, backend, false)?;
        for messages in [10, 1000, 100_000] {
            let round = |_| round(bench, backend, messages, floor);
            let rounds = (0..bench.rounds()).map(round).collect::<Result<_>>()?;
            let what = format!("{}: 256 B into {messages} messages", backend.word());
            rows.push(Row::new(what, "us", Reach::RatioAtMost(backend.pick(4.0, 2.5)), rounds));
        }
    }
    Ok(rows)
}

fn round(bench: &Bench, backend: Backend, messages: usize, floor: Kind) -> Result<Round> {
    bench.stream(backend, "bare", 0, None)?;
    let mut floor = Target::open(floor, &bench.root(backend), "bare")?;
    let mut stream = None;
    let ours = || {
        // A new stream in time, so that its size is what the row says.
        let (mut target, posts) = match stream.take() {
            Some((target, posts)) if posts < messages / 2 => (target, posts),
            _ => (fresh(bench, backend, messages)?, 0),
        };
        let time = turn(&mut target)?;
        stream = Some((target, posts + TURN as usize));
        Ok(time)
    };
    medians(bench.pick(100, 50), ours, || turn(&mut floor))
}

fn fresh(bench: &Bench, backend: Backend, messages: usize) -> Result<Target> {
    bench.stream(backend, "append", messages, None)?;
    let kind = Kind::Store { backend, durability: Durability::None };
    let mut target = Target::open(kind, &bench.root(backend), "append")?;
    // The first post opens the files.
    target.post()?;
    Ok(target)
}

/// The time of one append, as the mean of a turn.
fn turn(target: &mut Target) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..TURN {
        target.post()?;
    }
    Ok(started.elapsed() / TURN)
}

/// The floor is the store itself with one message a call.
pub(crate) fn batch(bench: &Bench) -> Result<Vec<Row>> {
    let round = |backend| {
        let many = bench.stream(backend, "batch", 0, None)?;
        let mut single = fresh(bench, backend, 0)?;
        let draft = draft(many.key());
        let ours = || {
            let batch = vec![draft.clone(); BATCH];
            let started = Instant::now();
            many.append(batch, Durability::None)?;
            Ok(started.elapsed() / u32::try_from(BATCH)?)
        };
        let (ours, floor) = medians(bench.pick(50, 20), ours, || turn(&mut single))?;
        Ok((1e6 / ours, 1e6 / floor))
    };
    let row = |backend: Backend| {
        let rounds = (0..bench.rounds()).map(|_| round(backend)).collect::<Result<_>>()?;
        let what = format!("{}: {BATCH} messages of 256 B a call", backend.word());
        Ok(Row::new(what, "/s", Reach::RatioAtLeast(8.0), rounds))
    };
    Backend::BOTH.into_iter().map(row).collect()
}
