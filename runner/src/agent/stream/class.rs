//! Which class an error is of. What a stream says counts most, then its HTTP status, then stderr, then the exit, which
//! some CLIs get wrong.

mod words;

use std::time::Duration;

use run_agent_core::ErrorClass::{
    self, Auth, ContextTooLong, Crash, Killed, Network, NotFound, Oom, Overloaded, RateLimit, Usage,
    UsageLimit,
};

use self::words::{BREAKDOWN, Rows, WORDS};
use super::{Exit, Json, MESSAGE_MAX, Reset, one_line, telling};

/// A limit that is over so soon is one of requests a minute, whatever its words are: gemini speaks of a quota for both.
const SOON: Duration = Duration::from_secs(300);

/// How deep errors are packed into the messages of errors.
const PACKED_MAX: usize = 4;

/// The class that a message names.
#[must_use]
pub fn of_text(text: &str) -> Option<ErrorClass> {
    match row(WORDS, text) {
        Some(UsageLimit) if Reset::read(text).is_some_and(|reset| reset.is_within(SOON)) => Some(RateLimit),
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
}

/// The class of an agent's end; none when it ended well.
#[must_use]
pub fn of(evidence: Evidence<'_>) -> Option<ErrorClass> {
    let by_exit = match evidence.exit {
        Exit::Code(0) => return None,
        Exit::Code(127) => NotFound,
        // A shell between the agent and us turns signals into these codes.
        Exit::Code(130 | 137 | 143) | Exit::Signal(1..=3 | 9 | 15) | Exit::Unknown => Killed,
        Exit::Code(_) | Exit::Signal(_) => Crash,
    };
    // Words that belong together stand in one line, and the last line that names a class says why it ended.
    let lines = || evidence.stderr.lines().rev();
    let said = lines().find_map(|line| row(BREAKDOWN, line)).or_else(|| lines().find_map(of_text));
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
    let last = || evidence.stderr.lines().rev().find(|line| !line.trim().is_empty());
    let line = match (line_of(evidence.stderr, class), class) {
        (Some(telling), _) => Some(telling),
        // Whatever it said last is not why it was killed.
        (None, Killed) => None,
        (None, _) => last(),
    };
    match line.map(|line| one_line(line, MESSAGE_MAX)) {
        Some(line) if !line.is_empty() => line,
        _ => how,
    }
}

/// The last line of stderr that names this class.
pub(super) fn line_of(stderr: &str, class: ErrorClass) -> Option<&str> {
    let names = |line: &&str| row(BREAKDOWN, line).or_else(|| of_text(line)) == Some(class);
    stderr.lines().rev().find(names)
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
    const BEFORE: [&str; 5] = ["status", "api error", "http", "\"code\"", "rejected"];
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
