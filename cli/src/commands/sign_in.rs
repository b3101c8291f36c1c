//! What agents sign in with, as far as it can be seen, and the warning of those that nothing was found for.

use std::path::Path;

use run_agent_runner::agent::{Around, Backend, SignIn};

use crate::config::Config;
use crate::context::{Context, variable};
use crate::error::Failure;
use crate::render;

/// What this agent signs in with when it works in this folder; nothing for one that has no need.
pub(crate) fn of(agent: &dyn Backend, cwd: &Path) -> Option<SignIn> {
    let home = || std::env::home_dir().map(|home| home.display().to_string());
    let said = |name: &str| variable(name).or_else(|| home().filter(|_| name == "HOME"));
    agent.sign_in(&Around { variable: &said, cwd })
}

/// Warns of those that may well be refused by their providers. Each finds its own way there, so it is no more than that.
pub(crate) fn warn<'a>(
    context: &Context,
    agents: impl IntoIterator<Item = &'a str>,
    cwd: &Path,
) -> Result<(), Failure> {
    let config = context.config()?;
    for name in agents {
        let Ok(agent) = config.agent(name) else { continue };
        if let Some(SignIn::Missing(variables)) = of(agent.as_ref(), cwd) {
            let how = how_to(config, name, &variables);
            render::say(&format!("warning: agent `{name}`: no token and no login were found; {how}"));
        }
    }
    Ok(())
}

/// What to do for an agent that nothing was found for.
pub(crate) fn how_to(config: &Config, name: &str, variables: &[String]) -> String {
    let variables = variables.join(" or ");
    let login = match config.type_of(name).as_str() {
        "claude" => "sign in with `claude` by hand, or ",
        "codex" => "sign in with `codex login`, or ",
        "gemini" => "sign in with `gemini` by hand, or ",
        "opencode" => "sign in with `opencode auth login`, or ",
        _ => "",
    };
    format!("{login}set {variables}, or token_file in its block of the configuration")
}
