//! Appends by one writer: on streams of several sizes, and many messages in one call.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use run_agent_core::Durability;
use run_agent_store_fs::Options;

use crate::row::{Reach, Round, Row};
use crate::scratch::{Bench, draft};
use crate::side_by_side::medians;
use crate::worker::{Kind, Target};

/// Appends in one turn. A turn of one would measure the clock and cold caches as well.
const TURN: u32 = 20;
/// Messages in one call.
const BATCH: usize = 1000;
const NONE: Kind = Kind::Store { durability: Durability::None };

/// A floor that writes as many bytes as the store does for a message.
pub(crate) fn floor(bench: &Bench, sync: bool) -> Result<Kind> {
    let stream = bench.stream("probe", 0, Options::default())?;
    let entries = stream.append(vec![draft(stream.key())], Durability::None)?;
    let entry = entries.first().context("an append acknowledged nothing")?;
    Ok(Kind::Floor { entry_bytes: usize::try_from(entry.next.get() - entry.at.get())?, sync })
}

pub(crate) fn append(bench: &Bench) -> Result<Vec<Row>> {
    let floor = floor(bench, false)?;
    let row = |messages| {
        let rounds = (0..bench.rounds()).map(|_| round(bench, messages, floor)).collect::<Result<_>>()?;
        let what = format!("256 B into {messages} messages");
        Ok(Row::new(what, "us", Reach::RatioAtMost(4.0), rounds))
    };
    [10, 1000, 100_000].into_iter().map(row).collect()
}

fn round(bench: &Bench, messages: usize, floor: Kind) -> Result<Round> {
    bench.stream("bare", 0, Options::default())?;
    let mut floor = Target::open(floor, &bench.root(), "bare")?;
    let mut stream = None;
    let ours = || {
        // A new stream in time, so that its size is what the row says.
        let (mut target, posts) = match stream.take() {
            Some((target, posts)) if posts < messages / 2 => (target, posts),
            _ => (fresh(bench, messages)?, 0),
        };
        let time = turn(&mut target)?;
        stream = Some((target, posts + TURN as usize));
        Ok(time)
    };
    medians(bench.pick(100, 50), ours, || turn(&mut floor))
}

fn fresh(bench: &Bench, messages: usize) -> Result<Target> {
    bench.stream("append", messages, Options::default())?;
    let mut target = Target::open(NONE, &bench.root(), "append")?;
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
    let round = || {
        let many = bench.stream("batch", 0, Options::default())?;
        let mut single = fresh(bench, 0)?;
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
    let rounds = (0..bench.rounds()).map(|_| round()).collect::<Result<_>>()?;
    Ok(vec![Row::new(format!("{BATCH} messages of 256 B a call"), "/s", Reach::RatioAtLeast(8.0), rounds)])
}
