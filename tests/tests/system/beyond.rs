//! What a loop looks at beyond its own runs: dependencies, children in other tasks, questions, verify commands, the
//! agents that take turns, the breaker.

mod dependencies;
mod elsewhere;
mod verify;

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
    assert_eq!(none.code, 5, "{none:?}");
    assert!(none.stderr.contains("looked for a, b"), "{none:?}");
    // One that is there when the loop begins, and is gone when it is to be started again.
    let program = root.scratch().join("goes-away");
    std::fs::write(&program, "#!/bin/sh\nrm \"$0\"\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let vanishes = missing("a").replace("no-such-program", &program.display().to_string());
    config(&root, &format!("{}{vanishes}", order("\"a\"")));
    let gone = root.run(&["task", "--project", "p", "--prompt", "z"]);
    assert_eq!(gone.code, 3, "{gone:?}");
    assert!(gone.stderr.contains("goes-away") && gone.stderr.contains("no agent is left"), "{gone:?}");
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
