//! How what an agent says comes into the stream: seldom, without its secrets, and not lost when the stream is held.

use std::fs::File;
use std::path::{Path, PathBuf};

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::{Done, Root, name, supervisor_ends, until};
use serde_json::json;

use super::{codex, root_with, step, told};

const TOKEN: &str = "a-very-secret-token-0123";

/// A run that waits for the test's word.
fn detached(root: &Root, agent: &str) -> RunId {
    let task = name("t");
    let args = ["job", "--project", "p", "--task", task.task.as_str(), "--agent", agent, "--prompt", "work"];
    // Its supervisor says what it cannot do.
    let mut command = root.command(&[&args[..], &["--detach"]].concat());
    let started = Done::of(command.env("RUN_AGENT_LOG", "warn").output().unwrap(), &args);
    RunId::parse(started.stdout.trim()).unwrap_or_else(|_| panic!("{started:?}"))
}

/// The lock of a task's stream, taken.
fn held(root: &Root) -> File {
    let (folder, stem) = root.tree().layout.stream(&name("t").key());
    let lock = File::options().write(true).open(folder.join(format!("{stem}.lock"))).unwrap();
    lock.lock().unwrap();
    lock
}

fn until_said(root: &Root, run: &RunId, wanted: &str) {
    let log = root.tree().run(&name("t"), run).supervisor_log();
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    until(wanted, || text().contains(wanted).then_some(()), text);
}

#[test]
fn ten_thousand_reports_are_a_handful_of_events_and_lose_nothing() {
    let root = root_with(&["opencode"], "");
    let all = format!("awk '{{ for (i = 0; i < 10000; i++) print }}' <<'END'\n{}\nEND", step(3, 2));
    StandIn::of(&root, "opencode").starts(Script::new().does(&all)).install();
    let run = detached(&root, "opencode");
    assert_eq!(root.run(&["wait", run.as_str(), "--wait", "60s"]).code, 0);
    let usage = root.view(&name("t")).task().usage;
    assert_eq!(
        (usage.input_tokens, usage.output_tokens, usage.cost_usd.micros),
        (30_000, 20_000, 10_000_000)
    );
    let told = told(&root, "RUN_USAGE");
    assert!(told.len() < 30, "{}", told.len());
}

#[test]
fn usage_that_could_not_be_told_is_told_with_the_runs_end() {
    let root = root_with(&["claude"], "storage {\n  lock_timeout = \"50ms\"\n}");
    let script = Script::new()
        .waits_for("print")
        .prints(&claude::init())
        .prints(&claude::result("an answer", 1200, 50, 0.001))
        .waits_for("end");
    StandIn::of(&root, "claude").starts(script).install();
    let run = detached(&root, "claude");
    let lock = held(&root);
    root.lets("print");
    until_said(&root, &run, "cannot tell what the agent's output says");
    drop(lock);
    root.lets("end");
    assert_eq!(root.run(&["wait", run.as_str(), "--wait", "60s"]).code, 0);
    let usage = root.view(&name("t")).task().usage;
    assert_eq!((usage.input_tokens, usage.cost_usd.micros), (1200, 1000), "{:?}", told(&root, "RUN_USAGE"));
}

#[test]
fn usage_that_its_supervisor_could_never_tell_is_told_by_who_closes_the_run() {
    let root = root_with(&["claude"], "storage {\n  lock_timeout = \"50ms\"\n}");
    let script = Script::new().waits_for("print").prints(&claude::init()).prints(&claude::result(
        "an answer",
        1200,
        50,
        0.001,
    ));
    StandIn::of(&root, "claude").starts(script).install();
    let run = detached(&root, "claude");
    let lock = held(&root);
    root.lets("print");
    supervisor_ends(&run);
    drop(lock);
    let _ = root.run(&["status", "--task", name("t").task.as_str()]);
    let view = root.view(&name("t"));
    assert_eq!(view.run(&run).unwrap().status(), RunStatus::Completed);
    let usage = view.task().usage;
    assert_eq!((usage.input_tokens, usage.cost_usd.micros), (1200, 1000), "{:?}", told(&root, "RUN_USAGE"));
    assert_eq!(root.ok(&["output", run.as_str()]), "an answer");
}

#[test]
fn an_agent_that_only_waits_for_its_network_is_stuck_though_it_says_so_each_second() {
    let more = "watch {\n  idle_after = \"2s\"\n  stuck_after = \"5s\"\n}";
    let root = root_with(&["codex"], more);
    let waits = json!({ "type": "error", "message": "Reconnecting... waiting for network (Connection failed: error sending request)" });
    let script = Script::new()
        .prints(&json!({ "type": "thread.started", "thread_id": "thread-1" }).to_string())
        .prints(&json!({ "type": "turn.started" }).to_string())
        .does(&format!("while :; do printf '%s\\n' '{waits}'; sleep 1; done"));
    StandIn::of(&root, "codex").starts(script).install();
    let run = detached(&root, "codex");
    let ended = || root.view(&name("t")).run(&run).filter(|run| !run.is_active()).cloned();
    let ended = until("the run ends", ended, || format!("{:#?}", root.messages(&name("t"))));
    assert!(ended.end().unwrap().0.reason.starts_with("stuck"), "{:?}", ended.end());
}

#[test]
fn an_agent_that_works_after_a_trouble_is_not_stuck() {
    let root = root_with(&["codex"], "watch {\n  idle_after = \"2s\"\n  stuck_after = \"3s\"\n}");
    let retry = json!({ "type": "error", "message": "Reconnecting... 1/5 (stream closed)" });
    let item = json!({ "type": "item.completed", "item": { "id": "i", "type": "agent_message", "text": "at work" } });
    let script = Script::new()
        .prints(&json!({ "type": "thread.started", "thread_id": "thread-1" }).to_string())
        .prints(&retry.to_string())
        .does(&format!("for n in 1 2 3 4 5 6 7; do printf '%s\\n' '{item}'; sleep 1; done"))
        .prints(&codex("well", 10, 5));
    StandIn::of(&root, "codex").starts(script).install();
    let run = detached(&root, "codex");
    let done = root.run(&["wait", run.as_str(), "--wait", "60s"]);
    assert_eq!((done.code, told(&root, "RUN_STUCK").len()), (0, 0), "{done:?}");
}

/// The files below a folder in which a text stands.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() && String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(text) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_token_that_an_agent_says_again_and_one_in_its_arguments_are_told_nowhere() {
    let block = format!(
        "agent \"claude\" {{\n  token = \"{TOKEN}\"\n  args = [\"--api-key\", \"another-secret-4567\"]\n}}"
    );
    let root = root_with(&["claude"], &block);
    let said = format!("Invalid header authorization: Bearer {TOKEN}");
    let script = Script::new()
        .prints(&claude::init())
        .prints(&claude::refused(401, "authentication_failed", &said))
        .says(&format!("debug: key {TOKEN}"))
        .exits(1);
    StandIn::of(&root, "claude").starts(script).install();
    let run = detached(&root, "claude");
    let done = root.run(&["wait", run.as_str(), "--wait", "60s"]);
    supervisor_ends(&run);
    let (end, _) = root.view(&name("t")).run(&run).unwrap().end().map(|(end, at)| (end.clone(), at)).unwrap();
    assert_eq!(end.error_class.as_deref(), Some("auth"), "{done:?}");
    assert!(end.reason.contains("Bearer …"), "{end:?}");
    let paths = root.tree().run(&name("t"), &run);
    let mut known = vec![root.path().join("config.hcl"), paths.stdout(), paths.stderr()];
    known.sort();
    let mut found = files_with(&root.path(), TOKEN);
    found.sort();
    assert_eq!(found, known, "what the agent itself wrote, and the configuration");
    assert_eq!(files_with(&root.path(), "another-secret-4567"), [root.path().join("config.hcl")]);
    for args in [["output", run.as_str()], ["status", run.as_str()], ["why", run.as_str()]] {
        let shown = root.run(&args);
        assert!(!shown.stdout.contains(TOKEN) && !shown.stderr.contains(TOKEN), "{shown:?}");
    }
}
