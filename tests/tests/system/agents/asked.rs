//! What a run's start and its `run-info.yaml` say of whose model was asked, and where.

use run_agent_core::run_info::RunInfo;
use run_agent_tests::Root;
use run_agent_tests::stand_in::{Script, StandIn};

use super::{first_run, root_with};

const SECRETS: [&str; 3] = ["somebody", "hush-hush", "key-in-query"];

/// A job of a stand-in that is set up so. What is in its run's `run-info.yaml`.
fn job(agent: &str, settings: &str) -> (Root, RunInfo) {
    let root = root_with(&[agent], &format!("agent \"{agent}\" {{\n{settings}\n}}"));
    let script = Script::new().does("(printf '%s\\n' \"$@\"; env) > \"$here/given\"");
    StandIn::of(&root, agent).starts(script).install();
    let _ = root.run(&["job", "--project", "p", "--agent", agent, "--prompt", "work"]);
    let run = first_run(&root).unwrap();
    let path = root.tree().run(&root.only_task(), &run).info();
    let text = std::fs::read_to_string(&path).unwrap();
    let info = RunInfo::from_yaml(&text, "run-info.yaml").unwrap();
    assert_eq!(root.ok(&["status", run.as_str()]), text.trim_end(), "{agent}");
    let json = root.json(&["status", run.as_str(), "--json"]);
    assert_eq!(json["backend_model"].as_str(), info.backend_model.as_deref(), "{agent}");
    (root, info)
}

fn asked(info: &RunInfo) -> [Option<&str>; 3] {
    [info.backend_provider.as_deref(), info.backend_model.as_deref(), info.backend_endpoint.as_deref()]
}

/// The names of the files below a folder that have a secret in them.
fn with_secrets(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            with_secrets(&path, found);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if !path.ends_with("config.hcl") && SECRETS.iter().any(|secret| text.contains(secret)) {
            found.push(path);
        }
    }
}

fn assert_no_secrets(root: &Root, agent: &str) {
    let mut found = Vec::new();
    with_secrets(&root.path(), &mut found);
    assert_eq!(found, [""; 0].map(std::path::PathBuf::from), "{agent}");
}

#[test]
fn the_provider_model_and_endpoint_that_were_set_are_told_and_no_secret_of_the_address() {
    let url = "https://gateway.example.org/v1?key=key-in-query";
    for (agent, model, provider, told) in [
        ("claude", "opus", "anthropic", "opus"),
        ("codex", "gpt-6", "openai", "gpt-6"),
        ("gemini", "pro", "google", "pro"),
        ("opencode", "xai/grok-4.7", "xai", "grok-4.7"),
    ] {
        let (root, info) = job(agent, &format!("  model = \"{model}\"\n  base_url = \"{url}\""));
        let wanted = [Some(provider), Some(told), Some("https://gateway.example.org/v1")];
        assert_eq!(asked(&info), wanted, "{agent}");
        let given = std::fs::read_to_string(root.scratch().join("given")).unwrap();
        assert!(given.contains(url), "{agent} is given all of it: {given}");
        assert_no_secrets(&root, agent);
    }
    // A name and a password are given in the program's own variable.
    let env = "  env = { ANTHROPIC_BASE_URL = \"https://somebody:hush-hush@gateway.example.org/v1\" }";
    let (root, info) = job("claude", env);
    assert_eq!(info.backend_endpoint.as_deref(), Some("https://gateway.example.org/v1"));
    assert_no_secrets(&root, "claude");
}

#[test]
fn of_what_is_not_set_nothing_is_told() {
    let (_, info) = job("claude", "  args = [\"--verbose\"]");
    assert_eq!(asked(&info), [Some("anthropic"), None, None]);
    let (_, info) = job("opencode", "  args = [\"--verbose\"]");
    assert_eq!(asked(&info), [None; 3]);
}

#[test]
fn a_model_that_the_agent_reports_does_not_change_what_was_asked_for() {
    use run_agent_tests::stand_in::claude;
    let root = root_with(&["claude"], "agent \"claude\" { model = \"opus\" }");
    let lines = format!("{}\n{}", claude::init(), claude::result("an answer", 1200, 50, 0.001));
    StandIn::of(&root, "claude").starts(Script::new().prints(&lines)).install();
    let _ = root.ok(&["job", "--project", "p", "--agent", "claude", "--prompt", "work"]);
    let run = first_run(&root).unwrap();
    assert!(root.messages(&root.only_task()).iter().any(|message| {
        message.content.meta.get("model").is_some_and(|model| model == "claude-opus-5-5")
    }));
    assert_eq!(root.json(&["status", run.as_str(), "--json"])["backend_model"], "opus");
}

#[test]
fn a_shell_asks_nobody() {
    let root = root_with(&["shell"], "");
    let _ = root.ok(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"]);
    let run = first_run(&root).unwrap();
    let told = root.ok(&["status", run.as_str()]);
    assert!(!told.contains("backend_"), "{told}");
}
