//! The order that a starter sends its supervisor, and the report that comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use run_agent_core::event::Usage;
use run_agent_core::policy::watch::WatchPolicy;
use run_agent_core::{ProjectId, RunId, TaskId};
use serde::{Deserialize, Serialize};

use crate::agent::rest::Request;
use crate::agent::{Api, Stream};

/// Sent as JSON through a pipe, never written to a file: it may hold tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    pub root: PathBuf,
    pub project: ProjectId,
    pub task: TaskId,
    pub run: RunId,
    pub agent: String,
    pub argv: Vec<String>,
    /// How a start event shows what is started.
    #[serde(default)]
    pub commandline: String,
    /// Set over the supervisor's own environment.
    pub env: BTreeMap<String, String>,
    /// What of it, and of the request, is told nowhere.
    #[serde(default)]
    pub secrets: Vec<String>,
    pub cwd: PathBuf,
    pub attempt: Option<u32>,
    pub parent: Option<RunId>,
    /// How many runs stand above it; a root run has none.
    pub depth: u32,
    pub previous: Option<RunId>,
    /// How long the agent's processes get to end by themselves when a stop does not say.
    pub grace_ms: u64,
    /// The run's time limit.
    pub timeout_ms: Option<u64>,
    /// When silence makes it idle or stuck.
    pub watch: WatchPolicy,
    pub streams: Streams,
    /// How many agents of the root may be at work, as the starter's configuration says; 0: this run needs no slot.
    #[serde(default)]
    pub max_agents: u32,
    /// How what the agent prints is read.
    #[serde(default)]
    pub stream: Option<Stream>,
    /// What earlier runs reported of the conversation that this one takes up.
    #[serde(default)]
    pub before: Option<Usage>,
    /// The agent's program, where it is one whose versions differ.
    #[serde(default)]
    pub program: Option<Program>,
    /// What is asked, of a run without a process.
    #[serde(default)]
    pub request: Option<Request>,
    /// Whose model the agent asks, as far as that is known.
    #[serde(default)]
    pub api: Api,
}

/// A program of others, and what is known of its version at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: PathBuf,
    pub version: Option<String>,
    /// Older ones are warned of; empty: none is too old.
    pub min_version: String,
}

impl Launch {
    /// What may lie in the run's folder for a supervisor that takes over: it starts nothing any more, so that neither the
    /// environment and the request, which may hold tokens, nor the command line is needed.
    #[must_use]
    pub(super) fn for_a_successor(&self) -> Self {
        let (argv, commandline, env, secrets) = (Vec::new(), String::new(), BTreeMap::new(), Vec::new());
        Self { argv, commandline, env, secrets, request: None, ..self.clone() }
    }
}

/// What a supervisor is started for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A run that was just made.
    Start(Box<Launch>),
    /// A run whose supervisor was lost while its agent lives, as the stream tells of it.
    TakeOver(Box<Launch>),
}

impl Order {
    #[must_use]
    pub fn launch(&self) -> &Launch {
        match self {
            Self::Start(launch) | Self::TakeOver(launch) => launch,
        }
    }
}

/// What stands behind the agent's stdin, stdout and stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// Its `prompt.md` and the run's files.
    #[default]
    Prompt,
    /// The starter's stdin and the run's files: a command by hand, somewhere else than on a terminal.
    CallerInput,
    /// The starter's own three: a command by hand that keeps the terminal.
    Terminal,
    /// Nothing to read, and the run's files: a command of the operator's.
    Nothing,
}

/// What the supervisor tells its starter, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    Started {
        pid: u32,
    },
    /// It waits for a slot.
    Parked {
        ahead: u32,
    },
    /// A stop came first, or the run had ended.
    Refused {
        why: String,
    },
    Failed {
        why: String,
    },
}

/// Precedes the report where the starter waits for the supervisor to come up before it sends the order.
pub(super) const HERE: &[u8] = b"\n";

/// Descriptors under which the supervisor finds what it is given.
pub(super) const REPORT_FD: i32 = 3;
pub(super) const LOCK_FD: i32 = 4;
/// There only with [`Streams::CallerInput`].
pub(super) const STDIN_FD: i32 = 5;
