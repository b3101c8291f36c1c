//! In which form an agent's output is printed, and how much of what is there at first.

use run_agent_core::event::RunEnd;
use run_agent_core::output::Source;
use run_agent_runner::agent::Stream;

use super::text::{Last, Text};
use crate::error::Failure;
use crate::render;

/// How an agent's stdout is shown that has a form of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Text,
    Raw,
}

impl Shown {
    pub(crate) fn of(raw: bool) -> Self {
        if raw { Self::Raw } else { Self::Text }
    }

    /// As the flags of a command that may follow say it.
    pub(crate) fn followed(follow: bool, raw: bool) -> Option<Self> {
        follow.then(|| Self::of(raw))
    }
}

#[derive(Debug)]
pub(super) struct Print {
    form: Form,
    /// Nothing is printed before so many lines of what is there are known to be the last.
    last: Option<Last>,
}

#[derive(Debug)]
enum Form {
    Raw,
    /// It is known when the agent has started.
    NotKnown,
    Text(Box<Text>),
}

impl Print {
    pub(super) fn new(shown: Shown) -> Self {
        let form = match shown {
            Shown::Text => Form::NotKnown,
            Shown::Raw => Form::Raw,
        };
        Self { form, last: None }
    }

    /// Of what is there when the first of it is printed, only the last lines.
    pub(super) fn only_last(&mut self, lines: Option<usize>) {
        self.last = lines.map(Last::new);
    }

    pub(super) fn needs_form(&self) -> bool {
        matches!(self.form, Form::NotKnown)
    }

    /// The agent has started: what it prints has this form.
    pub(super) fn begin(&mut self, stream: Option<Stream>) {
        self.form = stream.map_or(Form::Raw, |stream| Form::Text(Box::new(Text::new(stream))));
    }

    /// Where files are printed as they are, their last lines are found without reading them through: how many.
    pub(super) fn take_last_of_raw(&mut self) -> Option<usize> {
        match self.form {
            Form::Raw => self.last.take().map(|last| last.lines()),
            Form::NotKnown | Form::Text(_) => None,
        }
    }

    pub(super) fn put(&mut self, source: Source, bytes: Vec<u8>) -> Result<(), Failure> {
        let shown = match &mut self.form {
            Form::Raw | Form::NotKnown => bytes,
            Form::Text(text) => text.of(source, &bytes),
        };
        self.out(&shown)
    }

    /// Nothing more comes. `end`: how the run ended, if it did.
    pub(super) fn end(&mut self, end: Option<&RunEnd>) -> Result<(), Failure> {
        let mut rest = Vec::new();
        if let Form::Text(text) = &mut self.form {
            text.end(end, &mut rest);
        }
        self.out(&rest)?;
        self.release()
    }

    fn out(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.last {
            Some(last) => last.push(bytes),
            None if bytes.is_empty() => {}
            None => render::bytes(bytes)?,
        }
        Ok(())
    }

    /// From here on everything is printed when it comes.
    pub(super) fn release(&mut self) -> Result<(), Failure> {
        self.last.take().map_or(Ok(()), |last| render::bytes(last.text()))
    }
}
