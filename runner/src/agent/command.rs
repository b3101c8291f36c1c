//! Any other agent: an argv from the configuration, the prompt on stdin or as `{prompt_file}`.

use std::collections::BTreeMap;

use run_agent_core::layout::RunPaths;

use super::{AgentError, Backend, Call, Work, locate};

#[derive(Debug)]
pub struct Command {
    pub name: String,
    pub argv: Vec<String>,
    /// The agent's token under its own variable's name, and whatever else the configuration sets.
    pub env: BTreeMap<String, String>,
}

impl Backend for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_there(&self) -> Result<(), AgentError> {
        match self.argv.first() {
            Some(program) => locate(&self.name, program).map(drop),
            None => Err(AgentError::NoCommand { agent: self.name.clone() }),
        }
    }

    fn call(&self, run: &RunPaths, _: Work<'_>) -> Result<Call, AgentError> {
        let prompt = run.prompt().display().to_string();
        let mut argv: Vec<String> =
            self.argv.iter().map(|arg| arg.replace("{prompt_file}", &prompt)).collect();
        let Some(program) = argv.first_mut() else {
            return Err(AgentError::NoCommand { agent: self.name.clone() });
        };
        *program = locate(&self.name, program)?;
        Ok(Call { argv, env: self.env.clone(), ..Call::default() })
    }
}
