//! What made a lifecycle event happen. Every event of the tool's own names it, so that "why is it in this state" can
//! be answered from the stream alone.

use std::fmt;

use crate::id::{MsgId, RunId};

/// Written into `meta.cause` as `<kind>:<detail>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Another message of the stream.
    Message(MsgId),
    /// A run of the task did it, through the command line.
    Run(RunId),
    /// A person (or a program outside every run) did it: the user's name.
    Person(String),
    /// Time passed: the setting that says how much.
    Timer(String),
    /// A signal arrived.
    Signal(String),
    /// A process ended, or vanished.
    Process(String),
    /// A limit was reached: the setting's name.
    Limit(String),
    /// A file appeared or vanished: its name.
    File(String),
    /// Written by a version that knows more kinds than this one, or by hand.
    Other(String),
}

impl Cause {
    /// Total: what has no known kind is kept as it is.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let Some((kind, detail)) = text.split_once(':') else { return Self::Other(text.to_owned()) };
        let owned = || detail.to_owned();
        match kind {
            "message" => MsgId::parse(detail).map_or_else(|_| Self::Other(text.to_owned()), Self::Message),
            "run" => RunId::parse(detail).map_or_else(|_| Self::Other(text.to_owned()), Self::Run),
            "person" => Self::Person(owned()),
            "timer" => Self::Timer(owned()),
            "signal" => Self::Signal(owned()),
            "process" => Self::Process(owned()),
            "limit" => Self::Limit(owned()),
            "file" => Self::File(owned()),
            _ => Self::Other(text.to_owned()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(id) => write!(f, "message:{id}"),
            Self::Run(id) => write!(f, "run:{id}"),
            Self::Person(name) => write!(f, "person:{name}"),
            Self::Timer(name) => write!(f, "timer:{name}"),
            Self::Signal(name) => write!(f, "signal:{name}"),
            Self::Process(what) => write!(f, "process:{what}"),
            Self::Limit(name) => write!(f, "limit:{name}"),
            Self::File(name) => write!(f, "file:{name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}
