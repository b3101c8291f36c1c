//! Loops that are driven by a process of their own: starting one, following it, and what a kill at each step leaves.

use std::process::Stdio;

use run_agent_core::world::{RalphState, TaskStatus};
use run_agent_runner::adopt::DriverLife;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, shell_args, text_of, until};

/// Leaves a line at each start, waits for `go`, says DONE.
const AGENT: &str = r#"echo start >> "$JRUN_TASK_FOLDER/starts"; echo $$ > "$JRUN_TASK_FOLDER/pid"; echo out; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; run-agent done"#;

fn go(root: &Root, task: &TaskName) {
    std::fs::write(root.tree().task(task).folder().join("go"), "").unwrap();
}

fn starts(root: &Root, task: &TaskName) -> usize {
    let text = std::fs::read_to_string(root.tree().task(task).folder().join("starts")).unwrap_or_default();
    text.lines().count()
}

fn driver(root: &Root, task: &TaskName) -> u32 {
    root.view(task).task().ralph.driver.as_ref().unwrap().driver_pid
}

fn completes(root: &Root, task: &TaskName) {
    until(
        "the task completes",
        || (root.view(task).task().status() == TaskStatus::Completed).then_some(()),
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
}

#[test]
fn a_detached_loop_goes_on_without_its_starter_with_the_same_settings() {
    let root = Root::new();
    let task = name("away");
    let folder = root.scratch().join("work");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let more = ["--detach", "--cwd", folder, "--max-restarts", "1", "--timeout", "5m"];
    let out = root.ok(&shell_args("task", &task, "pwd; env", &more));
    assert_eq!(out, task.task.as_str());
    until(
        "the loop ends",
        || matches!(root.view(&task).task().ralph.state, RalphState::Ended { .. }).then_some(()),
        String::new,
    );
    let view = root.view(&task);
    assert_eq!((view.task().reason().as_str(), view.task().runs.len()), ("exhausted", 2), "--max-restarts");
    let run = view.task().runs.keys().next().unwrap();
    assert_eq!(view.start_of(run).unwrap().cwd, folder);
    let printed = std::fs::read_to_string(root.tree().run(&task, run).stdout()).unwrap();
    assert!(printed.starts_with(folder), "{printed}");
    let start = view.task().ralph.driver.clone().unwrap();
    let kept: serde_json::Value = serde_json::from_str(&start.settings.unwrap()).unwrap();
    assert_eq!(
        kept,
        serde_json::json!({"agent": "shell", "cwd": folder, "max_restarts": 1, "timeout_ms": 300_000})
    );
    let log = || std::fs::read_to_string(root.tree().task(&task).driver_log()).unwrap();
    // Printed a moment after it is posted.
    until("the log's last line", || log().contains("LOOP_END").then_some(()), log);
    assert!(log().contains("LOOP_START"), "{}", log());
}

#[test]
fn a_second_driver_is_refused_and_an_error_is_told_by_the_starter() {
    let root = Root::new();
    let task = name("one");
    let told = root.json(&shell_args("task", &task, AGENT, &["--detach", "--json"]));
    assert_eq!(told["driver_pid"].as_u64(), Some(u64::from(driver(&root, &task))), "{told}");
    for more in [&["--detach"][..], &["--detach", "--json"]] {
        let second = root.run(&[&["task", "--task", task.task.as_str()], more].concat());
        assert_eq!(second.code, 4, "{second:?}");
        assert!(second.stderr.contains("is driven already by process"), "{second:?}");
    }
    let resumed = root.run(&["resume", "--task", task.task.as_str(), "--detach"]);
    assert_eq!(resumed.code, 4, "{resumed:?}");
    go(&root, &task);
    completes(&root, &task);
    let again = root.run(&["task", "--task", task.task.as_str(), "--detach"]);
    assert_eq!((again.code, again.stdout.trim()), (0, task.task.as_str()), "{again:?}");
    assert_eq!(root.view(&task).task().runs.len(), 1, "a completed task is not run again");
    let resumed = root.run(&["resume", "--task", task.task.as_str(), "--detach"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    completes(&root, &task);
    assert_eq!(root.view(&task).task().runs.len(), 2);
    let wrong = root.run(&["resume", "--task", task.task.as_str(), "--detach", "--agent", "shel"]);
    assert_eq!(wrong.code, 5, "{wrong:?}");
    let log = std::fs::read_to_string(root.tree().task(&task).driver_log()).unwrap();
    assert!(!log.contains("error:"), "what the starter told is not told again: {log}");
}

#[test]
fn a_kill_of_starter_or_driver_at_any_step_leaves_one_driver_or_none() {
    for (step, drives) in [
        ("detach.spawned", false),
        ("detach.ordered", true),
        ("driver.lock", false),
        ("driver.began", false),
        ("driver.reported", false),
    ] {
        let root = Root::new();
        let task = name("kill");
        let killed = root
            .command(&shell_args("task", &task, AGENT, &["--detach"]))
            .env("RUN_AGENT_FAILPOINT", format!("{step}=kill"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&killed.stderr).into_owned();
        // Only a driver that had reported lets its starter end well.
        assert_eq!(killed.status.success(), step == "driver.reported", "{step}: {said}");
        if matches!(step, "driver.lock" | "driver.began") {
            assert_eq!(killed.status.code(), Some(1), "{step}: {said}");
            assert!(said.contains("died before it could say that it drives"), "{step}: {said}");
        }
        if drives {
            let _ = text_of(&root.tree().task(&task).folder().join("pid"));
        } else {
            // What is killed holds its lock to its very end.
            until(
                "no driver is left",
                || {
                    matches!(root.view(&task).driver(&root.tree()), DriverLife::NotOpen | DriverLife::Lost)
                        .then_some(())
                },
                String::new,
            );
            let opened = matches!(step, "driver.began" | "driver.reported");
            assert_eq!(root.count(&task, "LOOP_START"), usize::from(opened), "{step}");
            assert_eq!(root.view(&task).is_driverless(&root.tree()), opened, "{step}");
            // The task is as good as before.
            let again = root.run(&["task", "--task", task.task.as_str(), "--detach", "--agent", "shell"]);
            assert_eq!(again.code, 0, "{step}: {again:?}");
            assert_eq!(root.count(&task, "SUPERVISOR_RESTART"), usize::from(opened), "{step}");
        }
        go(&root, &task);
        completes(&root, &task);
        assert_eq!(starts(&root, &task), 1, "{step}");
    }
}

#[test]
fn a_detached_driver_that_gets_sigterm_ends_its_loop_and_leaves_the_agent() {
    let root = Root::new();
    let task = name("term");
    let _ = root.ok(&shell_args("task", &task, AGENT, &["--detach"]));
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    kill(driver(&root, &task), "TERM");
    until(
        "the loop ends",
        || {
            (matches!(&root.view(&task).task().ralph.state, RalphState::Ended { reason, .. } if reason == "interrupted")).then_some(())
        },
        String::new,
    );
    assert!(alive(pid));
    let told = root.run(&["adopt"]);
    assert_eq!((told.code, told.stdout.as_str()), (0, ""), "a driver that said so is not lost: {told:?}");
    let _ = root.ok(&["task", "--task", task.task.as_str(), "--detach"]);
    go(&root, &task);
    completes(&root, &task);
    assert_eq!(starts(&root, &task), 1, "joined");
}

#[test]
fn attach_tells_the_story_to_its_end_and_ends_as_the_loop_does() {
    let root = Root::new();
    let task = name("attach");
    let id = task.task.as_str();
    let nothing = root.run(&["task", "--task", id, "--project", "p", "--attach"]);
    assert_eq!(nothing.code, 5, "{nothing:?}");
    let _ = root.ok(&shell_args("task", &task, AGENT, &["--detach"]));
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    let attach = |more: &[&str]| {
        let args = [&["task", "--task", id, "--attach"], more].concat();
        root.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (plain, following, json, mut left) =
        (attach(&[]), attach(&["--follow"]), attach(&["--json"]), attach(&[]));
    // Both have their handlers when they follow the stream: what is posted now reaches them, or is at their beginning.
    until("attached", || signal_is_caught(left.id()).then_some(()), String::new);
    kill(left.id(), "INT");
    assert_eq!(left.wait().unwrap().code(), Some(130));
    assert_eq!(root.view(&task).driver(&root.tree()), DriverLife::Alive, "nothing was stopped");
    go(&root, &task);
    for (child, is_json) in [(plain, false), (following, false), (json, true)] {
        let out = child.wait_with_output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(0), "{stdout}{stderr}");
        assert!(stderr.contains("LOOP_END"), "{stderr}");
        if is_json {
            let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!((&told["status"], &told["exit_code"]), (&"completed".into(), &0.into()));
        } else {
            assert!(stdout.contains("completed (done)"), "{stdout}");
        }
    }
    assert_eq!(root.view(&task).task().runs.len(), 1);
    let after = root.run(&["task", "--task", id, "--attach"]);
    assert_eq!(after.code, 0, "the outcome of a loop that has ended: {after:?}");
}

/// The process handles SIGINT itself by now.
fn signal_is_caught(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    u64::from_str_radix(caught, 16).unwrap_or(0) & (1 << 1) != 0
}

#[test]
fn attach_says_when_the_driver_dies_without_a_word() {
    let root = Root::new();
    let task = name("widow");
    let _ = root.ok(&shell_args("task", &task, AGENT, &["--detach"]));
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    let attached = root
        .command(&["task", "--task", task.task.as_str(), "--attach"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("attached", || signal_is_caught(attached.id()).then_some(()), String::new);
    kill(driver(&root, &task), "KILL");
    let out = attached.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("died without a word") && stderr.contains("run-agent adopt"), "{stderr}");
    let _ = root.ok(&["adopt", "--task", task.task.as_str()]);
    go(&root, &task);
    completes(&root, &task);
    assert_eq!(starts(&root, &task), 1);
}

#[test]
fn a_followed_loop_prints_what_each_root_agent_prints() {
    let root = Root::new();
    let prompt = r#"if [ -f tried ]; then echo second; run-agent done; else echo first; touch tried; fi"#;
    let done = root.run(&shell_args("task", &name("follow"), prompt, &["--follow"]));
    assert_eq!(done.code, 0, "{done:?}");
    let at = |text: &str| done.stdout.find(text).unwrap_or_else(|| panic!("no {text}: {done:?}"));
    assert!(at("first\n") < at("second\n") && at("second\n") < at("completed (done)"));
    let both = root.run(&["--json", "task", "--follow", "--prompt", "x", "--agent", "shell"]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn a_lock_file_that_an_agent_removed_makes_no_second_driver() {
    let root = Root::new();
    let task = name("rm");
    let _ = root.ok(&shell_args("task", &task, AGENT, &["--detach"]));
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    std::fs::remove_file(root.tree().task(&task).loop_lock()).unwrap();
    assert_eq!(root.view(&task).driver(&root.tree()), DriverLife::Alive);
    let second = root.run(&["task", "--task", task.task.as_str(), "--detach"]);
    assert_eq!(second.code, 4, "{second:?}");
    assert_eq!(root.ok(&["adopt"]), "");
    go(&root, &task);
    completes(&root, &task);
    assert_eq!(root.count(&task, "LOOP_START"), 1);
}
