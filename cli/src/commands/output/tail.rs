//! What agents print, as it grows: each byte is read once, and what is held does not grow with it.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use run_agent_core::RunId;
use run_agent_core::layout::RunPaths;
use run_agent_core::output::{Mark, Merge, Source};
use run_agent_core::world::Run;
use run_agent_runner::agent::Stream;
use run_agent_runner::output::{Marks, tail_of};
use run_agent_runner::supervise::take_over;
use run_agent_runner::wait::Waited;
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, Tree};

use super::super::reader;
use super::TAIL_MAX;
use super::print::{Print, Shown};
use crate::error::Failure;

/// What is read of a file at once.
const CHUNK: u64 = 1024 * 1024;

/// Prints what agents print.
#[derive(Debug)]
pub(crate) struct Tail {
    tree: Tree,
    stdout: Option<Grows>,
    stderr: Option<Grows>,
    marks: Option<Marks>,
    /// A mark was seen: what grew since is not in order yet.
    marked: bool,
    merge: Merge,
    print: Print,
}

/// A file, and up to where it was printed.
#[derive(Debug)]
struct Grows {
    path: PathBuf,
    at: u64,
}

impl Tail {
    /// Both streams, in the order that the run's marks tell.
    pub(crate) fn merged(tree: &Tree, paths: &RunPaths, shown: Shown) -> Self {
        Self {
            stderr: Some(Grows { path: paths.stderr(), at: 0 }),
            marks: Some(Marks::new(paths)),
            print: Print::new(shown),
            ..Self::one(tree, paths.stdout())
        }
    }

    /// One file, as it is.
    pub(crate) fn one(tree: &Tree, path: PathBuf) -> Self {
        Self {
            tree: tree.clone(),
            stdout: Some(Grows { path, at: 0 }),
            stderr: None,
            marks: None,
            marked: false,
            merge: Merge::default(),
            print: Print::new(Shown::Raw),
        }
    }

    /// Of what is there when the first of it is printed, only the last lines: of each file, or of the text.
    pub(super) fn only_last(&mut self, lines: Option<usize>) {
        self.print.only_last(lines);
    }

    /// Prints until the run has ended and everything is out.
    pub(crate) fn follow(
        &mut self,
        tree: &Tree,
        view: &mut TaskView,
        run: &RunId,
        wake: &Wake,
    ) -> Result<Waited, Failure> {
        loop {
            view.refresh()?;
            take_over::look_after(tree, view, |id| id == run)?;
            let ended = view.run(run).is_none_or(|run| !run.is_active());
            if ended {
                self.finish(view.run(run))?;
                return Ok(Waited::AllEnded);
            }
            self.pump(view.run(run), false)?;
            reader::still_there()?;
            if wake.interrupted() {
                return Ok(Waited::Interrupted);
            }
            wake.sleep(Duration::from_millis(250));
        }
    }

    /// Prints all that is there.
    pub(crate) fn finish(&mut self, run: Option<&Run>) -> Result<(), Failure> {
        self.pump(run, true)?;
        self.print.end(run.and_then(Run::end).map(|(end, _)| end))
    }

    /// Prints what has grown. Unless it is the end, only what the marks have put in order.
    fn pump(&mut self, run: Option<&Run>, to_end: bool) -> Result<(), Failure> {
        if self.print.needs_form() {
            // What it prints comes after its start was told.
            if run.and_then(Run::start).is_none() && !to_end {
                return Ok(());
            }
            self.print.begin(run.and_then(Stream::of));
        }
        if let Some(lines) = self.print.take_last_of_raw() {
            self.skip_to_last(lines)?;
        }
        let (stdout, stderr) = (self.len_of(&self.stdout)?, self.len_of(&self.stderr)?);
        let end = Mark { ms: u64::MAX, stdout, stderr };
        if let Some(mut marks) = self.marks.take() {
            let tree = self.tree.clone();
            let read = marks.read(&tree, |mark| {
                self.marked = true;
                self.advance(Mark {
                    stdout: mark.stdout.min(stdout),
                    stderr: mark.stderr.min(stderr),
                    ..mark
                })
            });
            self.marks = Some(marks);
            read?;
        }
        if to_end || !self.marked {
            self.advance(end)?;
        }
        if let Some((source, range)) = self.merge.take() {
            self.copy(source, &range)?;
        }
        if to_end { Ok(()) } else { self.print.release() }
    }

    fn advance(&mut self, mark: Mark) -> Result<(), Failure> {
        let mut merge = std::mem::take(&mut self.merge);
        let copied = merge.mark(mark, |source, range| self.copy(source, &range));
        self.merge = merge;
        copied
    }

    /// Begins with the last lines of each file.
    fn skip_to_last(&mut self, lines: usize) -> Result<(), Failure> {
        let tree = &self.tree;
        for file in self.stdout.iter_mut().chain(self.stderr.iter_mut()) {
            let len = len_of(tree, &file.path)?;
            let kept = tail_of(tree, &file.path, lines, TAIL_MAX).map_or(0, |text| text.len() as u64);
            file.at = len.saturating_sub(kept);
        }
        Ok(())
    }

    fn len_of(&self, file: &Option<Grows>) -> Result<u64, Failure> {
        file.as_ref().map_or(Ok(0), |file| len_of(&self.tree, &file.path))
    }

    fn copy(&mut self, source: Source, range: &Range<u64>) -> Result<(), Failure> {
        let file = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let Some(Grows { path, at }) = file.as_mut().filter(|file| file.at < range.end) else {
            return Ok(());
        };
        let from = range.start.max(*at);
        *at = range.end;
        let unread = |e: io::Error| Failure::unread(path, &e);
        let mut opened = self.tree.open(path).map_err(unread)?;
        opened.seek(SeekFrom::Start(from)).map_err(unread)?;
        let mut left = range.end - from;
        while left > 0 {
            let mut chunk = Vec::new();
            let read = (&mut opened).take(left.min(CHUNK)).read_to_end(&mut chunk).map_err(unread)?;
            if read == 0 {
                break;
            }
            left -= read as u64;
            self.print.put(source, chunk)?;
        }
        Ok(())
    }
}

/// How long a file is; one that is not there (yet) is empty.
fn len_of(tree: &Tree, path: &Path) -> Result<u64, Failure> {
    match tree.open(path).and_then(|file| file.metadata()) {
        Ok(meta) => Ok(meta.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Failure::unread(path, &error)),
    }
}
