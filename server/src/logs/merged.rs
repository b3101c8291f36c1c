//! The lines of a run's stdout and stderr in order of time, from where a client got to. What is in order already depends
//! on the run's marks alone, and never on who looked when.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use run_agent_core::layout::RunPaths;
use run_agent_core::output::{Mark, Merge, Source};

use super::file::{Fault, Reading, read_at};
use super::place::At;
use crate::work::Opens;

/// What is read of the marks at once.
const MARKS_BYTES: usize = 4 << 10;
/// Marks come within moments. Output that has none for so long is that of a tool that writes none.
pub(super) const UNMARKED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Merged {
    stdout: Reading,
    stderr: Reading,
    from: At,
    /// Both files were read up to `from`.
    is_found: bool,
    marks: Marks,
    merge: Merge,
    /// What is in order, and was not read yet.
    next: VecDeque<Ordered>,
    /// Since when there is output without any mark.
    unmarked: Option<Instant>,
    /// Everything is in order: nothing comes any more.
    is_all: bool,
}

#[derive(Debug)]
struct Ordered {
    source: Source,
    until: u64,
    ms: Option<u64>,
}

#[derive(Debug)]
struct Marks {
    path: PathBuf,
    at: u64,
}

/// A line, and how far it brings whoever reads it.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) source: Source,
    pub(super) at: At,
    /// When it was seen to be there, in milliseconds since the run began.
    pub(super) ms: Option<u64>,
    pub(super) text: &'a [u8],
    /// It goes on in the next line of its stream.
    pub(super) goes_on: bool,
}

/// How far a read came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// There is more.
    NotFar,
    /// Up to what is in order; `waits`: there is output that no mark has put in order yet.
    UpToNow { waits: bool },
    /// The run has ended, and all was given.
    ToTheEnd,
}

struct Files {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Merged {
    pub(super) fn new(run: &RunPaths, from: At) -> Self {
        Self {
            stdout: Reading::new(run.stdout()),
            stderr: Reading::new(run.stderr()),
            from,
            is_found: false,
            marks: Marks { path: run.marks(), at: 0 },
            merge: Merge::default(),
            next: VecDeque::new(),
            unmarked: None,
            is_all: false,
        }
    }

    /// How far the client got.
    pub(super) fn at(&self) -> At {
        if self.is_found { At { stdout: self.stdout.lines, stderr: self.stderr.lines } } else { self.from }
    }

    /// Gives lines, for as long as `each` wants more. `ended`: the run had ended before.
    pub(super) fn read(
        &mut self,
        work: &dyn Opens,
        ended: bool,
        mut each: impl FnMut(Line<'_>) -> bool,
    ) -> Result<Came, Fault> {
        let files = Files { stdout: self.stdout.open(work)?, stderr: self.stderr.open(work)? };
        if !self.is_found {
            self.find(&files, ended)?;
        }
        loop {
            while let Some(ordered) = self.next.front() {
                let (source, until, ms) = (ordered.source, ordered.until, ordered.ms);
                if !self.give(&files, source, until, ms, &mut each)? {
                    return Ok(Came::NotFar);
                }
                self.next.pop_front();
            }
            if self.is_all {
                return Ok(Came::ToTheEnd);
            }
            if self.put_in_order(work) {
                continue;
            }
            if ended {
                self.is_all = true;
                self.order(Mark { ms: 0, stdout: u64::MAX, stderr: u64::MAX }, None);
            } else if !self.order_unmarked(&files)? {
                let waits = self.unmarked.is_some_and(|since| since.elapsed() < UNMARKED);
                return Ok(Came::UpToNow { waits });
            }
        }
    }

    /// Goes to where the client got to.
    fn find(&mut self, files: &Files, ended: bool) -> Result<(), Fault> {
        for (reading, file, lines) in [
            (&mut self.stdout, &files.stdout, self.from.stdout),
            (&mut self.stderr, &files.stderr, self.from.stderr),
        ] {
            let is_there = match file {
                Some(file) => reading.skip(file, lines, ended)?,
                None => lines == 0,
            };
            if !is_there {
                return Err(Fault::Replaced);
            }
        }
        self.is_found = true;
        Ok(())
    }

    fn give(
        &mut self,
        files: &Files,
        source: Source,
        until: u64,
        ms: Option<u64>,
        each: &mut impl FnMut(Line<'_>) -> bool,
    ) -> Result<bool, Fault> {
        let mut at = self.at();
        let (reading, file) = match source {
            Source::Stdout => (&mut self.stdout, &files.stdout),
            Source::Stderr => (&mut self.stderr, &files.stderr),
        };
        let Some(file) = file else { return Ok(true) };
        let read = reading.read(file, until, self.is_all, |reading, piece| {
            match source {
                Source::Stdout => at.stdout = reading.lines,
                Source::Stderr => at.stderr = reading.lines,
            }
            each(Line { source, at, ms, text: piece.text, goes_on: piece.goes_on })
        });
        Ok(read?)
    }

    /// Takes in marks that are new. False when there are none. Marks that cannot be read are none: they only order.
    fn put_in_order(&mut self, work: &dyn Opens) -> bool {
        let Ok(file) = work.open(&self.marks.path) else { return false };
        let mut text = vec![0; MARKS_BYTES];
        let got = read_at(&file, &mut text, self.marks.at).unwrap_or(0);
        let end = text[..got].iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        // What is that long is no mark.
        let Some(end) = end.or((got == MARKS_BYTES).then_some(got)) else { return false };
        self.marks.at += end as u64;
        for line in text[..end].split(|b| *b == b'\n') {
            if let Some(mark) = std::str::from_utf8(line).ok().and_then(Mark::parse) {
                self.order(mark, Some(mark.ms));
            }
        }
        true
    }

    /// What no tool marks is in order as it is: stdout comes first. False when there is nothing of the kind.
    fn order_unmarked(&mut self, files: &Files) -> Result<bool, Fault> {
        let len =
            |file: &Option<File>| file.as_ref().map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()));
        let (stdout, stderr) = (len(&files.stdout)?, len(&files.stderr)?);
        if self.marks.at > 0 || stdout + stderr == 0 {
            self.unmarked = None;
            return Ok(false);
        }
        if self.unmarked.get_or_insert_with(Instant::now).elapsed() < UNMARKED {
            return Ok(false);
        }
        self.order(Mark { ms: 0, stdout, stderr }, None);
        Ok(!self.next.is_empty())
    }

    fn order(&mut self, mark: Mark, ms: Option<u64>) {
        let next = &mut self.next;
        let mut push = |source, until| next.push_back(Ordered { source, until, ms });
        let Ok(()) = self.merge.mark(mark, |source, range| {
            push(source, range.end);
            Ok::<_, Infallible>(())
        });
        if let Some((source, range)) = self.merge.take() {
            push(source, range.end);
        }
    }
}

#[cfg(test)]
mod tests;
