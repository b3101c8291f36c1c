//! Tasks that depend on others.

use super::*;

#[test]
fn a_task_begins_when_what_it_depends_on_is_completed() {
    let root = Root::new();
    let (first, second, go) = (name("first"), name("second"), root.scratch().join("go"));
    let mut one = drive(&root, &first, &format!("{}\nrun-agent done", until_there(&go)), &[]);
    status(&root, &first, TaskStatus::Running);
    let mut two = drive(&root, &second, "run-agent done", &["--depends-on", "first"]);
    status(&root, &second, TaskStatus::Blocked);
    assert_eq!(root.view(&second).task().runs.len(), 0, "nothing was started");
    assert_eq!(root.count(&second, "LOOP_BLOCKED"), 1);
    std::fs::write(go, "").unwrap();
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
    status(&root, &second, TaskStatus::Completed);
}

#[test]
fn a_dependency_that_failed_is_told_and_waited_for_or_ends_the_loop() {
    let root = Root::new();
    config(&root, "breaker { failures = 0 }\nloop { restart_delay = \"0s\" }\n");
    let (first, second) = (name("first"), name("second"));
    let failed = root.run(&shell_args("task", &first, "exit 1", &["--max-restarts", "0"]));
    assert_eq!(failed.code, 3, "{failed:?}");
    let mut two = drive(&root, &second, "run-agent done", &["--depends-on", "first"]);
    status(&root, &second, TaskStatus::Blocked);
    // It is told right after the state that it explains.
    let warning = until(
        "the warning",
        || root.messages(&second).into_iter().find(|m| m.content.kind.as_str() == "WARNING"),
        || format!("{:?}", root.messages(&second)),
    );
    assert!(warning.content.body.contains("is failed (exhausted)"), "{warning:?}");
    // The dependency is taken up again, with better luck.
    let mended = root.run(&[
        "task",
        "--task",
        "first",
        "--prompt",
        "run-agent done",
        "--update-prompt",
        "--max-restarts",
        "3",
    ]);
    assert_eq!(mended.code, 0, "{mended:?}");
    assert!(two.wait().unwrap().success());

    config(&root, "loop { on_dependency_failure = \"fail\" }\n");
    let _ = root.run(&shell_args("task", &name("third"), "exit 1", &["--max-restarts", "0"]));
    let ended = root.run(&shell_args("task", &name("fourth"), "run-agent done", &["--depends-on", "third"]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("the loop cannot begin"), "{ended:?}");
    assert_eq!(root.view(&name("fourth")).task().reason(), "dependency");
}

#[test]
fn a_cycle_a_missing_and_an_own_dependency_are_told() {
    let root = Root::new();
    config(&root, "loop { on_dependency_failure = \"fail\" }\n");
    let (first, second) = (name("first"), name("second"));
    let missing = root.run(&shell_args("task", &first, "true", &["--depends-on", "nothing-of-that-name"]));
    assert_eq!(missing.code, 5, "{missing:?}");
    assert_eq!(root.run(&shell_args("task", &first, "run-agent done", &[])).code, 0);
    let own = root.run(&["task", "--task", "first", "--depends-on", "first"]);
    assert_eq!(own.code, 2, "{own:?}");
    assert!(own.stderr.contains("cannot depend on itself"), "{own:?}");
    let waits = root.run(&shell_args("task", &second, "run-agent done", &["--depends-on", "first"]));
    assert_eq!(waits.code, 0, "{waits:?}");
    // What is completed is not held; taken up again it is.
    assert_eq!(root.run(&["resume", "--task", "first", "--no-start"]).code, 0);
    let circle = root.run(&["task", "--task", "first", "--depends-on", "second"]);
    assert_eq!(circle.code, 1, "{circle:?}");
    assert!(circle.stderr.contains("depends on this task"), "{circle:?}");
    assert_eq!(root.view(&first).task().ralph.attempts, 1, "nothing was started");
}

#[test]
fn a_loop_that_depends_on_the_task_that_started_it_is_told_of_a_circle() {
    let root = Root::new();
    config(&root, "loop { on_dependency_failure = \"fail\" }\n");
    let (first, second) = (name("first"), name("second"));
    let prompt = format!(
        "run-agent task --project p --task {} --agent shell --prompt 'run-agent done' --depends-on {} || true\nrun-agent done",
        second.task, first.task
    );
    let done = root.run(&shell_args("task", &first, &prompt, &[]));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(root.view(&second).task().reason(), "dependency");
    assert_eq!(root.view(&second).task().ralph.attempts, 0, "nothing was started");
}

#[test]
fn a_changed_prompt_keeps_the_dependencies() {
    let root = Root::new();
    let (first, second) = (name("first"), name("second"));
    assert_eq!(root.run(&shell_args("task", &first, "run-agent done", &[])).code, 0);
    assert_eq!(root.run(&shell_args("task", &second, "run-agent done", &["--depends-on", "first"])).code, 0);
    let changed =
        root.run(&["task", "--task", "second", "--prompt", "run-agent done # again", "--update-prompt"]);
    assert_eq!(changed.code, 0, "{changed:?}");
    let (text, _) = root.view(&second).task().created.clone().unwrap();
    assert_eq!(text.depends_on, [first.task]);
}
