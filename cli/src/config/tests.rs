//! What holds for the configuration as a whole: every setting, every mistake, both forms.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::problem::Source;
use super::schema::{SETTINGS, Setting};
use super::*;

fn source(name: &str, text: &str) -> Source {
    Source { path: format!("/r/{name}").into(), text: text.to_owned() }
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
    match (setting.block, setting.name) {
        ("storage", "root") => ("\"/elsewhere\"", |c| format!("{:?}", c.root())),
        ("storage", "backend") => ("\"segmented\"", Config::backend),
        ("storage", "durability") => ("\"always\"", |c| format!("{:?}", c.durability())),
        ("storage", "sync_every") => ("\"1s\"", options),
        ("storage", "sync_messages") => ("7", options),
        ("storage", "rotate_bytes") => ("\"64KiB\"", options),
        ("storage", "lock_timeout") => ("\"3s\"", options),
        ("agents", "order") => ("[\"shell\"]", |c| format!("{:?}", c.default_agent())),
        ("limits", "max_depth") => ("3", |c| c.max_depth().to_string()),
        ("loop", "max_restarts") => ("3", policy),
        ("loop", "max_wall_time" | "restart_delay" | "child_wait_timeout") => ("\"77s\"", policy),
        ("loop", "after_children") => ("\"complete\"", policy),
        ("loop", "restart_with_children") => ("\"overlap\"", policy),
        ("stop", "grace") => ("\"2s\"", |c| format!("{:?}", c.grace())),
        ("agent", "type") => ("\"shell\"", agent),
        ("agent", "argv" | "args") => ("[\"more\"]", agent),
        ("agent", "env") => ("{ A = \"b\" }", agent),
        ("agent", "token") => ("\"secret\"", agent),
        ("agent", "token_file") => ("\"/dev/null\"", agent),
        ("agent", "token_env") => ("\"OTHER\"", agent),
        ("agent", "timeout") => ("\"5m\"", |c| format!("{:?}", c.timeout_of("x"))),
        other => panic!("{other:?} is in force, and nothing shows that anything reads it"),
    }
}

#[test]
fn every_setting_in_force_reaches_the_value_that_the_code_uses() {
    for setting in SETTINGS.iter().filter(|setting| setting.status == Status::InForce) {
        let (value, look) = probe(setting);
        let (with, without) = if setting.block == AGENT {
            // An agent that can be started, but for the setting in question.
            let mut block =
                BTreeMap::from([("type", "\"command\""), ("argv", "[\"a\"]"), ("token_env", "\"T\"")]);
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
fn a_setting_of_a_later_version_is_accepted_and_listed() {
    for setting in SETTINGS.iter().filter(|setting| setting.status == Status::Later) {
        let name = if setting.block == AGENT { "agent \"shell\"" } else { setting.block };
        let config = good(&format!("{name} {{ {} = {} }}", setting.name, setting.default));
        let shown = name.replace(" \"", ".").replace('"', "");
        assert_eq!(config.not_in_effect(), [format!("{shown}.{}", setting.name)]);
    }
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let config = Config::default();
    assert_eq!(config.policy(None), LoopPolicy::default());
    assert_eq!(config.policy(Some(7)).max_restarts, 7);
    assert_eq!(config.store_options(), Options::default());
    assert_eq!(config.durability(), Durability::Interval);
    assert_eq!((config.grace(), config.max_depth()), (Duration::from_secs(30), 16));
    assert_eq!(config.root(), None);
    assert!(format!("{:?}", config.default_agent().unwrap_err()).contains("claude, codex, gemini"));
    assert_eq!(config.timeout_of("shell"), None);
}

#[test]
fn a_configuration_is_read() {
    let config = good(
        "storage { root = \"~/x\" }\nagent \"mine\" {\n type = \"command\"\n argv = [\"true\"]\n timeout = \"5m\"\n}\n\
         limits { max_agents = 4 }\nloop {\n max_restarts = 3\n after_children = \"complete\"\n}\nstop { grace = \"2s\" }\nserver { port = 1 }",
    );
    assert_eq!(config.policy(None).max_restarts, 3);
    assert_eq!(config.grace(), Duration::from_secs(2));
    assert_eq!(config.timeout_of("mine"), Some(Duration::from_secs(300)));
    assert_eq!(config.not_in_effect(), ["limits.max_agents", "server.port"]);
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
fn what_is_wrong_is_named_with_its_place_and_what_was_probably_meant() {
    for (text, wanted) in [
        ("stroage { }", "1:1: unknown block `stroage`; did you mean `storage`?"),
        ("agnet \"x\" { }", "1:7: the block `agnet` takes no name"),
        ("agent { }", "1:1: an agent's block has one name: agent \"claude\" { … }"),
        (
            "durability = \"none\"",
            "1:1: `durability` is a setting of the block `storage`, and stands outside of it",
        ),
        (
            "storage {\n  rot = 1\n}",
            "2:3: unknown setting `rot` in the block `storage`; did you mean `root`?",
        ),
        (
            "stop { max_depth = 1 }",
            "1:8: unknown setting `max_depth` in the block `stop`; it belongs into `limits`",
        ),
        (
            "stop { grace = \"soon\" }",
            "1:16: stop.grace: `soon` is not a duration; write it as 90s, 5m, 1h30m or 500ms",
        ),
        (
            "stop { grace = 30 }",
            "1:16: stop.grace: expected a duration in quotes, such as \"90s\", found a number; did you mean `\"30s\"`?",
        ),
        (
            "loop { max_restarts = \"3\" }",
            "1:23: loop.max_restarts: expected a whole number, found a text; did you mean `3`?",
        ),
        (
            "loop { max_restarts = 1.5 }",
            "1:23: loop.max_restarts: 1.5 is not a whole number from 0 to 4294967295",
        ),
        (
            "loop { max_restarts = -1 }",
            "1:23: loop.max_restarts: -1 is not a whole number from 0 to 4294967295",
        ),
        (
            "loop { after_children = \"catch-up\" }",
            "1:25: loop.after_children: `catch-up` is not one of catch_up, complete; did you mean `catch_up`?",
        ),
        (
            "storage { durability = \"allways\" }",
            "1:24: storage.durability: `allways` is not one of none, interval, always; did you mean `always`?",
        ),
        (
            "storage { durability = interval }",
            "1:24: `interval` is no value; a text stands in quotes; did you mean `\"interval\"`?",
        ),
        (
            "storage { rotate_bytes = \"64 MiBs\" }",
            "1:26: storage.rotate_bytes: `64 MiBs` is not a size; write it as 64MiB, 512KiB or 1GiB",
        ),
        (
            "stop { grace = \"1s\" }\nstop { grace = \"2s\" }",
            "2:1: the block `stop` stands here twice, first in line 1",
        ),
        (
            "loop {\n  adopt = \"ask\"\n  adopt = \"auto\"\n}",
            "3:3: the setting `adopt` stands twice in this block",
        ),
        (
            "agent \"shell\" { }\nagent \"shell\" { }",
            "2:7: the agent `shell` stands here twice, first in line 1",
        ),
        ("agent \"x\" { tpye = \"shell\" }", "1:7: agent `x` has no type"),
        ("agent \"claud\" { }", "did you mean `claude`?"),
        ("agent \"x\" { type = \"shel\" }", "1:20: agent.type: `shel` is not one of"),
        (
            "agents { order = [\"claude\", \"codx\"] }",
            "1:29: agents.order: no agent `codx` is defined here; did you mean `codex`?",
        ),
        (
            "agents { weights = { gemni = 1 } }",
            "1:22: agents.weights: no agent `gemni` is defined here; did you mean `gemini`?",
        ),
        ("agents { order = \"claude\" }", "did you mean `[\"claude\"]`?"),
        (
            "agent \"shell\" {\n token = \"a\"\n token_file = \"b\"\n}",
            "3:2: agent `shell` has both token and token_file; keep one",
        ),
        ("agent \"shell\" { env = { JRUN_ID = \"x\" } }", "1:25: agent `shell` sets JRUN_ID"),
        ("agent \"shell\" { token_env = \"CONDUCTOR_X\" }", "sets CONDUCTOR_X"),
        ("storage \"x\" { }", "1:9: the block `storage` takes no name"),
        ("x =", "this is not HCL"),
        ("stop {\n  grace = \"1s\"\n", "this is not HCL"),
        ("stop { grace = \"${a}s\" }", "1:16: this has no value here"),
        ("storage = 3", "1:11: `storage` is a block of settings, and this is a number"),
    ] {
        let (_, problems) = parse(text);
        let found = problems.iter().any(|problem| problem.contains(wanted));
        assert!(found, "{text}\nwanted {wanted}\nfound {problems:#?}");
        assert!(problems.iter().all(|problem| problem.starts_with("/r/config.hcl:")), "{problems:?}");
    }
}

#[test]
fn mistakes_in_yaml_have_their_place_too() {
    for (text, wanted) in [
        ("stroage: {}", "config.yaml:1:1: unknown block `stroage`; did you mean `storage`?"),
        ("# ünï\nstop:\n  grase: 1s\n", "config.yaml:3:3: unknown setting `grase`"),
        (
            "stop:\n  grace: 30\n",
            "2:10: stop.grace: expected a duration in quotes, such as \"90s\", found a number",
        ),
        ("stop: {grace: 1s}\nstop: {}\n", "2:1: the block `stop` stands here twice, first in line 1"),
        ("stop: &a {grace: 1s}\n", "anchors and aliases are not taken here"),
        ("- 1\n", "1:1: a configuration is a map of blocks, and this is a list"),
        ("stop: [\n", "this is not YAML"),
        ("stop: {}\n---\nstop: {}\n", "3:1: a configuration is one document"),
        ("agent:\n  x: {type: shel}\n", "2:13: agent.type: `shel` is not one of"),
    ] {
        let (_, problems) = parse_as("config.yaml", text);
        assert!(problems.iter().any(|p| p.contains(wanted)), "{text}\nwanted {wanted}\nfound {problems:#?}");
    }
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let (_, problems) = parse("stop { grase = 1 }\nserver { port = 99999 }\nwatch { x = y }\n");
    let lines: Vec<_> = problems.iter().map(|p| p.split(':').nth(1).unwrap_or_default()).collect();
    assert_eq!(lines, ["1", "2", "3"], "{problems:?}");
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
fn every_line_of_the_stub_stands_in_the_list_of_those_ever_written() {
    let written = include_str!("written.txt");
    let missing: Vec<String> = SETTINGS
        .iter()
        .map(|setting| format!("{}\t{}", setting.block, stub::line(setting, Form::Hcl)))
        .filter(|line| !written.lines().any(|known| known == line))
        .collect();
    assert!(missing.is_empty(), "add to written.txt, and leave what stands there:\n{}", missing.join("\n"));
}

fn refreshed(text: &str) -> String {
    refresh::refreshed(&source("config.hcl", text))
}

#[test]
fn a_file_gets_the_settings_that_it_lacks_as_comments() {
    let old = "# mine\nstop {\n  grace = \"5s\" # quick\n}\n\nloop {\n  #max_restarts = 99\n}\nwatch { idle_after = \"1m\" }\n";
    let new = refreshed(old);
    assert!(new.starts_with("# mine\nstop {\n  grace = \"5s\" # quick\n}\n\nloop {\n  #max_restarts = 99\n  # max_wall_time = \"8h\""), "{new}");
    assert!(new.contains("watch { idle_after = \"1m\" }\n## watch.stuck_after = \"15m\""), "{new}");
    assert!(new.contains("\nstorage {\n  # root = ") && new.contains("# agent \"claude\" {\n"), "{new}");
    assert_eq!(good(&new).all(), good(&new).all());
    assert_eq!(refreshed(&new), new, "once is enough");
    let stub = stub::stub(Form::Hcl);
    assert_eq!(refreshed(&stub), stub);
    let (yaml_old, name) = ("stop:\n  grace: 5s\n", "config.yaml");
    let yaml = refresh::refreshed(&source(name, yaml_old));
    assert!(yaml.starts_with(yaml_old) && yaml.contains("\n## loop.adopt: \"ask\""), "{yaml}");
    assert_eq!(refresh::refreshed(&source(name, &yaml)), yaml);
    let yaml_stub = stub::stub(Form::Yaml);
    assert_eq!(refresh::refreshed(&source(name, &yaml_stub)), yaml_stub);
}

#[test]
fn a_comment_of_an_older_version_is_refreshed_unless_it_was_touched() {
    // A line that some version has written for a setting whose line is another now.
    let old = "# grace = \"10s\"  # how long after SIGTERM";
    let touched = "# grace = \"11s\"  # how long after SIGTERM";
    for (line, changes) in [(old, true), (touched, false)] {
        let text = stub::stub(Form::Hcl)
            .replace(&format!("# {}", stub::line(schema::find("stop", "grace").unwrap(), Form::Hcl)), line);
        assert!(text.contains(line));
        let new = refresh::refreshed_from(&source("config.hcl", &text), &format!("stop\t{}", &old[2..]));
        assert_eq!(new == stub::stub(Form::Hcl), changes, "{line}");
        assert_eq!(new == text, !changes, "{line}");
    }
}

/// Whether all of `lines` stand in `text`, in their order.
fn is_subsequence(lines: &[&str], text: &str) -> bool {
    let mut rest = text.lines();
    lines.iter().all(|line| rest.any(|other| other == *line))
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("# a note of mine".to_owned()),
        Just("## agents.order = []".to_owned()),
        Just("# agent \"x\" {".to_owned()),
        Just("# }".to_owned()),
        Just("/* more".to_owned()),
        Just("*/".to_owned()),
        Just("stop {".to_owned()),
        Just("stop { grace = \"3s\" }".to_owned()),
        Just("limits { }".to_owned()),
        Just("}".to_owned()),
        Just("loop {".to_owned()),
        Just("  verify = [<<EOT".to_owned()),
        Just("EOT".to_owned()),
        Just("  ]".to_owned()),
        Just("  grace = \"9s\" // mine".to_owned()),
        Just("agent \"mine\" {".to_owned()),
        Just("  type = \"shell\"".to_owned()),
        prop::sample::select(SETTINGS).prop_map(|s| format!("  # {}", stub::line(&s, Form::Hcl))),
        prop::sample::select(SETTINGS).prop_map(|s| format!("  # {} = 1", s.name)),
        prop::sample::select(SETTINGS).prop_map(|s| format!("  {} = {}", s.name, s.default)),
        "[ -~]{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_line_of_the_users_is_changed_or_dropped_and_once_is_enough(
        lines in prop::collection::vec(any_line(), 0..14),
        stubbed in any::<bool>(),
        end in prop::sample::select(&["\n", "\r\n"]),
    ) {
        let mut text = lines.join(end);
        if stubbed {
            text = format!("{}{end}{text}", stub::stub(Form::Hcl).replace('\n', end));
        }
        let (before, problems) = parse(&text);
        let kept: Vec<&str> = text.lines().collect();
        let new = refreshed(&text);
        prop_assert!(is_subsequence(&kept, &new), "{new}");
        if problems.is_empty() {
            let (after, problems) = parse(&new);
            prop_assert_eq!(problems, Vec::<String>::new(), "{}", new);
            let values = |config: &Config| config.all().into_iter().map(|(name, _, given)| (name, given.map(|g| g.value.clone()))).collect::<Vec<_>>();
            prop_assert_eq!(values(&before), values(&after));
            prop_assert_eq!(refreshed(&new), new);
        }
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in any::<String>()) {
        for name in ["config.hcl", "config.yaml"] {
            let source = source(name, &text);
            let (_, problems) = Config::parse(&source);
            for problem in &problems {
                prop_assert!(!source.show(problem).is_empty());
            }
        }
    }

    #[test]
    fn any_value_is_read_or_refused_with_its_place(setting in prop::sample::select(SETTINGS), value in "[ -~]{0,16}") {
        let name = if setting.block == AGENT { "agent \"shell\"".to_owned() } else { setting.block.to_owned() };
        let source = source("config.hcl", &format!("{name} {{\n  {} = {value}\n}}\n", setting.name));
        for problem in &Config::parse(&source).1 {
            prop_assert!(source.show(problem).contains('^'));
        }
    }
}
