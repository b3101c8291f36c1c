//! Stopping: to the last process, and nothing else.

use run_agent_core::RunId;
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_tests::{Root, alive, kill, name, processes_of, shell_args, supervisor_ends, text_of, until};

/// An agent that ignores SIGTERM, with a tool command in a session of its own, and a child of the same kind.
const STUBBORN: &str = r#"
trap '' TERM
setsid sh -c 'trap "" TERM; echo $$ > "$JRUN_RUN_FOLDER/tool.pid"; while :; do sleep 0.1; done' &
(env -i setsid sh -c 'trap "" TERM; echo $$ > "'"$JRUN_RUN_FOLDER"'/bare.pid"; while :; do sleep 0.1; done' &)
echo $$ > "$JRUN_RUN_FOLDER/agent.pid"
if [ -z "$JRUN_PARENT_ID" ]; then
    run-agent job --detach --agent shell --prompt "$(cat "$JRUN_TASK_FOLDER/TASK.md")" > "$JRUN_TASK_FOLDER/child"
fi
while :; do sleep 0.1; done
"#;

fn pids(root: &Root, task: &run_agent_runner::tree::TaskName, run: &RunId) -> Vec<u32> {
    let folder = root.tree().run(task, run).folder().to_owned();
    ["agent.pid", "tool.pid", "bare.pid"].iter().map(|f| text_of(&folder.join(f)).parse().unwrap()).collect()
}

#[test]
fn a_stop_of_a_task_leaves_no_process_and_nothing_starts_again() {
    let root = Root::new();
    let task = name("stubborn");
    let mut driver = root.drive(&task, STUBBORN);
    let folder = root.tree().task(&task).folder().to_owned();
    let child = RunId::parse(&text_of(&folder.join("child"))).unwrap();
    let view = root.view(&task);
    let parent = view.task().active_root().unwrap().clone();
    let mut all = pids(&root, &task, &parent);
    all.extend(pids(&root, &task, &child));
    assert!(all.iter().all(|pid| alive(*pid)));

    let stopped = root.run(&["stop", "--task", task.task.as_str(), "--grace", "200ms"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let left: Vec<&u32> = all.iter().filter(|pid| alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {all:?} still live");
    assert_eq!(driver.wait().unwrap().code(), Some(1));
    let view = root.view(&task);
    assert_eq!((view.task().status(), view.task().reason().as_str()), (TaskStatus::Stopped, "stopped"));
    assert!(
        view.task().runs.values().all(|run| run.status() == RunStatus::Stopped),
        "{:?}",
        view.task().runs
    );
    assert_eq!(view.task().runs.len(), 2, "nothing started again");
    for run in view.task().runs.keys() {
        assert_eq!(processes_of(run), [0u32; 0]);
        supervisor_ends(run);
    }
    let again = root.run(&["stop", "--task", task.task.as_str()]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.contains("had ended already: stopped"), "{again:?}");
}

#[test]
fn a_stopped_root_run_ends_its_loop() {
    let root = Root::new();
    let task = name("rootstop");
    let mut driver = root.drive(&task, "sleep 100");
    let run = until(
        "a running root",
        || run_agent_runner::TaskView::open(&root.tree(), &task).ok()?.task().active_root().cloned(),
        String::new,
    );
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
    assert_eq!(driver.wait().unwrap().code(), Some(1));
    let view = root.view(&task);
    assert_eq!((view.task().status(), view.task().runs.len()), (TaskStatus::Stopped, 1));
}

#[test]
fn a_halted_supervisor_and_a_halted_driver_are_set_going_by_a_stop() {
    let root = Root::new();
    let task = name("halted");
    let mut driver = root.drive(&task, "sleep 100");
    let supervisor = until(
        "a running root",
        || {
            let view = run_agent_runner::TaskView::open(&root.tree(), &task).ok()?;
            view.task().active_root().and_then(|id| view.run(id)?.start()).map(|start| start.supervisor_pid)
        },
        String::new,
    );
    kill(supervisor, "STOP");
    kill(driver.id(), "STOP");
    let stopped = root.run(&["stop", "--task", task.task.as_str(), "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(driver.wait().unwrap().code(), Some(1));
    assert_eq!(root.view(&task).task().status(), TaskStatus::Stopped);
}

#[test]
fn a_supervisor_that_is_killed_while_it_stops_its_run_is_followed_by_the_stop_itself() {
    let root = Root::new();
    let task = name("cut-off");
    let job = root
        .command(&shell_args("job", &task, "setsid sleep 100 & sleep 100", &["--detach"]))
        .env("RUN_AGENT_FAILPOINT", "supervisor.stopping=kill")
        .output()
        .unwrap();
    assert!(job.status.success(), "{job:?}");
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    let stopped = root.run(&["stop", "--run", run.as_str(), "--grace", "200ms"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(root.count(&task, "RUN_STOP") + root.count(&task, "RUN_CRASH"), 1);
    assert_eq!(root.view(&task).run(&run).unwrap().status(), RunStatus::Stopped);
    assert_eq!(processes_of(&run), [0u32; 0]);
}

#[test]
fn a_starter_that_is_halted_between_intent_and_hand_over_is_set_going_by_a_stop() {
    let root = Root::new();
    let task = name("starting");
    let mut starter = root
        .command(&shell_args("job", &task, "sleep 100", &[]))
        .env("RUN_AGENT_FAILPOINT", "starter.intent=stop")
        .spawn()
        .unwrap();
    until(
        "an intent",
        || {
            let view = run_agent_runner::TaskView::open(&root.tree(), &task).ok()?;
            (!view.task().runs.is_empty()).then_some(())
        },
        String::new,
    );
    let stopped = root.run(&["stop", "--task", task.task.as_str(), "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_ne!(starter.wait().unwrap().code(), Some(0));
    assert_eq!(root.view(&task).task().active().count(), 0);
}

/// A parent that starts a child and ends, or goes on.
fn parent(then: &str) -> String {
    format!(
        r#"run-agent job --detach --agent shell --prompt 'echo $$ > "$JRUN_RUN_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done' > "$JRUN_TASK_FOLDER/child"
        {then}"#
    )
}

fn child_of(root: &Root, task: &run_agent_runner::tree::TaskName) -> (RunId, u32, u32) {
    let child = RunId::parse(&text_of(&root.tree().task(task).folder().join("child"))).unwrap();
    let agent: u32 = text_of(&root.tree().run(task, &child).folder().join("pid")).parse().unwrap();
    let view = root.view(task);
    let supervisor = view.start_of(&child).unwrap().supervisor_pid;
    (child, agent, supervisor)
}

fn assert_child_goes_on(
    root: &Root,
    task: &run_agent_runner::tree::TaskName,
    (child, agent, supervisor): (RunId, u32, u32),
) {
    assert!(alive(agent), "the child's agent goes on");
    assert!(alive(supervisor), "the child's supervisor goes on");
    std::fs::write(root.tree().task(task).folder().join("go"), "").unwrap();
    let waited = root.run(&["wait", child.as_str(), "--wait", "60s"]);
    assert_eq!(waited.code, 0, "and its end is recorded: {waited:?}");
}

#[test]
fn a_run_that_ends_leaves_its_child_alone() {
    let root = Root::new();
    let task = root.task_with("normal", &parent("exit 0"));
    let child = child_of(&root, &task);
    assert_child_goes_on(&root, &task, child);
}

#[test]
fn a_crash_of_the_parent_leaves_its_child_alone() {
    let root = Root::new();
    let task = name("crash");
    let done = root.run(&shell_args("job", &task, &parent("kill -9 $$"), &[]));
    assert_eq!(done.code, 137, "{done:?}");
    let child = child_of(&root, &task);
    assert_child_goes_on(&root, &task, child);
}

#[test]
fn a_stop_that_keeps_children_takes_the_run_alone() {
    let root = Root::new();
    let task = name("keep");
    let run = root.ok(&shell_args("job", &task, &parent("sleep 100"), &["--detach"]));
    let child = child_of(&root, &task);
    let stopped = root.run(&["stop", "--run", &run, "--keep-children"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(processes_of(&RunId::parse(&run).unwrap()), [0u32; 0]);
    assert_child_goes_on(&root, &task, child);
}

#[test]
fn a_stop_takes_the_children_too() {
    let root = Root::new();
    let task = name("all");
    let run = root.ok(&shell_args("job", &task, &parent("sleep 100"), &["--detach"]));
    let (child, agent, supervisor) = child_of(&root, &task);
    assert_eq!(root.run(&["stop", "--run", &run]).code, 0);
    assert!(!alive(agent));
    let view = root.view(&task);
    assert_eq!(view.run(&child).unwrap().status(), RunStatus::Stopped);
    until("its supervisor ends", || (!alive(supervisor)).then_some(()), String::new);
}

/// Ends only when what it leaves is what it is to be.
const LEAVES: &str =
    "setsid sleep 1234 & echo $! > \"$JRUN_TASK_FOLDER/pid\"; until grep -q sleep /proc/$!/comm; do :; done";

#[test]
fn left_overs_of_a_normal_end_are_ended_and_named() {
    let root = Root::new();
    let task = root.task_with("leftovers", LEAVES);
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    assert!(!alive(pid));
    let end = root.messages(&task).into_iter().find(|m| m.content.kind.as_str() == "RUN_STOP").unwrap();
    assert!(end.content.meta["left_overs"].contains("sleep["), "{end:?}");
}

#[test]
fn a_stop_does_what_a_dead_supervisor_cannot() {
    let root = Root::new();
    let task = name("orphan");
    let run = root.ok(&shell_args(
        "job",
        &task,
        "setsid sleep 1235 & echo $$ > \"$JRUN_RUN_FOLDER/pid\"; sleep 100",
        &["--detach"],
    ));
    let run = RunId::parse(&run).unwrap();
    let agent: u32 = text_of(&root.tree().run(&task, &run).folder().join("pid")).parse().unwrap();
    let supervisor = root.view(&task).start_of(&run).unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    until("the supervisor is gone", || (!alive(supervisor)).then_some(()), String::new);
    let status = root.json(&["status", run.as_str(), "--json"]);
    assert_eq!(status["status"], "running", "the agent outlives its supervisor: {status}");
    assert!(alive(agent));
    let stopped = root.run(&["stop", "--run", run.as_str(), "--grace", "1s"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(processes_of(&run), [0u32; 0]);
    assert_eq!(root.view(&task).run(&run).unwrap().status(), RunStatus::Stopped);
}

#[test]
fn a_loop_whose_root_was_stopped_after_its_driver_died_is_ended_by_whoever_looks() {
    let root = Root::new();
    let task = name("lone");
    let mut driver = root.drive(&task, "sleep 600");
    let running = || {
        let there = root.tree().task(&task).runs().is_dir();
        there
            .then(|| root.view(&task).task().active_root().cloned())
            .flatten()
            .filter(|id| root.view(&task).run(id).is_some_and(|run| run.started().is_some()))
    };
    let run = until("a root run", running, || root.run(&["replay", "lone"]).stdout);
    kill(driver.id(), "KILL");
    let _ = driver.wait().unwrap();
    assert_eq!(root.run(&["stop", "--run", run.as_str(), "--force"]).code, 0);
    let _ = root.ok(&["status", "lone"]);
    let ends: Vec<_> =
        root.messages(&task).into_iter().filter(|m| m.content.kind.as_str() == "LOOP_END").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(ends[0].content.meta["reason"], "root_stopped");
}
