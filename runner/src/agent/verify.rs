//! A verify command: a line of the operator's, run by the shell.

use run_agent_core::layout::RunPaths;

use super::{AgentError, Backend, Call, Work, locate};

/// Under this name verify runs are listed.
const NAME: &str = "verify";

#[derive(Debug)]
pub struct Verify<'a> {
    pub command: &'a str,
}

impl Backend for Verify<'_> {
    fn name(&self) -> &str {
        NAME
    }

    fn call(&self, _: &RunPaths, _: Work<'_>) -> Result<Call, AgentError> {
        let shell = locate(NAME, "sh")?;
        Ok(Call { argv: vec![shell, "-c".to_owned(), self.command.to_owned()], ..Call::default() })
    }
}
