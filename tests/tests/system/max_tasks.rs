//! `limits.max_tasks`: so many loops are driven at once, first come first served, and none waits for one below it.

use run_agent_core::world::{RalphState, TaskStatus};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, shell_args, text_of, until};

/// Fails when another one of its kind is at work; waits for `go` of its task.
const ALONE: &str = r#"
    mkdir "$JRUN_ROOT/../alone" || { echo two > "$JRUN_ROOT/../two"; exit 1; }
    echo "$JRUN_TASK_ID" >> "$JRUN_ROOT/../order"; touch "$JRUN_TASK_FOLDER/began"
    while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.02; done
    rmdir "$JRUN_ROOT/../alone"; run-agent done
"#;

fn root() -> Root {
    let root = Root::made();
    std::fs::write(root.path().join("config.hcl"), "limits { max_tasks = 1 }\n").unwrap();
    root
}

fn detach(root: &Root, task: &TaskName) {
    let _ = root.ok(&shell_args("task", task, ALONE, &["--detach"]));
}

fn waits(root: &Root, task: &TaskName) {
    until(
        "the loop waits",
        || {
            matches!(&root.view(task).task().ralph.state, RalphState::Waiting { reason, .. } if reason == "loops").then_some(())
        },
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
}

fn began(root: &Root, task: &TaskName) -> bool {
    root.tree().task(task).folder().join("began").exists()
}

fn begins(root: &Root, task: &TaskName) {
    until("it begins", || began(root, task).then_some(()), || root.run(&["list"]).stdout);
}

fn go(root: &Root, task: &TaskName) {
    std::fs::write(root.tree().task(task).folder().join("go"), "").unwrap();
}

fn ends(root: &Root, task: &TaskName, status: TaskStatus) {
    until(
        "the task ends",
        || (root.view(task).task().status() == status).then_some(()),
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
}

#[test]
fn five_loops_at_a_limit_of_one_are_driven_one_after_the_other_as_they_came() {
    let root = root();
    let tasks: Vec<TaskName> = (1..=5).map(|n| name(&format!("n{n}"))).collect();
    detach(&root, &tasks[0]);
    begins(&root, &tasks[0]);
    for task in &tasks[1..] {
        detach(&root, task);
        waits(&root, task);
    }
    for task in &tasks {
        go(&root, task);
    }
    for task in &tasks {
        ends(&root, task, TaskStatus::Completed);
    }
    let order = std::fs::read_to_string(root.scratch().join("order")).unwrap();
    let came: Vec<&str> = tasks.iter().map(|task| task.task.as_str()).collect();
    assert_eq!(order.lines().collect::<Vec<_>>(), came);
    assert!(!root.scratch().join("two").exists(), "two at once");
    let told: Vec<usize> = tasks.iter().map(|task| root.count(task, "LOOP_WAITING")).collect();
    assert_eq!(told, [0, 1, 1, 1, 1], "said once");
}

#[test]
fn a_loop_that_waits_is_stopped_and_interrupted_at_once_and_a_dead_drivers_place_is_free() {
    let root = root();
    let [first, stopped, interrupted, lost, last] =
        ["first", "stopped", "interrupted", "lost", "last"].map(name);
    detach(&root, &first);
    begins(&root, &first);
    for task in [&stopped, &interrupted, &lost, &last] {
        detach(&root, task);
        waits(&root, task);
    }
    assert_eq!(root.run(&["stop", "--task", stopped.task.as_str()]).code, 0);
    ends(&root, &stopped, TaskStatus::Stopped);
    let driver = |task: &TaskName| root.view(task).task().ralph.driver.as_ref().unwrap().driver_pid;
    kill(driver(&interrupted), "TERM");
    ends(&root, &interrupted, TaskStatus::Stopped);
    kill(driver(&lost), "KILL");
    kill(driver(&first), "KILL");
    // The agent of the first goes on; its loop is no longer driven.
    begins(&root, &first);
    std::fs::remove_dir(root.scratch().join("alone")).unwrap();
    begins(&root, &last);
    assert!(!began(&root, &stopped) && !began(&root, &interrupted) && !began(&root, &lost));
    // Taken up again they wait their turn; a root run that is alive is joined without a place.
    let told = root.json(&["adopt", "--json"]);
    assert_eq!(told["loops"].as_array().unwrap().len(), 2, "{told}");
    waits(&root, &lost);
    go(&root, &last);
    ends(&root, &last, TaskStatus::Completed);
    begins(&root, &lost);
    go(&root, &lost);
    ends(&root, &lost, TaskStatus::Completed);
    go(&root, &first);
    until(
        "the first is over",
        || root.view(&first).task().active().next().is_none().then_some(()),
        String::new,
    );
}

#[test]
fn a_loop_that_an_agent_started_needs_no_place() {
    let root = root();
    let (outer, inner) = (name("outer"), name("inner"));
    let prompt = format!(
        "run-agent task --project p --task {} --agent shell --prompt 'run-agent done' && run-agent done",
        inner.task
    );
    let done = root.run(&shell_args("task", &outer, &prompt, &["--max-restarts", "0"]));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(root.view(&inner).task().status(), TaskStatus::Completed);
    let _ = text_of(&root.tree().task(&inner).done().with_file_name("TASK.md"));
}
