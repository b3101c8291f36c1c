//! The Ralph loop: restarts, limits, children, markers, resume, one driver.

use std::io::{BufRead, BufReader};

use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_tests::{Root, alive, kill, name, shell_args, text_of, until};

fn task(root: &Root, prompt: &str, more: &[&str]) -> run_agent_tests::Done {
    let mut args = vec!["task", "--project", "p", "--agent", "shell", "--prompt", prompt];
    args.extend(more);
    root.run(&args)
}

#[test]
fn a_root_that_never_says_done_is_restarted_up_to_the_limit() {
    let root = Root::new();
    let done = task(&root, "echo again", &["--max-restarts", "2"]);
    assert_eq!(done.code, 3, "{done:?}");
    let name = root.only_task();
    let view = root.view(&name);
    assert_eq!((view.task().runs.len(), view.task().ralph.restarts), (3, 2));
    assert_eq!((view.task().status(), view.task().reason().as_str()), (TaskStatus::Failed, "exhausted"));
    let chain: Vec<_> = view.task().runs.values().map(|run| run.previous.clone()).collect();
    let ids: Vec<_> = view.task().runs.keys().cloned().collect();
    assert_eq!(chain, [None, Some(ids[0].clone()), Some(ids[1].clone())], "each names the one before");
    assert!(root.messages(&name).iter().any(|m| m.content.kind.as_str() == "ERROR"), "a person is told");
    let prompt = std::fs::read_to_string(root.tree().run(&name, &ids[1]).prompt()).unwrap();
    assert!(prompt.contains("\nContinue working on the following:\n\necho again"), "{prompt}");

    // `task` again gives up at once; `resume` starts the count afresh.
    let again = root.run(&["task", "--task", name.task.as_str(), "--max-restarts", "2"]);
    assert_eq!(again.code, 3, "{again:?}");
    assert_eq!(root.view(&name).task().runs.len(), 3);
    let resumed = root.run(&["resume", "--task", name.task.as_str(), "--max-restarts", "0"]);
    assert_eq!(resumed.code, 3, "{resumed:?}");
    assert_eq!(root.view(&name).task().runs.len(), 4, "one run, and no restart");
}

#[test]
fn done_completes_and_a_completed_task_is_not_run_again() {
    let root = Root::new();
    let done = task(&root, "touch \"$JRUN_TASK_FOLDER/DONE\"", &[]);
    assert_eq!(done.code, 0, "{done:?}");
    let name = root.only_task();
    assert_eq!(root.count(&name, "DONE"), 1, "the marker made an event");
    let again = root.run(&["task", "--task", name.task.as_str()]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("resume"), "{again:?}");
    assert_eq!(root.view(&name).task().runs.len(), 1);
    let resumed = root.run(&["resume", "--task", name.task.as_str()]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert_eq!(root.view(&name).task().runs.len(), 2);
    assert_eq!(root.count(&name, "DONE_CLEARED"), 1);
}

#[test]
fn resume_without_start_only_clears() {
    let root = Root::new();
    assert_eq!(task(&root, "run-agent done", &[]).code, 0);
    let name = root.only_task();
    assert_eq!(root.run(&["resume", "--task", name.task.as_str(), "--no-start"]).code, 0);
    assert!(!root.tree().task(&name).done().exists());
    assert_eq!(root.view(&name).task().runs.len(), 1);
    assert_eq!(root.run(&["task", "--task", name.task.as_str()]).code, 0);
    assert_eq!(root.view(&name).task().runs.len(), 2);
}

#[test]
fn done_waits_for_children_and_a_late_one_gets_the_root_started_once_more() {
    let root = Root::new();
    let prompt = r#"
        if [ -f "$JRUN_TASK_FOLDER/DONE" ]; then
            run-agent bus post --type FACT --body "taken in: $(cat "$JRUN_TASK_FOLDER/late.txt")"
            exit 0
        fi
        run-agent job --detach --agent shell --prompt 'while [ ! -f "$JRUN_TASK_FOLDER/DONE" ]; do sleep 0.05; done; sleep 0.2; echo late > "$JRUN_TASK_FOLDER/late.txt"'
        run-agent done
    "#;
    let done = task(&root, prompt, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    let name = root.only_task();
    let view = root.view(&name);
    assert_eq!(view.task().ralph.attempts, 2, "once more, and not for ever");
    assert!(
        root.messages(&name).iter().any(|m| m.content.body == "taken in: late"),
        "the late result was there"
    );
    let roots: Vec<_> =
        view.task().runs.iter().filter(|(_, run)| run.is_root()).map(|(id, _)| id.clone()).collect();
    let preamble = std::fs::read_to_string(root.tree().run(&name, &roots[1]).prompt()).unwrap();
    assert!(preamble.contains("marked DONE, but child agents ended or posted after that"), "{preamble}");
}

#[test]
fn a_second_driver_of_the_same_task_is_refused() {
    let root = Root::new();
    let mut first = root
        .command(&[
            "task",
            "--project",
            "p",
            "--agent",
            "shell",
            "--prompt",
            "while [ ! -f go ]; do sleep 0.05; done; run-agent done",
        ])
        .spawn()
        .unwrap();
    let name = until(
        "a running root",
        || {
            let tasks = root.tree().tasks(&run_agent_core::ProjectId::parse("p").unwrap()).ok()?;
            let name = run_agent_runner::tree::TaskName {
                project: run_agent_core::ProjectId::parse("p").unwrap(),
                task: tasks.first()?.clone(),
            };
            let view = run_agent_runner::TaskView::open(&root.tree(), &name).ok()?;
            view.task().active_root().is_some().then_some(name)
        },
        String::new,
    );
    let second = root.run(&["task", "--task", name.task.as_str()]);
    assert_eq!(second.code, 4, "{second:?}");
    assert!(second.stderr.contains(&format!("process {}", first.id())), "{second:?}");
    assert_eq!(second.stderr.lines().count(), 1, "one line: {second:?}");
    std::fs::write(root.scratch().join("go"), "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(root.view(&name).task().runs.len(), 1);
}

#[test]
fn an_interrupted_driver_leaves_the_agent_and_a_new_one_joins_it() {
    let root = Root::new();
    let prompt = r#"echo $$ > "$JRUN_RUN_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; run-agent done"#;
    for signal in ["INT", "TERM"] {
        let slug = format!("task-20261121-093000-{}", signal.to_lowercase());
        let args = ["task", "--project", "p", "--task", &slug, "--agent", "shell", "--prompt", prompt];
        let mut driver = root.command(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let name = name(&signal.to_lowercase());
        let run = until(
            "a running root",
            || run_agent_runner::TaskView::open(&root.tree(), &name).ok()?.task().active_root().cloned(),
            String::new,
        );
        let pid: u32 = text_of(&root.tree().run(&name, &run).folder().join("pid")).parse().unwrap();
        kill(driver.id(), signal);
        assert_eq!(driver.wait().unwrap().code(), Some(130));
        assert!(alive(pid), "the agent goes on");
        assert!(
            root.messages(&name)
                .iter()
                .any(|m| m.content.kind.as_str() == "LOOP_END" && m.content.meta["reason"] == "interrupted")
        );
        std::fs::write(root.tree().task(&name).folder().join("go"), "").unwrap();
        let joined = root.run(&["task", "--task", &slug]);
        assert_eq!(joined.code, 0, "{joined:?}");
        assert_eq!(root.view(&name).task().runs.len(), 1, "joined, not doubled");
    }
}

#[test]
fn done_as_a_folder_ends_the_loop_with_one_clear_error() {
    let root = Root::new();
    let done = task(&root, "mkdir \"$JRUN_TASK_FOLDER/DONE\"", &[]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("DONE is not a regular file; remove it"), "{done:?}");
    let name = root.only_task();
    assert_eq!(
        (root.view(&name).task().runs.len(), root.view(&name).task().status()),
        (1, TaskStatus::Failed)
    );
    let resumed = root.run(&["resume", "--task", name.task.as_str()]);
    assert_eq!((resumed.code, resumed.stderr.lines().count()), (1, 1), "{resumed:?}");
}

#[test]
fn a_crash_is_a_crash_and_its_stderr_is_on_the_bus() {
    let root = Root::new();
    let done = root.run(&[
        "job",
        "--project",
        "p",
        "--agent",
        "shell",
        "--prompt",
        "echo out; echo 'it broke' >&2; exit 7",
    ]);
    assert_eq!((done.code, done.stdout.as_str()), (7, "out\n"), "{done:?}");
    let name = root.only_task();
    let crash = root.messages(&name).into_iter().find(|m| m.content.kind.as_str() == "RUN_CRASH").unwrap();
    assert_eq!(
        (crash.content.meta["exit_code"].as_str(), crash.content.meta["status"].as_str()),
        ("7", "failed")
    );
    assert!(crash.content.body.contains("it broke"), "{crash:?}");
    let killed =
        root.run(&["job", "--task", name.task.as_str(), "--agent", "shell", "--prompt", "kill -9 $$"]);
    assert_eq!(killed.code, 137, "{killed:?}");
    assert!(root.view(&name).task().runs.values().all(|run| run.status() == RunStatus::Failed));
}

#[test]
fn a_time_limit_ends_a_run_as_a_failure() {
    let root = Root::new();
    let done = root.run(&[
        "job",
        "--project",
        "p",
        "--agent",
        "shell",
        "--timeout",
        "300ms",
        "--prompt",
        "sleep 60 & sleep 60",
    ]);
    assert_ne!(done.code, 0, "{done:?}");
    let name = root.only_task();
    let view = root.view(&name);
    let (id, run) = view.task().runs.iter().next().unwrap();
    assert_eq!(run.status(), RunStatus::Failed);
    assert!(run.end().unwrap().0.reason.contains("time limit"), "{run:?}");
    assert_eq!(run_agent_tests::processes_of(id), [0u32; 0]);
}

#[test]
fn a_key_gives_the_same_run_also_to_many_who_ask_at_once() {
    let root = Root::new();
    let name = root.task_with("keyed", "true");
    let ask = [
        "job",
        "--task",
        name.task.as_str(),
        "--agent",
        "shell",
        "--detach",
        "--key",
        "k",
        "--prompt",
        "sleep 0.3",
    ];
    let children: Vec<_> =
        (0..8).map(|_| root.command(&ask).stdout(std::process::Stdio::piped()).spawn().unwrap()).collect();
    let ids: std::collections::BTreeSet<String> = children
        .into_iter()
        .map(|child| run_agent_tests::Done::of(child.wait_with_output().unwrap(), &ask))
        .map(|done| {
            assert_eq!(done.code, 0, "{done:?}");
            done.stdout
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(root.view(&name).task().runs.len(), 2);
    assert_eq!(
        std::fs::read_dir(root.tree().task(&name).runs()).unwrap().count(),
        2,
        "no folder without a run stays"
    );
    let id = ids.into_iter().next().unwrap();
    assert_eq!(root.run(&["wait", id.trim(), "--wait", "60s"]).code, 0);
}

#[test]
fn wait_says_124_while_a_run_goes_on_and_then_how_it_ended() {
    let root = Root::new();
    let name = root.task_with("waited", "true");
    let start = |prompt: &str| {
        root.ok(&["job", "--task", name.task.as_str(), "--agent", "shell", "--detach", "--prompt", prompt])
    };
    let slow = start("while [ ! -f \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done; exit 3");
    let first = root.run(&["wait", &slow, "--wait", "50ms"]);
    assert_eq!(first.code, 124, "{first:?}");
    assert!(first.stdout.contains("still running"), "{first:?}");
    std::fs::write(root.tree().task(&name).folder().join("go"), "").unwrap();
    let last = root.run(&["wait", &slow]);
    assert_eq!(last.code, 1, "{last:?}");
    assert!(last.stdout.contains("failed (exit code 3)"), "{last:?}");
}

#[test]
fn a_driver_that_has_no_descriptor_left_waits_and_goes_on() {
    let root = Root::new();
    let task = name("short");
    let prompt =
        "[ -f again ] && run-agent done && exit 0; touch again; until [ -f go ]; do sleep 0.02; done; exit 1";
    let mut driver = root
        .command(&shell_args("task", &task, prompt, &[]))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("a first try", || root.scratch().join("again").exists().then_some(()), String::new);
    let pid = driver.id().to_string();
    let limit = |files: &str| {
        let args = ["--pid", &pid, &format!("--nofile={files}:1024")];
        assert!(std::process::Command::new("prlimit").args(args).status().unwrap().success());
    };
    limit("4");
    std::fs::write(root.scratch().join("go"), "").unwrap();
    let mut said = BufReader::new(driver.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.find(|line| line.contains("trying again in")).unwrap();
    assert!(line.contains("Too many open files"), "{line}");
    limit("1024");
    let rest: Vec<String> = said.collect();
    assert!(driver.wait().unwrap().success(), "{rest:?}");
    assert_eq!(root.count(&task, "LOOP_START"), 1, "by the same driver: {rest:?}");
}
