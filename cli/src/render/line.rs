//! The line of stdout that has no end yet: text of an agent comes in pieces. Where talk goes to the same place it begins
//! on a line of its own, and the text goes on on the next one; a line that is drawn again waits until the text has ended
//! its own.

use std::io;

use nix::sys::stat::fstat;

/// How what was printed last on stdout ended.
#[derive(Debug)]
pub(super) struct OpenLine {
    pub(super) is_open: bool,
    /// Talk has ended it: an end that the text brings itself is one too many.
    broken: bool,
    /// Stdout and stderr are one terminal, pipe or file; `None`: not looked at yet.
    shared: Option<bool>,
}

impl OpenLine {
    pub(super) const fn new() -> Self {
        Self { is_open: false, broken: false, shared: None }
    }

    /// What of a piece is printed now.
    pub(super) fn comes<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(last) = bytes.last() else { return bytes };
        self.is_open = *last != b'\n';
        let ended = std::mem::take(&mut self.broken);
        bytes.strip_prefix(b"\n").filter(|_| ended).unwrap_or(bytes)
    }

    /// What stands before talk.
    pub(super) fn before_talk(&mut self) -> &'static str {
        if !self.is_open || !self.is_shared() {
            return "";
        }
        (self.is_open, self.broken) = (false, true);
        "\n"
    }

    pub(super) fn is_shared(&mut self) -> bool {
        *self.shared.get_or_insert_with(is_shared)
    }
}

/// Whether stdout and stderr come to one place. One that cannot be looked at is no such place.
fn is_shared() -> bool {
    let (Ok(out), Ok(err)) = (fstat(io::stdout()), fstat(io::stderr())) else { return false };
    (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of pieces, with talk between them where it stands in brackets.
    fn printed(shared: bool, pieces: &[&str]) -> String {
        let (mut line, mut out) = (OpenLine { shared: Some(shared), ..OpenLine::new() }, String::new());
        for piece in pieces {
            if piece.starts_with('[') {
                out.push_str(line.before_talk());
                out.push_str(&format!("{piece}\n"));
            } else {
                out.push_str(std::str::from_utf8(line.comes(piece.as_bytes())).unwrap());
            }
        }
        out
    }

    #[test]
    fn talk_begins_on_a_line_of_its_own_and_text_goes_on_on_the_next() {
        assert_eq!(
            printed(true, &["b", "[one]", "[two]", "ye", "[three]"]),
            "b\n[one]\n[two]\nye\n[three]\n"
        );
        assert_eq!(
            printed(true, &["bye", "[one]", "", "\n", "[two]"]),
            "bye\n[one]\n[two]\n",
            "no empty line"
        );
        assert_eq!(printed(true, &["bye", "[one]", "\n\nend\n"]), "bye\n[one]\n\nend\n");
        assert_eq!(
            printed(true, &["whole\n", "[one]", "\n"]),
            "whole\n[one]\n\n",
            "an empty line of its own"
        );
    }

    #[test]
    fn a_file_of_text_has_nothing_of_the_talk() {
        assert_eq!(printed(false, &["b", "[one]", "ye", "\n"]), "b[one]\nye\n");
    }

    #[test]
    fn a_line_is_open_until_its_end_came() {
        let mut line = OpenLine { shared: Some(true), ..OpenLine::new() };
        let open = ["The quick", " brown fox.", "", "\n"].map(|piece| {
            let _ = line.comes(piece.as_bytes());
            line.is_open
        });
        assert_eq!(open, [true, true, true, false]);
    }
}
