//! A command that a person starts by hand: what was typed, as it was typed.

use run_agent_core::layout::RunPaths;

use super::{AgentError, Backend, Call, Work};

#[derive(Debug)]
pub struct ByHand {
    name: String,
    argv: Vec<String>,
}

impl ByHand {
    /// `name` is what the run is listed under; the program's own name otherwise.
    ///
    /// # Errors
    /// When there is no such program: known before anything is made.
    pub fn new(name: Option<&str>, argv: &[String]) -> Result<Self, AgentError> {
        let Some((program, args)) = argv.split_first() else {
            return Err(AgentError::NoCommand { agent: name.unwrap_or_default().to_owned() });
        };
        let Ok(path) = which::which(program) else {
            return Err(AgentError::NoProgram { program: program.clone() });
        };
        let own = program.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(program);
        let argv = std::iter::once(path.display().to_string()).chain(args.iter().cloned()).collect();
        Ok(Self { name: name.unwrap_or(own).to_owned(), argv })
    }
}

impl Backend for ByHand {
    fn name(&self) -> &str {
        &self.name
    }

    fn call(&self, _: &RunPaths, _: Work<'_>) -> Result<Call, AgentError> {
        Ok(Call { argv: self.argv.clone(), ..Call::default() })
    }
}
