//! `watch`: a line for each change, and an exit code that says how the tasks ended.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, shell_args, until};

/// Goes on until the test says so.
const UNTIL_GO: &str = r#"until [ -e "$JRUN_TASK_FOLDER/go" ]; do sleep 0.02; done"#;

fn go(root: &Root, task: &TaskName) {
    std::fs::write(root.tree().task(task).folder().join("go"), "").unwrap();
}

fn detached(root: &Root, slug: &str, prompt: &str) -> TaskName {
    let task = name(slug);
    let _ = root.ok(&shell_args("job", &task, prompt, &["--detach"]));
    task
}

#[test]
fn each_change_is_a_line_and_nothing_else_is_written() {
    let root = Root::new();
    let (good, bad) =
        (detached(&root, "good", UNTIL_GO), detached(&root, "bad", &format!("{UNTIL_GO}; exit 3")));
    let mut watch = root
        .command(&["watch", "--project", "p"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || lines.next().unwrap_or_default().split_once(' ').unwrap().1.to_owned();
    assert_eq!([next(), next()], [format!("{bad} task running"), format!("{good} task running")]);
    go(&root, &good);
    let first = next();
    assert!(first.starts_with(&format!("{good} run ")) && first.ends_with(" completed"), "{first}");
    assert_eq!(next(), format!("{good} task completed"));
    go(&root, &bad);
    let run = next();
    assert!(run.starts_with(&format!("{bad} run ")) && run.ends_with(" failed (exit code 3)"), "{run}");
    assert_eq!(next(), format!("{bad} task failed"));
    assert_eq!(lines.next(), None);
    assert_eq!(watch.wait().unwrap().code(), Some(1));
}

#[test]
fn the_exit_code_says_how_the_tasks_ended() {
    let root = Root::new();
    let good = root.task_with("good", "true");
    assert_eq!(root.run(&["watch", good.task.as_str()]).code, 0);
    let gave_up = name("gave-up");
    assert_eq!(root.run(&shell_args("task", &gave_up, "exit 1", &["--max-restarts", "0"])).code, 3);
    assert_eq!(root.run(&["watch", good.task.as_str(), "gave-up"]).code, 3);
    std::fs::write(root.path().join("config.hcl"), "loop { verify_attempts = 1 }\n").unwrap();
    let rejected = name("rejected");
    let verify = ["--verify", "echo no; exit 4"];
    let told = root.run(&shell_args("task", &rejected, "run-agent done", &verify));
    assert_eq!(
        (told.code, told.stderr.matches("rejected: `echo no; exit 4`").count()),
        (3, 1),
        "once: {told:?}"
    );
    assert_eq!(root.run(&["watch", "rejected"]).code, 3, "as `task` itself");
    let bad = name("bad");
    assert_eq!(root.run(&shell_args("job", &bad, "exit 4", &[])).code, 4);
    assert_eq!(root.run(&["watch", "bad", "good"]).code, 1);
    let nothing = root.run(&["watch"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""), "{nothing:?}");
    assert_eq!(root.run(&["watch", "gone"]).code, 5);
}

#[test]
fn json_has_a_change_a_line_and_the_ends_in_the_last() {
    let root = Root::new();
    let task = detached(&root, "json", UNTIL_GO);
    let mut watch = root
        .command(&["watch", task.task.as_str(), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["status"], "running");
    go(&root, &task);
    let rest: Vec<serde_json::Value> = lines.collect();
    let run = rest.iter().find(|value| value["change"] == "run").unwrap();
    assert_eq!(
        (run["status"].as_str(), run["task_id"].as_str()),
        (Some("completed"), Some(task.task.as_str()))
    );
    assert!(run["msg_id"].as_str().unwrap().starts_with("MSG-"));
    let last = rest.last().unwrap();
    assert_eq!((last["change"].as_str(), last["exit_code"].as_i64()), (Some("end"), Some(0)));
    assert_eq!(last["tasks"][0]["status"], "completed");
    assert!(watch.wait().unwrap().success());
}

#[test]
fn a_time_limit_and_an_interrupt_end_the_watch_and_nothing_else() {
    let root = Root::new();
    let task = detached(&root, "long", UNTIL_GO);
    let limited = root.run(&["watch", "long", "--timeout", "50ms"]);
    assert_eq!(limited.code, 124, "{limited:?}");
    let mut watch =
        root.command(&["watch", "long"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    // Whoever loses his reader ends of himself.
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    kill(watch.id(), "INT");
    assert_eq!(watch.wait().unwrap().code(), Some(130));
    go(&root, &task);
    assert_eq!(root.run(&["watch", "long"]).code, 0);
}

#[test]
fn a_run_whose_supervisor_and_agent_were_killed_ends_the_watch() {
    let root = Root::new();
    let task = detached(&root, "killed", UNTIL_GO);
    let start = root.view(&task).task().runs.values().next().unwrap().start().unwrap().clone();
    let mut watch = root.command(&["watch", "killed"]).stdout(Stdio::null()).spawn().unwrap();
    kill(start.supervisor_pid, "KILL");
    kill(start.pid, "KILL");
    assert_eq!(watch.wait().unwrap().code(), Some(1));
    assert_eq!(root.count(&task, "RUN_CRASH"), 1);
}

#[test]
fn a_loop_whose_driver_was_killed_is_told_once() {
    let root = Root::new();
    let task = name("driver");
    let mut driver = root.drive(&task, UNTIL_GO);
    until(
        "the agent runs",
        || {
            (root.tree().task(&task).folder().exists()
                && root.view(&task).task().active().any(|(_, r)| r.started().is_some()))
            .then_some(())
        },
        String::new,
    );
    driver.kill().unwrap();
    driver.wait().unwrap();
    go(&root, &task);
    let mut watch =
        root.command(&["watch", "driver"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(watch.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("driver is gone; go on with run-agent task"), "{line}");
    kill(watch.id(), "TERM");
    assert_eq!(watch.wait().unwrap().code(), Some(130));
}
