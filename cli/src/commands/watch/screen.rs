//! A block of lines at the bottom of a terminal that is redrawn in place: only what has changed is written.

use std::io::{self, Write};

/// What stands on the terminal now.
#[derive(Debug, Default)]
pub(super) struct Screen {
    lines: Vec<String>,
    width: usize,
}

impl Screen {
    /// Shows these lines instead of those that stand there. More than fit are cut at the end, with a line that says so.
    pub(super) fn show(&mut self, lines: Vec<String>) -> io::Result<()> {
        let (width, height) = terminal_size::terminal_size_of(io::stdout())
            .map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let text = self.update(fit(lines, height.saturating_sub(1).max(1)), width);
        if text.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// The bytes that make the terminal show `lines`. The cursor stands below the block before and after.
    fn update(&mut self, lines: Vec<String>, width: usize) -> String {
        let mut out = String::new();
        // A terminal that changed its width has wrapped what stood there: nothing is where it was.
        let same = |n: usize, line: &String| self.width == width && self.lines.get(n) == Some(line);
        let first = lines.iter().enumerate().position(|(n, line)| !same(n, line)).unwrap_or(lines.len());
        if first == lines.len() && lines.len() == self.lines.len() && self.width == width {
            return out;
        }
        let up = self.lines.len().saturating_sub(first);
        if up > 0 {
            out.push_str(&format!("\x1b[{up}A"));
        }
        // The lines fit; one that is wider than it looks is cut by the terminal.
        out.push_str("\r\x1b[?7l");
        for (n, line) in lines.iter().enumerate().skip(first) {
            if same(n, line) {
                out.push_str("\x1b[B\r");
            } else {
                out.push_str(line);
                out.push_str("\x1b[K\n");
            }
        }
        if lines.len() < self.lines.len() || self.width != width {
            out.push_str("\x1b[J");
        }
        out.push_str("\x1b[?7h");
        (self.lines, self.width) = (lines, width);
        out
    }
}

fn fit(mut lines: Vec<String>, height: usize) -> Vec<String> {
    if lines.len() > height {
        let more = lines.len() - (height - 1);
        lines.truncate(height - 1);
        lines.push(format!("… and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut screen = Screen::default();
        assert_eq!(screen.update(lines("a b c"), 80), "\r\x1b[?7la\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J\x1b[?7h");
        assert_eq!(screen.update(lines("a b c"), 80), "");
        assert_eq!(screen.update(lines("a x c"), 80), "\x1b[2A\r\x1b[?7lx\x1b[K\n\x1b[B\r\x1b[?7h");
        assert_eq!(screen.update(lines("a"), 80), "\x1b[2A\r\x1b[?7l\x1b[J\x1b[?7h");
        assert!(screen.update(lines("a"), 40).contains("a\x1b[K\n\x1b[J"), "another width");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(fit(lines("a b c d"), 3), ["a", "b", "… and 2 more"]);
        assert_eq!(fit(lines("a b c"), 3), ["a", "b", "c"]);
    }
}
