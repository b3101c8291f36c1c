//! The order in which pieces of stdout and stderr are shown, found while both grow: marks are read once each, and what
//! is held does not grow with them.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use run_agent_core::layout::RunPaths;

use super::{Mark, Source};
use crate::agent::stream::Lines;
use crate::tree::Tree;

const BUFFER_BYTES: usize = 64 * 1024;

/// The marks of a run, as they are written.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    read: u64,
    lines: Lines,
}

impl Marks {
    #[must_use]
    pub fn new(run: &RunPaths) -> Self {
        Self { path: run.marks(), read: 0, lines: Lines::default() }
    }

    /// Gives each mark that is new, in order.
    ///
    /// # Errors
    /// Those of `each`. A file that cannot be read has nothing new: marks only order what is shown.
    pub fn read<E>(&mut self, tree: &Tree, mut each: impl FnMut(Mark) -> Result<(), E>) -> Result<(), E> {
        let Ok(mut file) = tree.open(&self.path) else { return Ok(()) };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return Ok(());
        }
        let (mut buffer, mut marks) = (vec![0; BUFFER_BYTES], Vec::new());
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.read += n as u64;
                    let text = |line: &[u8]| std::str::from_utf8(line).ok().and_then(Mark::parse);
                    self.lines.push(&buffer[..n], |line| marks.extend(text(line)));
                    marks.drain(..).try_for_each(&mut each)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// How far both streams are in order, and the piece at hand.
#[derive(Debug, Default)]
pub struct Merge {
    at: Mark,
    piece: Option<(Source, Range<u64>)>,
}

impl Merge {
    /// Gives the pieces that are complete with this mark. Within a mark the order is not known: stdout comes first.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn mark<E>(
        &mut self,
        mark: Mark,
        mut each: impl FnMut(Source, Range<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (source, from, to) in [
            (Source::Stdout, &mut self.at.stdout, mark.stdout),
            (Source::Stderr, &mut self.at.stderr, mark.stderr),
        ] {
            if to <= *from {
                continue;
            }
            let new = std::mem::replace(from, to)..to;
            match &mut self.piece {
                Some((last, piece)) if *last == source => piece.end = to,
                piece => {
                    if let Some((source, range)) = piece.replace((source, new)) {
                        each(source, range)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The piece at hand, whatever the next mark says.
    pub fn take(&mut self) -> Option<(Source, Range<u64>)> {
        self.piece.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(stdout: u64, stderr: u64) -> Mark {
        Mark { ms: 0, stdout, stderr }
    }

    fn pieces(marks: &[Mark]) -> Vec<(Source, Range<u64>)> {
        let (mut merge, mut pieces) = (Merge::default(), Vec::new());
        for mark in marks {
            let push = |source, range| {
                pieces.push((source, range));
                Ok::<_, std::convert::Infallible>(())
            };
            merge.mark(*mark, push).unwrap();
        }
        pieces.extend(merge.take());
        pieces
    }

    #[test]
    fn pieces_follow_the_marks_and_nothing_is_left_out() {
        let marks = [mark(10, 0), mark(10, 5), mark(10, 5), mark(20, 8), mark(25, 8)];
        assert_eq!(
            pieces(&marks),
            [
                (Source::Stdout, 0..10),
                (Source::Stderr, 0..5),
                (Source::Stdout, 10..20),
                (Source::Stderr, 5..8),
                (Source::Stdout, 20..25)
            ]
        );
        assert_eq!(pieces(&[mark(3, 2)]), [(Source::Stdout, 0..3), (Source::Stderr, 0..2)]);
        assert_eq!(pieces(&[mark(1, 0), mark(2, 0), mark(3, 0)]), [(Source::Stdout, 0..3)], "one piece");
        assert_eq!(
            pieces(&[mark(9, 0), mark(3, 0)]),
            [(Source::Stdout, 0..9)],
            "a mark that goes back is none"
        );
    }
}
