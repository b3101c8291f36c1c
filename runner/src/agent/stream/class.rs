//! Which class an error is of. What a stream says counts most, then its HTTP status, then stderr, then the exit, which
//! some CLIs get wrong.

mod words;

use std::borrow::Cow;

use run_agent_core::ErrorClass::{
    self, Auth, ContextTooLong, Crash, Killed, Network, NotFound, Oom, Overloaded, RateLimit, Usage,
    UsageLimit,
};

use self::words::{BREAKDOWN, Rows, WORDS};
use super::{Exit, Json, MESSAGE_MAX, Reset, SOON, one_line, telling};

/// How deep errors are packed into the messages of errors.
const PACKED_MAX: usize = 4;

/// The class that a message names.
#[must_use]
pub fn of_text(text: &str) -> Option<ErrorClass> {
    match row(WORDS, text) {
        Some(UsageLimit) if Reset::read(text).is_some_and(|reset| reset.is_within(SOON.unsigned_abs())) => {
            Some(RateLimit)
        }
        class => class,
    }
}

/// The class of an HTTP status, where the body says no more.
#[must_use]
pub fn of_status(status: u16) -> Option<ErrorClass> {
    match status {
        401 | 403 => Some(Auth),
        402 => Some(UsageLimit),
        408 => Some(Network),
        413 => Some(ContextTooLong),
        429 => Some(RateLimit),
        400..=499 => Some(Usage),
        500..=599 => Some(Overloaded),
        _ => None,
    }
}

/// What is there when the stream says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub exit: Exit,
    pub stderr: &'a str,
    /// Its stream had begun: the program was there, and what stderr said before its last words did not end it.
    pub worked: bool,
}

impl<'a> Evidence<'a> {
    /// The lines that may say why it ended, the last one first.
    fn words(self) -> impl Iterator<Item = &'a str> {
        let words = if self.worked { last_words(self.stderr) } else { self.stderr };
        words.lines().rev()
    }

    /// What breaks a process down, it says somewhere before the trace of its calls.
    fn breakdown(self) -> impl Iterator<Item = (ErrorClass, &'a str)> {
        let lines = self.stderr.lines().rev().filter_map(|line| Some((row(BREAKDOWN, line)?, line)));
        lines.filter(move |(class, _)| !self.worked || *class != NotFound)
    }
}

/// The last line that says something, with those below it that only go on with it, as the trace of its calls does.
fn last_words(stderr: &str) -> &str {
    let goes_on = |line: &str| {
        line.trim().is_empty()
            || line.starts_with([' ', '\t', '}', ']', ')'])
            || line.starts_with("Node.js v")
    };
    let mut from = stderr.len();
    for line in stderr.split_inclusive('\n').rev() {
        from -= line.len();
        if !goes_on(line) {
            break;
        }
    }
    &stderr[from..]
}

/// The class of an agent's end; none when it ended well.
#[must_use]
pub fn of(evidence: Evidence<'_>) -> Option<ErrorClass> {
    let by_exit = match evidence.exit {
        Exit::Code(0) => return None,
        Exit::Code(127) if !evidence.worked => NotFound,
        // A shell between the agent and us turns signals into these codes.
        Exit::Code(130 | 137 | 143) | Exit::Signal(1..=3 | 9 | 15) | Exit::Unknown => Killed,
        Exit::Code(_) | Exit::Signal(_) => Crash,
    };
    // Words that belong together stand in one line, and the last line that names a class says why it ended.
    let broken = evidence.breakdown().next().map(|(class, _)| class);
    let said = broken.or_else(|| evidence.words().find_map(of_text));
    match (said, by_exit) {
        // Who was killed had often complained of something before; only its memory says why.
        (Some(Oom), _) => Some(Oom),
        (_, Killed | NotFound) | (None, _) => Some(by_exit),
        (said, _) => said,
    }
}

/// One line for people about an end of this class.
pub(super) fn message(evidence: Evidence<'_>, class: ErrorClass) -> String {
    let how = match evidence.exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("ended by signal {signal}"),
        Exit::Unknown => "nobody saw how it ended".to_owned(),
    };
    let last = || last_words(evidence.stderr).lines().next();
    let line = match (line_of(evidence, class), class) {
        (Some(telling), _) => Some(telling),
        // Whatever it said last is not why it was killed.
        (None, Killed) => None,
        (None, _) => last(),
    };
    match line.map(|line| one_line(&said_in(line), MESSAGE_MAX)) {
        Some(line) if !line.is_empty() => line,
        _ => how,
    }
}

/// What a line says. Of a line of a log that is its error from its name on, without the fields and the stack around it.
fn said_in(line: &str) -> Cow<'_, str> {
    let named = line.contains(LOGGED).then(|| line.find(NAMED)).flatten();
    let Some(end) = named else { return line.into() };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let said = line[..end].rfind(|c| !is_name(c)).map_or(line, |at| &line[at + 1..]);
    // It is a quoted value: a quote ends it, a line feed its first line.
    let mut escaped = false;
    let ends = said.char_indices().find(|(_, c)| {
        let ends = if escaped { *c == 'n' } else { *c == '"' };
        escaped = *c == '\\' && !escaped;
        ends
    });
    let said = ends.map_or(said, |(at, _)| &said[..at]);
    said.trim_end_matches('\\').replace("\\\"", "\"").into()
}

/// In each such line, and behind the name of an error.
const LOGGED: &str = "level=ERROR ";
const NAMED: &str = "Error: ";

/// The last line of stderr that names this class.
pub(super) fn line_of(evidence: Evidence<'_>, class: ErrorClass) -> Option<&str> {
    let broken = evidence.breakdown().find(|(of, _)| *of == class).map(|(_, line)| line);
    broken.or_else(|| evidence.words().find(|line| of_text(line) == Some(class)))
}

/// A provider's error as JSON in a text, maybe with another one in its message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inner {
    pub status: Option<u16>,
    pub message: Option<String>,
}

pub(super) fn inner(text: &str) -> Inner {
    let mut found = Inner { status: status_in(text), message: None };
    let mut text = text.to_owned();
    for _ in 0..PACKED_MAX {
        let (Some(from), Some(to)) = (text.find('{'), text.rfind('}')) else { break };
        let Some(json) = text.get(from..=to).and_then(|text| Json::object(text.as_bytes())) else { break };
        let error = if json.at(&["error"]).fields().is_empty() { &json } else { json.at(&["error"]) };
        let code = error.at(&["code"]).whole().and_then(|code| u16::try_from(code).ok());
        found.status = code.filter(|code| (400..600).contains(code)).or(found.status);
        let Some(message) = error.at(&["message"]).words().or_else(|| json.at(&["error"]).words()) else {
            break;
        };
        found.message = Some(message.to_owned());
        text = message.to_owned();
    }
    found
}

/// An HTTP status that a message names as such: a number alone could be anything.
pub(crate) fn status_in(text: &str) -> Option<u16> {
    const BEFORE: [&str; 5] = ["status", "error", "http", "\"code\"", "rejected"];
    let lower = telling(text).to_ascii_lowercase();
    let places = BEFORE.iter().flat_map(|word| lower.match_indices(word).map(|(at, word)| at + word.len()));
    places.filter_map(|at| status_at(&lower.as_bytes()[at..])).next()
}

fn status_at(text: &[u8]) -> Option<u16> {
    let between = text.iter().take(4).take_while(|b| b" :(=\"".contains(b)).count();
    let digits = text.get(between..between + 3)?;
    let ends = text.get(between + 3).is_none_or(|b| !b.is_ascii_alphanumeric());
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && (400..600).contains(&status)).then_some(status)
}

fn row(table: Rows, text: &str) -> Option<ErrorClass> {
    if text.is_empty() {
        return None;
    }
    let text = telling(text).to_lowercase().replace('’', "'");
    let fits = |words: &&[&str]| words.iter().all(|word| text.contains(word));
    table.iter().find(|(_, rows)| rows.iter().any(fits)).map(|(class, _)| *class)
}

#[cfg(test)]
mod tests;
