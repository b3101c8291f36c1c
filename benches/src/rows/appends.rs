//! Appends with durability `none`: one writer on streams of several sizes, many writers at full speed, and the
//! mission's rate.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use run_agent_core::Durability;

use crate::fleet::{self, Fleet};
use crate::row::{Figure, Reach, Round, Row};
use crate::scratch::{Bench, draft};
use crate::side_by_side::{medians, pairs};
use crate::worker::{Kind, Target};

/// Appends in one turn. A turn of one would measure the clock and cold caches as well.
const TURN: u32 = 50;
const PER_SECOND: u32 = 1000;

/// A floor that writes as many bytes as the store does for a message.
fn floor(bench: &Bench) -> Result<Kind> {
    let stream = bench.stream("probe", 0)?;
    let entries = stream.append(vec![draft(stream.key())], Durability::None)?;
    let entry = entries.first().context("an append acknowledged nothing")?;
    Ok(Kind::Floor { entry_bytes: usize::try_from(entry.next.get() - entry.at.get())? })
}

pub(crate) fn append(bench: &Bench) -> Result<Vec<Row>> {
    let floor = floor(bench)?;
    let row = |messages| {
        let rounds = (0..bench.rounds()).map(|_| round(bench, messages, floor)).collect::<Result<_>>()?;
        let what = format!("256 B into {messages} messages");
        Ok(Row::new(what, "us", Figure::Ratio, Reach::AtMost(4.0), rounds))
    };
    [10, 1000, 100_000].into_iter().map(row).collect()
}

/// A new stream for each round, so that its size is what the row says.
fn round(bench: &Bench, messages: usize, floor: Kind) -> Result<Round> {
    bench.stream("append", messages)?;
    let mut ours = Target::open(Kind::Store, &bench.root(), "append")?;
    let mut floor = Target::open(floor, &bench.root(), "append")?;
    turn(&mut ours)?;
    turn(&mut floor)?;
    let round = medians(bench.pick(40, 20), || turn(&mut ours), || turn(&mut floor))?;
    bench.remove("append")?;
    Ok(round)
}

/// The time of one append, as the mean of a turn.
fn turn(target: &mut Target) -> Result<Duration> {
    let started = Instant::now();
    for _ in 0..TURN {
        target.post()?;
    }
    Ok(started.elapsed() / TURN)
}

pub(crate) fn writers(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(1000, 300));
    for writers in [10, 50] {
        let pairs = fleets(bench, writers, None, window)?;
        let mut row = |what: &str, unit, reach, number: fn(&Fleet) -> f64| {
            let rounds = pairs.iter().map(|(ours, floor)| (number(ours), number(floor))).collect();
            rows.push(Row::new(format!("{writers} writers: {what}"), unit, Figure::Ratio, reach, rounds));
        };
        row("throughput", "/s", Reach::AtLeast(0.5), |fleet| fleet.per_second);
        row("p50", "us", Reach::Informational, |fleet| fleet.p50_us);
        row("p99", "us", Reach::AtMost(2.0), |fleet| fleet.p99_us);
        row("slowest writer's share", "", Reach::AtLeast(0.5), |fleet| fleet.slowest_share);
    }
    Ok(rows)
}

pub(crate) fn rate(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(2000, 1000));
    for writers in [1, 10, 50] {
        let pairs = fleets(bench, writers, Some(PER_SECOND), window)?;
        let held = pairs.iter().map(|(ours, _)| (ours.per_second, f64::from(PER_SECOND))).collect();
        let p99 = pairs.iter().map(|(ours, floor)| (ours.p99_us, floor.p99_us)).collect();
        let what = format!("{PER_SECOND} msg/s, none, writers: {writers}");
        // The last post ends a moment after it was due, so the whole rate may be missed by that.
        rows.push(Row::new(&what, "/s", Figure::Ratio, Reach::AtLeast(0.99), held));
        rows.push(Row::new(format!("{what}; p99"), "us", Figure::Ratio, Reach::Informational, p99));
    }
    Ok(rows)
}

fn fleets(bench: &Bench, writers: u32, rate: Option<u32>, window: Duration) -> Result<Vec<(Fleet, Fleet)>> {
    let floor = floor(bench)?;
    let fleet = |kind| fleet::run(bench, kind, writers, rate, window);
    pairs(bench.rounds(), || fleet(Kind::Store), || fleet(floor))
}
