//! Where in its stream a task or a run was last told something: places, not copies, so that "why is it in this state"
//! is answered by reading a handful of entries of a stream of any length, and a world of ten thousand tasks stays small.
//!
//! A place is a cursor. It belongs to the stream's incarnation, as does the world that holds it: a stream that was
//! replaced is folded anew.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::store::Cursor;

/// What was told. `Run…` stands with a run, everything else with the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Created,
    Deleted,
    Done,
    DoneRejected,
    DoneCleared,
    VerifyStart,
    VerifyStop,
    AgentDegraded,
    SupervisorRestart,
    LoopStart,
    LoopRestart,
    LoopBackoff,
    LoopBlocked,
    LoopWaiting,
    LoopBreaker,
    LoopStopping,
    LoopEnd,
    RunIntent,
    RunStart,
    RunEnd,
    RunStopping,
    RunParked,
    RunIdle,
    RunStuck,
    RunActive,
    RunRetrying,
    LoopBudget,
}

impl Told {
    pub(super) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::TaskCreated(_) => Self::Created,
            Event::TaskDeleted(_) => Self::Deleted,
            Event::Done(_) => Self::Done,
            Event::DoneRejected(_) => Self::DoneRejected,
            Event::DoneCleared(_) => Self::DoneCleared,
            Event::VerifyStart(_) => Self::VerifyStart,
            Event::VerifyStop(_) => Self::VerifyStop,
            Event::AgentDegraded(_) => Self::AgentDegraded,
            Event::SupervisorRestart(_) => Self::SupervisorRestart,
            Event::LoopStart(_) => Self::LoopStart,
            Event::LoopRestart(_) => Self::LoopRestart,
            Event::LoopBackoff(_) => Self::LoopBackoff,
            Event::LoopBlocked(_) => Self::LoopBlocked,
            Event::LoopWaiting(_) => Self::LoopWaiting,
            Event::LoopBreaker(_) => Self::LoopBreaker,
            Event::LoopStopping(_) => Self::LoopStopping,
            Event::LoopEnd(_) => Self::LoopEnd,
            Event::RunIntent(_) => Self::RunIntent,
            Event::RunStart(_) => Self::RunStart,
            Event::RunEnd(_) => Self::RunEnd,
            Event::RunStopping(_) => Self::RunStopping,
            Event::RunParked(_) => Self::RunParked,
            Event::RunIdle(_) => Self::RunIdle,
            Event::RunStuck(_) => Self::RunStuck,
            Event::RunActive(_) => Self::RunActive,
            Event::RunRetrying(_) => Self::RunRetrying,
            Event::LoopBudget(_) => Self::LoopBudget,
            Event::ProjectCreated(_)
            | Event::TaskUpdated(_)
            | Event::RunDeleted(_)
            | Event::RunUsage(_)
            | Event::ChildLink(_)
            | Event::Posted => return None,
        })
    }

    pub(super) fn is_of_run(self) -> bool {
        match self {
            Self::RunIntent
            | Self::RunStart
            | Self::RunEnd
            | Self::RunStopping
            | Self::RunParked
            | Self::RunIdle
            | Self::RunStuck
            | Self::RunActive
            | Self::RunRetrying => true,
            Self::Created
            | Self::Deleted
            | Self::Done
            | Self::DoneRejected
            | Self::DoneCleared
            | Self::VerifyStart
            | Self::VerifyStop
            | Self::AgentDegraded
            | Self::SupervisorRestart
            | Self::LoopStart
            | Self::LoopRestart
            | Self::LoopBackoff
            | Self::LoopBlocked
            | Self::LoopWaiting
            | Self::LoopBreaker
            | Self::LoopBudget
            | Self::LoopStopping
            | Self::LoopEnd => false,
        }
    }
}

/// The newest place of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence(Vec<(Told, Cursor)>);

impl Evidence {
    /// Where it was last told.
    #[must_use]
    pub fn of(&self, told: Told) -> Option<Cursor> {
        self.0.iter().find(|(known, _)| *known == told).map(|(_, at)| *at)
    }

    /// True when the first was told, and the second was not told since.
    #[must_use]
    pub fn is_after(&self, told: Told, other: Told) -> bool {
        self.of(told).is_some_and(|at| self.of(other).is_none_or(|other| other < at))
    }

    pub(super) fn note(&mut self, at: Cursor, told: Told) {
        match self.0.iter_mut().find(|(known, _)| *known == told) {
            Some((_, known)) => *known = at,
            None => self.0.push((told, at)),
        }
    }
}
