//! What adds up over a run, whichever agent it is of: each reader tells what a line means, and the rest is here.

use run_agent_core::ErrorClass;
use run_agent_core::event::Usd;

use super::class::{self, Evidence};
use super::show::retrying;
use super::{
    CUT, Exit, Failure, Heard, Json, MESSAGE_MAX, NAME_MAX, Reset, Retry, TEXT_MAX, Tokens, Told, Used,
    argument, one_line,
};

/// How many calls of tools may be open at the same time and still be told apart.
const OPEN_MAX: usize = 64;

/// An error, as the agent's stream tells it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    /// The stream's own word for it.
    pub class: Option<ErrorClass>,
    pub status: Option<u16>,
    pub message: String,
    pub reset: Option<Reset>,
}

impl Trouble {
    /// From a text alone, which may have a JSON error in it.
    pub(crate) fn said(text: &str) -> Self {
        let inner = class::inner(text);
        let said = inner.message.as_deref().unwrap_or(text);
        let whole = class::of_text(said).or_else(|| class::of_text(text));
        Self {
            class: whole.or_else(|| inner.status.and_then(class::of_status)),
            status: inner.status,
            message: one_line(said, MESSAGE_MAX),
            reset: Reset::read(said).or_else(|| Reset::read(text)),
        }
    }

    pub(crate) fn or_class(mut self, class: Option<ErrorClass>) -> Self {
        self.class = self.class.or(class);
        self
    }

    pub(crate) fn word(&self) -> ErrorClass {
        let by_status = || self.status.and_then(class::of_status);
        self.class.or_else(by_status).unwrap_or(ErrorClass::Unknown)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Account {
    session: Option<String>,
    model: Option<String>,
    text: String,
    /// The text at hand is over: the next piece begins another one.
    text_over: bool,
    text_cut: bool,
    used: Option<Used>,
    open: Vec<String>,
    failure: Option<Trouble>,
    /// The request that is tried again, until it has its answer.
    retry: Option<Retry>,
    /// Some line was of the agent's own form.
    known: bool,
    finished: bool,
}

impl Account {
    /// A line of the form that this agent writes.
    pub(crate) fn known(&mut self) {
        self.known = true;
    }

    pub(crate) fn session(&mut self, id: &Json, heard: &mut Vec<Heard>) {
        // It goes into a command line later on: what looks like a flag, or like nothing that a program makes, is none.
        let plain = |id: &&str| {
            id.len() <= NAME_MAX
                && !id.starts_with('-')
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        };
        let Some(id) = id.words().filter(plain).map(str::to_owned) else { return };
        if self.session.as_ref() != Some(&id) {
            self.session = Some(id.clone());
            heard.push(Heard::Session(id));
        }
    }

    /// The agent has named its conversation, and it is not the one that was `asked` for. Asked until it is known, and told
    /// once.
    pub(crate) fn is_another_than(&self, asked: &mut Option<String>) -> bool {
        let Some(session) = &self.session else { return false };
        asked.take().is_some_and(|asked| asked != *session)
    }

    pub(crate) fn model(&mut self, name: &Json, heard: &mut Vec<Heard>) {
        let Some(name) = name.words().map(|name| one_line(name, NAME_MAX)) else { return };
        if self.model.as_ref() != Some(&name) {
            self.model = Some(name.clone());
            heard.push(Heard::Model(name));
        }
    }

    pub(crate) fn model_name(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// A whole message: the last one is the final text.
    pub(crate) fn message(&mut self, text: &str, heard: &mut Vec<Heard>) {
        if text.is_empty() {
            return;
        }
        self.answered(heard);
        self.set_text(text);
        heard.push(Heard::Text { text: text.to_owned(), whole: true });
    }

    /// Another part of the same message.
    pub(crate) fn another_part(&mut self, text: &str, heard: &mut Vec<Heard>) {
        self.add_text("\n");
        self.add_text(text);
        heard.push(Heard::Text { text: text.to_owned(), whole: true });
    }

    /// A piece of a message that goes on until something else comes.
    pub(crate) fn piece(&mut self, text: &str, heard: &mut Vec<Heard>) {
        if text.is_empty() {
            return;
        }
        self.answered(heard);
        if std::mem::take(&mut self.text_over) {
            self.clear_text();
        }
        self.add_text(text);
        heard.push(Heard::Text { text: text.to_owned(), whole: false });
    }

    /// The final text, as the agent tells it once more at its end: it is not shown again.
    pub(crate) fn set_text(&mut self, text: &str) {
        self.clear_text();
        self.add_text(text);
        self.text_over = true;
    }

    /// Text that follows the final one.
    pub(crate) fn add_text(&mut self, text: &str) {
        let room = TEXT_MAX.saturating_sub(self.text.len());
        let head = run_agent_core::text::head(text, room);
        self.text.push_str(head);
        self.text_cut |= head.len() < text.len();
    }

    fn clear_text(&mut self) {
        self.text.clear();
        self.text_cut = false;
    }

    pub(crate) fn thinking(&mut self, text: &str, heard: &mut Vec<Heard>) {
        if !text.trim().is_empty() {
            self.answered(heard);
            heard.push(Heard::Thinking(text.to_owned()));
        }
    }

    /// A tool call begins, once however often it is told.
    pub(crate) fn tool(&mut self, id: &Json, name: &str, input: &Json, heard: &mut Vec<Heard>) {
        self.answered(heard);
        self.text_over = true;
        let id = one_line(id.text().unwrap_or_default(), NAME_MAX);
        if self.open.contains(&id) {
            return;
        }
        if self.open.len() >= OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(id.clone());
        heard.push(Heard::Tool { id, name: one_line(name, NAME_MAX), argument: argument(input) });
    }

    pub(crate) fn tool_end(&mut self, id: &Json, failed: Option<bool>, heard: &mut Vec<Heard>) {
        let id = one_line(id.text().unwrap_or_default(), NAME_MAX);
        if let Some(at) = self.open.iter().position(|open| *open == id) {
            self.open.remove(at);
            heard.push(Heard::ToolEnd { id, failed });
        }
    }

    pub(crate) fn used(&mut self, mut used: Used, heard: &mut Vec<Heard>) {
        used.tokens = used.tokens.or_nothing();
        // A report of nothing says nothing.
        if used.tokens == Tokens::default() && used.cost.unwrap_or_default() == Usd::default() {
            return;
        }
        let sum = self.used.get_or_insert_with(|| Used { cost: Some(Usd::default()), ..Used::default() });
        sum.tokens = sum.tokens.plus(used.tokens);
        // The cost is known as long as every report has one.
        sum.cost =
            sum.cost.zip(used.cost).map(|(sum, new)| Usd { micros: sum.micros.saturating_add(new.micros) });
        heard.push(Heard::Usage(used));
    }

    pub(crate) fn retry(&mut self, retry: Retry, heard: &mut Vec<Heard>) {
        self.retry = Some(retry.clone());
        heard.push(Heard::Retrying(retry));
    }

    pub(crate) fn notice(&mut self, text: &str, heard: &mut Vec<Heard>) {
        let line = one_line(text, MESSAGE_MAX);
        if !line.is_empty() {
            heard.push(Heard::Notice(line));
        }
    }

    /// An error that may be the end: it is, unless the agent says afterwards that it went on.
    pub(crate) fn problem(&mut self, mut trouble: Trouble, heard: &mut Vec<Heard>) {
        if trouble.message.is_empty() {
            trouble.message = "an error that says nothing".to_owned();
        }
        let same = self.failure.as_ref().is_some_and(|known| known.message == trouble.message);
        if !same {
            heard.push(Heard::Problem { class: trouble.word(), message: trouble.message.clone() });
        }
        self.retry = None;
        let known = self.failure.take().filter(|_| same).unwrap_or_default();
        self.failure = Some(Trouble {
            class: trouble.class.or(known.class),
            status: trouble.status.or(known.status),
            message: trouble.message,
            reset: trouble.reset.or(known.reset),
        });
    }

    /// The agent went on after an error.
    pub(crate) fn forgive(&mut self) {
        self.failure = None;
    }

    /// Where the agent says that it has come to its end, or that it goes on after all.
    pub(crate) fn finished(&mut self, finished: bool) {
        self.finished = finished;
    }

    /// A request that was tried again has its answer.
    pub(crate) fn answered(&mut self, heard: &mut Vec<Heard>) {
        if self.retry.take().is_some() {
            heard.push(Heard::Recovered);
        }
    }

    pub(crate) fn end(&mut self, exit: Exit, stderr: &str) -> Told {
        let evidence = Evidence { exit, stderr, worked: self.known };
        let failure = match self.failure.take() {
            Some(trouble) => Some(told(trouble, evidence)),
            None => self.concluded(evidence),
        };
        if self.text_cut {
            self.text.push_str(CUT);
        }
        Told {
            text: Some(std::mem::take(&mut self.text)).filter(|text| !text.trim().is_empty()),
            session: self.session.take(),
            model: self.model.take(),
            used: self.used.take(),
            failure,
            known: self.known,
            cut: self.known && !self.finished,
        }
    }

    /// The failure of a run whose stream tells none.
    fn concluded(&self, evidence: Evidence<'_>) -> Option<Failure> {
        // What it was at when it ended explains an exit that says no more.
        let class = class::of(evidence).map(|class| match (class, &self.retry) {
            (ErrorClass::Crash, Some(retry)) if retry.class != ErrorClass::Unknown => retry.class,
            (class, _) => class,
        });
        let mut failure = match class {
            Some(class) => Failure {
                class,
                reset: class::line_of(evidence, class).and_then(Reset::read),
                message: class::message(evidence, class),
                said: false,
            },
            // Some agents end with 0 when they are told to stop in the middle of their work.
            None if self.known && !self.finished => Failure {
                class: ErrorClass::Unknown,
                reset: None,
                message: "its output ended in the middle".to_owned(),
                said: false,
            },
            None => return None,
        };
        if let Some(retry) = &self.retry {
            let message = format!("{}; it was {}", failure.message, retrying(retry));
            failure.message = one_line(&message, MESSAGE_MAX);
        }
        Some(failure)
    }
}

/// The failure that the stream tells.
fn told(trouble: Trouble, evidence: Evidence<'_>) -> Failure {
    // What the agent told before it ended is no breakdown of the agent.
    let by_end = || class::of(evidence).filter(|class| *class != ErrorClass::Crash);
    let (class, message) = match trouble.word() {
        ErrorClass::Unknown => {
            let class = by_end().unwrap_or(ErrorClass::Unknown);
            // Who tells the class tells more than words that name none.
            let line = class::line_of(evidence, class);
            (class, line.map_or(trouble.message, |_| class::message(evidence, class)))
        }
        class => (class, trouble.message),
    };
    Failure { class, reset: trouble.reset, message, said: true }
}
