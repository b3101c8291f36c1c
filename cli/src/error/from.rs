//! Which exit code and which word each error of the other crates is.

use std::io;

use run_agent_core::decide::Refusal;
use run_agent_core::follow::FollowError;
use run_agent_core::id::IdError;
use run_agent_core::message::KindError;
use run_agent_core::store::{AppendError, OpenError, ReadError};
use run_agent_runner::agent::AgentError;
use run_agent_runner::attach::AttachError;
use run_agent_runner::below::IsLink;
use run_agent_runner::delete::DeleteError;
use run_agent_runner::drive::DriveError;
use run_agent_runner::make::MakeError;
use run_agent_runner::supervise::start::StartError;
use run_agent_runner::supervise::supervisor::SuperviseError;
use run_agent_runner::view::ViewError;

use super::{Code, Exit, Failure, chain};
use crate::store_file::StoreFileError;

macro_rules! failed {
    ($($error:ty => $exit:expr),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let exit: fn(&$error) -> Exit = $exit;
                let failure = Self::new(exit(&error), chain(&error)).caused(&error);
                match finer(&error) {
                    Some(code) => failure.code(code),
                    None => failure,
                }
            }
        }
    )*};
}

fn of_refusal(refusal: &Refusal) -> Exit {
    match refusal {
        Refusal::ToolKind(_) | Refusal::TooDeep { .. } => Exit::Usage,
        Refusal::UnknownRun(_) | Refusal::Deleted => Exit::NotFound,
        Refusal::BudgetUsedUp { .. } => Exit::GaveUp,
        Refusal::Stopping { .. }
        | Refusal::RootActive(_)
        | Refusal::KeyTaken(_)
        | Refusal::RunStarted(_)
        | Refusal::RunStopping(_)
        | Refusal::ParentStopping(_)
        | Refusal::RunEnded(_)
        | Refusal::LoopNotOpen
        | Refusal::Moot
        | Refusal::LoopTaken
        | Refusal::RunActive(_)
        | Refusal::LoopOpen
        | Refusal::NewestRun(_)
        | Refusal::LinkActive(_) => Exit::Locked,
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
        ViewError::Link(_) => Exit::Failed,
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
        StoreFileError::Io { source, .. } if source.kind() != io::ErrorKind::InvalidInput => Exit::Failed,
        // What lies there is no file.
        StoreFileError::Io { .. }
        | StoreFileError::Newer { .. }
        | StoreFileError::Garbled { .. }
        | StoreFileError::NoVersion { .. }
        | StoreFileError::Backend { .. } => Exit::Usage,
    },
    IdError => |_| Exit::Usage,
    KindError => |_| Exit::Usage,
    Refusal => of_refusal,
    OpenError => of_open,
    AppendError => of_append,
    ReadError => of_read,
    FollowError => of_follow,
    ViewError => of_view,
    DeleteError => |error| match error {
        DeleteError::View(error) => of_view(error),
        DeleteError::Open(error) => of_open(error),
        DeleteError::Append(error) => of_append(error),
        DeleteError::Read(error) => of_read(error),
        DeleteError::Link(_) | DeleteError::Lock { .. } | DeleteError::Remove { .. } => Exit::Failed,
    },
    IsLink => |_| Exit::Failed,
    AgentError => |_| Exit::NotFound,
    AttachError => |error| if error.is_usage() { Exit::Usage } else { Exit::Failed },
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

type Any = dyn std::error::Error + 'static;

/// The word of the innermost cause that has one of its own.
fn finer(error: &Any) -> Option<Code> {
    let own = if error.is::<IdError>() || error.is::<KindError>() {
        Some(Code::InvalidName)
    } else if error.is::<Refusal>() {
        Some(Code::Refused)
    } else if error.is::<io::Error>() {
        Some(Code::Io)
    } else if let Some(error) = error.downcast_ref::<ReadError>() {
        matches!(error, ReadError::UnknownId { .. }).then_some(Code::UnknownMessage)
    } else if let Some(error) = error.downcast_ref::<AppendError>() {
        matches!(error, AppendError::LockTimeout { .. }).then_some(Code::LockTimeout)
    } else {
        None
    };
    within(error).or_else(|| error.source()).and_then(finer).or(own)
}

/// The error that a transparent one stands for: its `source` is that one's, and skips it.
fn within(error: &Any) -> Option<&Any> {
    if let Some(error) = error.downcast_ref::<FollowError>() {
        return Some(match error {
            FollowError::Open(error) => error,
            FollowError::Read(error) => error,
        });
    }
    if let Some(error) = error.downcast_ref::<ViewError>() {
        return Some(match error {
            ViewError::Link(error) => error,
            ViewError::Follow(error) => error,
            ViewError::Append(error) => error,
        });
    }
    if let Some(StartError::View(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(StartError::Refused(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(DriveError::View(error)) = error.downcast_ref() {
        return Some(error);
    }
    if let Some(DriveError::Start(error)) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref::<MakeError>()? {
        MakeError::Id(error) => Some(error),
        MakeError::Open(error) => Some(error),
        MakeError::Append(error) => Some(error),
        MakeError::Exists(_) | MakeError::EmptyPrompt | MakeError::Io { .. } => None,
    }
}
