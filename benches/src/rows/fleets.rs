//! Many processes that stay and append: at full speed with each durability, and at the mission's rate.

use std::time::Duration;

use anyhow::Result;
use run_agent_core::Durability;

use super::appends::floor;
use crate::fleet::{self, Fleet};
use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench};
use crate::side_by_side::pairs;
use crate::worker::{Kind, Load};

const PER_SECOND: u32 = 1000;
/// What a sync is made to take where the row says so.
const SLOW_SYNC: Duration = Duration::from_millis(5);

pub(crate) fn writers(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (backend, writers) in product([10, 50]) {
        let pairs = at_full_speed(bench, backend, Durability::None, writers)?;
        let mut add = |number, reach| rows.push(row(&pairs, backend, writers, number, reach));
        add(THROUGHPUT, Reach::RatioAtLeast(0.5));
        add(P50, Reach::Ratio);
        add(P99, Reach::RatioAtMost(2.0));
        add(SLOWEST, Reach::RatioAtLeast(0.5));
    }
    Ok(rows)
}

/// The floor never syncs: the row shows what the syncs cost.
pub(crate) fn interval(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (backend, writers) in product([1, 10, 50]) {
        let pairs = at_full_speed(bench, backend, Durability::Interval, writers)?;
        let mut add = |number, reach| rows.push(row(&pairs, backend, writers, number, reach));
        add(THROUGHPUT, Reach::Ratio);
        add(P99, Reach::Ratio);
    }
    Ok(rows)
}

/// The floor syncs each append under the lock.
pub(crate) fn always(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (backend, (writers, throughput)) in product([(1, [0.45, 0.9]), (10, [1.5, 3.0]), (50, [3.0, 6.0])]) {
        let pairs = at_full_speed(bench, backend, Durability::Always, writers)?;
        let mut add = |number, reach| rows.push(row(&pairs, backend, writers, number, reach));
        let [fs, segmented] = throughput;
        add(THROUGHPUT, Reach::RatioAtLeast(backend.pick(fs, segmented)));
        add(P99, Reach::RatioAtMost(3.0));
        add(SLOWEST, Reach::Ratio);
    }
    Ok(rows)
}

/// The same where a sync takes milliseconds, as it does on most disks.
pub(crate) fn slow(bench: &Bench) -> Result<Vec<Row>> {
    if !fleet::can_be_slowed() {
        return Ok(vec![Row::skipped("syncs made slow", "strace is not installed")]);
    }
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(3000, 1000));
    for (backend, (writers, [fs, segmented])) in product([(10, [4.5, 9.0]), (50, [15.0, 30.0])]) {
        let load = Load { writers, rate: None, window, slow_sync: Some(SLOW_SYNC) };
        let pairs = fleets(bench, backend, Durability::Always, load)?;
        let reach = Reach::RatioAtLeast(backend.pick(fs, segmented));
        rows.push(row(&pairs, backend, writers, THROUGHPUT, reach));
        rows.push(row(&pairs, backend, writers, P99, Reach::Ratio));
    }
    Ok(rows)
}

pub(crate) fn rate(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let window = Duration::from_millis(bench.pick(2000, 1000));
    for durability in [Durability::None, Durability::Interval, Durability::Always] {
        for (backend, writers) in product([1, 10, 50]) {
            let load = Load { writers, rate: Some(PER_SECOND), window, slow_sync: None };
            let pairs = fleets(bench, backend, durability, load)?;
            let held = pairs.iter().map(|(ours, _)| (ours.per_second, f64::from(PER_SECOND))).collect();
            let p99 = pairs.iter().map(|(ours, floor)| (ours.p99_us, floor.p99_us)).collect();
            let what =
                format!("{}: {PER_SECOND} msg/s, {}, writers: {writers}", backend.word(), word(durability));
            // The last post ends a moment after it was due, so the whole rate may be missed by that.
            rows.push(Row::new(&what, "/s", Reach::RatioAtLeast(0.99), held));
            rows.push(Row::new(format!("{what}; p99"), "us", Reach::Ratio, p99));
        }
    }
    Ok(rows)
}

/// Each store with each of these.
fn product<T: Copy, const N: usize>(all: [T; N]) -> impl Iterator<Item = (Backend, T)> {
    Backend::BOTH.into_iter().flat_map(move |backend| all.map(|one| (backend, one)))
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

fn row(
    pairs: &[(Fleet, Fleet)],
    backend: Backend,
    writers: u32,
    (what, unit, of): Number,
    reach: Reach,
) -> Row {
    let rounds = pairs.iter().map(|(ours, floor)| (of(ours), of(floor))).collect();
    let noun = if writers == 1 { "writer" } else { "writers" };
    Row::new(format!("{}, {writers} {noun}: {what}", backend.word()), unit, reach, rounds)
}

fn at_full_speed(
    bench: &Bench,
    backend: Backend,
    durability: Durability,
    writers: u32,
) -> Result<Vec<(Fleet, Fleet)>> {
    let window = Duration::from_millis(bench.pick(1000, 300));
    fleets(bench, backend, durability, Load { writers, rate: None, window, slow_sync: None })
}

fn fleets(
    bench: &Bench,
    backend: Backend,
    durability: Durability,
    load: Load,
) -> Result<Vec<(Fleet, Fleet)>> {
    let floor = floor(bench, backend, durability == Durability::Always)?;
    let ours = || fleet::run(bench, Kind::Store { backend, durability }, load);
    pairs(bench.rounds(), ours, || fleet::run(bench, floor, load))
}
