//! Bytes to lines, however they come: the readers see whole lines, and none that is longer than the bound.

/// The longest line that is read. A longer one is left out as a whole, since half a JSON value says nothing: what
/// agents print in such lines is the result of a tool, and the raw stream keeps it.
pub const LINE_MAX: usize = 1 << 20;

/// Splits a stream at its line feeds.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
    /// The line at hand is longer than the bound.
    too_long: bool,
}

impl Lines {
    /// Takes bytes in and gives each line that is whole, without its end.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            if self.rest.is_empty() && !self.too_long && line.len() <= LINE_MAX {
                each(without_return(line));
            } else {
                self.keep(line);
                self.finish(&mut each);
            }
            bytes = rest;
        }
        self.keep(bytes);
    }

    /// The stream has ended: a last line without an end counts too.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.too_long && !self.rest.is_empty() {
            each(without_return(&self.rest));
        }
        self.too_long = false;
        // One long line must not hold its memory for the rest of a run.
        self.rest = Vec::new();
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.too_long || self.rest.len() + bytes.len() > LINE_MAX {
            self.too_long = true;
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(bytes);
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| out.push(line.to_vec()));
        }
        lines.finish(|line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn a_line_over_the_bound_is_left_out_and_the_next_is_read() {
        let long = vec![b'x'; LINE_MAX + 1];
        let most = vec![b'y'; LINE_MAX];
        let bytes = [&b"a\n"[..], &long, b"\n", &most, b"\nb"].concat();
        assert_eq!(split([bytes.as_slice()]), [b"a".to_vec(), most.clone(), b"b".to_vec()]);
        assert_eq!(split(bytes.chunks(70_000)), [b"a".to_vec(), most, b"b".to_vec()]);
        assert_eq!(split([long.as_slice()]), Vec::<Vec<u8>>::new(), "also without an end");
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_is_irrelevant(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200), cut in 1usize..20) {
            prop_assert_eq!(split(bytes.chunks(cut)), split([bytes.as_slice()]));
        }
    }
}
