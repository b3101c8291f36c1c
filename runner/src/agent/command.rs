//! Any other agent: an argv from the configuration, the prompt on stdin or as `{prompt_file}`.

use std::path::PathBuf;

use run_agent_core::layout::RunPaths;

use super::sign_in::Traces;
use super::{AgentError, Around, Backend, Call, Setup, SignIn, Work, locate};

#[derive(Debug)]
pub struct Command {
    pub argv: Vec<String>,
    /// Its token is given in the variable that the settings name; what they say of a provider is not for it.
    pub setup: Setup,
}

impl Backend for Command {
    fn name(&self) -> &str {
        &self.setup.name
    }

    fn path(&self) -> Result<Option<PathBuf>, AgentError> {
        match self.argv.first() {
            Some(program) => locate(self.name(), program).map(|path| Some(path.into())),
            None => Err(AgentError::NoCommand { agent: self.setup.name.clone() }),
        }
    }

    /// Only where its variable is named is it known to need a token.
    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        self.setup.token_env.as_ref()?;
        Some(self.setup.sign_in(around, &Traces::default()))
    }

    fn call(&self, run: &RunPaths, _: Work<'_>) -> Result<Call, AgentError> {
        let prompt = run.prompt().display().to_string();
        let mut argv: Vec<String> =
            self.argv.iter().map(|arg| arg.replace("{prompt_file}", &prompt)).collect();
        let Some(program) = argv.first_mut() else {
            return Err(AgentError::NoCommand { agent: self.setup.name.clone() });
        };
        *program = locate(self.name(), program)?;
        Ok(Call { argv, env: self.setup.env(&[]), secrets: self.setup.secrets(), ..Call::default() })
    }
}
