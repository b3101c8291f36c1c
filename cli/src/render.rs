//! How things are shown: text that ends quietly when its reader goes away, JSON, colours, tables, times, trees.

mod color;
mod line;
mod message;
mod progress;
mod table;
mod time;
mod tree;
mod usage;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;

use crate::args::Global;
use crate::error::{Exit, Failure};

pub(crate) use color::{Hue, Paint, choose_colors};
pub(crate) use message::{event_line, message_text, replay_line, short, story_line};
pub(crate) use progress::{Progress, progress};
pub(crate) use table::{Cell, Column, columns, cut, table};
pub(crate) use time::{ago, lasted, span, when};
pub(crate) use tree::{idle_for, tree_text};
pub(crate) use usage::{budget, reason_of, retrying, usage, usage_cell, with_until};

/// Writes results to stdout. A reader that went away ends the command without an error.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// As [`out`], for what need not be text.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let print = |bytes: &[u8]| {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    };
    match progress::results(bytes, print) {
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
    progress::talk(text);
}

/// How wide results may be; `None` where no terminal limits them.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)).filter(|w| *w > 0)
}

/// A person sees the talk as it comes.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// As [`width`], for talk.
pub(crate) fn width_of_stderr() -> Option<usize> {
    if !io::stderr().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0)).filter(|w| *w > 0)
}

/// Turns the direction of what follows, breaks lines, or is not seen at all: a name could look like another one. The
/// joiners that words and pictures are made with stay.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// The longest word of what a parser says, and its longest line: what is longer is a value that nobody reads to its end.
const WORD_MAX: usize = 300;
const LINE_MAX: usize = 1200;
/// What is shown of either.
const WORD_SHOWN: usize = 100;
const LINE_SHOWN: usize = 800;
/// Longer than any path, also in quotes.
const PATH_MAX: usize = 8192;

/// A value as an error shows it: what is long is cut where it is put in, so that paths and commands around it stay
/// whole.
pub(crate) fn value(text: &str) -> String {
    short_value(text).escape_debug().to_string()
}

/// As [`value`], as it was typed.
pub(crate) fn short_value(text: &str) -> String {
    shortened(text, WORD_MAX, WORD_SHOWN)
}

/// Talk as it goes out: safe for a terminal, and whole but for what is no word of any kind.
pub(crate) fn told(text: &str) -> String {
    if text.len() <= PATH_MAX {
        return safe(text);
    }
    let line = |line: &str| {
        let words = line.split(' ').map(|word| shortened(word, PATH_MAX, WORD_SHOWN));
        words.collect::<Vec<_>>().join(" ")
    };
    safe(&text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

/// What a parser says about what somebody gave, which it repeats: safe for a terminal, and no value at full length.
pub(crate) fn brief(text: &str) -> String {
    let line = |line: &str| {
        let words = line.split(' ').map(|word| shortened(word, WORD_MAX, WORD_SHOWN));
        shortened(&words.collect::<Vec<_>>().join(" "), LINE_MAX, LINE_SHOWN)
    };
    safe(&text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

/// The beginning and the end of a text that is longer than `most` characters.
fn shortened(text: &str, most: usize, shown: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let from: String = text.chars().take(shown * 3 / 4).collect();
    let to: String = text.chars().skip(count - shown / 4).collect();
    format!("{from}…{to}")
}

/// What came from outside, safe for a terminal: control characters but newline and tab are shown, not sent.
pub(crate) fn safe(text: &str) -> String {
    let harmless = |c: char| matches!(c, '\n' | '\t') || !(c.is_control() || is_unseen(c));
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    text.chars().map(|c| if harmless(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// A path as a shell reads it in a command that is printed: in quotes where it needs them.
pub(crate) fn quoted(path: &Path) -> String {
    quoted_word(&path.to_string_lossy())
}

/// As [`quoted`], any word.
pub(crate) fn quoted_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The flags of this call that say where a command works: what is printed to be called would look elsewhere without.
static PLACE: OnceLock<String> = OnceLock::new();

/// Takes ` --root DIR` and ` --config FILE` where a flag names them.
pub(crate) fn choose_place(flags: &Global) {
    let mut text = String::new();
    for (flag, path) in [("root", &flags.root), ("config", &flags.config)] {
        if let Some(path) = path.as_ref().and_then(|path| std::path::absolute(path).ok()) {
            text.push_str(&format!(" --{flag} {}", quoted(&path)));
        }
    }
    let _ = PLACE.set(text);
}

/// As [`choose_place`] took them: nothing, or words with a blank before them.
pub(crate) fn place() -> &'static str {
    PLACE.get().map_or("", String::as_str)
}

/// A command of ours, between backticks, as it can be called.
pub(crate) fn command(words: &str) -> String {
    format!("`run-agent {words}{}`", place())
}

/// `1 run`, `2 runs`.
pub(crate) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What stands behind a status: the reason in brackets, where it says more than the status.
pub(crate) fn reason(status: &str, reason: &str) -> String {
    if reason.is_empty() || reason == status { String::new() } else { format!(" ({})", safe_line(reason)) }
}

/// As [`safe`], on one line.
pub(crate) fn safe_line(text: &str) -> String {
    safe(text).replace(['\n', '\t'], " ")
}
