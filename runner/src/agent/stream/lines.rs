//! Bytes to lines, however they come: the readers see whole lines, and none that is longer than the bound.

mod shorten;

use self::shorten::Shortened;

/// The longest line that is read. Of a longer one as much as fits is read, in a form that is JSON still; the raw stream has
/// the whole.
pub const LINE_MAX: usize = 1 << 20;

/// Splits a stream at its line feeds.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
    /// Instead, once the line at hand is longer than the bound.
    long: Option<Shortened>,
}

impl Lines {
    /// Takes bytes in and gives each line that is whole, without its end.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            if self.rest.is_empty() && self.long.is_none() && line.len() <= LINE_MAX {
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
        // One long line must not hold its memory for the rest of a run.
        let line = match self.long.take() {
            Some(long) => long.end(),
            None => std::mem::take(&mut self.rest),
        };
        if !line.is_empty() {
            each(without_return(&line));
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.long.is_none() && self.rest.len() + bytes.len() > LINE_MAX {
            let mut long = Shortened::default();
            long.push(&std::mem::take(&mut self.rest));
            self.long = Some(long);
        }
        match &mut self.long {
            Some(long) => long.push(bytes),
            None => self.rest.extend_from_slice(bytes),
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stream::{CUT, Json};
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
    fn a_line_over_the_bound_is_shortened_and_the_next_is_read() {
        let long = format!("{{\"a\":\"{}\",\"b\":1}}", "é\\n".repeat(LINE_MAX / 3));
        let most = "y".repeat(LINE_MAX);
        let text = format!("a\n{long}\r\n{most}\nb");
        let lines = split([text.as_bytes()]);
        assert_eq!(
            (lines.len(), &lines[0], &lines[2], &lines[3]),
            (4, &b"a".to_vec(), &most.into_bytes(), &b"b".to_vec())
        );
        assert_eq!(split(text.as_bytes().chunks(70_000)), lines);
        let json = Json::object(&lines[1]).unwrap();
        let told = json.at(&["a"]).text().unwrap();
        assert!(
            told.starts_with("é\né\n") && told.ends_with(CUT) && told.len() < LINE_MAX / 3,
            "{}",
            told.len()
        );
        assert_eq!(json.at(&["b"]).whole(), Some(1), "what stands behind a long text is read");
    }

    #[test]
    fn a_line_that_is_long_in_itself_loses_its_end_and_is_json_still() {
        for many in ["[1,{\"x\":null}],", "\"x\",", "{\"a\":{\"b\":[\"x\"]}},"] {
            let line =
                format!("{{\"type\":\"result\",\"errors\":[{}0],\"last\":1}}", many.repeat(LINE_MAX / 4));
            let lines = split([line.as_bytes()]);
            assert!(lines[0].len() <= LINE_MAX, "{}", lines[0].len());
            let json = Json::object(&lines[0]).unwrap();
            assert_eq!((json.at(&["type"]).text(), json.at(&["last"])), (Some("result"), &Json::Null));
        }
        for none in ["x", "\"", "[", "]", "\\", ","] {
            let kept = split([none.repeat(LINE_MAX * 2).as_bytes()]).concat().len();
            assert!(kept <= 2 * LINE_MAX, "{none}: {kept}");
        }
        assert_eq!(
            split(["x".repeat(LINE_MAX * 2).as_bytes()]),
            Vec::<Vec<u8>>::new(),
            "what is no JSON is left out"
        );
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_is_irrelevant(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200), cut in 1usize..20) {
            prop_assert_eq!(split(bytes.chunks(cut)), split([bytes.as_slice()]));
        }
    }
}
