//! Every setting there is: its type, default and meaning, and whether this version acts on it. The one source of the
//! stub, of `config schema`, of the defaults, of suggestions, and of the reading.
//!
//! A setting that is [`Status::InForce`] has a probe in the tests below, which shows that it reaches the value that the
//! code uses. One that is [`Status::Later`] is accepted, and answered with a warning.

use super::value::{Kind, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) block: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written in HCL.
    pub(crate) default: &'static str,
    pub(crate) status: Status,
    /// What it does, in half a line.
    pub(crate) doc: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InForce,
    /// For a later version.
    Later,
}

impl Setting {
    /// The default as a value; a test reads all of them.
    pub(crate) fn default_value(&self) -> Option<Value> {
        self.kind.read(&super::hcl::literal(self.default)?).ok()
    }
}

/// The block of an agent's own settings; it carries the agent's name.
pub(crate) const AGENT: &str = "agent";

/// What each block is about, in the order of the stub.
pub(crate) const BLOCKS: [(&str, &str); 11] = [
    ("storage", STORAGE),
    ("agents", "Which agent is taken when none is named."),
    ("limits", "How much may be going on at once; 0 = no limit."),
    ("loop", "The Ralph loop: a task's root agent is started again until it says DONE."),
    ("breaker", "When an agent fails again and again."),
    ("watch", "When a silent run is called idle or stuck."),
    ("stop", "How processes are ended."),
    ("retention", "What `gc` deletes when no flag says more, and how many runs a loop leaves."),
    ("server", "`run-agent serve`."),
    ("webhook", "A signed POST of chosen events, retried, never blocking a run."),
    (AGENT, "One block an agent; its type is taken from its name, or set."),
];

const STORAGE: &str = "\
Where everything is kept, and what an acknowledged message survives. Every durability survives the death of any process.
A power cut loses: with \"none\" what the system had not written back, some 30 s, at no cost; with \"interval\" at most
sync_every or sync_messages while anything runs, for a sync now and then; with \"always\" nothing, for a sync a post.";

/// The types of agents; each is also an agent of that name without a block, but for `command`, which needs its argv.
pub(crate) const AGENT_TYPES: &[&str] =
    &["claude", "codex", "gemini", "opencode", "xai", "perplexity", "shell", "command"];

/// As an agent's name: whoever's turn it is.
pub(crate) const LUCKY: &str = "lucky";

pub(crate) fn find(block: &str, name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.block == block && setting.name == name)
}

pub(crate) fn of_block(block: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.block == block)
}

const fn now(
    block: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { block, name, kind, default, status: Status::InForce, doc }
}

const fn later(
    block: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { block, name, kind, default, status: Status::Later, doc }
}

const COUNT: Kind = Kind::Count { max: u32::MAX as u64 };

#[rustfmt::skip]
pub(crate) static SETTINGS: &[Setting] = &[
    now("storage", "root", Kind::Text, r#""~/run-agent""#, "the storage folder; --root and JRUN_ROOT win"),
    now("storage", "backend", Kind::Choice(&["fs", "segmented"]), r#""fs""#, "fs | segmented; decided at a root's first use"),
    now("storage", "durability", Kind::Choice(&["none", "interval", "always"]), r#""interval""#, "none | interval | always, see above"),
    now("storage", "sync_every", Kind::Duration, r#""200ms""#, "interval: sync when the last one is so long ago …"),
    now("storage", "sync_messages", COUNT, "256", "… or so many messages behind, whichever comes first"),
    now("storage", "rotate_bytes", Kind::Bytes, r#""64MiB""#, "a bus file of this size is rotated"),
    now("storage", "lock_timeout", Kind::Duration, r#""10s""#, "how long a post waits for a bus file's lock"),

    now("agents", "order", Kind::Agents, r#"["claude", "codex", "gemini"]"#, "the first that can be started is taken"),
    now("agents", "selection", Kind::Choice(&["round-robin", "weighted"]), r#""round-robin""#, "round-robin | weighted"),
    now("agents", "weights", Kind::Weights, "{}", "as { claude = 3, codex = 2 }"),
    now("agents", "cooldown", Kind::Duration, r#""5m""#, "how long an agent that failed is passed over, at first"),

    now("limits", "max_agents", COUNT, "16", "agents at once on this root; more wait for a slot"),
    now("limits", "max_tasks", COUNT, "0", "loops at once on this root, but for those that agents start"),
    now("limits", "max_depth", COUNT, "16", "levels of delegation below a root run"),
    now("limits", "max_tokens", Kind::Count { max: 1 << 53 }, "0", "tokens a task, its whole tree"),
    now("limits", "max_cost_usd", Kind::Amount, "0", "cost a task, its whole tree"),

    now("loop", "max_restarts", COUNT, "20", "so many starts of the root agent after the first end the loop"),
    now("loop", "max_wall_time", Kind::Duration, r#""8h""#, "the loop's own time, waiting not counted; 0s = no limit"),
    now("loop", "restart_delay", Kind::Duration, r#""1s""#, "the pause before the root agent is started again"),
    now("loop", "child_wait_timeout", Kind::Duration, r#""0s""#, "how long DONE waits for children; 0s = as long as they live"),
    now("loop", "after_children", Kind::Choice(&["catch_up", "complete"]), r#""catch_up""#, "catch_up: a child that ends after DONE starts the root again; or complete"),
    now("loop", "restart_with_children", Kind::Choice(&["wait", "overlap"]), r#""wait""#, "wait | overlap: the next root run and children of the one before"),
    now("loop", "on_dependency_failure", Kind::Choice(&["wait", "fail"]), r#""wait""#, "wait | fail, when a task that this one depends on fails"),
    now("loop", "session", Kind::Choice(&["fresh", "resume"]), r#""fresh""#, "fresh | resume: the next root run takes up the session"),
    now("loop", "adopt", Kind::Choice(&["ask", "auto", "never"]), r#""ask""#, "ask | auto | never, for a loop whose driver died"),
    now("loop", "question_timeout", Kind::Duration, r#""4h""#, "how long a blocking question holds the loop"),
    now("loop", "verify", Kind::Texts, "[]", "commands that must succeed before DONE counts"),
    now("loop", "verify_attempts", COUNT, "5", "so many rejected DONEs end the loop"),
    now("loop", "on_budget", Kind::Choice(&["stop", "finish"]), r#""stop""#, "stop | finish: running agents when a budget is spent"),

    now("breaker", "failures", COUNT, "5", "so many quick failures in a row trip it"),
    now("breaker", "quick", Kind::Duration, r#""2m""#, "a failure within this time is quick"),
    now("breaker", "cooldown", Kind::Duration, r#""10m""#, "the pause after a trip"),
    now("breaker", "trips", COUNT, "3", "so many trips end the loop"),

    now("watch", "idle_after", Kind::Duration, r#""5m""#, "silence after which a run is idle; 0s = never"),
    now("watch", "stuck_after", Kind::Duration, r#""15m""#, "silence after which a run is stopped as stuck; 0s = never"),

    now("stop", "grace", Kind::Duration, r#""30s""#, "from SIGTERM to SIGKILL"),

    now("retention", "older_than", Kind::OptionalDuration, r#""""#, r#"age of what gc takes, e.g. "168h"; empty = none"#),
    now("retention", "max_runs_per_task", COUNT, "0", "the oldest go with gc and at a loop's end; 0 = keep all"),

    now("server", "host", Kind::Text, r#""127.0.0.1""#, "another address needs an API key"),
    now("server", "port", Kind::Count { max: 65_535 }, "14355", "the port"),
    now("server", "allowed_hosts", Kind::Texts, "[]", "names in the Host header, besides the loopback ones"),
    now("server", "api_key_file", Kind::Text, r#""""#, "a file with the API key"),
    now("server", "allow_delete_from_ui", Kind::Flag, "false", "whether the UI may delete tasks and runs"),

    later("webhook", "url", Kind::Text, r#""""#, "where to; empty = nowhere"),
    later("webhook", "events", Kind::Texts, "[]", "the types of events; empty = all"),
    later("webhook", "secret_file", Kind::Text, r#""""#, "a file with the secret for the signature"),
    later("webhook", "timeout", Kind::Duration, r#""10s""#, "the limit of one attempt"),

    now(AGENT, "type", Kind::AgentType, r#""""#, "claude codex gemini opencode xai perplexity shell command"),
    now(AGENT, "argv", Kind::Texts, "[]", "command: program and arguments; {prompt_file} = the prompt's file"),
    now(AGENT, "args", Kind::Texts, "[]", r#"added to the command line; REST: to the request, as "temperature=0.2""#),
    now(AGENT, "env", Kind::TextMap, "{}", "variables that are set for the agent"),
    now(AGENT, "token", Kind::Secret, r#""""#, r#"the token or "@path"; never together with token_file"#),
    now(AGENT, "token_file", Kind::Text, r#""""#, "a file with the token"),
    now(AGENT, "token_env", Kind::Text, r#""""#, "the variable that carries the token, where it is not the type's own"),
    now(AGENT, "model", Kind::Text, r#""""#, "empty = the agent's own choice"),
    now(AGENT, "base_url", Kind::Text, r#""""#, "another endpoint for the agent's API"),
    now(AGENT, "min_version", Kind::Text, r#""""#, r#"of the agent's CLI, as "1.0.0""#),
    now(AGENT, "timeout", Kind::Duration, r#""0s""#, "time limit of one run; 0s = none"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_stands_once_in_a_known_block_and_its_default_is_of_its_type() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert!(BLOCKS.iter().any(|(block, _)| *block == setting.block), "{setting:?}");
            assert!(setting.default_value().is_some(), "{setting:?}");
            let twice = SETTINGS[at + 1..].iter().any(|s| (s.block, s.name) == (setting.block, setting.name));
            assert!(!twice, "{setting:?}");
            assert!(!setting.doc.is_empty() && !setting.doc.ends_with('.'), "{setting:?}");
            let line = super::super::stub::line(setting, super::super::Form::Hcl);
            assert!(line.chars().count() <= 118, "too wide for the stub: {line}");
        }
    }
}
