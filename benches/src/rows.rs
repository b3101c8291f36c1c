//! The groups of rows, in the order in which they are printed.

mod appends;
mod processes;
mod reads;

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

pub(crate) const GROUPS: [Group; 7] = [
    Group { name: "post", floor: "an empty Rust program", run: processes::post },
    Group { name: "append", floor: "lock, write as many bytes, unlock; one process", run: appends::append },
    Group { name: "writers", floor: "lock, write, unlock by as many processes", run: appends::writers },
    Group { name: "rate", floor: "the wanted rate; for p99 the bare writers at it", run: appends::rate },
    Group { name: "read", floor: "crc32fast over the same bytes", run: reads::sequential },
    Group { name: "last", floor: "an empty Rust program", run: processes::last },
    Group { name: "job", floor: "a bare program: a folder, five files, sh", run: processes::job },
];
