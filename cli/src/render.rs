//! How things are shown: text that ends quietly when its reader goes away, JSON, colours, tables, times, trees.

mod color;
mod message;
mod progress;
mod table;
mod time;
mod tree;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::{Exit, Failure};

pub(crate) use color::{Hue, Paint, choose_colors};
pub(crate) use message::{event_line, message_text, short, story_line};
pub(crate) use progress::{Progress, progress};
pub(crate) use table::{Cell, Column, columns, cut, table};
pub(crate) use time::{ago, lasted, span, when};
pub(crate) use tree::tree_text;

/// Writes results to stdout. A reader that went away ends the command without an error.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// As [`out`], for what need not be text.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    progress::erase();
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::quiet()),
        Err(error) => Err(Failure::io("cannot write to stdout", &error)),
    }
}

/// One JSON value on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(value)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot write JSON: {e}")))?;
    text.push('\n');
    out(&text)
}

/// Talk for people, on stderr.
pub(crate) fn say(text: &str) {
    progress::erase();
    let _ = writeln!(io::stderr(), "{text}");
}

/// How wide results may be; `None` where no terminal limits them.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)).filter(|w| *w > 0)
}

/// As [`width`], for talk.
pub(crate) fn width_of_stderr() -> Option<usize> {
    if !io::stderr().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0)).filter(|w| *w > 0)
}

/// What came from outside, safe for a terminal: control characters but newline and tab are shown, not sent.
pub(crate) fn safe(text: &str) -> String {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    text.chars().map(|c| if harmless(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// A path as a shell reads it in a command that is printed: in quotes where it needs them.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// `1 run`, `2 runs`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// As [`safe`], on one line.
pub(crate) fn safe_line(text: &str) -> String {
    safe(text).replace(['\n', '\t'], " ")
}
