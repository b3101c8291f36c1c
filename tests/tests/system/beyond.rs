//! What a loop looks at beyond its own runs: dependencies, children in other tasks, questions, verify commands, the
//! agents that take turns, the breaker.

use std::process::Child;

use run_agent_core::world::TaskStatus;
use run_agent_core::{ProjectId, RunId, StreamKey};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, name, shell_args, text_of, until};

fn config(root: &Root, text: &str) {
    std::fs::create_dir_all(root.path()).unwrap();
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
}

fn drive(root: &Root, task: &TaskName, prompt: &str, more: &[&str]) -> Child {
    root.command(&shell_args("task", task, prompt, more)).spawn().unwrap()
}

fn status(root: &Root, task: &TaskName, wanted: TaskStatus) {
    until(
        &format!("{task} {wanted}"),
        || {
            (root.tree().task(task).runs().is_dir() && root.view(task).task().status() == wanted)
                .then_some(())
        },
        || root.run(&["replay", task.task.as_str()]).stdout,
    );
}

/// The root runs of a task, in order.
fn roots(root: &Root, task: &TaskName) -> Vec<RunId> {
    let view = root.view(task);
    view.task().runs.iter().filter(|(_, run)| run.is_root()).map(|(id, _)| id.clone()).collect()
}

fn facts_of_project(root: &Root) -> Vec<run_agent_core::Message> {
    let key = StreamKey::project(ProjectId::parse("p").unwrap());
    let page = root.tree().store.open(&key).unwrap().last(usize::MAX).unwrap();
    page.entries.into_iter().map(|e| e.message).filter(|m| m.content.kind.as_str() == "FACT").collect()
}

/// A shell loop that ends when this file is there.
fn until_there(file: &std::path::Path) -> String {
    format!("while [ ! -f '{}' ]; do sleep 0.05; done", file.display())
}

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
    let warning = root.messages(&second).into_iter().find(|m| m.content.kind.as_str() == "WARNING").unwrap();
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

#[test]
fn a_run_that_is_started_in_another_task_is_waited_for_and_its_end_is_told() {
    let root = Root::new();
    let (parent, other, go) = (name("parent"), name("other"), root.scratch().join("go"));
    let prompt = format!(
        "[ -f \"$JRUN_TASK_FOLDER/DONE\" ] && exit 0\n\
         run-agent job --detach --project p --task {} --agent shell --prompt \"{}\"\nrun-agent done",
        other.task,
        until_there(&go)
    );
    let mut driver = drive(&root, &parent, &prompt, &[]);
    status(&root, &parent, TaskStatus::Waiting);
    assert_eq!(root.count(&parent, "CHILD_LINK"), 1);
    std::fs::write(go, "").unwrap();
    assert!(driver.wait().unwrap().success());
    assert_eq!(root.count(&parent, "CHILD_LINK"), 2, "told once more, when it ended");
    assert_eq!(root.view(&parent).task().ralph.attempts, 2, "its result came after DONE");
    let child = root.view(&other);
    let (_, run) = child.task().runs.iter().next().unwrap();
    assert_eq!((run.depth, run.parent.as_ref()), (1, Some(&roots(&root, &parent)[0])));
}

#[test]
fn a_loop_that_is_started_in_another_task_is_waited_for_and_stopped_with_its_parent() {
    let root = Root::new();
    let (parent, other) = (name("parent"), name("other"));
    let prompt = format!(
        "run-agent task --project p --task {} --agent shell --prompt 'sleep 600' --detach\nsleep 600",
        other.task
    );
    let mut driver = drive(&root, &parent, &prompt, &[]);
    status(&root, &parent, TaskStatus::Running);
    status(&root, &other, TaskStatus::Running);
    let stopped = root.run(&["stop", "--task", "parent", "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let _ = driver.wait().unwrap();
    for task in [&parent, &other] {
        status(&root, task, TaskStatus::Stopped);
        assert_eq!(root.view(task).task().active().count(), 0);
    }
    assert_eq!(root.view(&parent).task().open_links().count(), 0);
}

#[test]
fn loops_that_started_each_other_do_not_wait_for_each_other() {
    let root = Root::new();
    let (first, second) = (name("first"), name("second"));
    let (go, back) = (root.scratch().join("go"), root.scratch().join("back"));
    let returns = format!(
        "{}\ntouch '{}'\nrun-agent task --project p --task {}\nrun-agent done",
        until_there(&go),
        back.display(),
        first.task
    );
    let prompt = format!(
        "[ -f '{0}' ] || run-agent task --project p --task {1} --agent shell --prompt \"{returns}\" --detach\n{2}\n\
         run-agent done",
        back.display(),
        second.task,
        until_there(&back)
    );
    let mut driver = drive(&root, &first, &prompt, &[]);
    status(&root, &second, TaskStatus::Running);
    driver.kill().unwrap();
    let _ = driver.wait().unwrap();
    std::fs::write(go, "").unwrap();
    for task in [&second, &first] {
        status(&root, task, TaskStatus::Completed);
        assert_eq!(root.view(task).task().open_links().count(), 0);
    }
}

#[test]
fn a_stop_of_one_run_takes_what_it_started_elsewhere_unless_children_are_kept() {
    for (flag, left) in [(None, 0), (Some("--keep-children"), 1)] {
        let root = Root::new();
        let (parent, other) = (name("parent"), name("other"));
        let prompt = format!(
            "run-agent job --detach --project p --task {} --agent shell --prompt 'sleep 600'\nsleep 600",
            other.task
        );
        let run = root.ok(&shell_args("job", &parent, &prompt, &["--detach"]));
        status(&root, &other, TaskStatus::Running);
        let mut stop = vec!["stop", "--run", &run, "--force"];
        stop.extend(flag);
        assert_eq!(root.run(&stop).code, 0);
        assert_eq!(root.view(&parent).task().active().count(), 0);
        assert_eq!(root.view(&other).task().active().count(), left, "{flag:?}");
    }
}

#[test]
fn a_link_whose_child_was_killed_before_it_was_is_closed_by_the_loop() {
    let root = Root::new();
    let (parent, other) = (name("parent"), name("other"));
    let prompt = format!(
        "[ -f \"$JRUN_TASK_FOLDER/DONE\" ] && exit 0\n\
         RUN_AGENT_FAILPOINT=starter.linked=kill run-agent job --project p --task {} --agent shell --prompt true || true\n\
         run-agent done",
        other.task
    );
    let done = root.run(&shell_args("task", &parent, &prompt, &[]));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(root.count(&parent, "CHILD_LINK"), 2);
    assert_eq!(root.view(&other).task().runs.len(), 0);
}

#[test]
fn an_open_question_holds_the_loop_and_the_next_root_is_given_the_answer() {
    let root = Root::new();
    let task = name("asks");
    let prompt = "if [ \"$(run-agent bus read --type ANSWER | wc -l)\" -gt 0 ]; then run-agent done; else \
                  run-agent bus post --type QUESTION --blocking --body 'tea or coffee?'; fi";
    let mut driver = drive(&root, &task, prompt, &[]);
    status(&root, &task, TaskStatus::Waiting);
    assert_eq!(root.view(&task).task().reason(), "question");
    let (id, _) = root
        .view(&task)
        .task()
        .thread
        .open_questions
        .iter()
        .next()
        .map(|(id, q)| (id.clone(), q.clone()))
        .unwrap();
    assert_eq!(roots(&root, &task).len(), 1);
    let _ = root.ok(&[
        "bus",
        "post",
        "--task",
        "asks",
        "--type",
        "ANSWER",
        "--parent",
        id.as_str(),
        "--body",
        "tea, with milk",
    ]);
    assert!(driver.wait().unwrap().success());
    let second = &roots(&root, &task)[1];
    let preamble = text_of(&root.tree().run(&task, second).prompt());
    assert!(preamble.contains("tea or coffee?") && preamble.contains("tea, with milk"), "{preamble}");
}

#[test]
fn a_question_that_nobody_answers_holds_the_loop_so_long_and_no_longer() {
    let root = Root::new();
    config(&root, "loop { question_timeout = \"300ms\" }\n");
    let prompt = "if [ -f asked ]; then run-agent done; else touch asked; \
                  run-agent bus post --type QUESTION --blocking --body 'anybody?'; fi";
    let done = root.run(&shell_args("task", &name("asks"), prompt, &[]));
    assert_eq!(done.code, 0, "{done:?}");
    let second = &roots(&root, &name("asks"))[1];
    let preamble = text_of(&root.tree().run(&name("asks"), second).prompt());
    assert!(preamble.contains("(no answer came in time)"), "{preamble}");
}

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
                .find(|(_, run)| run.verify.is_some() && run.start().is_some())
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
        view.task().runs.values().any(|run| run.verify.is_some() && run.start().is_some()).then_some(())
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
fn a_done_that_becomes_a_folder_ends_the_loop_only_after_its_verify_command() {
    let root = Root::new();
    let (task, go) = (name("builds"), root.scratch().join("go"));
    let verify = format!("{}; true", until_there(&go));
    let mut driver = drive(&root, &task, "run-agent done", &["--verify", &verify]);
    let started = || {
        let there = root.tree().task(&task).runs().is_dir();
        let view = there.then(|| root.view(&task))?;
        view.task().runs.values().any(|run| run.verify.is_some() && run.start().is_some()).then_some(())
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

const TWO_AGENTS: &str = r#"
agents { order = ["one", "two"] }
agent "one" {
  type = "command"
  argv = ["sh", "-c", "exit 1"]
}
agent "two" {
  type = "command"
  argv = ["sh", "-c", "if [ -f again ]; then run-agent done; else touch again; fi"]
}
"#;

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
fn agents_take_turns_and_one_that_crashes_at_its_start_is_passed_over() {
    let root = Root::new();
    config(&root, TWO_AGENTS);
    let done = root.run(&["task", "--project", "p", "--prompt", "x"]);
    assert_eq!(done.code, 0, "{done:?}");
    let task = root.only_task();
    let view = root.view(&task);
    let agents: Vec<_> = view.task().runs.values().map(|run| run.agent.as_str()).collect();
    assert_eq!(agents, ["one", "two", "two"]);
    assert_eq!(root.count(&task, "AGENT_DEGRADED"), 1);
}

#[test]
fn an_agent_that_is_not_there_burns_no_restart_and_with_none_left_the_loop_ends() {
    let root = Root::new();
    let missing =
        |name: &str| format!("agent \"{name}\" {{\n type = \"command\"\n argv = [\"no-such-program\"]\n}}\n");
    let order = |names: &str| format!("agents {{ order = [{names}] }}\n");
    config(
        &root,
        &format!("{}{}{TWO_AGENTS}", order("\"gone\", \"two\""), missing("gone"))
            .replace("agents { order = [\"one\", \"two\"] }", ""),
    );
    let done = root.run(&["task", "--project", "p", "--prompt", "x", "--max-restarts", "1"]);
    assert_eq!(done.code, 0, "{done:?}");
    config(&root, &format!("{}{}{}", order("\"a\", \"b\""), missing("a"), missing("b")));
    let none = root.run(&["task", "--project", "p", "--prompt", "y"]);
    assert_eq!(none.code, 3, "{none:?}");
    assert!(none.stderr.contains("no-such-program") && none.stderr.contains("no agent is left"), "{none:?}");
}

#[test]
fn the_breaker_pauses_a_loop_whose_agent_fails_at_once_and_then_ends_it() {
    let root = Root::new();
    config(&root, "breaker {\n failures = 2\n cooldown = \"200ms\"\n trips = 2\n}\n");
    let task = name("fails");
    let done = root.run(&shell_args("task", &task, "exit 1", &[]));
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(root.view(&task).task().reason(), "breaker");
    assert_eq!(root.run(&["watch", "--task", "fails"]).code, 3, "as `task` said it");
    assert_eq!((root.count(&task, "LOOP_BREAKER"), root.view(&task).task().runs.len()), (1, 3));
    assert!(done.stderr.contains("the loop gave up"), "{done:?}");
}

#[test]
fn what_a_completed_task_found_out_is_told_to_its_project_once() {
    let root = Root::new();
    let task = name("finds");
    let prompt = "run-agent bus post --type FACT --body 'the parser is in src/parse.rs'\nrun-agent done";
    // Killed after the facts are told and before the loop's end is: the next driver ends it.
    let killed = root
        .command(&shell_args("task", &task, prompt, &[]))
        .env("RUN_AGENT_FAILPOINT", "driver.facts=kill")
        .output()
        .unwrap();
    assert!(!killed.status.success());
    assert_eq!(facts_of_project(&root).len(), 1);
    assert_eq!(root.run(&["task", "--task", "finds"]).code, 0);
    let facts = facts_of_project(&root);
    assert_eq!(facts.len(), 1, "{facts:?}");
    let fact = &facts[0].content;
    assert!(fact.body.contains("the parser is in src/parse.rs"), "{}", fact.body);
    assert_eq!(fact.meta["source_task_id"], task.task.as_str());
    // Taken up and done again it has more to tell.
    assert_eq!(root.run(&["resume", "--task", "finds"]).code, 0);
    assert_eq!(facts_of_project(&root).len(), 2);
}

#[test]
fn a_lucky_job_is_the_one_whose_turn_it_is() {
    let root = Root::new();
    let agent = |name: &str| format!("agent \"{name}\" {{\n type = \"command\"\n argv = [\"true\"]\n}}\n");
    config(&root, &format!("agents {{ order = [\"a\", \"b\"] }}\n{}{}", agent("a"), agent("b")));
    let task = name("turns");
    for _ in 0..3 {
        let mut args = shell_args("job", &task, "x", &[]);
        let at = args.iter().position(|arg| *arg == "shell").unwrap();
        args[at] = "lucky";
        assert_eq!(root.run(&args).code, 0);
    }
    let agents: Vec<_> = root.view(&task).task().runs.values().map(|run| run.agent.clone()).collect();
    assert_eq!(agents, ["a", "b", "a"]);
    // A loop that was given one agent goes back to turns.
    let pinned = root.run(&[
        "task",
        "--task",
        "turns",
        "--agent",
        "shell",
        "--prompt",
        "exit 1",
        "--update-prompt",
        "--max-restarts",
        "0",
    ]);
    assert_eq!(pinned.code, 3, "{pinned:?}");
    let turns = root.run(&["resume", "--task", "turns", "--agent", "lucky", "--max-restarts", "0"]);
    assert_eq!(turns.code, 3, "{turns:?}");
    assert_eq!(root.view(&task).task().runs.values().next_back().unwrap().agent, "a");
}
