//! `claude`: Anthropic's CLI.

mod reader;

use run_agent_core::layout::RunPaths;

use super::setup::Words;
use super::{AgentError, Backend, Call, Program, Setup, Stream, Work};

pub use reader::ClaudeReader;

#[derive(Debug)]
pub struct Claude(pub Setup);

impl Backend for Claude {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn call(&self, _: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let setup = &self.0;
        let argv = Words::new(&["claude", "-p", "--input-format", "text", "--output-format", "stream-json"])
            .add(&["--verbose", "--permission-mode", "bypassPermissions"])
            .flag("--model", setup.model.as_deref())
            .flag("--resume", work.session)
            .all(&setup.args)
            .done();
        // A program that replaces itself in the middle of a swarm fails those that start just then.
        let mut env = vec![("DISABLE_AUTOUPDATER", "1".to_owned())];
        env.extend(setup.base_url.clone().map(|url| ("ANTHROPIC_BASE_URL", url)));
        if nix::unistd::geteuid().is_root() {
            // Without it, it refuses to work unattended as root.
            env.push(("IS_SANDBOX", "1".to_owned()));
        }
        setup.call(argv, &["ANTHROPIC_API_KEY"], env, Stream::Claude)
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "claude", min_version: self.0.min_version.as_deref().unwrap_or("1.0.0") })
    }
}
