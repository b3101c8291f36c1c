//! The groups of rows, in the order in which they are printed.

mod appends;
mod asks;
mod finds;
mod fleets;
mod listens;
mod lists;
mod opens;
#[cfg(feature = "databases")]
mod others;
mod processes;
mod reads;
mod serves;
pub(crate) mod swarm;
pub(crate) mod world;

use anyhow::Result;

use crate::row::Row;
use crate::scratch::Bench;

/// Rows that are measured together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) floor: &'static str,
    pub(crate) run: fn(&Bench) -> Result<Vec<Row>>,
}

pub(crate) const GROUPS: &[Group] = &[
    Group { name: "post", floor: "an empty Rust program", run: processes::post },
    Group { name: "append", floor: "lock, write as many bytes, unlock; one process", run: appends::append },
    Group { name: "batch", floor: "single appends of the store", run: appends::batch },
    Group { name: "writers", floor: "lock, write, unlock by as many processes", run: fleets::writers },
    Group { name: "interval", floor: "lock, write, unlock by as many processes", run: fleets::interval },
    Group {
        name: "always",
        floor: "lock, write, fdatasync, unlock by as many processes",
        run: fleets::always,
    },
    Group {
        name: "slow",
        floor: "lock, write, fdatasync of 5 ms more, unlock by as many processes",
        run: fleets::slow,
    },
    #[cfg(feature = "databases")]
    Group { name: "others", floor: "what the row says", run: others::others },
    Group { name: "rate", floor: "the wanted rate; for p99 the bare writers at it", run: fleets::rate },
    Group {
        name: "read",
        floor: "a YAML crate on the same entries; crc32fast over the same bytes",
        run: reads::sequential,
    },
    Group { name: "open", floor: "a read of the stream's last segment", run: opens::after_crash },
    Group { name: "tail", floor: "an empty Rust program; for memory the smallest stream", run: finds::last },
    Group {
        name: "since",
        floor: "an empty Rust program; for memory the smallest stream",
        run: finds::since,
    },
    Group { name: "world", floor: "what the row says", run: world::world },
    Group { name: "list", floor: "a bare program that reads every bus file once", run: lists::list },
    Group { name: "job", floor: "a bare program: a folder, five files, sh", run: processes::job },
    Group {
        name: "swarm",
        floor: "the same agents without the tool; slots that are always full",
        run: swarm::swarm,
    },
    Group {
        name: "serve",
        floor: "a bare axum server that answers with as many bytes; every file read once",
        run: serves::serve,
    },
    Group {
        name: "http",
        floor: "a bare axum server that takes JSON and answers with JSON",
        run: asks::posts,
    },
    Group { name: "sse", floor: "a bare axum server that pushes lines of a socket", run: listens::events },
];
