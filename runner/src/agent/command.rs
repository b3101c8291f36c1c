//! Any other agent: an argv from the configuration, the prompt on stdin or as `{prompt_file}`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use run_agent_core::layout::RunPaths;

use super::{AgentError, Around, Backend, Call, SignIn, Work, locate};

#[derive(Debug)]
pub struct Command {
    pub name: String,
    pub argv: Vec<String>,
    /// The agent's token under its own variable's name, and whatever else the configuration sets.
    pub env: BTreeMap<String, String>,
    /// The variable that its token is given in.
    pub token_env: Option<String>,
    /// The configuration has its token, which stands in `env`.
    pub has_token: bool,
}

impl Backend for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> Result<Option<PathBuf>, AgentError> {
        match self.argv.first() {
            Some(program) => locate(&self.name, program).map(|path| Some(path.into())),
            None => Err(AgentError::NoCommand { agent: self.name.clone() }),
        }
    }

    /// Only where its variable is named is it known to need a token.
    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        let variable = self.token_env.as_ref()?;
        if self.has_token {
            return Some(SignIn::Token);
        }
        let own = self.env.get(variable).cloned().or_else(|| (around.variable)(variable));
        Some(match own.filter(|value| !value.trim().is_empty()) {
            Some(_) => SignIn::Variable(variable.clone()),
            None => SignIn::Missing(vec![variable.clone()]),
        })
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
