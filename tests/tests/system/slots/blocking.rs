//! A run whose command waits for others holds no slot meanwhile.

use super::*;

#[test]
fn a_tree_four_levels_deep_completes_at_a_limit_of_one() {
    let root = root(1);
    let task = name("deep");
    let prompt = format!(
        // Copied by the root alone: to whoever reads it while another one copies, it is empty.
        "[ -n \"$JRUN_PARENT_ID\" ] || cp \"$JRUN_TASK_FOLDER/TASK.md\" \"$JRUN_TASK_FOLDER/tree.md\"; {WORK} {TREE}"
    );
    let done = root.run(&shell_args("task", &task, &prompt, &["--max-restarts", "0"]));
    assert_eq!(done.code, 0, "{done:?}");
    let view = root.view(&task);
    let runs = &view.task().runs;
    assert_eq!((runs.len(), view.task().ralph.restarts), (15, 0));
    assert!(runs.values().all(|run| run.status() == RunStatus::Completed));
    // The first to come back of two siblings' commands is not the last of its run: what its shell does then is counted
    // as waiting, and here it only waits for the other.
    assert_eq!(most_at_work(&root), 1);
    all_given_back(&root);
}

/// Makes an agent at a limit of 1 that runs `command`, and returns its run. What it prints lies in `<root>/said`, its
/// exit code in `<root>/code`.
fn caller(root: &Root, command: &str) -> (TaskName, RunId) {
    let task = name("asker");
    let prompt = format!(
        r#"cd "$JRUN_ROOT"; {command} > "$JRUN_ROOT/said" 2>&1 < /dev/null & echo $! > "$JRUN_ROOT/pid"; c=0; wait $! || c=$?; echo $c > "$JRUN_ROOT/code"; while [ ! -f "$JRUN_ROOT/go-asker" ]; do sleep 0.02; done"#
    );
    let run = root.ok(&shell_args("job", &task, &prompt, &["--detach"]));
    (task, RunId::parse(&run).unwrap())
}

fn pid(root: &Root) -> u32 {
    text_of(&root.path().join("pid")).parse().unwrap()
}

/// The run that holds the only slot, as the slot's file says it for people.
fn holder(root: &Root) -> String {
    std::fs::read_to_string(slots(root).join("slot-0")).unwrap_or_default().trim().to_owned()
}

#[test]
fn every_command_that_waits_for_others_gives_its_runs_slot_back() {
    let others = "--project p --task task-20261121-093000-other";
    let commands = [
        "run-agent wait OTHER".to_owned(),
        format!("run-agent watch {others}"),
        "run-agent ask 'which way?'".to_owned(),
        "run-agent bus read --wait 60s".to_owned(),
        "run-agent bus read --follow".to_owned(),
        "run-agent bus poll".to_owned(),
        "run-agent bus follow".to_owned(),
        "run-agent output OTHER --follow".to_owned(),
        "run-agent job --agent shell --prompt 'run-agent bus post --type FACT --body x; sleep 60'".to_owned(),
        "run-agent job batch --spec batch.yaml".to_owned(),
        "run-agent task --project p --task new --agent shell --prompt 'sleep 60'".to_owned(),
        format!("run-agent resume {others} --agent shell"),
    ];
    for command in commands {
        let root = root(1);
        std::fs::write(root.path().join("batch.yaml"), "- { id: one, agent: shell, prompt: sleep 60 }\n")
            .unwrap();
        let other = name("other");
        let waits = command.contains("OTHER") || command.contains("watch");
        let run = if waits {
            // At work until the test ends.
            limit(&root, 2);
            root.ok(&shell_args("job", &other, "sleep 60", &["--detach"]))
        } else {
            let _ = root.ok(&shell_args("task", &other, "run-agent done", &[]));
            String::new()
        };
        let (_, asker) = caller(&root, &command.replace("OTHER", &run));
        until(
            &format!("`{command}` gives the slot back"),
            || {
                let held = std::fs::read_dir(slots(&root)).unwrap().map(|entry| entry.unwrap().path());
                let texts: Vec<String> = held.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
                let _ = pid(&root);
                (!texts.iter().any(|text| text.contains(asker.as_str()))).then_some(())
            },
            || std::fs::read_to_string(root.path().join("said")).unwrap_or_default(),
        );
        assert!(!root.path().join("code").exists(), "{command}: {}", text_of(&root.path().join("said")));
    }
}

#[test]
fn a_command_returns_only_when_its_run_holds_a_slot_again() {
    let root = root(1);
    let (task, run) = caller(&root, "run-agent bus read --wait 60s --type FACT");
    let (other, other_run) = detached(&root, "b");
    becomes(&root, &other, &other_run, RunStatus::Running);
    let (late, late_run) = detached(&root, "c");
    let _ =
        root.ok(&["bus", "post", "--task", task.task.as_str(), "--type", "FACT", "--body", "it is there"]);
    until(
        "the command has its answer",
        || text_of(&root.path().join("said")).contains("it is there").then_some(()),
        String::new,
    );
    until("its run waits to come back", || (!queue(&root).is_empty()).then_some(()), String::new);
    assert!(!root.path().join("code").exists(), "another one is at work");
    go(&root, "b");
    assert_eq!(text_of(&root.path().join("code")), "0");
    assert!(holder(&root).ends_with(run.as_str()), "it goes before the one that has not begun");
    assert_eq!(status(&root, &late, &late_run), RunStatus::Queued);
    go(&root, "c");
    go(&root, "asker");
    becomes(&root, &task, &run, RunStatus::Completed);
    becomes(&root, &late, &late_run, RunStatus::Completed);
    becomes(&root, &other, &other_run, RunStatus::Completed);
    all_given_back(&root);
}

/// The tickets of runs that wait to come back.
fn queue(root: &Root) -> Vec<String> {
    let entries = std::fs::read_dir(slots(root)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("ticket-0-")).collect()
}

#[test]
fn a_blocked_command_that_is_killed_brings_its_run_back() {
    let root = root(1);
    let (task, run) = caller(&root, "run-agent bus read --wait 60s --type FACT");
    let (other, other_run) = detached(&root, "b");
    becomes(&root, &other, &other_run, RunStatus::Running);
    kill(pid(&root), "KILL");
    until("its run wants its slot back", || (!queue(&root).is_empty()).then_some(()), String::new);
    go(&root, "b");
    until("it has it", || holder(&root).ends_with(run.as_str()).then_some(()), || holder(&root));
    go(&root, "asker");
    becomes(&root, &task, &run, RunStatus::Completed);
    all_given_back(&root);
}

/// A run whose command has its answer and waits for a slot, which another run holds until `go-b`.
fn waiting_to_return(root: &Root) -> (TaskName, RunId) {
    let (task, run) = caller(root, "run-agent bus read --wait 60s --type FACT");
    let (other, other_run) = detached(root, "b");
    becomes(root, &other, &other_run, RunStatus::Running);
    let _ =
        root.ok(&["bus", "post", "--task", task.task.as_str(), "--type", "FACT", "--body", "it is there"]);
    until("its run waits to come back", || (!queue(root).is_empty()).then_some(()), String::new);
    (task, run)
}

#[test]
fn a_command_that_waits_to_return_ends_at_a_signal_a_stop_and_its_supervisors_death() {
    // A signal.
    let one = root(1);
    let _ = waiting_to_return(&one);
    kill(pid(&one), "INT");
    assert_eq!(text_of(&one.path().join("code")), "0", "its work was done");

    // Its supervisor's death: the agent goes on without a slot.
    let two = root(1);
    let (task, run) = waiting_to_return(&two);
    kill(supervisor_of(&two, &task, &run), "KILL");
    assert_eq!(text_of(&two.path().join("code")), "0");

    // A stop of its run.
    let three = root(1);
    let (task, run) = waiting_to_return(&three);
    let done = three.run(&["stop", "--run", run.as_str()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(status(&three, &task, &run), RunStatus::Stopped);
    go(&three, "b");
    all_given_back(&three);
}

#[test]
fn a_kill_at_any_step_of_a_blocking_command_leaves_no_slot_held() {
    for step in ["blocked.said", "blocked.back", "supervisor.gave_back", "supervisor.took_back"] {
        let root = root(1);
        let task = name("asker");
        let prompt = "run-agent job --agent shell --prompt true; exit 0";
        let run = root
            .command(&shell_args("job", &task, prompt, &["--detach"]))
            .env("RUN_AGENT_FAILPOINT", format!("{step}=kill"))
            .output()
            .unwrap();
        assert!(run.status.success(), "{step}: {run:?}");
        until(
            "every run ends",
            || {
                let _ = root.run(&["status", "--task", task.task.as_str()]);
                root.view(&task).task().active().next().is_none().then_some(())
            },
            || root.run(&["status", "--task", task.task.as_str()]).stdout,
        );
        all_given_back(&root);
        let next = root.run(&shell_args("job", &name("next"), "true", &[]));
        assert_eq!(next.code, 0, "{step}: {next:?}");
    }
}
