//! Agents: one small module a backend, behind one trait. A backend says what is started; the supervisor starts it.

mod api;
mod by_hand;
pub mod claude;
pub mod codex;
mod command;
pub mod gemini;
pub mod opencode;
pub mod perplexity;
pub mod rest;
pub(crate) mod secrets;
mod setup;
mod shell;
mod sign_in;
pub mod stream;
mod verify;
pub mod xai;
pub(crate) mod zone;

use std::collections::BTreeMap;
use std::path::PathBuf;

use run_agent_core::layout::RunPaths;
use run_agent_core::world::Run;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};

pub use api::Api;
pub use by_hand::ByHand;
pub use claude::Claude;
pub use codex::Codex;
pub use command::Command;
pub use gemini::Gemini;
pub use opencode::Opencode;
pub use perplexity::Perplexity;
pub use setup::Setup;
pub use shell::Shell;
pub use sign_in::{Around, SignIn};
pub use verify::Verify;
pub use xai::Xai;

use self::secrets::Secrets;
pub use self::secrets::redact;
use self::stream::{Before, Listener};

/// One kind of agent, set up.
pub trait Backend: std::fmt::Debug {
    /// The name under which events and files show it.
    fn name(&self) -> &str;

    /// What can be seen to be wrong with its settings, whatever this machine has.
    ///
    /// # Errors
    /// Says what.
    fn check(&self) -> Result<(), AgentError> {
        Ok(())
    }

    /// Known before anything is made: whether it is set up well, and its program is there.
    ///
    /// # Errors
    /// When the agent cannot be started on this machine.
    fn is_there(&self) -> Result<(), AgentError> {
        self.check()?;
        self.path().map(drop)
    }

    /// Where the program is that is started for it; nothing where it is part of this tool or of every system.
    ///
    /// # Errors
    /// When it is not there.
    fn path(&self) -> Result<Option<PathBuf>, AgentError> {
        let path = |program: Program<'_>| locate(self.name(), program.name).map(PathBuf::from);
        self.program().map(path).transpose()
    }

    /// What is to be started for this work.
    ///
    /// # Errors
    /// When the agent cannot be started on this machine.
    fn call(&self, run: &RunPaths, work: Work<'_>) -> Result<Call, AgentError>;

    /// Whether it runs commands and changes files. One that has no hands only answers.
    fn has_hands(&self) -> bool {
        true
    }

    /// Whether it says what it cost, as far as it knows.
    fn tells_cost(&self) -> bool {
        false
    }

    /// The longest text in bytes that it takes on stdin, where it refuses a longer one.
    fn prompt_max(&self) -> Option<usize> {
        None
    }

    /// The program of others that it is, if it is one whose versions differ.
    fn program(&self) -> Option<Program<'_>> {
        None
    }

    /// A small request to its provider; nothing for one that makes its requests itself.
    ///
    /// # Errors
    /// When the agent cannot be started on this machine.
    fn trial(&self) -> Result<Option<rest::Trial>, AgentError> {
        Ok(None)
    }

    /// What it signs in with at its provider; nothing for one that has none.
    fn sign_in(&self, _: &Around<'_>) -> Option<SignIn> {
        None
    }
}

/// What an agent is started for.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The task's own text, without the preamble.
    pub prompt: &'a str,
    /// The conversation that it takes up, by the agent's own id.
    pub session: Option<&'a str>,
}

/// A program of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    pub name: &'a str,
    /// Older ones are warned of; empty: none is too old.
    pub min_version: &'a str,
}

/// What the supervisor starts. stdin is the run's `prompt.md`, which is also what a request says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub argv: Vec<String>,
    /// Set over the caller's environment.
    pub env: BTreeMap<String, String>,
    /// Written into the run's folder before the start, for agents that run a script.
    pub script: Option<String>,
    /// How its stdout is read; none: as it is.
    pub stream: Option<Stream>,
    /// The agent's tokens, so that they are told nowhere.
    pub secrets: Vec<String>,
    /// What the supervisor asks itself, where there is no program.
    pub request: Option<rest::Request>,
    /// What it asks in turn, as far as that is known.
    pub api: Api,
    /// How a start event shows it, where that is not the argv.
    pub shown: Option<String>,
}

impl Call {
    /// For people, without secrets of ours.
    #[must_use]
    pub fn commandline(&self) -> String {
        let secrets = || Secrets::of(&self.secrets, &self.env);
        self.shown.clone().unwrap_or_else(|| secrets().command_line(&self.argv))
    }
}

/// The form of what an agent prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Claude,
    Codex,
    Gemini,
    Opencode,
    Xai,
    Perplexity,
}

impl Stream {
    /// The form of this name, as a run's start tells it; none where it is for people as it is, or of a later version.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
        Self::deserialize(name).ok()
    }

    /// The form of a run that has started.
    #[must_use]
    pub fn of(run: &Run) -> Option<Self> {
        run.stream().and_then(Self::named)
    }

    /// `before` is what earlier runs of the conversation that this run takes up reported together.
    #[must_use]
    pub fn listener(self, before: Option<&Before>) -> Listener {
        Listener::new(match self {
            Self::Claude => Box::new(claude::ClaudeReader::new(before)),
            Self::Codex => Box::new(codex::CodexReader::new(before)),
            Self::Gemini => Box::new(gemini::GeminiReader::new()),
            Self::Opencode => Box::new(opencode::OpencodeReader::new()),
            Self::Xai => Box::new(xai::XaiReader::default()),
            Self::Perplexity => Box::new(perplexity::PerplexityReader::default()),
        })
    }
}

/// Its name, as [`Stream::named`] reads it.
impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(
        "agent `{agent}`: program `{program}` was not found on PATH; install it, or put its folder on PATH"
    )]
    NotFound { agent: String, program: String },
    #[error(
        "agent `{agent}`: its prompt is {bytes} bytes long with what run-agent says before it, and the agent takes {max}; put the text into a file, and name it"
    )]
    PromptTooLong { agent: String, bytes: usize, max: usize },
    #[error("agent `{agent}`: {why}")]
    Settings { agent: String, why: String },
    #[error(
        "agent `{agent}`: it has no token; set token or token_file in config.hcl, or the variable {variable}"
    )]
    NoToken { agent: String, variable: String },
    #[error("agent `{agent}`: argv is empty")]
    NoCommand { agent: String },
    #[error("no program `{program}` was found on PATH; check its name, or give its path")]
    NoProgram { program: String },
}

/// Where a program is, as the shell would find it.
fn locate(agent: &str, program: &str) -> Result<String, AgentError> {
    match which::which(program) {
        Ok(path) => Ok(path.display().to_string()),
        Err(_) => Err(AgentError::NotFound { agent: agent.to_owned(), program: program.to_owned() }),
    }
}
