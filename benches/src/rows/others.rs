//! The segmented store beside other databases, each with every append on the disk before it is acknowledged.

use std::time::Duration;

use anyhow::Result;
use run_agent_core::Durability;

use crate::databases::{Redis, Which};
use crate::fleet;
use crate::row::{Reach, Row};
use crate::scratch::{Backend, Bench};
use crate::side_by_side::pairs;
use crate::worker::{Kind, Load};

const WRITERS: u32 = 10;

pub(crate) fn others(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (which, name, reach) in [
        (Which::Redis, "Redis streams, appendfsync always", Reach::RatioAtLeast(1.0)),
        (Which::Sqlite, "SQLite, WAL, synchronous FULL", Reach::RatioAtLeast(8.0)),
        (Which::Redb, "redb, as many threads of one process", Reach::Ratio),
        (Which::Fjall, "fjall, as many threads of one process", Reach::Ratio),
    ] {
        let what = format!("{WRITERS} writers, always: against {name}");
        let folder = bench.beside().join("database");
        std::fs::create_dir_all(&folder)?;
        let server = if which == Which::Redis { Redis::start(&folder)? } else { None };
        if which == Which::Redis && server.is_none() {
            rows.push(Row::skipped(&what, "redis-server is not installed"));
            continue;
        }
        let window = Duration::from_millis(bench.pick(1000, 300));
        let load = Load { writers: WRITERS, rate: None, window, slow_sync: None };
        let ours = Kind::Store { backend: Backend::Segmented, durability: Durability::Always };
        let ours = || fleet::run(bench, ours, load);
        let pairs = pairs(bench.rounds(), ours, || fleet::run(bench, Kind::Database(which), load))?;
        let rates = pairs.iter().map(|(ours, theirs)| (ours.per_second, theirs.per_second)).collect();
        rows.push(Row::new(what, "/s", reach, rates));
        drop(server);
        std::fs::remove_dir_all(folder)?;
    }
    Ok(rows)
}
