//! The roster's file: a header, then one line a task, and one for the project itself (`docs/formats/checkpoint.md`).

use std::io::Write;
use std::path::Path;

use run_agent_core::world::WORLD_VERSION;
use serde::{Deserialize, Serialize};

use super::{Found, OwnRow};
use crate::sealed;

/// Raised when a row has other fields.
const FORMAT: u32 = 2;
const KIND: &str = "roster";
/// The line of the project itself. It stands before the lines of tasks, which begin with `task-`.
pub(super) const OWN: &str = "project";

/// A line of the file. The row is read only where the version holds, and by whichever thread looks at the task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) id: &'a str,
    pub(super) version: &'a str,
    pub(super) row: &'a str,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    kind: String,
    format: u32,
    world: u32,
}

/// The lines in order of their tasks' ids; `None` where the file is absent or doubtful.
pub(super) fn lines(file: &[u8]) -> Option<Vec<Kept<'_>>> {
    let (header, content) = sealed::unseal::<Header>(file)?;
    if (header.kind.as_str(), header.format, header.world) != (KIND, FORMAT, WORLD_VERSION) {
        return None;
    }
    let line = |line| {
        let mut parts = str::splitn(line, 3, ' ');
        Some(Kept { id: parts.next()?, version: parts.next()?, row: parts.next()? })
    };
    let lines: Vec<Kept<'_>> = std::str::from_utf8(content).ok()?.lines().map(line).collect::<Option<_>>()?;
    lines.is_sorted_by(|a, b| a.id < b.id).then_some(lines)
}

pub(super) fn save(path: &Path, own: Option<&OwnRow>, found: &[Found]) -> std::io::Result<()> {
    let mut content = Vec::with_capacity(found.len() * 400);
    if let Some(OwnRow { version, row }) = own {
        writeln!(content, "{OWN} {version} {row}")?;
    }
    for found in found {
        if let (Ok(row), Some(version)) = (&found.row, &found.keep) {
            write!(content, "{} {} ", found.task, version.as_str())?;
            serde_json::to_writer(&mut content, row)?;
            content.push(b'\n');
        }
    }
    let header = Header { kind: KIND.to_owned(), format: FORMAT, world: WORLD_VERSION };
    sealed::write(path, &header, &content).map(drop)
}
