//! Parts of files below the root: of those alone that a name stands for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use run_agent_core::Timestamp;
use run_agent_core::layout::{RunPaths, TaskPaths};

use crate::error::Refused;
use crate::live::Live;
use crate::shape::{FileLink, FileText};

/// So much of a file is handed out at once, where nothing says how much …
const PART_BYTES: u64 = 1 << 20;
/// … and at the most.
const PART_MAX: u64 = 16 << 20;

/// The files of a run that can be asked for: name, label, path.
pub(crate) fn of_run(run: &RunPaths) -> [(&'static str, &'static str, std::path::PathBuf); 4] {
    [
        ("output.md", "output", run.output()),
        ("stdout", "stdout", run.stdout()),
        ("stderr", "stderr", run.stderr()),
        ("prompt", "prompt", run.prompt()),
    ]
}

/// Those of them that are there.
pub(crate) fn links(run: &RunPaths) -> Vec<FileLink> {
    let link = |(name, label, path): (&str, &str, std::path::PathBuf)| {
        let meta = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some(FileLink { name: name.to_owned(), label: label.to_owned(), size: meta.len() })
    };
    of_run(run).into_iter().filter_map(link).collect()
}

pub(crate) fn named_of_run(run: &RunPaths, name: &str) -> Result<std::path::PathBuf, Refused> {
    let known = of_run(run)
        .into_iter()
        .find(|(known, _, path)| *known == name || path.file_name().is_some_and(|file| file == name));
    known.map(|(_, _, path)| path).ok_or_else(|| unknown("output.md, stdout, stderr, prompt"))
}

pub(crate) fn named_of_task(task: &TaskPaths, name: &str) -> Result<std::path::PathBuf, Refused> {
    [task.prompt(), task.state()]
        .into_iter()
        .find(|path| path.file_name().is_some_and(|file| file == name))
        .ok_or_else(|| unknown("TASK.md, TASK_STATE.md"))
}

fn unknown(names: &str) -> Refused {
    Refused::bad(format!("`name` must be one of {names}"))
}

/// Which part of a file is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    pub(crate) offset: Option<u64>,
    pub(crate) limit: Option<u64>,
    /// The last so many lines.
    pub(crate) tail: Option<usize>,
}

/// A part as it is.
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    /// Of the whole file.
    size: u64,
    offset: u64,
    modified: Option<Timestamp>,
}

pub(crate) fn read(live: &Live, name: &str, path: &Path, part: Part) -> Result<FileText, Refused> {
    let Raw { bytes, size, offset, modified } = read_raw(live, name, path, part)?;
    Ok(FileText {
        name: name.to_owned(),
        content: String::from_utf8_lossy(&bytes).into_owned(),
        modified: modified.map(|at| at.to_string()),
        size_bytes: size,
        offset,
    })
}

pub(crate) fn read_raw(live: &Live, name: &str, path: &Path, part: Part) -> Result<Raw, Refused> {
    let mut file = live.work.open(path).map_err(|error| unopened(name, &error))?;
    let meta = file.metadata().map_err(|error| unopened(name, &error))?;
    let (offset, bytes) = part_of(&mut file, meta.len(), part).map_err(|error| unopened(name, &error))?;
    let modified = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
    Ok(Raw { bytes, size: meta.len(), offset, modified })
}

fn unopened(name: &str, error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::NotFound => Refused::not_found(format!("there is no {name} yet")),
        _ => Refused::new(crate::error::Code::Forbidden, format!("{name} cannot be read: {error}")),
    }
}

/// Without a word on it, the last mebibyte: the end of a log is what people want.
fn part_of(file: &mut File, len: u64, part: Part) -> io::Result<(u64, Vec<u8>)> {
    let limit = part.limit.unwrap_or(PART_BYTES).min(PART_MAX);
    let offset = part.offset.unwrap_or(len.saturating_sub(limit)).min(len);
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    let _ = file.take(limit).read_to_end(&mut bytes)?;
    let mut skipped = 0;
    if let Some(lines) = part.tail {
        skipped = bytes.len() - last_lines(&bytes, lines).len();
    } else if part.offset.is_none() && offset > 0 {
        // Half a line, or half a character, begins no text.
        skipped = bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    }
    bytes.drain(..skipped);
    Ok((offset + skipped as u64, bytes))
}

/// The last so many lines; line feeds at the end begin none.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let Some(nth) = lines.checked_sub(1) else { return &[] };
    let end = text.iter().rposition(|b| *b != b'\n').map_or(0, |at| at + 1);
    let mut ends = text[..end].iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
    ends.nth(nth).map_or(text, |(at, _)| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn part(text: &str, part: Part) -> (u64, String) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let (offset, bytes) = part_of(&mut file, text.len() as u64, part).unwrap();
        (offset, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_part_of_a_file_says_where_it_begins() {
        let of = |offset, limit, tail| part("one\ntwo\nthree\n", Part { offset, limit, tail });
        assert_eq!(of(None, None, None), (0, "one\ntwo\nthree\n".to_owned()));
        assert_eq!(of(Some(4), Some(3), None), (4, "two".to_owned()));
        assert_eq!(of(Some(99), None, None), (14, String::new()));
        assert_eq!(of(None, None, Some(2)), (4, "two\nthree\n".to_owned()));
        assert_eq!(of(None, None, Some(0)), (14, String::new()));
        assert_eq!(of(None, Some(8), None), (8, "three\n".to_owned()), "no half line at the beginning");
    }
}
