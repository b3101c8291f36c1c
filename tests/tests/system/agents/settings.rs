//! What is refused of an agent's settings, or of its prompt, before a run of it is made.

use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::{Done, Root};

use super::{agents_of, root_with, task};

fn job(root: &Root, agent: &str, more: &[&str]) -> Done {
    let args = ["job", "--project", "p", "--agent", agent];
    root.run(&args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn a_prompt_that_is_too_long_only_with_what_stands_before_it_is_refused() {
    let root = root_with(&["codex"], "");
    StandIn::of(&root, "codex").starts(Script::new()).install();
    let file = root.scratch().join("prompt");
    std::fs::write(&file, "x".repeat((1 << 20) - 100)).unwrap();
    let done = job(&root, "codex", &["--prompt-file", file.to_str().unwrap()]);
    assert_ne!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("the agent takes 1048576"), "{done:?}");
    assert!(root.view(&root.only_task()).task().runs.is_empty());
    assert_eq!(std::fs::read_dir(root.tree().task(&root.only_task()).runs()).unwrap().count(), 0);
}

#[test]
fn an_address_with_a_password_is_refused_for_every_type() {
    for agent in ["claude", "codex", "gemini", "opencode", "xai"] {
        let block = format!(
            "agent \"{agent}\" {{\n  model = \"xai/grok\"\n  token = \"t0ken-1234\"\n  base_url = \"http://somebody:pass@127.0.0.1:1/v1\"\n}}"
        );
        let root = root_with(&[agent], &block);
        StandIn::of(&root, agent).starts(Script::new()).install();
        let done = job(&root, agent, &["--prompt", "work"]);
        assert!(done.code != 0 && done.stderr.contains("it has a name or a password in it"), "{done:?}");
        assert!(!done.stderr.contains("pass@"), "{done:?}");
        let validate = root.run(&["validate"]);
        assert!(validate.stdout.contains("not usable") && !validate.stdout.contains("pass@"), "{validate:?}");
    }
}

#[test]
fn an_agent_whose_settings_let_no_run_start_takes_no_turn() {
    let root =
        root_with(&["opencode", "claude"], "agent \"opencode\" {\n  base_url = \"http://127.0.0.1:1/v1\"\n}");
    StandIn::of(&root, "opencode").starts(Script::new()).install();
    let works = Script::new().says_done().prints(&claude::init()).prints(&claude::result("well", 1, 1, 0.0));
    StandIn::of(&root, "claude").starts(works).install();
    let validate = root.run(&["validate", "opencode"]);
    assert!(validate.code == 1 && validate.stdout.contains("base_url needs a model"), "{validate:?}");
    let done = task(&root, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(agents_of(&root), ["claude"]);
    assert_eq!(root.count(&root.only_task(), "AGENT_DEGRADED"), 0);
}
