//! `replay`: the whole story in order, and the task as it stood at any message.

use run_agent_core::World;
use run_agent_core::store::Cursor;
use run_agent_core::world::Mirror;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, name, shell_args, until};

/// A task with a loop, a child, a question and an end.
fn told(root: &Root) -> TaskName {
    let task = name("story");
    let prompt = r#"
        if [ -e "$JRUN_TASK_FOLDER/second" ]; then run-agent done; exit 0; fi
        touch "$JRUN_TASK_FOLDER/second"
        run-agent job --agent shell --key child --prompt "run-agent bus post --type QUESTION --body really > /dev/null; exit 3"
    "#;
    assert_eq!(root.run(&shell_args("task", &task, prompt, &[])).code, 0);
    task
}

#[test]
fn every_change_is_told_in_order_and_amounts_to_the_world() {
    let root = Root::new();
    let task = told(&root);
    let text = root.ok(&["replay", "story"]);
    let ids = root.messages(&task).len();
    assert_eq!(text.lines().count(), ids, "one line a message: {text}");
    assert!(text.lines().next().unwrap().ends_with("=> task created"), "{text}");
    assert!(text.lines().last().unwrap().ends_with("=> task completed (done), DONE"), "{text}");

    // The changes alone give what the world says.
    let mut mirror = Mirror::default();
    for line in root.ok(&["replay", "story", "--json"]).lines() {
        mirror.apply(&serde_json::from_str(line).unwrap());
    }
    let world_task = root.view(&task).task().clone();
    assert_eq!(mirror.tasks.get(&task.task), Some(&world_task.row(&task.task)));
    for (id, run) in world_task.runs.iter() {
        assert_eq!(mirror.runs.get(&(task.task.clone(), id.clone())), Some(&run.row(&task.task, id)));
    }
    assert_eq!(mirror.questions.len(), 1);
}

#[test]
fn at_every_message_the_picture_is_the_fold_of_what_came_before() {
    let root = Root::new();
    let task = told(&root);
    let entries =
        root.tree().store.open(&task.key()).unwrap().read(Cursor::START, usize::MAX).unwrap().entries;
    let mut world = World::new();
    for entry in &entries {
        world.apply(&task.key(), entry.at, &entry.message);
        let then = world.task(&task.project, &task.task).unwrap();
        let picture = root.json(&["replay", "story", "--at", entry.message.id.as_str(), "--json"]);
        assert_eq!(picture["status"], then.status().as_str());
        assert_eq!(picture["messages"], then.thread.messages());
        assert_eq!(picture["at"], entry.message.ts.to_string());
        let runs: Vec<serde_json::Value> =
            then.runs.iter().map(|(id, run)| serde_json::json!(run.row(&task.task, id))).collect();
        assert_eq!(picture["runs"], serde_json::json!(runs));
        let by_time = root.json(&["replay", "story", "--at", &entry.message.ts.to_string(), "--json"]);
        assert_eq!(by_time["messages"], picture["messages"]);
    }
    // At the end it is what `status` says, but for how long ago that is.
    let last = &entries.last().unwrap().message;
    let then = root.ok(&["replay", "story", "--at", last.id.as_str()]);
    let now = root.ok(&["status", "story"]);
    let body = |text: &str| text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&then), body(&now));
}

#[test]
fn a_story_has_a_beginning_and_an_end_of_ones_choice() {
    let root = Root::new();
    let task = told(&root);
    let messages = root.messages(&task);
    let (from, until) = (&messages[3], &messages[5]);
    for (a, b) in [(from.id.to_string(), until.id.to_string()), (from.ts.to_string(), until.ts.to_string())] {
        let part = root.ok(&["replay", "story", "--from", &a, "--until", &b]);
        assert_eq!(part.lines().count(), 3, "{part}");
    }
    for flag in ["--at", "--from", "--until"] {
        let unknown = root.run(&["replay", "story", flag, "MSG-none"]);
        assert_eq!((unknown.code, unknown.stdout.as_str()), (5, ""), "{unknown:?}");
        assert_eq!(root.run(&["replay", "story", flag, "no moment"]).code, 2);
    }
    assert_eq!(root.run(&["replay", "nothing"]).code, 5);
}

#[test]
fn what_looks_like_no_id_is_told_how_a_moment_is_written() {
    let root = Root::new();
    let _ = told(&root);
    for text in ["25:00:00", "now", "2026-13-01"] {
        let done = root.run(&["replay", "story", "--at", text]);
        assert!(done.code == 2 && done.stderr.contains("is no moment: write"), "{done:?}");
    }
    for id in ["MSG-none", "HAND-none", "LEGACY-none"] {
        assert_eq!(root.run(&["replay", "story", "--at", id]).code, 5);
    }
}

#[test]
fn a_running_task_is_told_up_to_now() {
    let root = Root::new();
    let task = name("running");
    let _ = root.ok(&shell_args(
        "job",
        &task,
        r#"until [ -e "$JRUN_TASK_FOLDER/go" ]; do sleep 0.02; done"#,
        &["--detach"],
    ));
    let text = root.ok(&["replay", "running"]);
    assert!(text.lines().last().unwrap().ends_with("task running"), "{text}");
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
    until("it ends", || (root.count(&task, "RUN_STOP") == 1).then_some(()), String::new);
}

#[test]
fn damage_is_told_where_it_stands_and_the_rest_is_told_too() {
    let root = Root::new();
    let task = told(&root);
    let before = root.messages(&task).len();
    let bus = root.bus_data(&task);
    let mut bytes = std::fs::read(&bus).unwrap();
    let at = bytes.windows(6).position(|bytes| bytes == b"really").unwrap();
    bytes[at] = b'R';
    std::fs::write(&bus, bytes).unwrap();
    let done = root.run(&["replay", "story"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("warning: ") && done.stderr.contains(bus.to_str().unwrap()), "{done:?}");
    assert_eq!(done.stdout.lines().count(), before - 1, "{done:?}");
    let json = root.ok(&["replay", "story", "--json"]);
    assert!(json.lines().any(|line| line.contains(r#""change":"damage""#)), "{json}");
}

#[test]
fn what_is_neither_a_time_nor_an_id_is_told_what_a_moment_is() {
    let root = Root::new();
    let task = root.task_with("moments", "true");
    for moment in ["25:00:00", "now", "2026-13-01", ""] {
        let done = root.run(&["replay", "--task", task.task.as_str(), "--at", moment]);
        assert_eq!((done.code, done.stderr.contains("is no moment: write")), (2, true), "{done:?}");
    }
    let unknown = "MSG-20261121-093000-000000000-PID00001-0001";
    assert_eq!(root.run(&["replay", "--task", task.task.as_str(), "--at", unknown]).code, 5);
}
