//! Lines of a file that grows: where one begins is a question of the file's bytes alone, however much of it is there and
//! whoever asks. So a number of lines names the same place for ever.

/// The longest line that is told at once, in bytes. A longer one is told in pieces, and each counts as a line.
pub(super) const LINE_MAX: usize = 64 << 10;

/// A line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Without the line's end.
    pub(super) text: &'a [u8],
    /// How many bytes it has in the file.
    pub(super) taken: usize,
    /// The line goes on behind it.
    pub(super) goes_on: bool,
}

/// The line with which these bytes begin. None while its end is not there, unless nothing will follow them.
pub(super) fn first(bytes: &[u8], is_all: bool) -> Option<Piece<'_>> {
    let head = &bytes[..bytes.len().min(LINE_MAX + 1)];
    if let Some(at) = head.iter().position(|b| *b == b'\n') {
        return Some(Piece { text: without_return(&head[..at]), taken: at + 1, goes_on: false });
    }
    if head.len() > LINE_MAX {
        let cut = cut(head);
        return Some(Piece { text: &head[..cut], taken: cut, goes_on: true });
    }
    let rest = is_all && !head.is_empty();
    rest.then(|| Piece { text: without_return(head), taken: head.len(), goes_on: false })
}

/// Where a long line is cut: before a character, if there is one.
fn cut(head: &[u8]) -> usize {
    let begins_none = |at: &usize| head.get(*at).is_some_and(|b| b & 0b1100_0000 == 0b1000_0000);
    (LINE_MAX - 3..=LINE_MAX).rev().find(|at| !begins_none(at)).unwrap_or(LINE_MAX)
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of a text of which ever more is there.
    fn lines(text: &[u8], grows_by: usize) -> Vec<(Vec<u8>, bool)> {
        let (mut at, mut there, mut out) = (0, 0, Vec::new());
        while at < text.len() {
            there = text.len().min(there + grows_by);
            while let Some(piece) = first(&text[at..there], there == text.len()) {
                out.push((piece.text.to_vec(), piece.goes_on));
                at += piece.taken;
            }
        }
        out
    }

    #[test]
    fn lines_are_the_same_however_the_file_grew() {
        let long = "é".repeat(LINE_MAX);
        let texts = [
            b"one\ntwo\r\n\nlast".to_vec(),
            format!("x{long}\r\n{long}\nend").into_bytes(),
            [b"a\xff\n".to_vec(), vec![0x80; LINE_MAX * 2 + 1], b"\nb".to_vec()].concat(),
            [vec![b'x'; LINE_MAX], b"\n".to_vec(), vec![b'y'; LINE_MAX], b"\r\n".to_vec()].concat(),
        ];
        for text in texts {
            let whole = lines(&text, usize::MAX / 2);
            for grows_by in [1 << 12, 70_001, LINE_MAX, LINE_MAX + 1] {
                assert_eq!(lines(&text, grows_by), whole);
            }
        }
        assert_eq!(
            lines(b"one\ntwo\r\n\nlast", 1),
            ["one", "two", "", "last"].map(|line| (line.as_bytes().to_vec(), false))
        );
    }

    #[test]
    fn pieces_of_a_long_line_are_characters_and_make_the_whole() {
        let line = format!("x{}", "é".repeat(LINE_MAX));
        let pieces = lines(format!("{line}\nnext\n").as_bytes(), usize::MAX / 2);
        assert_eq!(
            pieces.iter().map(|(_, goes_on)| *goes_on).collect::<Vec<_>>(),
            [true, true, false, false]
        );
        assert!(pieces.iter().all(|(text, _)| std::str::from_utf8(text).is_ok() && text.len() <= LINE_MAX));
        let whole: Vec<u8> = pieces.iter().take(3).flat_map(|(text, _)| text.clone()).collect();
        assert_eq!(whole, line.as_bytes());
        assert_eq!(pieces[3].0, b"next");
    }
}
