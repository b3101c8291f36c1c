//! Exit codes, and errors as one line that says what, where and what to do.

use std::io::{self, Write};
use std::process::ExitCode;

/// Exit codes of every command (spec, section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A command that did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, text)
    }

    pub(crate) fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("{what}: {error}"))
    }

    /// Its first line, for a warning.
    pub(crate) fn line(&self) -> String {
        self.text.lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn report(&self) -> ExitCode {
        // A reader that went away is no error.
        if !self.text.is_empty() {
            let _ = writeln!(io::stderr(), "error: {}", self.text);
        }
        self.exit.into()
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

macro_rules! failed {
    ($($error:ty => $exit:expr),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let exit: fn(&$error) -> Exit = $exit;
                Self::new(exit(&error), chain(&error))
            }
        }
    )*};
}

use run_agent_core::decide::Refusal;
use run_agent_core::follow::FollowError;
use run_agent_core::id::IdError;
use run_agent_core::message::KindError;
use run_agent_core::store::{AppendError, OpenError, ReadError};
use run_agent_runner::agent::AgentError;
use run_agent_runner::drive::DriveError;
use run_agent_runner::make::MakeError;
use run_agent_runner::supervise::start::StartError;
use run_agent_runner::supervise::supervisor::SuperviseError;
use run_agent_runner::view::ViewError;

use crate::store_file::StoreFileError;

fn of_refusal(refusal: &Refusal) -> Exit {
    match refusal {
        Refusal::ToolKind(_) | Refusal::TooDeep { .. } => Exit::Usage,
        Refusal::UnknownRun(_) | Refusal::Deleted => Exit::NotFound,
        Refusal::Stopping { .. }
        | Refusal::RootActive(_)
        | Refusal::KeyTaken(_)
        | Refusal::RunStarted(_)
        | Refusal::RunStopping(_)
        | Refusal::ParentStopping(_)
        | Refusal::RunEnded(_)
        | Refusal::LoopNotOpen
        | Refusal::Moot
        | Refusal::LoopTaken => Exit::Locked,
    }
}

fn of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::NotFound { .. } => Exit::NotFound,
        OpenError::Io { .. } => Exit::Failed,
    }
}

fn of_append(error: &AppendError) -> Exit {
    match error {
        AppendError::TooLarge { .. } | AppendError::FieldsTooLarge { .. } => Exit::Usage,
        AppendError::LockTimeout { .. } => Exit::Locked,
        AppendError::Io { .. } | AppendError::Unsupported { .. } | AppendError::Read { .. } => Exit::Failed,
    }
}

fn of_read(error: &ReadError) -> Exit {
    match error {
        ReadError::UnknownId { .. } | ReadError::Gone { .. } => Exit::NotFound,
        ReadError::Incarnation { .. } | ReadError::Io { .. } => Exit::Failed,
    }
}

fn of_follow(error: &FollowError) -> Exit {
    match error {
        FollowError::Open(error) => of_open(error),
        FollowError::Read(error) => of_read(error),
    }
}

fn of_view(error: &ViewError) -> Exit {
    match error {
        ViewError::Follow(error) => of_follow(error),
        ViewError::Append(error) => of_append(error),
    }
}

fn of_start(error: &StartError) -> Exit {
    match error {
        StartError::Refused(refusal) => of_refusal(refusal),
        StartError::Agent(_) => Exit::NotFound,
        StartError::Folder { .. } | StartError::Write { .. } => Exit::Failed,
        StartError::Order(_) => Exit::Usage,
        StartError::View(error) => of_view(error),
    }
}

failed! {
    StoreFileError => |error| match error {
        StoreFileError::Io { .. } => Exit::Failed,
        StoreFileError::Newer { .. } | StoreFileError::NoVersion { .. } | StoreFileError::Backend { .. } => Exit::Usage,
    },
    IdError => |_| Exit::Usage,
    KindError => |_| Exit::Usage,
    Refusal => of_refusal,
    OpenError => of_open,
    AppendError => of_append,
    ReadError => of_read,
    FollowError => of_follow,
    ViewError => of_view,
    AgentError => |_| Exit::NotFound,
    StartError => of_start,
    SuperviseError => |_| Exit::Failed,
    MakeError => |error| match error {
        MakeError::Exists(_) => Exit::Locked,
        MakeError::EmptyPrompt | MakeError::Id(_) => Exit::Usage,
        MakeError::Open(error) => of_open(error),
        MakeError::Append(error) => of_append(error),
        MakeError::Io { .. } => Exit::Failed,
    },
    DriveError => |error| match error {
        DriveError::Locked { .. } | DriveError::Taken(_) => Exit::Locked,
        DriveError::Lock { .. } | DriveError::Marker { .. } => Exit::Failed,
        DriveError::View(error) => of_view(error),
        DriveError::Start(error) => of_start(error),
    },
}

/// What clap found wrong, or was asked to show.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}
