//! Agents: one small module a backend, behind one trait. A backend says what is started; the supervisor starts it.

mod by_hand;
mod command;
mod shell;
mod verify;

use std::collections::BTreeMap;

use run_agent_core::layout::RunPaths;

pub use by_hand::ByHand;
pub use command::Command;
pub use shell::Shell;
pub use verify::Verify;

/// One kind of agent, set up.
pub trait Backend: std::fmt::Debug {
    /// The name under which events and files show it.
    fn name(&self) -> &str;

    /// Known before anything is made: whether the program is there.
    ///
    /// # Errors
    /// When the agent cannot be started on this machine.
    fn is_there(&self) -> Result<(), AgentError> {
        Ok(())
    }

    /// What is to be started for this prompt. `prompt` is the task's own text, without the preamble.
    ///
    /// # Errors
    /// When the agent cannot be started on this machine.
    fn call(&self, run: &RunPaths, prompt: &str) -> Result<Call, AgentError>;
}

/// What the supervisor starts. stdin is the run's `prompt.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub argv: Vec<String>,
    /// Set over the caller's environment.
    pub env: BTreeMap<String, String>,
    /// Written into the run's folder before the start, for agents that run a script.
    pub script: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(
        "agent `{agent}`: program `{program}` was not found on PATH; install it, or set the agent's argv to where it is"
    )]
    NotFound { agent: String, program: String },
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
