//! A chain of causes while it is put together.

use jiff::Timestamp;

use super::{Act, Because, Change, Look, ReadAt};
use crate::cause::Cause;
use crate::event::Event;
use crate::id::{MsgId, RunId, TaskId};
use crate::message::{Kind, Message};
use crate::store::Cursor;
use crate::text;
use crate::world::{Question, Run, Told};

/// How many runs, tasks or questions a chain names one by one.
pub(super) const NAMED_MAX: usize = 5;
/// The most of somebody's own words that a sentence takes, in bytes.
const QUOTED_MAX: usize = 160;

pub(super) struct Story<'a> {
    pub(super) look: Look<'a>,
    read: ReadAt<'a>,
    pub(super) causes: Vec<Because>,
    pub(super) changes: Vec<Change>,
}

impl<'a> Story<'a> {
    pub(super) fn new(look: Look<'a>, read: ReadAt<'a>) -> Self {
        Self { look, read, causes: Vec::new(), changes: Vec::new() }
    }

    /// The message at a place, and its event. Either may be missing: an entry that a hand damaged is no evidence.
    pub(super) fn told(&self, at: Option<Cursor>) -> Option<(Message, Event)> {
        let message = (self.read)(at?)?;
        let event = Event::read(&message).ok()?;
        Some((message, event))
    }

    pub(super) fn of_task(&self, told: Told) -> Option<(Message, Event)> {
        self.told(self.look.task.evidence.of(told))
    }

    pub(super) fn of_run(&self, run: &Run, told: Told) -> Option<(Message, Event)> {
        self.told(run.evidence.of(told))
    }

    /// A link of the chain with the message that says so.
    pub(super) fn because(&mut self, text: impl Into<String>, told: Option<&(Message, Event)>) {
        let mut because = Because { text: text.into(), ..Because::default() };
        if let Some((message, _)) = told {
            because.msg_id = Some(message.id.clone());
            because.timestamp = Some(message.ts);
            because.kind = Some(message.content.kind.clone());
            because.cause = message.content.meta.get("cause").cloned();
            because.run_id.clone_from(&message.content.run);
        }
        self.causes.push(because);
    }

    /// A link about a run, with a message of the run's own or none.
    pub(super) fn because_of_run(
        &mut self,
        text: impl Into<String>,
        id: &RunId,
        told: Option<&(Message, Event)>,
    ) {
        self.because(text, told);
        if let Some(because) = self.causes.last_mut() {
            because.run_id = Some(id.clone());
        }
    }

    /// A link about another task.
    pub(super) fn because_of_task(&mut self, text: impl Into<String>, id: &TaskId) {
        let text = text.into();
        self.causes.push(Because { text, task_id: Some(id.clone()), ..Because::default() });
    }

    /// A link that only its id and time are known of.
    pub(super) fn because_known(&mut self, text: impl Into<String>, id: &MsgId, at: Timestamp) {
        let text = text.into();
        self.causes.push(Because {
            text,
            msg_id: Some(id.clone()),
            timestamp: Some(at),
            ..Because::default()
        });
    }

    /// A link about an open question.
    pub(super) fn because_asked(&mut self, text: impl Into<String>, id: &MsgId, question: &Question) {
        self.because_known(text, id, question.asked);
        if let Some(because) = self.causes.last_mut() {
            because.kind = Some(Kind::QUESTION);
            because.run_id.clone_from(&question.run);
        }
    }

    pub(super) fn change(&mut self, text: impl Into<String>, act: Act) {
        self.changes.push(Change { text: text.into(), act: Some(act) });
    }

    /// What happens by itself, or is done outside the tool.
    pub(super) fn change_by_itself(&mut self, text: impl Into<String>) {
        self.changes.push(Change { text: text.into(), act: None });
    }
}

/// What a message names as its cause.
pub(super) fn cause_of(message: &Message) -> Option<Cause> {
    message.content.meta.get("cause").map(|cause| Cause::parse(cause))
}

/// A cause as the end of a sentence.
pub(super) fn by(cause: &Cause) -> String {
    match cause {
        Cause::Message(id) => format!("because of message {id}"),
        Cause::Run(id) => format!("by run {id}"),
        // A stop is asked for by "user NAME" or "run ID" already.
        Cause::Person(name) if name.starts_with("user ") || name.starts_with("run ") => format!("by {name}"),
        Cause::Person(name) => format!("by user {name}"),
        Cause::Timer(name) => format!("by the timer {name}"),
        Cause::Signal(name) => format!("by the signal {name}"),
        Cause::Process(what) => format!("because: {what}"),
        Cause::Limit(name) => format!("by the limit {name}"),
        Cause::File(name) => format!("by the file {name}"),
        Cause::Other(text) => format!("because: {text}"),
    }
}

/// The first line of somebody's own words, short.
pub(super) fn quoted(words: &str) -> String {
    let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let head = text::head(line, QUOTED_MAX);
    if head.len() < line.len() { format!("{head}…") } else { head.to_owned() }
}

/// `1 run`, `2 runs`.
pub(super) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
