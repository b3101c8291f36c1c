//! `codex`: OpenAI's CLI.

mod reader;

use run_agent_core::layout::RunPaths;

use super::setup::Words;
use super::{AgentError, Backend, Call, Program, Setup, Stream, Work};

pub use reader::CodexReader;

#[derive(Debug)]
pub struct Codex(pub Setup);

/// It refuses a longer prompt on stdin.
const PROMPT_MAX: usize = 1 << 20;

impl Backend for Codex {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn call(&self, _: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let setup = &self.0;
        if work.prompt.len() > PROMPT_MAX {
            return Err(AgentError::PromptTooLong { agent: setup.name.clone(), max: PROMPT_MAX });
        }
        let url = setup.base_url.as_deref().map(|url| format!("openai_base_url={}", toml_text(url)));
        let argv = Words::new(&["codex", "exec", "--dangerously-bypass-approvals-and-sandbox"])
            .add(&["--skip-git-repo-check", "--json"])
            // A login shell sets PATH anew, and with that loses where this tool lies.
            .add(&["-c", "allow_login_shell=false"])
            .flag("-m", setup.model.as_deref())
            .flag("-c", url.as_deref())
            .all(&setup.args)
            .flag("resume", work.session)
            .add(&["-"])
            .done();
        // Its own endpoint knows the one variable, endpoints of others the other.
        setup.call(argv, &["CODEX_API_KEY", "OPENAI_API_KEY"], [], Stream::Codex)
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "codex", min_version: self.0.min_version.as_deref().unwrap_or("0.1.0") })
    }
}

/// A text as TOML writes it, which `-c` reads.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
