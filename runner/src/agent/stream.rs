//! What an agent's output says: one vocabulary for all agents, and the reader that each of them has
//! (`docs/agents.md`). Everything here is pure: bytes in, what was heard out; no clock, no file, no process.
//!
//! | question | file |
//! | --- | --- |
//! | where does a line begin and end? | [`lines`], `sse` |
//! | what stands in a line? | `json` |
//! | what adds up over a run? | `account`, `used` |
//! | why did it fail? | [`class`] |
//! | when is a limit over? | [`reset`] |
//! | how is it shown? | [`show`] |
//! | what is common to HTTP answers? | `rest` |
//! | which line means what? | `reader.rs` of each agent |

mod account;
mod brief;
#[cfg(test)]
mod captures;
pub mod class;
mod json;
pub mod lines;
#[cfg(test)]
mod properties;
pub mod reset;
mod rest;
pub mod show;
mod sse;
#[cfg(test)]
pub(crate) mod testing;
mod used;

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use run_agent_core::{ErrorClass, text};

pub(crate) use account::{Account, Trouble};
pub(crate) use brief::{argument, one_line, telling};
pub(crate) use json::Json;
pub use lines::Lines;
pub use reset::Reset;
pub use rest::Head;
pub(crate) use rest::{Answer, BODY_MAX, Chunks, RestReader, refusal, told};
pub(crate) use sse::Sse;
pub(crate) use used::usd;
pub use used::{Before, Tokens, Used};

/// How much of an agent's final text is kept. The raw stream has all of it.
pub const TEXT_MAX: usize = 1 << 20;
/// Stands at the end of a text that was cut.
pub(crate) const CUT: &str = "\n\n[cut here; agent-stdout.txt has the whole]";
/// Of a tool's argument, on one line.
pub const ARGUMENT_MAX: usize = 200;
/// Of what an error says, on one line.
pub const MESSAGE_MAX: usize = 500;
/// Of a text that is searched for words.
pub const TELLING_MAX: usize = 16 << 10;
/// Of an id, a model's or a tool's name.
pub const NAME_MAX: usize = 200;
/// How much of the end of stderr counts as evidence.
pub const STDERR_MAX: usize = 16 << 10;

/// A limit that is over so soon is one of requests a minute, and no other is, whatever its words are: gemini speaks of a quota
/// for both.
const SOON: SignedDuration = SignedDuration::from_mins(5);

/// Reads the output of one run of one kind of agent.
pub trait Reader: Send + std::fmt::Debug {
    /// One line of stdout, or of an HTTP answer, without its end. What it says is appended to `heard`; a line that says
    /// nothing known is no error.
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>);

    /// One line of stderr. Only some agents tell there that they try again.
    fn stderr_line(&mut self, _: &[u8], _: &mut Vec<Heard>) {}

    /// The agent has ended; asked once. `stderr` is the end of what it printed there. What only its end brings to light is
    /// heard before.
    fn end(&mut self, exit: Exit, stderr: &str, heard: &mut Vec<Heard>) -> Told;
}

/// One thing that an agent's output says, when it says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The agent's own id of the conversation, by which it can be continued.
    Session(String),
    Model(String),
    /// What the agent says. A message that comes in pieces comes with all its blanks; `whole` is one by itself.
    Text {
        text: String,
        whole: bool,
    },
    Thinking(String),
    /// A tool call begins.
    Tool {
        id: String,
        name: String,
        argument: String,
    },
    /// A tool call is over; `failed` is none where the agent does not tell.
    ToolEnd {
        id: String,
        failed: Option<bool>,
    },
    /// What this report adds to the run's usage.
    Usage(Used),
    /// The agent will try a request again.
    Retrying(Retry),
    /// A request that was tried again has had its answer.
    Recovered,
    /// Something that a person may want to see and that ends nothing.
    Notice(String),
    /// An error after which the agent gives up, or may.
    Problem {
        class: ErrorClass,
        message: String,
    },
}

/// A request that failed and is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub class: ErrorClass,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// Which retry this is, from 1, and of how many.
    pub attempt: u32,
    pub of: Option<u32>,
    /// How long it waits first.
    pub wait: Option<Duration>,
    pub message: String,
}

/// How an agent's process ended. A REST agent ends with code 0 when the answer was read to its end, else with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Nobody saw it.
    Unknown,
}

/// What is known when an agent has ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// The agent's last message.
    pub text: Option<String>,
    pub session: Option<String>,
    pub model: Option<String>,
    /// The sum of what was heard; none when nothing was reported, which is not the same as nothing used.
    pub used: Option<Used>,
    /// Why it failed, also where the exit code says that it did not; none when all is well.
    pub failure: Option<Failure>,
    /// Some of it was of the form that this agent writes.
    pub known: bool,
    /// It began in that form and has not come to its end: more was used than was reported.
    pub cut: bool,
}

impl Told {
    /// What becomes `output.md` when the agent wrote none: nothing, where it gave no answer. None where the stream is of
    /// another form: then the raw stream is the output.
    #[must_use]
    pub fn answer(&self) -> Option<&str> {
        self.text.as_deref().or(self.known.then_some(""))
    }
}

/// Why an agent failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub class: ErrorClass,
    /// When a limit is over, if anything says so.
    pub reset: Option<Reset>,
    /// One line for people.
    pub message: String,
    /// The agent's own stream said so; else it was concluded from stderr and the exit.
    pub said: bool,
}

impl Failure {
    /// Its class and the moment at which a limit is over, seen at `now`; `zone` as in [`Reset::moment`]. What is refused for
    /// longer than a rate of requests can last is a limit of the account, whatever its words are.
    #[must_use]
    pub fn at(
        &self,
        now: Timestamp,
        zone: impl FnOnce(Option<&str>) -> Option<TimeZone>,
    ) -> (ErrorClass, Option<Timestamp>) {
        let over = self.reset.as_ref().and_then(|reset| reset.moment(now, zone));
        let lasts = over.is_some_and(|over| over.duration_since(now) > SOON);
        let class =
            if self.class == ErrorClass::RateLimit && lasts { ErrorClass::UsageLimit } else { self.class };
        (class, over)
    }
}

/// Hears one agent: its output as it comes, in pieces of any size.
#[derive(Debug)]
pub struct Listener {
    reader: Box<dyn Reader>,
    stdout: Lines,
    stderr: Lines,
    stderr_tail: Vec<u8>,
}

impl Listener {
    #[must_use]
    pub fn new(reader: Box<dyn Reader>) -> Self {
        Self { reader, stdout: Lines::default(), stderr: Lines::default(), stderr_tail: Vec::new() }
    }

    pub fn stdout(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) {
        self.stdout.push(bytes, |line| self.reader.line(line, heard));
    }

    pub fn stderr(&mut self, bytes: &[u8], heard: &mut Vec<Heard>) {
        self.stderr.push(bytes, |line| self.reader.stderr_line(line, heard));
        self.stderr_tail.extend_from_slice(&bytes[bytes.len().saturating_sub(STDERR_MAX)..]);
        // Cut now and then, not for every piece.
        if self.stderr_tail.len() >= 2 * STDERR_MAX {
            self.stderr_tail.drain(..self.stderr_tail.len() - STDERR_MAX);
        }
    }

    /// The agent has ended, and all its output was given.
    pub fn end(&mut self, exit: Exit, heard: &mut Vec<Heard>) -> Told {
        self.stdout.finish(|line| self.reader.line(line, heard));
        self.stderr.finish(|line| self.reader.stderr_line(line, heard));
        let tail = String::from_utf8_lossy(&self.stderr_tail);
        self.reader.end(exit, text::tail(&tail, STDERR_MAX), heard)
    }
}
