//! What a run starts in another task.

use super::*;

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
