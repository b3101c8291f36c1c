//! `claude`: Anthropic's CLI.

mod reader;

use run_agent_core::layout::RunPaths;

use super::setup::Words;
use super::sign_in::{Trace, Traces};
use super::{AgentError, Around, Backend, Call, Program, Setup, SignIn, Stream, Work};

pub use reader::ClaudeReader;

#[derive(Debug)]
pub struct Claude(pub Setup);

/// Variables with which it signs in by other means.
const OTHERS: &[&str] = &[
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "ANTHROPIC_BASE_URL",
];
/// What its own file holds of an account.
const ACCOUNTS: &[&str] = &["\"oauthAccount\"", "\"primaryApiKey\""];
/// What its settings say of signing in.
const SETTINGS: &[&str] = &["\"apiKeyHelper\"", "ANTHROPIC_", "CLAUDE_CODE_"];

impl Backend for Claude {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn check(&self) -> Result<(), AgentError> {
        self.0.check()
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
        let call = setup.call(argv, &["ANTHROPIC_API_KEY"], env, Stream::Claude)?;
        Ok(Call { api: setup.api("anthropic", Some("ANTHROPIC_BASE_URL")), ..call })
    }

    fn sign_in(&self, around: &Around<'_>) -> Option<SignIn> {
        let setup = &self.0;
        let own = around.folder(setup, "CLAUDE_CONFIG_DIR", ".claude");
        let files = vec![
            Trace::file(own.join(".credentials.json")),
            // Where the secret itself is the system's to keep.
            Trace::words(around.home(setup).join(".claude.json"), ACCOUNTS),
            Trace::words(own.join(".claude.json"), ACCOUNTS),
            Trace::words(own.join("settings.json"), SETTINGS),
            Trace::words(around.cwd.join(".claude/settings.json"), SETTINGS),
            Trace::words(around.cwd.join(".claude/settings.local.json"), SETTINGS),
            Trace::words("/etc/claude-code/managed-settings.json".into(), SETTINGS),
            Trace::words("/Library/Application Support/ClaudeCode/managed-settings.json".into(), SETTINGS),
        ];
        Some(setup.sign_in(around, &Traces { tokens: &["ANTHROPIC_API_KEY"], others: OTHERS, files }))
    }

    fn tells_cost(&self) -> bool {
        true
    }

    fn program(&self) -> Option<Program<'_>> {
        Some(Program { name: "claude", min_version: self.0.min_version.as_deref().unwrap_or("1.0.0") })
    }
}
