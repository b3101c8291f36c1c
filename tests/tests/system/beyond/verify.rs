//! DONE that counts only when every verify command succeeded.

use super::*;

#[test]
fn done_counts_when_every_verify_command_succeeded() {
    let root = Root::new();
    config(&root, "loop { verify = [\"test -f built\"] }\n");
    let task = name("builds");
    let prompt = "if [ -f half ]; then touch built; else touch half; fi\nrun-agent done";
    let done = root.run(&shell_args("task", &task, prompt, &["--verify", "echo checked && test -f half"]));
    assert_eq!(done.code, 0, "{done:?}");
    let view = root.view(&task);
    assert_eq!((view.task().ralph.attempts, view.task().ralph.rejections), (2, 1));
    assert!(root.tree().task(&task).folder().join("DONE.rejected-1").is_file());
    let preamble = text_of(&root.tree().run(&task, &roots(&root, &task)[1]).prompt());
    assert!(preamble.contains("`test -f built` ended with 1"), "{preamble}");
    // One that failed, then both for the second DONE.
    assert_eq!((root.count(&task, "VERIFY_START"), root.count(&task, "VERIFY_STOP")), (3, 3));
    assert_eq!(root.count(&task, "DONE_REJECTED"), 1);
    let verify: Vec<_> = view.task().runs.iter().filter(|(_, run)| run.verify.is_some()).collect();
    let output = text_of(&root.tree().run(&task, verify[2].0).stdout());
    assert_eq!(output, "checked");
}

#[test]
fn rejected_dones_are_bounded_and_a_resumed_task_is_verified_again() {
    let root = Root::new();
    config(&root, "loop {\n verify_attempts = 2\n restart_delay = \"0s\"\n}\n");
    let task = name("builds");
    let gave_up =
        root.run(&shell_args("task", &task, "run-agent done", &["--verify", "echo broken; test -f fixed"]));
    assert_eq!(gave_up.code, 3, "{gave_up:?}");
    assert_eq!(root.view(&task).task().reason(), "verify");
    let rejected =
        root.messages(&task).into_iter().find(|m| m.content.kind.as_str() == "DONE_REJECTED").unwrap();
    assert_eq!(rejected.content.meta["output"], "broken");
    std::fs::write(root.scratch().join("fixed"), "").unwrap();
    let resumed = root.run(&["resume", "--task", "builds"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert_eq!(root.count(&task, "VERIFY_STOP"), 3, "the flag of the loop before holds");
}

#[test]
fn a_task_that_was_stopped_after_done_is_verified_when_it_is_taken_up_again() {
    let root = Root::new();
    let task = name("builds");
    let mut driver = drive(&root, &task, "run-agent done; sleep 600", &[]);
    let done = root.tree().task(&task).done();
    until("DONE", || done.is_file().then_some(()), || root.run(&["replay", "builds"]).stdout);
    assert_eq!(root.run(&["stop", "--task", "builds", "--force"]).code, 0);
    let _ = driver.wait().unwrap();
    let verified = root.run(&["task", "--task", "builds", "--verify", "true"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!((root.count(&task, "VERIFY_STOP"), root.view(&task).task().ralph.attempts), (1, 1));
}

#[test]
fn a_verify_command_is_stopped_with_its_task() {
    let root = Root::new();
    let task = name("builds");
    let mut driver = drive(&root, &task, "run-agent done", &["--verify", "setsid sleep 600; true"]);
    let verify = until(
        "a verify run at work",
        || {
            let there = root.tree().task(&task).runs().is_dir();
            let view = there.then(|| root.view(&task))?;
            view.task()
                .runs
                .iter()
                .find(|(_, run)| run.verify.is_some() && run.started().is_some())
                .map(|(id, _)| id.clone())
        },
        || root.run(&["replay", "builds"]).stdout,
    );
    let told = root.json(&["stop", "--task", "builds", "--force", "--json"]);
    assert_eq!(told["stopped_runs"], serde_json::json!([verify]), "{told}");
    let _ = driver.wait().unwrap();
    status(&root, &task, TaskStatus::Stopped);
    assert_eq!(run_agent_tests::processes_of(&verify), [0u32; 0]);
}

#[test]
fn a_driver_that_was_killed_while_done_is_verified_is_followed_by_one_that_goes_on() {
    let root = Root::new();
    let (task, go) = (name("builds"), root.scratch().join("go"));
    let verify = format!("{}; true", until_there(&go));
    let mut driver = drive(&root, &task, "run-agent done", &["--verify", &verify]);
    let started = || {
        let there = root.tree().task(&task).runs().is_dir();
        let view = there.then(|| root.view(&task))?;
        view.task().runs.values().any(|run| run.verify.is_some() && run.started().is_some()).then_some(())
    };
    until("a verify run at work", started, || root.run(&["replay", "builds"]).stdout);
    run_agent_tests::kill(driver.id(), "KILL");
    let _ = driver.wait().unwrap();
    std::fs::write(go, "").unwrap();
    let next = root.run(&["task", "--task", "builds"]);
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(root.count(&task, "VERIFY_START"), 1, "what ran was not run again");
    assert_eq!(root.view(&task).task().status(), TaskStatus::Completed);
}

#[test]
fn a_driver_that_was_killed_between_a_rejection_and_the_marker_is_followed_by_one_that_verifies_again() {
    let root = Root::new();
    let (task, good) = (name("builds"), root.scratch().join("good"));
    let verify = format!("[ -f '{}' ]", good.display());
    let killed = root
        .command(&shell_args("task", &task, "run-agent done", &["--verify", &verify]))
        .env("RUN_AGENT_FAILPOINT", "driver.rejected=kill")
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{killed:?}");
    assert_eq!((root.count(&task, "DONE_REJECTED"), root.tree().task(&task).done().is_file()), (1, true));
    std::fs::write(good, "").unwrap();
    let next = root.run(&["task", "--task", "builds"]);
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!((root.count(&task, "DONE_REJECTED"), root.count(&task, "VERIFY_STOP")), (1, 2));
    assert_eq!(root.view(&task).task().ralph.attempts, 1, "DONE stood, so nothing was started");
}

#[test]
fn a_done_that_becomes_a_folder_ends_the_loop_only_after_its_verify_command() {
    let root = Root::new();
    let (task, go) = (name("builds"), root.scratch().join("go"));
    let verify = format!("{}; true", until_there(&go));
    let mut driver = drive(&root, &task, "run-agent done", &["--verify", &verify]);
    let started = || {
        let there = root.tree().task(&task).runs().is_dir();
        let view = there.then(|| root.view(&task))?;
        view.task().runs.values().any(|run| run.verify.is_some() && run.started().is_some()).then_some(())
    };
    until("a verify run at work", started, || root.run(&["replay", "builds"]).stdout);
    let done = root.tree().task(&task).done();
    std::fs::remove_file(&done).unwrap();
    std::fs::create_dir(&done).unwrap();
    run_agent_tests::kill(driver.id(), "KILL");
    let _ = driver.wait().unwrap();
    let mut next =
        root.command(&["task", "--task", "builds"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the next driver", || (root.count(&task, "LOOP_START") == 2).then_some(()), String::new);
    std::fs::write(go, "").unwrap();
    assert_eq!(next.wait().unwrap().code(), Some(1));
    let kinds: Vec<String> =
        root.messages(&task).iter().map(|message| message.content.kind.to_string()).collect();
    let place =
        |kind: &str| kinds.iter().position(|k| k == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"));
    assert!(place("VERIFY_STOP") < place("LOOP_END"), "{kinds:?}");
    let view = root.view(&task);
    assert_eq!((view.task().reason().as_str(), view.task().active().count()), ("done_not_a_file", 0));
}
