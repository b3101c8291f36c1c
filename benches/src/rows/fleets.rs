//! Many processes that stay and append: at full speed with each durability, and at the mission's rate.

use std::time::Duration;

use anyhow::Result;
use run_agent_core::Durability;

use super::appends::floor;
use crate::fleet::{self, Fleet};
use crate::row::{Reach, Row};
use crate::scratch::Bench;
use crate::side_by_side::pairs;
use crate::worker::{Kind, Load};

const PER_SECOND: u32 = 1000;

pub(crate) fn writers(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for writers in [10, 50] {
        let pairs = at_full_speed(bench, Durability::None, writers, false)?;
        add(&mut rows, &pairs, writers, THROUGHPUT, Reach::RatioAtLeast(0.5));
        add(&mut rows, &pairs, writers, P50, Reach::Ratio);
        add(&mut rows, &pairs, writers, P99, Reach::RatioAtMost(2.0));
        add(&mut rows, &pairs, writers, SLOWEST, Reach::RatioAtLeast(0.5));
    }
    Ok(rows)
}

/// The floor never syncs: the row shows what the syncs cost.
pub(crate) fn interval(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for writers in [1, 10, 50] {
        let pairs = at_full_speed(bench, Durability::Interval, writers, false)?;
        add(&mut rows, &pairs, writers, THROUGHPUT, Reach::Ratio);
        add(&mut rows, &pairs, writers, P99, Reach::Ratio);
    }
    Ok(rows)
}

/// The floor syncs each append under the lock. What is to be reached with more than one writer is half of what is
/// asked of a store whose writers share syncs.
pub(crate) fn always(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (writers, throughput) in [
        (1, Reach::RatioAtLeast(0.9)),
        (10, Reach::RatioAtLeastLater(1.5)),
        (50, Reach::RatioAtLeastLater(3.0)),
    ] {
        let pairs = at_full_speed(bench, Durability::Always, writers, true)?;
        add(&mut rows, &pairs, writers, THROUGHPUT, throughput);
        add(&mut rows, &pairs, writers, P99, Reach::RatioAtMost(3.0));
    }
    Ok(rows)
}

pub(crate) fn rate(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(2000, 1000));
    for durability in [Durability::None, Durability::Interval, Durability::Always] {
        for writers in [1, 10, 50] {
            let load = Load { writers, rate: Some(PER_SECOND), window };
            let pairs = fleets(bench, durability, load, durability == Durability::Always)?;
            let held = pairs.iter().map(|(ours, _)| (ours.per_second, f64::from(PER_SECOND))).collect();
            let p99 = pairs.iter().map(|(ours, floor)| (ours.p99_us, floor.p99_us)).collect();
            let what = format!("{PER_SECOND} msg/s, {}, writers: {writers}", word(durability));
            // The last post ends a moment after it was due, so the whole rate may be missed by that.
            rows.push(Row::new(&what, "/s", Reach::RatioAtLeast(0.99), held));
            rows.push(Row::new(format!("{what}; p99"), "us", Reach::Ratio, p99));
        }
    }
    Ok(rows)
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "none",
        Durability::Interval => "interval",
        Durability::Always => "always",
    }
}

/// A number of a fleet, with its name and unit.
type Number = (&'static str, &'static str, fn(&Fleet) -> f64);

const THROUGHPUT: Number = ("throughput", "/s", |fleet| fleet.per_second);
const P50: Number = ("p50", "us", |fleet| fleet.p50_us);
const P99: Number = ("p99", "us", |fleet| fleet.p99_us);
const SLOWEST: Number = ("slowest writer's share", "", |fleet| fleet.slowest_share);

fn add(rows: &mut Vec<Row>, pairs: &[(Fleet, Fleet)], writers: u32, number: Number, reach: Reach) {
    let (what, unit, of) = number;
    let rounds = pairs.iter().map(|(ours, floor)| (of(ours), of(floor))).collect();
    let noun = if writers == 1 { "writer" } else { "writers" };
    rows.push(Row::new(format!("{writers} {noun}: {what}"), unit, reach, rounds));
}

fn at_full_speed(
    bench: &Bench,
    durability: Durability,
    writers: u32,
    sync: bool,
) -> Result<Vec<(Fleet, Fleet)>> {
    let window = Duration::from_millis(bench.pick(1000, 300));
    fleets(bench, durability, Load { writers, rate: None, window }, sync)
}

fn fleets(bench: &Bench, durability: Durability, load: Load, sync: bool) -> Result<Vec<(Fleet, Fleet)>> {
    let floor = floor(bench, sync)?;
    let ours = || fleet::run(bench, Kind::Store { durability }, load);
    pairs(bench.rounds(), ours, || fleet::run(bench, floor, load))
}
