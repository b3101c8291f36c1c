//! The order in which pieces of stdout and stderr are shown, by the marks of a run (`docs/supervision.md`), found while
//! both grow.

use std::ops::Range;

/// Which stream a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

/// Up to which byte both streams had grown at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub ms: u64,
    pub stdout: u64,
    pub stderr: u64,
}

impl Mark {
    /// Reads one line of `output.marks`; a torn one is none.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(str::parse);
        let mark = Self { ms: words.next()?.ok()?, stdout: words.next()?.ok()?, stderr: words.next()?.ok()? };
        words.next().is_none().then_some(mark)
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

    #[test]
    fn a_torn_mark_is_none() {
        assert_eq!(Mark::parse("1 2 3"), Some(Mark { ms: 1, stdout: 2, stderr: 3 }));
        for torn in ["", "1", "1 2", "1 2 ", "1 2 3 4", "a b c"] {
            assert_eq!(Mark::parse(torn), None, "{torn:?}");
        }
    }
}
