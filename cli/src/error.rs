//! Exit codes, and errors as one line that says what, where and what to do.

mod from;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use run_agent_runner::below::IsLink;
use run_agent_server::work::Failed;
use serde::{Deserialize, Serialize};

use crate::render::{self, Hue, Paint};

/// Exit codes of every command (spec, section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    GaveUp,
    Locked,
    NotFound,
    TimeLimit,
    Interrupted,
    /// `job` passes the agent's own code through.
    Agent(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::GaveUp => 3,
            Self::Locked => 4,
            Self::NotFound => 5,
            Self::TimeLimit => 124,
            Self::Interrupted => 130,
            Self::Agent(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// What a command comes to.
pub(crate) type Outcome = Result<Exit, Failure>;

/// What went wrong, as a word for programs. Stable: a word may be added, and none is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Code {
    Failed,
    Usage,
    GaveUp,
    Locked,
    NotFound,
    TimeLimit,
    Interrupted,
    /// A file, folder or stream could not be read or written.
    Io,
    /// An id, name or type breaks a rule.
    InvalidName,
    /// A name fits several things.
    AmbiguousName,
    UnknownProject,
    UnknownTask,
    UnknownRun,
    UnknownAgent,
    UnknownMessage,
    /// The rules of the world refuse it.
    Refused,
    /// Somebody holds the lock of a stream for too long.
    LockTimeout,
    /// The server of another machine does not answer.
    Unreached,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::GaveUp => "gave_up",
            Self::Locked => "locked",
            Self::NotFound => "not_found",
            Self::TimeLimit => "time_limit",
            Self::Interrupted => "interrupted",
            Self::Io => "io",
            Self::InvalidName => "invalid_name",
            Self::AmbiguousName => "ambiguous_name",
            Self::UnknownProject => "unknown_project",
            Self::UnknownTask => "unknown_task",
            Self::UnknownRun => "unknown_run",
            Self::UnknownAgent => "unknown_agent",
            Self::UnknownMessage => "unknown_message",
            Self::Refused => "refused",
            Self::LockTimeout => "lock_timeout",
            Self::Unreached => "unreached",
        }
    }

    /// The word where nothing finer is known.
    fn of(exit: Exit) -> Self {
        match exit {
            Exit::Done | Exit::Failed | Exit::Agent(_) => Self::Failed,
            Exit::Usage => Self::Usage,
            Exit::GaveUp => Self::GaveUp,
            Exit::Locked => Self::Locked,
            Exit::NotFound => Self::NotFound,
            Exit::TimeLimit => Self::TimeLimit,
            Exit::Interrupted => Self::Interrupted,
        }
    }
}

/// A command that did not do what it was asked for. A detached driver sends its own to whoever started it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Debug, Serialize, Deserialize)]
struct Parts {
    exit: Exit,
    code: Code,
    /// What and where, with the causes.
    text: String,
    /// What to do.
    hint: Option<String>,
    /// What may have been meant.
    candidates: Vec<String>,
    /// The chain of causes, outermost first; for `--verbose`.
    causes: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        let (code, text) = (Code::of(exit), text.into());
        Self(Box::new(Parts { exit, code, text, hint: None, candidates: Vec::new(), causes: Vec::new() }))
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, text)
    }

    pub(crate) fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{what}: {error}")).code(Code::Io)
    }

    /// A file below the root that cannot be read.
    pub(crate) fn unread(path: &Path, error: &io::Error) -> Self {
        // The link is named by its own place.
        match IsLink::behind(error) {
            Some(link) => Self::new(Exit::Failed, link.to_string()),
            None => Self::io(format!("cannot read {}", path.display()), error),
        }
    }

    /// The end of a command whose reader went away: no error, and nothing to say.
    pub(crate) fn quiet() -> Self {
        Self::new(Exit::Done, "")
    }

    pub(crate) fn code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What may have been meant.
    pub(crate) fn candidates(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.0.candidates.extend(names);
        self
    }

    /// A name that is near what was typed, if there is one, as hint and candidate.
    pub(crate) fn suggest(self, near: Option<&str>) -> Self {
        match near {
            Some(name) => self.hint(format!("did you mean `{name}`?")).candidates([name.to_owned()]),
            None => self,
        }
    }

    /// As [`Failure::suggest`], with where to look when no name is near.
    pub(crate) fn suggest_or(self, near: Option<&str>, otherwise: &str) -> Self {
        if near.is_some() { self.suggest(near) } else { self.hint(otherwise) }
    }

    fn caused(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut at = Some(error);
        while let Some(error) = at {
            self.0.causes.push(error.to_string());
            at = error.source();
        }
        self
    }

    /// Its first line, for a warning.
    pub(crate) fn line(&self) -> String {
        render::told(self.0.text.lines().next().unwrap_or_default())
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.0.code == code
    }

    pub(crate) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// The same failure, with the place where it happened before it.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.0.text = format!("{place}: {}", self.0.text);
        self
    }

    /// The same failure, with a further sentence behind it.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.0.text = format!("{}; {more}", self.0.text);
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    /// One line, or one JSON object, on stderr.
    pub(crate) fn report(&self, json: bool, verbose: bool) -> ExitCode {
        let Parts { exit, code, text, hint, candidates, causes } = &*self.0;
        // A reader that went away is no error.
        if text.is_empty() {
            return (*exit).into();
        }
        let (text, hint) = (render::told(text), hint.as_deref().map(render::told));
        if json {
            let mut error = serde_json::json!({
                "code": code.as_str(), "exit": exit.code(), "message": text, "hint": hint, "candidates": candidates,
            });
            if verbose {
                error["causes"] = serde_json::json!(causes);
            }
            render::say(&serde_json::json!({ "error": error }).to_string());
            return (*exit).into();
        }
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        render::say(&format!("{} {text}{hint}", Paint::stderr().hue(Hue::Bad, "error:")));
        if verbose {
            for cause in causes {
                render::say(&format!("  caused by: {}", render::told(cause)));
            }
            render::say(&format!("  code: {}, exit {}", code.as_str(), exit.code()));
        }
        (*exit).into()
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        let Parts { code, text, hint, candidates, .. } = *failure.0;
        Self { code: code.as_str().to_owned(), message: render::told(&text), hint, candidates }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        let next = source.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        at = source.source();
    }
    text
}
