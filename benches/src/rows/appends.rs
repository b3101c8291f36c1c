//! Appends with durability `none`: one writer on streams of several sizes, many writers at full speed, and the
//! mission's rate.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use run_agent_core::Durability;

use crate::fleet::{self, Fleet};
use crate::row::{Reach, Round, Row};
use crate::scratch::{Bench, draft};
use crate::side_by_side::{medians, pairs};
use crate::worker::{Kind, Load, Target};

/// Appends in one turn. A turn of one would measure the clock and cold caches as well.
const TURN: u32 = 20;
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
        Ok(Row::new(what, "us", Reach::RatioAtMost(4.0), rounds))
    };
    [10, 1000, 100_000].into_iter().map(row).collect()
}

fn round(bench: &Bench, messages: usize, floor: Kind) -> Result<Round> {
    bench.stream("bare", 0)?;
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
    bench.stream("append", messages)?;
    let mut target = Target::open(Kind::Store, &bench.root(), "append")?;
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

pub(crate) fn writers(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(1000, 300));
    for writers in [10, 50] {
        let pairs = fleets(bench, Load { writers, rate: None, window })?;
        let mut row = |what: &str, unit, reach, number: fn(&Fleet) -> f64| {
            let rounds = pairs.iter().map(|(ours, floor)| (number(ours), number(floor))).collect();
            rows.push(Row::new(format!("{writers} writers: {what}"), unit, reach, rounds));
        };
        row("throughput", "/s", Reach::RatioAtLeast(0.5), |fleet| fleet.per_second);
        row("p50", "us", Reach::Ratio, |fleet| fleet.p50_us);
        row("p99", "us", Reach::RatioAtMost(2.0), |fleet| fleet.p99_us);
        row("slowest writer's share", "", Reach::RatioAtLeast(0.5), |fleet| fleet.slowest_share);
    }
    Ok(rows)
}

pub(crate) fn rate(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(2000, 1000));
    for writers in [1, 10, 50] {
        let pairs = fleets(bench, Load { writers, rate: Some(PER_SECOND), window })?;
        let held = pairs.iter().map(|(ours, _)| (ours.per_second, f64::from(PER_SECOND))).collect();
        let p99 = pairs.iter().map(|(ours, floor)| (ours.p99_us, floor.p99_us)).collect();
        let what = format!("{PER_SECOND} msg/s, none, writers: {writers}");
        // The last post ends a moment after it was due, so the whole rate may be missed by that.
        rows.push(Row::new(&what, "/s", Reach::RatioAtLeast(0.99), held));
        rows.push(Row::new(format!("{what}; p99"), "us", Reach::Ratio, p99));
    }
    Ok(rows)
}

fn fleets(bench: &Bench, load: Load) -> Result<Vec<(Fleet, Fleet)>> {
    let floor = floor(bench)?;
    pairs(bench.rounds(), || fleet::run(bench, Kind::Store, load), || fleet::run(bench, floor, load))
}
