//! `config.hcl`. Settings of the spec that this version does not act on are accepted and told; anything else that is
//! unknown is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use run_agent_core::policy::{AfterChildren, LoopPolicy, RestartWithChildren};
use run_agent_runner::agent::{Backend, Command, Shell};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::args;
use crate::error::{Code, Exit, Failure};
use crate::render;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) storage: Storage,
    pub(crate) agents: Agents,
    agent: BTreeMap<String, AgentBlock>,
    pub(crate) limits: Limits,
    #[serde(rename = "loop")]
    pub(crate) ralph: LoopBlock,
    pub(crate) stop: StopBlock,
    breaker: Option<IgnoredAny>,
    watch: Option<IgnoredAny>,
    retention: Option<IgnoredAny>,
    server: Option<IgnoredAny>,
    webhook: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    pub(crate) root: Option<String>,
    backend: Option<String>,
    durability: Option<String>,
    sync_every: Option<IgnoredAny>,
    sync_messages: Option<IgnoredAny>,
    rotate_bytes: Option<IgnoredAny>,
    lock_timeout: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Agents {
    order: Option<Vec<String>>,
    selection: Option<IgnoredAny>,
    weights: Option<IgnoredAny>,
    cooldown: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentBlock {
    #[serde(rename = "type")]
    kind: Option<String>,
    argv: Vec<String>,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    token: Option<String>,
    token_file: Option<String>,
    token_env: Option<String>,
    timeout: Option<Span>,
    model: Option<IgnoredAny>,
    base_url: Option<IgnoredAny>,
    min_version: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    max_agents: Option<u32>,
    max_tasks: Option<IgnoredAny>,
    max_depth: Option<u32>,
    max_tokens: Option<IgnoredAny>,
    max_cost_usd: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LoopBlock {
    max_restarts: Option<u32>,
    max_wall_time: Option<Span>,
    restart_delay: Option<Span>,
    child_wait_timeout: Option<Span>,
    after_children: Option<AfterChildren>,
    restart_with_children: Option<RestartWithChildren>,
    on_dependency_failure: Option<IgnoredAny>,
    session: Option<IgnoredAny>,
    adopt: Option<IgnoredAny>,
    question_timeout: Option<IgnoredAny>,
    verify: Option<IgnoredAny>,
    verify_attempts: Option<IgnoredAny>,
    on_budget: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StopBlock {
    grace: Option<Span>,
}

/// A duration as it is written in the file.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        args::duration(&text).map(Self)
    }
}

/// Levels of delegation below a root run.
const MAX_DEPTH: u32 = 16;
const GRACE: Duration = Duration::from_secs(30);
/// What is looked for when nothing is configured.
const ORDER: [&str; 3] = ["claude", "codex", "gemini"];

impl Config {
    /// Reads the file; none is an empty configuration.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::usage(format!("cannot read the configuration {}: {e}", path.display())))?;
        let config: Self =
            hcl::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), Failure> {
        if let Some(backend) = self.storage.backend.as_deref().filter(|backend| *backend != "fs") {
            return Err(Failure::usage(format!(
                "{}: storage.backend = \"{backend}\": this version has only \"fs\"",
                path.display()
            )));
        }
        for (name, agent) in &self.agent {
            let own =
                |variable: &&String| variable.starts_with("JRUN_") || variable.starts_with("CONDUCTOR_");
            if let Some(variable) = agent.env.keys().chain(agent.token_env.as_ref()).find(own) {
                return Err(Failure::usage(format!(
                    "{}: agent \"{name}\" sets {variable}; variables that begin with JRUN_ or CONDUCTOR_ are run-agent's own",
                    path.display()
                )));
            }
            if agent.token.is_some() && agent.token_file.is_some() {
                return Err(Failure::usage(format!(
                    "{}: agent \"{name}\" has both token and token_file; keep one",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Settings that stand in the file and that this version does not act on.
    pub(crate) fn not_in_effect(&self) -> Vec<&'static str> {
        let (s, a, l, r) = (&self.storage, &self.agents, &self.limits, &self.ralph);
        let mut found: Vec<&'static str> = [
            ("breaker", self.breaker.is_some()),
            ("watch", self.watch.is_some()),
            ("retention", self.retention.is_some()),
            ("server", self.server.is_some()),
            ("webhook", self.webhook.is_some()),
            ("storage.durability", s.durability.as_deref().is_some_and(|d| d != "none")),
            ("storage.sync_every", s.sync_every.is_some()),
            ("storage.sync_messages", s.sync_messages.is_some()),
            ("storage.rotate_bytes", s.rotate_bytes.is_some()),
            ("storage.lock_timeout", s.lock_timeout.is_some()),
            ("agents.selection", a.selection.is_some()),
            ("agents.weights", a.weights.is_some()),
            ("agents.cooldown", a.cooldown.is_some()),
            ("limits.max_agents", l.max_agents.is_some_and(|n| n > 0)),
            ("limits.max_tasks", l.max_tasks.is_some()),
            ("limits.max_tokens", l.max_tokens.is_some()),
            ("limits.max_cost_usd", l.max_cost_usd.is_some()),
            ("loop.on_dependency_failure", r.on_dependency_failure.is_some()),
            ("loop.session", r.session.is_some()),
            ("loop.adopt", r.adopt.is_some()),
            ("loop.question_timeout", r.question_timeout.is_some()),
            ("loop.verify", r.verify.is_some()),
            ("loop.verify_attempts", r.verify_attempts.is_some()),
            ("loop.on_budget", r.on_budget.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect();
        for agent in self.agent.values() {
            for (name, set) in [
                ("agent.model", agent.model.is_some()),
                ("agent.base_url", agent.base_url.is_some()),
                ("agent.min_version", agent.min_version.is_some()),
            ] {
                if set && !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        found
    }

    pub(crate) fn policy(&self, max_restarts: Option<u32>) -> LoopPolicy {
        let ms = |span: Option<Span>, otherwise| {
            span.map_or(otherwise, |s| u64::try_from(s.0.as_millis()).unwrap_or(u64::MAX))
        };
        let (block, plain) = (&self.ralph, LoopPolicy::default());
        LoopPolicy {
            max_restarts: max_restarts.or(block.max_restarts).unwrap_or(plain.max_restarts),
            max_wall_time_ms: ms(block.max_wall_time, plain.max_wall_time_ms),
            restart_delay_ms: ms(block.restart_delay, plain.restart_delay_ms),
            child_wait_timeout_ms: ms(block.child_wait_timeout, plain.child_wait_timeout_ms),
            after_children: block.after_children.unwrap_or(plain.after_children),
            restart_with_children: block.restart_with_children.unwrap_or(plain.restart_with_children),
        }
    }

    pub(crate) fn grace(&self) -> Duration {
        self.stop.grace.map_or(GRACE, |span| span.0)
    }

    pub(crate) fn max_depth(&self) -> u32 {
        self.limits.max_depth.unwrap_or(MAX_DEPTH)
    }

    /// The time limit that the agent's own block sets.
    pub(crate) fn timeout_of(&self, agent: &str) -> Option<Duration> {
        self.agent.get(agent)?.timeout.map(|span| span.0).filter(|limit| !limit.is_zero())
    }

    /// The agent of this name, ready to be started.
    pub(crate) fn agent(&self, name: &str) -> Result<Box<dyn Backend>, Failure> {
        let block = self.agent.get(name);
        let kind = block.and_then(|b| b.kind.as_deref()).unwrap_or(name);
        match (kind, block) {
            ("shell", _) => Ok(Box::new(Shell { name: name.to_owned() })),
            ("command", Some(block)) => command(name, block),
            _ if block.is_some() || ORDER.contains(&name) => Err(Failure::new(
                Exit::NotFound,
                format!(
                    "agent `{name}`: type `{kind}` is not supported by this version; supported are shell and command"
                ),
            )),
            _ => {
                let mut known: Vec<&str> = self.agent.keys().map(String::as_str).collect();
                if !known.contains(&"shell") {
                    known.push("shell");
                }
                let near = crate::find::near(name, known.iter().copied());
                let text =
                    format!("no agent `{name}`; known are: {} (define more in config.hcl)", known.join(", "));
                Err(Failure::not_found(text).code(Code::UnknownAgent).suggest(near))
            }
        }
    }

    /// The agents that can be named, as far as the configuration and the built-in ones go.
    pub(crate) fn agent_names(&self) -> Vec<&str> {
        self.agent.keys().map(String::as_str).chain(["shell"]).collect()
    }

    /// The agent to take when none is named.
    pub(crate) fn default_agent(&self) -> Result<String, Failure> {
        let plain: Vec<String> = ORDER.iter().map(|name| (*name).to_owned()).collect();
        let order = self.agents.order.as_ref().unwrap_or(&plain);
        order.iter().find(|name| self.agent(name).is_ok()).cloned().ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!(
                    "no agent to start: looked for {}; name one with --agent (`--agent shell` needs nothing)",
                    order.join(", ")
                ),
            )
        })
    }
}

fn command(name: &str, block: &AgentBlock) -> Result<Box<dyn Backend>, Failure> {
    if block.argv.is_empty() {
        return Err(Failure::usage(format!(
            "agent `{name}`: a command agent needs argv = [\"program\", …] in config.hcl"
        )));
    }
    let mut env = block.env.clone();
    if let Some(token) = token(name, block)? {
        let Some(variable) = &block.token_env else {
            return Err(Failure::usage(format!(
                "agent `{name}`: a token needs token_env, the variable it is given in"
            )));
        };
        env.insert(variable.clone(), token);
    }
    let argv = block.argv.iter().chain(&block.args).cloned().collect();
    Ok(Box::new(Command { name: name.to_owned(), argv, env }))
}

fn token(name: &str, block: &AgentBlock) -> Result<Option<String>, Failure> {
    let file = match (&block.token, &block.token_file) {
        (Some(token), _) => match token.strip_prefix('@') {
            None => return Ok(Some(token.clone())),
            Some(file) => file,
        },
        (None, Some(file)) => file,
        (None, None) => return Ok(None),
    };
    let path = home_path(file);
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) => {
            // The agent may have found another way to sign in.
            render::say(&format!(
                "warning: agent `{name}`: cannot read its token from {}: {error}",
                path.display()
            ));
            Ok(None)
        }
    }
}

/// `~/…` is below the home folder.
pub(crate) fn home_path(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        hcl::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_configuration_is_read() {
        let config = parse(
            "storage { root = \"~/x\" }\nagent \"mine\" {\n type = \"command\"\n argv = [\"true\"]\n timeout = \"5m\"\n}\n\
             limits { max_agents = 4 }\nloop {\n max_restarts = 3\n after_children = \"complete\"\n}\nstop { grace = \"2s\" }\nserver { port = 1 }",
        )
        .unwrap();
        assert_eq!(config.policy(None).max_restarts, 3);
        assert_eq!(config.policy(Some(7)).max_restarts, 7);
        assert_eq!(config.policy(None).after_children, AfterChildren::Complete);
        assert_eq!(config.grace(), Duration::from_secs(2));
        assert_eq!(config.timeout_of("mine"), Some(Duration::from_secs(300)));
        assert_eq!(config.not_in_effect(), ["server", "limits.max_agents"]);
        assert!(config.agent("mine").is_ok());
    }

    #[test]
    fn what_is_unknown_is_an_error() {
        for wrong in [
            "stroage { }",
            "storage { rot = 1 }",
            "stop { grace = \"soon\" }",
            "agent \"x\" { tpye = \"shell\" }",
            "x =",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_agent_is_named_with_those_that_are_known() {
        let config = parse("agent \"mine\" { type = \"command\" }").unwrap();
        let text = format!("{:?}", config.agent("mien").unwrap_err());
        assert!(text.contains("mien") && text.contains("mine, shell"), "{text}");
        assert!(format!("{:?}", config.default_agent().unwrap_err()).contains("claude, codex, gemini"));
    }
}
