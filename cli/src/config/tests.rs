//! What holds for the configuration as a whole: every setting, every mistake, both forms.

mod mistakes;
mod refreshing;

use std::collections::BTreeMap;

use super::problem::Source;
use super::schema::{SETTINGS, Setting};
use super::*;

fn source(name: &str, text: &str) -> Source {
    Source { path: format!("/r/{name}").into(), text: text.to_owned(), marked: false }
}

fn parse(text: &str) -> (Config, Vec<String>) {
    parse_as("config.hcl", text)
}

fn parse_as(name: &str, text: &str) -> (Config, Vec<String>) {
    let source = source(name, text);
    let (config, problems) = Config::parse(&source);
    (config, problems.iter().map(|problem| source.headline(problem)).collect())
}

fn good(text: &str) -> Config {
    let (config, problems) = parse(text);
    assert_eq!(problems, Vec::<String>::new(), "{text}");
    config
}

/// What the code gets to see of a setting, and a value other than the default's.
fn probe(setting: &Setting) -> (&'static str, fn(&Config) -> String) {
    fn policy(config: &Config) -> String {
        format!("{:?}", config.policy(None))
    }
    fn options(config: &Config) -> String {
        format!("{:?}", config.store_options())
    }
    fn agent(config: &Config) -> String {
        format!("{:?}", config.agent("x"))
    }
    fn server(config: &Config) -> String {
        format!("{:?}", config.server().unwrap())
    }
    fn webhook(config: &Config) -> String {
        format!("{:?}", config.webhook().unwrap())
    }
    match (setting.block, setting.name) {
        ("storage", "root") => ("\"/elsewhere\"", |c| format!("{:?}", c.root())),
        ("storage", "backend") => ("\"segmented\"", |c| format!("{:?}", c.backend())),
        ("storage", "durability") => ("\"always\"", |c| format!("{:?}", c.durability())),
        ("storage", "sync_every") => ("\"1s\"", options),
        ("storage", "sync_messages") => ("7", options),
        ("storage", "rotate_bytes") => ("\"64KiB\"", options),
        ("storage", "lock_timeout") => ("\"3s\"", options),
        ("agents", "order") => ("[\"shell\"]", |c| format!("{:?}", c.default_agent())),
        ("agents", "selection") => ("\"weighted\"", |c| format!("{:?}", c.pool(""))),
        ("agents", "weights") => ("{ shell = 3 }", |c| format!("{:?}", c.weights())),
        ("agents", "cooldown") => ("\"77s\"", |c| format!("{:?}", c.pool(""))),
        ("limits", "max_agents") => ("3", |c| c.max_agents().to_string()),
        ("limits", "max_tasks") => ("3", |c| c.max_tasks().to_string()),
        ("limits", "max_tokens") => ("1000", policy),
        ("limits", "max_cost_usd") => ("2.5", policy),
        ("loop", "session") => ("\"resume\"", policy),
        ("loop", "on_budget") => ("\"finish\"", policy),
        ("limits", "max_depth") => ("3", |c| c.max_depth().to_string()),
        ("loop", "max_restarts") => ("3", policy),
        ("loop", "max_wall_time" | "restart_delay" | "child_wait_timeout" | "question_timeout") => {
            ("\"77s\"", policy)
        }
        ("loop", "on_dependency_failure") => ("\"fail\"", policy),
        ("loop", "verify") => ("[\"make\"]", policy),
        ("loop", "verify_attempts") => ("3", policy),
        ("breaker", "failures" | "trips") => ("7", policy),
        ("breaker", "quick" | "cooldown") => ("\"77s\"", policy),
        ("loop", "after_children") => ("\"complete\"", policy),
        ("loop", "restart_with_children") => ("\"overlap\"", policy),
        ("loop", "adopt") => ("\"auto\"", |c| c.adopt().as_str().to_owned()),
        ("watch", _) => ("\"77s\"", |c| format!("{:?}", c.watch())),
        ("retention", "older_than") => ("\"168h\"", |c| format!("{:?}", c.retention())),
        ("retention", "max_runs_per_task") => ("7", |c| format!("{:?}", c.retention())),
        ("server", "host") => ("\"127.0.0.2\"", server),
        ("server", "port") => ("7", server),
        ("server", "allowed_hosts") => ("[\"swarm.example\"]", server),
        ("server", "api_key_file") => ("\"Cargo.toml\"", server),
        ("server", "allow_delete_from_ui") => ("true", server),
        ("webhook", "url") => ("\"http://localhost\"", webhook),
        ("webhook", "events") => ("[\"RUN_STOP\"]", webhook),
        ("webhook", "secret_file") => ("\"Cargo.toml\"", webhook),
        ("webhook", "timeout") => ("\"77s\"", webhook),
        ("stop", "grace") => ("\"2s\"", |c| format!("{:?}", c.grace())),
        ("agent", "model" | "base_url" | "min_version") => ("\"1.2.3\"", agent),
        ("agent", "type") => ("\"shell\"", agent),
        ("agent", "argv" | "args") => ("[\"more\"]", agent),
        ("agent", "env") => ("{ A = \"b\" }", agent),
        ("agent", "token") => ("\"secret\"", agent),
        ("agent", "token_file") => ("\"Cargo.toml\"", agent),
        ("agent", "token_env") => ("\"OTHER\"", agent),
        ("agent", "timeout") => ("\"5m\"", |c| format!("{:?}", c.timeout_of("x"))),
        other => panic!("{other:?} is in force, and nothing shows that anything reads it"),
    }
}

#[test]
fn every_setting_in_force_reaches_the_value_that_the_code_uses() {
    for setting in SETTINGS {
        let (value, look) = probe(setting);
        let (with, without) = if setting.block == AGENT {
            // An agent that can be started, but for the setting in question.
            let mut block =
                BTreeMap::from([("type", "\"command\""), ("argv", "[\"a\"]"), ("token_env", "\"T\"")]);
            if matches!(setting.name, "model" | "base_url" | "min_version") {
                block = BTreeMap::from([("type", "\"claude\"")]);
            }
            if setting.name == "token_env" {
                block.insert("token", "\"s\"");
            }
            let text = |block: &BTreeMap<&str, &str>| {
                let lines: String = block.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
                format!("agent \"x\" {{\n{lines}}}\n")
            };
            let without = text(&block);
            block.insert(setting.name, value);
            (text(&block), without)
        } else {
            (format!("{} {{ {} = {value} }}", setting.block, setting.name), String::new())
        };
        assert_ne!(look(&good(&with)), look(&good(&without)), "{}.{}", setting.block, setting.name);
    }
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let config = Config::default();
    assert_eq!(config.policy(None), LoopPolicy::default());
    assert_eq!(config.policy(Some(7)).max_restarts, 7);
    assert_eq!(config.store_options(), Options::default());
    assert_eq!(config.watch(), WatchPolicy::default());
    assert_eq!(config.durability(), Durability::Interval);
    assert_eq!((config.grace(), config.max_depth()), (Duration::from_secs(30), 16));
    assert_eq!(config.max_agents(), 16);
    assert_eq!(config.root(), None);
    let nobody = good(
        "agents { order = [\"claude\"] }\nagent \"claude\" {\n type = \"command\"\n argv = [\"/nowhere\"]\n}",
    );
    assert!(format!("{:?}", nobody.default_agent().unwrap_err()).contains("looked for claude,"));
    assert_eq!(config.timeout_of("shell"), None);
}

#[test]
fn a_configuration_is_read() {
    let config = good(
        "storage { root = \"~/x\" }\nagent \"mine\" {\n type = \"command\"\n argv = [\"true\"]\n timeout = \"5m\"\n}\n\
         limits { max_agents = 4 }\nloop {\n max_restarts = 3\n after_children = \"complete\"\n}\nstop { grace = \"2s\" }\nwebhook { url = \"http://x\" }",
    );
    assert_eq!(config.policy(None).max_restarts, 3);
    assert_eq!(config.grace(), Duration::from_secs(2));
    assert_eq!(config.timeout_of("mine"), Some(Duration::from_secs(300)));
    assert_eq!(config.max_agents(), 4);
    assert!(config.agent("mine").is_ok());
}

#[test]
fn both_forms_say_the_same() {
    let hcl = good(
        "storage {\n rotate_bytes = 64 * 1024\n durability = \"always\"\n}\nagents { order = [\"mine\", \"shell\"] }\n\
         agent \"mine\" {\n type = \"command\"\n argv = [\"a\", \"b c\"]\n env = { A = \"1\" }\n}\nserver { allow_delete_from_ui = true }",
    );
    let (yaml, problems) = parse_as(
        "config.yaml",
        "# ü\nstorage: {rotate_bytes: 65536, durability: always}\nagents:\n  order:\n  - mine\n  - \"shell\"\nagent:\n  mine:\n    type: command\n    argv: [a, b c]\n    env:\n      A: \"1\"\nserver:\n  allow_delete_from_ui: true\nstop:\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    let values = |config: &Config| -> Vec<_> {
        config.all().into_iter().map(|(name, _, given)| (name, given.map(|g| g.value.clone()))).collect()
    };
    assert_eq!(values(&hcl), values(&yaml));
}

#[test]
fn an_unknown_agent_is_named_with_those_that_are_known() {
    let config = good("agent \"mine\" {\n type = \"command\"\n argv = [\"true\"]\n}");
    let text = format!("{:?}", config.agent("mien").unwrap_err());
    assert!(text.contains("mien") && text.contains("mine, shell") && text.contains("did you mean"), "{text}");
}

/// The stub with the single `#` before its settings taken away.
fn uncommented(stub: &str) -> String {
    let open = |line: &str| {
        let start = line.len() - line.trim_start().len();
        match line[start..].strip_prefix('#') {
            Some(rest) => format!("{}{}", &line[..start], rest.strip_prefix(' ').unwrap_or(rest)),
            None => line.to_owned(),
        }
    };
    stub.lines().map(|line| open(line) + "\n").collect()
}

#[test]
fn the_stub_sets_nothing_and_without_its_comments_every_default() {
    for (form, name) in [(Form::Hcl, "config.hcl"), (Form::Yaml, "config.yaml")] {
        let stub = stub::stub(form);
        let (empty, problems) = parse_as(name, &stub);
        assert_eq!(problems, Vec::<String>::new());
        assert!(empty.all().iter().all(|(_, _, given)| given.is_none()), "{name}");
        let (full, problems) = parse_as(name, &uncommented(&stub));
        assert_eq!(problems, Vec::<String>::new(), "{}", uncommented(&stub));
        assert_eq!(full.all().len(), SETTINGS.len(), "{name}: every setting stands in the stub");
        for (name, setting, given) in full.all() {
            assert_eq!(given.map(|given| &given.value), setting.default_value().as_ref(), "{name}");
        }
        let bare: String = stub
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(parse_as(name, &bare).1, Vec::<String>::new(), "without any comment at all");
    }
}

#[test]
fn the_samples_of_the_documentation_are_right() {
    let page = include_str!("../../../docs/operating.md");
    let sample = |fence: &str| page.split(fence).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (yaml, problems) = parse_as("config.yaml", sample("```yaml\n"));
    assert_eq!(problems, Vec::<String>::new());
    let values = |config: &Config| -> Vec<_> {
        config.all().into_iter().map(|(name, _, given)| (name, given.map(|g| g.value.clone()))).collect()
    };
    assert_eq!(values(&good(sample("```hcl\n"))), values(&yaml));
}
