//! Every setting there is: its type, default and meaning. The one source of the
//! stub, of `config schema`, of the defaults, of suggestions, and of the reading.
//!
//! Each has a probe in the tests below, which shows that it reaches the value that the code uses.

use super::value::{Kind, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) block: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written in HCL.
    pub(crate) default: &'static str,
    /// What it does, in half a line.
    pub(crate) doc: &'static str,
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

const fn setting(
    block: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { block, name, kind, default, doc }
}

const COUNT: Kind = Kind::Count { max: u32::MAX as u64 };

#[rustfmt::skip]
pub(crate) static SETTINGS: &[Setting] = &[
    setting("storage", "root", Kind::Text, r#""~/run-agent""#, "the storage folder; --root and JRUN_ROOT win"),
    setting("storage", "backend", Kind::Choice(&["fs", "segmented"]), r#""fs""#, "fs | segmented; decided at a root's first use"),
    setting("storage", "durability", Kind::Choice(&["none", "interval", "always"]), r#""interval""#, "none | interval | always, see above"),
    setting("storage", "sync_every", Kind::Duration, r#""200ms""#, "interval: sync when the last one is so long ago …"),
    setting("storage", "sync_messages", COUNT, "256", "… or so many messages behind, whichever comes first"),
    setting("storage", "rotate_bytes", Kind::Bytes, r#""64MiB""#, "a bus file of this size is rotated"),
    setting("storage", "lock_timeout", Kind::Duration, r#""10s""#, "how long a post waits for a bus file's lock"),

    setting("agents", "order", Kind::Agents, r#"["claude", "codex", "gemini"]"#, "the first that can be started is taken"),
    setting("agents", "selection", Kind::Choice(&["round-robin", "weighted"]), r#""round-robin""#, "round-robin | weighted"),
    setting("agents", "weights", Kind::Weights, "{}", "as { claude = 3, codex = 2 }"),
    setting("agents", "cooldown", Kind::Duration, r#""5m""#, "how long an agent that failed is passed over, at first"),

    setting("limits", "max_agents", COUNT, "16", "agents at once on this root; more wait for a slot"),
    setting("limits", "max_tasks", COUNT, "0", "loops at once on this root, but for those that agents start"),
    setting("limits", "max_depth", COUNT, "16", "levels of delegation below a root run"),
    setting("limits", "max_tokens", Kind::Count { max: 1 << 53 }, "0", "tokens a task, its whole tree"),
    setting("limits", "max_cost_usd", Kind::Amount, "0", "cost a task, its whole tree"),

    setting("loop", "max_restarts", COUNT, "20", "so many starts of the root agent after the first end the loop"),
    setting("loop", "max_wall_time", Kind::Duration, r#""8h""#, "the loop's own time, waiting not counted; 0s = no limit"),
    setting("loop", "restart_delay", Kind::Duration, r#""1s""#, "the pause before the root agent is started again"),
    setting("loop", "child_wait_timeout", Kind::Duration, r#""0s""#, "how long DONE waits for children; 0s = as long as they live"),
    setting("loop", "after_children", Kind::Choice(&["catch_up", "complete"]), r#""catch_up""#, "catch_up: a child that ends after DONE starts the root again; or complete"),
    setting("loop", "restart_with_children", Kind::Choice(&["wait", "overlap"]), r#""wait""#, "wait | overlap: the next root run and children of the one before"),
    setting("loop", "on_dependency_failure", Kind::Choice(&["wait", "fail"]), r#""wait""#, "wait | fail, when a task that this one depends on fails"),
    setting("loop", "session", Kind::Choice(&["fresh", "resume"]), r#""fresh""#, "fresh | resume: the next root run takes up the session"),
    setting("loop", "adopt", Kind::Choice(&["ask", "auto", "never"]), r#""ask""#, "ask | auto | never, for a loop whose driver died"),
    setting("loop", "question_timeout", Kind::Duration, r#""4h""#, "how long a blocking question holds the loop"),
    setting("loop", "verify", Kind::Texts, "[]", "commands that must succeed before DONE counts"),
    setting("loop", "verify_attempts", COUNT, "5", "so many rejected DONEs end the loop"),
    setting("loop", "on_budget", Kind::Choice(&["stop", "finish"]), r#""stop""#, "stop | finish: running agents when a budget is spent"),

    setting("breaker", "failures", COUNT, "5", "so many quick failures in a row trip it"),
    setting("breaker", "quick", Kind::Duration, r#""2m""#, "a failure within this time is quick"),
    setting("breaker", "cooldown", Kind::Duration, r#""10m""#, "the pause after a trip"),
    setting("breaker", "trips", COUNT, "3", "so many trips end the loop"),

    setting("watch", "idle_after", Kind::Duration, r#""5m""#, "silence after which a run is idle; 0s = never"),
    setting("watch", "stuck_after", Kind::Duration, r#""15m""#, "silence after which a run is stopped as stuck; 0s = never"),

    setting("stop", "grace", Kind::Duration, r#""30s""#, "from SIGTERM to SIGKILL"),

    setting("retention", "older_than", Kind::OptionalDuration, r#""""#, r#"age of what gc takes, e.g. "168h"; empty = none"#),
    setting("retention", "max_runs_per_task", COUNT, "0", "the oldest go with gc and at a loop's end; 0 = keep all"),

    setting("server", "host", Kind::Text, r#""127.0.0.1""#, "another address needs an API key"),
    setting("server", "port", Kind::Count { max: 65_535 }, "14355", "the port"),
    setting("server", "allowed_hosts", Kind::Texts, "[]", "names in the Host header, besides the loopback ones"),
    setting("server", "api_key_file", Kind::Text, r#""""#, "a file with the API key"),
    setting("server", "allow_delete_from_ui", Kind::Flag, "false", "whether the UI may delete tasks and runs"),

    setting("webhook", "url", Kind::Text, r#""""#, "where to; empty = nowhere"),
    setting("webhook", "events", Kind::Texts, "[]", "the types of events; empty = all"),
    setting("webhook", "secret_file", Kind::Text, r#""""#, "a file with the secret for the signature"),
    setting("webhook", "timeout", Kind::Duration, r#""10s""#, "the limit of one attempt"),

    setting(AGENT, "type", Kind::AgentType, r#""""#, "claude codex gemini opencode xai perplexity shell command"),
    setting(AGENT, "argv", Kind::Texts, "[]", "command: program and arguments; {prompt_file} = the prompt's file"),
    setting(AGENT, "args", Kind::Texts, "[]", r#"added to the command line; REST: to the request, as "temperature=0.2""#),
    setting(AGENT, "env", Kind::TextMap, "{}", "variables that are set for the agent"),
    setting(AGENT, "token", Kind::Secret, r#""""#, r#"the token or "@path"; never together with token_file"#),
    setting(AGENT, "token_file", Kind::Text, r#""""#, "a file with the token"),
    setting(AGENT, "token_env", Kind::Text, r#""""#, "the variable that carries the token, where it is not the type's own"),
    setting(AGENT, "model", Kind::Text, r#""""#, "empty = the agent's own choice"),
    setting(AGENT, "base_url", Kind::Text, r#""""#, "another endpoint for the agent's API"),
    setting(AGENT, "min_version", Kind::Text, r#""""#, r#"of the agent's CLI, as "1.0.0""#),
    setting(AGENT, "timeout", Kind::Duration, r#""0s""#, "time limit of one run; 0s = none"),
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
