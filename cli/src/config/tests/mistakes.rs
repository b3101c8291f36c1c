//! Every mistake is told with its place and what was probably meant, and no text is a panic.

use proptest::prelude::*;

use super::*;

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
        ("server {\n  host = \"a\n}\n", "2:3: this is not HCL: a closing quote is missing"),
        (
            "stop { grace = \"1s\", }",
            "1:20: this is not HCL: a block on one line takes one setting and no comma",
        ),
        ("storage { sync_messages = 1 rotate_bytes = \"1MiB\" }", "a block on one line takes one setting"),
        (
            "storage { rotate_bytes = 64 }",
            "1:26: storage.rotate_bytes: 64 bytes are too few; the least is 1KiB",
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
        ("agent \"lucky\" { type = \"shell\" }", "1:7: an agent cannot be called `lucky`"),
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

proptest! {
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
