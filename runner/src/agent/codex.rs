//! `codex`: OpenAI's CLI.

mod reader;

use run_agent_core::layout::RunPaths;

use super::setup::Words;
use super::sign_in::{Trace, Traces};
use super::{AgentError, Around, Backend, Call, Program, Setup, SignIn, Stream, Work};

pub use reader::CodexReader;

#[derive(Debug)]
pub struct Codex(pub Setup);

/// It refuses a longer prompt on stdin.
const PROMPT_MAX: usize = 1 << 20;

/// What in its settings stands for a provider, or a place for secrets, of its own.
const OWN_WAYS: &[&str] = &["model_provider", "openai_base_url", "cli_auth_credentials_store", "profile"];

impl Backend for Codex {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn check(&self) -> Result<(), AgentError> {
        self.0.check()
    }

    fn call(&self, _: &RunPaths, work: Work<'_>) -> Result<Call, AgentError> {
        let setup = &self.0;
        let api = setup.api("openai", None);
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
        let call = setup.call(argv, &["CODEX_API_KEY", "OPENAI_API_KEY"], [], Stream::Codex)?;
        Ok(Call { api, ..call })
    }

    fn prompt_max(&self) -> Option<usize> {
        Some(PROMPT_MAX)
    }

    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        let setup = &self.0;
        let own = around.folder(setup, "CODEX_HOME", ".codex");
        let files = vec![Trace::file(own.join("auth.json")), Trace::words(own.join("config.toml"), OWN_WAYS)];
        let found = setup.sign_in(around, &Traces { tokens: &["CODEX_API_KEY"], others: &[], files });
        // Arguments may name a provider of their own.
        let named = setup.args.iter().any(|arg| OWN_WAYS.iter().any(|way| arg.contains(way)));
        let local = setup.args.iter().any(|arg| arg == "--oss");
        Some(match found {
            SignIn::Missing(_) if named || local => SignIn::Unknown("its arguments choose a provider"),
            found => found,
        })
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "codex", min_version: self.0.min_version.as_deref().unwrap_or("0.1.0") })
    }
}

/// A text as TOML writes it, which `-c` reads.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
