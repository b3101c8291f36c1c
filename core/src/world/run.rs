//! One run's state machine: queued, running, ended. What comes out of order is told to the caller and changes nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Ignored;
use super::evidence::Evidence;
use super::usage::Totals;
use crate::event::{Event, Retrying, RunEnd, RunIntent, RunOutcome, RunStart, Stopping};
use crate::id::{ProjectId, RunId, TaskId};
use crate::message::Message;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub agent: String,
    /// Which start of a loop's root agent this is, from 1; a run with none is a job.
    pub attempt: Option<u32>,
    pub parent: Option<RunId>,
    pub previous: Option<RunId>,
    /// Where the parent lives, when that is another task.
    pub parent_task: Option<Box<(ProjectId, TaskId)>>,
    pub key: Option<Box<str>>,
    /// The verify command that this run is.
    pub verify: Option<Box<str>>,
    pub depth: u32,
    /// The intent's time, or the first event's that told of the run.
    pub made: Timestamp,
    pub state: RunState,
    /// A stop was asked for while the run was active.
    pub stopping: Option<Box<Stopping>>,
    /// When it gave its last sign of life, while it is idle.
    pub idle_since: Option<Timestamp>,
    /// Its calls to its API fail, and it tries again; since when.
    pub retrying: Option<Box<(Retrying, Timestamp)>>,
    pub usage: Totals,
    pub session_id: Option<Box<str>>,
    /// When it last posted on the bus.
    pub last_post: Option<Timestamp>,
    /// Where the stream tells why it is in its state.
    pub evidence: Evidence,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Intended; `ahead` tells how many wait for a slot before it, when it is parked.
    Queued {
        intent: Option<Box<RunIntent>>,
        ahead: Option<u32>,
    },
    Running {
        start: Box<RunStart>,
        since: Timestamp,
    },
    Ended(Box<Ended>),
}

/// What is kept of a run that is over, of which a world holds many: what lists, rules and `why` ask. All that was said at
/// its start and its end stands in the stream, where [`Evidence`] tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `None` of one that never started.
    pub started: Option<Started>,
    /// Without the output's path.
    pub end: RunEnd,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub since: Timestamp,
    pub agent_version: Option<Box<str>>,
    /// The form of what its agent printed.
    pub stream: Option<Box<str>>,
}

/// One vocabulary everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Queued,
    Running,
    Completed,
    Failed,
    Stopped,
}

impl RunStatus {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Stopped];

    #[must_use]
    pub fn is_active(self) -> bool {
        match self {
            Self::Queued | Self::Running => true,
            Self::Completed | Self::Failed | Self::Stopped => false,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Run {
    pub(super) fn intended(message: &Message, intent: RunIntent) -> Self {
        let parent_task = intent.parent_project_id.clone().zip(intent.parent_task_id.clone());
        Self {
            agent: intent.agent.clone(),
            attempt: intent.attempt,
            parent: intent.parent_run_id.clone(),
            previous: intent.previous_run_id.clone(),
            parent_task: parent_task.map(Box::new),
            key: intent.key.as_deref().map(Into::into),
            verify: intent.verify.as_deref().map(Into::into),
            depth: intent.depth,
            made: message.ts,
            state: RunState::Queued { intent: Some(Box::new(intent)), ahead: None },
            stopping: None,
            idle_since: None,
            retrying: None,
            usage: Totals::default(),
            session_id: None,
            last_post: None,
            evidence: Evidence::default(),
        }
    }

    /// A run whose first event is its start: another tool of the family, which posts no intent, made it.
    pub(super) fn started_without_intent(message: &Message, start: &RunStart) -> Self {
        Self {
            agent: start.agent.clone(),
            attempt: start.attempt,
            parent: start.parent_run_id.clone(),
            previous: start.previous_run_id.clone(),
            parent_task: None,
            key: None,
            verify: None,
            depth: 0,
            made: message.ts,
            state: RunState::Queued { intent: None, ahead: None },
            stopping: None,
            idle_since: None,
            retrying: None,
            usage: Totals::default(),
            session_id: None,
            last_post: None,
            evidence: Evidence::default(),
        }
    }

    #[must_use]
    pub fn status(&self) -> RunStatus {
        match &self.state {
            RunState::Queued { .. } => RunStatus::Queued,
            RunState::Running { .. } => RunStatus::Running,
            RunState::Ended(ended) => match ended.end.status {
                RunOutcome::Completed => RunStatus::Completed,
                RunOutcome::Failed => RunStatus::Failed,
                RunOutcome::Stopped => RunStatus::Stopped,
            },
        }
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        match &self.state {
            RunState::Queued { .. } | RunState::Running { .. } => true,
            RunState::Ended { .. } => false,
        }
    }

    /// Started by the loop, not by a run or a person.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.attempt.is_some()
    }

    /// What is known of the agent's process, while the run goes on.
    #[must_use]
    pub fn start(&self) -> Option<&RunStart> {
        match &self.state {
            RunState::Running { start, .. } => Some(start),
            RunState::Queued { .. } | RunState::Ended(_) => None,
        }
    }

    #[must_use]
    pub fn agent_version(&self) -> Option<&str> {
        match &self.state {
            RunState::Queued { .. } => None,
            RunState::Running { start, .. } => start.agent_version.as_deref(),
            RunState::Ended(ended) => ended.started.as_ref()?.agent_version.as_deref(),
        }
    }

    /// The name of the form of what its agent prints, where that is not for people as it is.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        match &self.state {
            RunState::Queued { .. } => None,
            RunState::Running { start, .. } => start.stream.as_deref(),
            RunState::Ended(ended) => ended.started.as_ref()?.stream.as_deref(),
        }
    }

    #[must_use]
    pub fn end(&self) -> Option<(&RunEnd, Timestamp)> {
        match &self.state {
            RunState::Ended(ended) => Some((&ended.end, ended.at)),
            RunState::Queued { .. } | RunState::Running { .. } => None,
        }
    }

    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        match &self.state {
            RunState::Queued { .. } => None,
            RunState::Running { since, .. } => Some(*since),
            RunState::Ended(ended) => ended.started.as_ref().map(|started| started.since),
        }
    }

    /// Folds in one event of this run.
    pub(super) fn apply(&mut self, id: &RunId, message: &Message, event: Event) -> Result<(), Ignored> {
        if let (RunState::Ended { .. }, false) = (&self.state, matches!(&event, Event::RunUsage(_))) {
            return Err(Ignored::RunEnded(id.clone()));
        }
        match event {
            Event::RunIntent(_) => return Err(Ignored::RunStarted),
            Event::RunStart(start) => {
                if let RunState::Running { .. } = self.state {
                    return Err(Ignored::RunStarted);
                }
                self.state = RunState::Running { start, since: message.ts };
            }
            Event::RunEnd(end) => {
                let started = match &mut self.state {
                    RunState::Running { start, since } => Some(Started {
                        since: *since,
                        agent_version: start.agent_version.take().map(String::into_boxed_str),
                        stream: start.stream.take().map(String::into_boxed_str),
                    }),
                    RunState::Queued { .. } | RunState::Ended(_) => None,
                };
                let end = RunEnd { output_path: None, ..end };
                self.state = RunState::Ended(Box::new(Ended { started, end, at: message.ts }));
                self.idle_since = None;
                self.retrying = None;
            }
            Event::RunStopping(stopping) => self.stopping = Some(Box::new(stopping)),
            Event::RunParked(parked) => {
                if let RunState::Queued { ahead, .. } = &mut self.state {
                    *ahead = parked.ahead;
                }
            }
            Event::RunIdle(silence) | Event::RunStuck(silence) => {
                self.idle_since = Some(silence.since(message.ts));
            }
            Event::RunActive(_) => self.idle_since = None,
            Event::RunRetrying(new) if new.error_class.is_none() => self.retrying = None,
            Event::RunRetrying(new) => {
                let since = self.retrying.as_ref().map_or(message.ts, |known| known.1);
                self.retrying = Some(Box::new((new, since)));
            }
            Event::SupervisorRestart(new) => {
                // Who looks after it now begins to listen anew.
                self.idle_since = None;
                if let (RunState::Running { start, .. }, 1..) = (&mut self.state, new.supervisor_pid) {
                    start.supervisor_pid = new.supervisor_pid;
                    start.supervisor_start_ticks = new.supervisor_start_ticks;
                }
            }
            Event::RunUsage(usage) => {
                self.usage.add(&usage);
                if usage.session_id.is_some() {
                    self.session_id = usage.session_id.map(String::into_boxed_str);
                }
            }
            Event::ProjectCreated(_)
            | Event::TaskCreated(_)
            | Event::TaskUpdated(_)
            | Event::TaskDeleted(_)
            | Event::RunDeleted(_)
            | Event::LoopStopping(_)
            | Event::ChildLink(_)
            | Event::Done(_)
            | Event::DoneRejected(_)
            | Event::DoneCleared(_)
            | Event::VerifyStart(_)
            | Event::VerifyStop(_)
            | Event::AgentDegraded(_)
            | Event::LoopStart(_)
            | Event::LoopRestart(_)
            | Event::LoopBackoff(_)
            | Event::LoopBlocked(_)
            | Event::LoopWaiting(_)
            | Event::LoopBreaker(_)
            | Event::LoopBudget(_)
            | Event::LoopEnd(_)
            | Event::Posted => {}
        }
        Ok(())
    }
}
