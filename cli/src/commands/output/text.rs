//! What an agent prints in a form of its own, as text for people; and the last lines of a text of any length.

use run_agent_core::event::RunEnd;
use run_agent_core::output::Source;
use run_agent_runner::agent::Stream;
use run_agent_runner::agent::stream::show::Show;
use run_agent_runner::agent::stream::{Exit, Heard, Listener};
use run_agent_runner::output::last_lines;

use super::TAIL_MAX;
use crate::render;

/// Goes along with one run.
#[derive(Debug)]
pub(super) struct Text {
    listener: Listener,
    show: Show,
    heard: Vec<Heard>,
    /// The last that was shown is a line of stderr without its end.
    open: bool,
}

impl Text {
    pub(super) fn new(stream: Stream) -> Self {
        Self { listener: stream.listener(None), show: Show::default(), heard: Vec::new(), open: false }
    }

    /// What is shown of these bytes. What stands in stderr is for people as it is, and is not told once more.
    pub(super) fn of(&mut self, source: Source, bytes: &[u8]) -> Vec<u8> {
        match source {
            Source::Stdout => {
                self.listener.stdout(bytes, &mut self.heard);
                self.shown().into_bytes()
            }
            Source::Stderr => {
                self.listener.stderr(bytes, &mut self.heard);
                self.heard.clear();
                let mut out = String::new();
                self.show.end(&mut out);
                self.open = !bytes.ends_with(b"\n");
                [out.as_bytes(), bytes].concat()
            }
        }
    }

    /// All was given. `end` is none of a run that goes on.
    pub(super) fn end(&mut self, end: Option<&RunEnd>, out: &mut Vec<u8>) {
        if let Some(end) = end {
            let exit = match (end.exit_code, end.signal) {
                (_, Some(signal)) => Exit::Signal(signal),
                (Some(code), None) => Exit::Code(code),
                (None, None) => Exit::Unknown,
            };
            self.listener.end(exit, &mut self.heard);
        }
        let mut text = self.shown();
        self.show.end(&mut text);
        out.extend_from_slice(text.as_bytes());
    }

    fn shown(&mut self) -> String {
        let mut text = String::new();
        for heard in self.heard.drain(..) {
            self.show.push(&heard, &mut text);
        }
        // What a model says may come from anywhere.
        text = render::safe(&text);
        if !text.is_empty() && std::mem::take(&mut self.open) {
            text.insert(0, '\n');
        }
        text
    }
}

/// The last lines of what is pushed; of very long ones the end.
#[derive(Debug)]
pub(super) struct Last {
    lines: usize,
    text: Vec<u8>,
    /// Line feeds of the text.
    ends: usize,
}

impl Last {
    pub(super) fn new(lines: usize) -> Self {
        Self { lines, text: Vec::new(), ends: 0 }
    }

    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        self.ends += bytes.iter().filter(|b| **b == b'\n').count();
        // Cut now and then, not for every piece.
        if self.text.len() as u64 > 2 * TAIL_MAX
            || self.ends > self.lines.saturating_mul(2).saturating_add(4096)
        {
            self.text = self.text().to_vec();
            self.ends = self.text.iter().filter(|b| **b == b'\n').count();
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        let last = last_lines(&self.text, self.lines);
        let most = usize::try_from(TAIL_MAX).unwrap_or(usize::MAX);
        &last[last.len().saturating_sub(most)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: [&str; 3] = [
        "{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"Two  blanks\\n\\n  code\"}]}}\n{\"type\"",
        ":\"assistant\",\"message\":{\"content\":[{\"type\":\"tool_use\",\"id\":\"1\",\"name\":\"Bash\",",
        "\"input\":{\"command\":\"ls\"}}]}}\n",
    ];

    #[test]
    fn a_stream_becomes_text_between_the_lines_of_stderr() {
        let mut text = Text::new(Stream::Claude);
        let mut out = text.of(Source::Stdout, PIECES[0].as_bytes());
        out.extend(text.of(Source::Stderr, b"warning: x"));
        out.extend(text.of(Source::Stdout, PIECES[1].as_bytes()));
        out.extend(text.of(Source::Stdout, PIECES[2].as_bytes()));
        text.end(None, &mut out);
        let wanted = "Two  blanks\n\n  code\nwarning: x\n> Bash ls\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn nothing_that_an_agent_says_commands_the_terminal() {
        let said = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a\u001b]0;title\u0007b\té"},{"type":"tool_use","id":"1","name":"Bash","input":{"command":"ls \u202e x"}}]}}"#;
        let mut text = Text::new(Stream::Claude);
        let out = text.of(Source::Stdout, format!("{said}\n").as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{1b}]0;title\\u{7}b\té\n> Bash ls \\u{202e} x\n");
    }

    #[test]
    fn the_last_lines_are_kept_however_many_came() {
        let mut last = Last::new(3);
        for n in 0..20_000 {
            last.push(format!("line {n}\n").as_bytes());
        }
        assert_eq!(last.text(), b"line 19997\nline 19998\nline 19999\n");
        assert!(last.text.len() < 100_000, "{}", last.text.len());
        let mut none = Last::new(0);
        none.push(b"a\nb");
        assert_eq!(none.text(), b"");
        let mut open = Last::new(1);
        open.push(b"a\nb");
        assert_eq!(open.text(), b"b");
    }
}
