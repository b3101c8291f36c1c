//! Stops that come when something is about to start and nothing is there yet, and what a stop of a whole tree waits for.

use std::process::{Child, Output, Stdio};

use run_agent_core::RunId;
use run_agent_core::world::TaskStatus;
use run_agent_runner::supervise::os::ProcessId;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, shell_args, text_of, until};

/// A command that halts itself at this step.
fn halted(root: &Root, args: &[&str], step: &str) -> Child {
    let mut command = root.command(args);
    command.env("RUN_AGENT_FAILPOINT", format!("{step}=stop"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until(step, || is_halted(child.id()).then_some(()), String::new);
    child
}

fn is_halted(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("T (stopped)")
}

/// Asks for a stop of the task, and lets these go on when it is asked for.
fn stop_and_let_go(root: &Root, task: &TaskName, halted: &[u32]) -> Output {
    let mut stop = root.command(&["stop", "--task", task.task.as_str(), "--force"]);
    let stop = stop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(
        "a stop",
        || (root.count(task, "LOOP_STOPPING") == 1).then_some(()),
        || root.run(&["replay", task.task.as_str()]).stdout,
    );
    for pid in halted {
        kill(*pid, "CONT");
    }
    stop.wait_with_output().unwrap()
}

fn assert_nothing_started(root: &Root, task: &TaskName, stopped: &Output) {
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(String::from_utf8_lossy(&stopped.stdout).contains(" stopped (0 runs)"), "{stopped:?}");
    let view = root.view(task);
    assert_eq!((view.task().status(), view.task().runs.len()), (TaskStatus::Stopped, 0));
    assert_eq!(root.count(task, "LOOP_START"), 0);
}

fn assert_refused(starter: Child) {
    let refused = starter.wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is being stopped"), "{refused:?}");
}

#[test]
fn a_stop_between_a_new_task_and_its_loop_is_no_stop_of_nothing() {
    let root = Root::new();
    let task = name("new");
    let starter = halted(&root, &shell_args("task", &task, "run-agent done", &[]), "make.created");
    let stopped = stop_and_let_go(&root, &task, &[starter.id()]);
    assert_nothing_started(&root, &task, &stopped);
    assert_refused(starter);
    let again = root.run(&["task", "--task", task.task.as_str(), "--agent", "shell"]);
    assert_eq!(again.code, 0, "asked for again, it starts: {again:?}");
}

#[test]
fn a_stop_reaches_a_driver_that_has_its_lock_and_no_loop_also_when_its_starter_is_dead() {
    let root = Root::new();
    let task = name("detached");
    let args = shell_args("task", &task, "sleep 100", &["--detach"]);
    let mut command = root.command(&args);
    command.env("RUN_AGENT_FAILPOINT", "driver.lock=stop").stdout(Stdio::null()).stderr(Stdio::null());
    let mut starter = command.spawn().unwrap();
    let lock = root.tree().task(&task).loop_lock();
    let driver: u32 = text_of(&lock).strip_prefix("process ").unwrap().parse().unwrap();
    until("a halted driver", || is_halted(driver).then_some(()), String::new);
    starter.kill().unwrap();
    starter.wait().unwrap();
    let stopped = stop_and_let_go(&root, &task, &[driver]);
    assert_nothing_started(&root, &task, &stopped);
    assert_eq!(ProcessId::now(driver), None, "the driver has given up");
}

#[test]
fn a_stop_between_a_resume_and_its_loop_is_no_stop_of_nothing() {
    let root = Root::new();
    let task = name("again");
    let done = root.run(&shell_args("task", &task, "run-agent done", &[]));
    assert_eq!(done.code, 0, "{done:?}");
    let starter = halted(&root, &["resume", "--task", task.task.as_str()], "driver.lock");
    let stopped = stop_and_let_go(&root, &task, &[starter.id()]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert_refused(starter);
    assert_eq!(root.view(&task).task().status(), TaskStatus::Stopped);
    assert_eq!(root.count(&task, "LOOP_START"), 1, "the one before");
}

#[test]
fn a_stop_between_a_new_task_and_its_job_is_no_stop_of_nothing() {
    let root = Root::new();
    let task = name("job");
    let starter = halted(&root, &shell_args("job", &task, "sleep 100", &[]), "make.created");
    let stopped = stop_and_let_go(&root, &task, &[starter.id()]);
    assert_nothing_started(&root, &task, &stopped);
    assert_refused(starter);
}

#[test]
fn a_stop_between_two_items_of_a_batch_ends_the_batch() {
    let root = Root::new();
    let task = name("items");
    let text =
        "agent: shell\ntasks:\n- {id: one, prompt: 'true'}\n- {id: two, prompt: 'true', depends_on: one}\n";
    std::fs::write(root.scratch().join("b.yaml"), text).unwrap();
    let args = ["job", "batch", "--project", "p", "--task", task.task.as_str(), "--spec", "b.yaml"];
    let batch = halted(&root, &[&args[..], &["--continue-on-fail"]].concat(), "starter.folder");
    kill(batch.id(), "CONT");
    let second = || {
        let ended = root.count(&task, "RUN_STOP") == 1;
        (ended && is_halted(batch.id())).then_some(())
    };
    until("the second item", second, || root.run(&["replay", task.task.as_str()]).stdout);
    let stopped = stop_and_let_go(&root, &task, &[batch.id()]);
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(batch.wait_with_output().unwrap().status.code(), Some(1));
    assert_eq!(root.view(&task).task().runs.len(), 1, "the second was not started");
    let later = root.run(&args);
    assert_eq!(later.code, 0, "called again, it goes on: {later:?}");
}

#[test]
fn a_stop_of_what_has_ended_says_so_while_something_else_was_started_and_ended() {
    let root = Root::new();
    let task = root.task_with("over", "true");
    let stopped = root.run(&["stop", "--task", task.task.as_str()]);
    assert!(stopped.stdout.contains("had ended already: completed"), "{stopped:?}");
    assert_eq!(root.count(&task, "LOOP_STOPPING"), 0);
}

/// A loop whose root has started a loop in another task; their drivers, the root run and its process.
fn tree(root: &Root) -> (TaskName, TaskName, Child) {
    tree_with(root, "")
}

/// The same, with these variables before the command that starts the loop below.
fn tree_with(root: &Root, variables: &str) -> (TaskName, TaskName, Child) {
    let (parent, child) = (name("parent"), name("child"));
    let prompt = format!(
        "{variables} run-agent task --project p --task {} --agent shell --detach --prompt 'echo $$ > \"$JRUN_TASK_FOLDER/pid\"; sleep 100'\necho $$ > \"$JRUN_TASK_FOLDER/pid\"\nsleep 100",
        child.task
    );
    let driver = root.drive(&parent, &prompt);
    for task in [&parent, &child] {
        let _ = text_of(&root.tree().task(task).folder().join("pid"));
    }
    (parent, child, driver)
}

#[test]
fn a_stop_whose_command_was_killed_is_over_only_when_the_loops_below_have_ended() {
    let root = Root::new();
    let (parent, child, mut driver) = tree(&root);
    driver.kill().unwrap();
    driver.wait().unwrap();
    let mut stop = root.command(&["stop", "--task", parent.task.as_str(), "--force"]);
    assert!(!stop.env("RUN_AGENT_FAILPOINT", "stop.asked=kill").output().unwrap().status.success());
    let view = root.view(&parent);
    let (id, start) = {
        let id = view.task().active_root().unwrap().clone();
        let start = view.start_of(&id).unwrap();
        (id, start)
    };
    kill(start.supervisor_pid, "KILL");
    kill(start.pid, "KILL");
    let closed = || {
        let _ = root.ok(&["status", parent.task.as_str()]);
        (!root.view(&parent).run(&id).unwrap().is_active()).then_some(())
    };
    until("whoever looks closes the run", closed, || root.run(&["replay", parent.task.as_str()]).stdout);
    assert_eq!(root.count(&parent, "LOOP_END"), 0, "the stop stands while the child's loop goes on");
    let refused = root.run(&["task", "--task", parent.task.as_str(), "--agent", "shell"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    let running: Vec<RunId> = root.view(&child).task().active().map(|(id, _)| id.clone()).collect();
    assert_eq!(running.len(), 1, "the child's loop goes on");
    let stopped = root.run(&["stop", "--task", parent.task.as_str(), "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    for task in [&parent, &child] {
        let view = root.view(task);
        assert_eq!((view.task().status(), view.task().active().count()), (TaskStatus::Stopped, 0));
        assert_eq!(root.count(task, "LOOP_END"), 1);
    }
    assert!(stopped.stdout.contains("stopped (1 run)"), "the child's: {stopped:?}");
}

#[test]
fn a_stop_waits_for_a_loop_below_that_has_told_of_its_end_and_holds_its_lock_still() {
    let root = Root::new();
    let (parent, child, mut driver) = tree_with(&root, "RUN_AGENT_FAILPOINT=driver.ended=stop");
    driver.kill().unwrap();
    driver.wait().unwrap();
    let holder = text_of(&root.tree().task(&child).loop_lock());
    let holder: u32 = holder.strip_prefix("process ").unwrap().parse().unwrap();
    let mut stop = root.command(&["stop", "--task", parent.task.as_str(), "--force"]);
    let stop = stop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let halted = || (root.count(&child, "LOOP_END") == 1 && is_halted(holder)).then_some(());
    until("the child's driver has told of its end", halted, String::new);
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill(holder, "CONT");
    let stopped = stop.wait_with_output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_eq!(root.view(&parent).task().status(), TaskStatus::Stopped);
}

#[test]
fn a_stop_of_a_tree_over_several_tasks_counts_every_run_that_it_stopped() {
    let root = Root::new();
    let (parent, _, mut driver) = tree(&root);
    let stopped = root.run(&["stop", "--task", parent.task.as_str(), "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(stopped.stdout.contains("stopped (2 runs)"), "{stopped:?}");
    driver.wait().unwrap();
}

#[test]
fn a_stop_ends_where_the_loop_below_lost_its_driver_and_its_runs() {
    let root = Root::new();
    let (parent, child, mut driver) = tree(&root);
    let holder = text_of(&root.tree().task(&child).loop_lock());
    kill(holder.strip_prefix("process ").unwrap().parse().unwrap(), "KILL");
    let view = root.view(&child);
    let start = view.start_of(view.task().active_root().unwrap()).unwrap();
    kill(start.supervisor_pid, "KILL");
    kill(start.pid, "KILL");
    let stopped = root.run(&["stop", "--task", parent.task.as_str(), "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    driver.wait().unwrap();
    assert_eq!(root.view(&parent).task().status(), TaskStatus::Stopped);
    assert_eq!(root.view(&child).task().active().count(), 0);
}

#[test]
fn a_task_whose_maker_was_killed_halfway_says_what_to_do_and_is_made_whole() {
    let root = Root::new();
    let (bare, whole) = (name("bare"), name("whole"));
    for (task, step) in [(&bare, "make.folder"), (&whole, "make.prompt")] {
        let args = shell_args("task", task, "run-agent done", &[]);
        let killed = root.command(&args).env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).output().unwrap();
        assert!(!killed.status.success(), "{killed:?}");
    }
    for command in ["task", "resume"] {
        let told = root.run(&[command, "--task", bare.task.as_str()]);
        assert_eq!(told.code, 2, "{told:?}");
        assert!(told.stderr.contains("has no prompt") && told.stderr.contains("run-agent task"), "{told:?}");
    }
    let given = root.run(&["task", "--task", "bare", "--agent", "shell", "--prompt", "run-agent done"]);
    assert_eq!(given.code, 0, "{given:?}");
    let found = root.run(&["task", "--task", "whole", "--agent", "shell"]);
    assert_eq!(found.code, 0, "{found:?}");
    for task in [&bare, &whole] {
        assert_eq!(root.view(task).task().title(), "run-agent done");
    }
    assert_eq!(root.count(&whole, "TASK_CREATED"), 1);
}

#[test]
fn a_loop_whose_agents_program_is_missing_fails_before_anything_is_made() {
    let root = Root::made();
    let agent = "agent \"gone\" {\n  type = \"command\"\n  argv = [\"no-such-program\"]\n}\n";
    std::fs::write(root.path().join("config.hcl"), agent).unwrap();
    for more in [&["--detach"][..], &[]] {
        let task = name("none");
        let args =
            ["task", "--project", "p", "--task", task.task.as_str(), "--agent", "gone", "--prompt", "x"];
        let done = root.run(&[&args[..], more].concat());
        assert_eq!(done.code, 5, "{done:?}");
        assert!(done.stderr.contains("program `no-such-program` was not found"), "{done:?}");
        assert!(!root.tree().task(&task).folder().exists());
    }
}

#[test]
fn what_a_task_depends_on_is_changed_and_taken_away_when_it_is_resumed() {
    let root = Root::new();
    let (task, other) = (name("second"), name("first"));
    for (task, code) in [(&task, 0), (&other, 3)] {
        let prompt = if code == 0 { "run-agent done" } else { "exit 1" };
        let done = root.run(&shell_args("task", task, prompt, &["--max-restarts", "0"]));
        assert_eq!(done.code, code, "{done:?}");
    }
    let resume = |more: &[&str]| root.run(&[&["resume", "--task", "second"][..], more].concat());
    let begun = resume(&["--depends-on", "first", "--detach"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    until("it waits", || (root.count(&task, "LOOP_BLOCKED") == 1).then_some(()), String::new);
    assert_eq!(root.run(&["stop", "--task", "second"]).code, 0);
    let own = resume(&["--depends-on", "second"]);
    assert!(own.code == 2 && own.stderr.contains("cannot depend on itself"), "{own:?}");
    let freed = resume(&["--no-depends-on", "first"]);
    assert_eq!(freed.code, 0, "{freed:?}");
    let again = resume(&["--no-depends-on", "first", "--no-start"]);
    assert!(again.code == 2 && again.stderr.contains("does not depend on"), "{again:?}");
}
