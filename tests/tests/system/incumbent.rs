//! The defects that were measured in another tool of the family, each as a test of its own. Those that a test
//! elsewhere shows already are named there: bodies in `bus`, kills in `kills`, stops in `stops`.

use run_agent_core::world::RunStatus;
use run_agent_tests::{Done, Root, alive, kill, name, shell_args, text_of, until};

#[test]
fn a_line_of_dashes_does_not_cut_a_message_or_forge_another() {
    let root = Root::new();
    let task = root.task_with("dashes", "true");
    let body = "one\n---\nmsg_id: \"MSG-forged\"\nts: \"2026-11-21T00:00:00Z\"\ntype: \"RUN_STOP\"\nproject_id: \"p\"\n---\ntwo";
    assert_eq!(root.run(&["bus", "post", "--task", "dashes", "--body", body]).code, 0);
    let messages = root.messages(&task);
    assert_eq!(messages.last().unwrap().content.body, body);
    assert!(!messages.iter().any(|m| m.id.as_str() == "MSG-forged"));
}

#[test]
fn the_last_messages_are_right_past_64_kib() {
    let root = Root::new();
    let task = root.task_with("tail", "true");
    for n in 0..12 {
        let body = format!("{n} {}", "x".repeat(20_000));
        assert_eq!(root.run(&["bus", "post", "--task", "tail", "--body", &body]).code, 0);
    }
    let last = root.ok(&["bus", "read", "--task", "tail", "--tail", "5", "--json"]);
    let starts: Vec<String> = last
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["body"].as_str().unwrap()[..2]
                .trim()
                .to_owned()
        })
        .collect();
    assert_eq!(starts, ["7", "8", "9", "10", "11"]);
    assert_eq!(root.only_task(), task);
}

#[test]
fn a_body_above_a_mebibyte_is_posted_and_comes_back_whole() {
    let root = Root::new();
    let _ = root.task_with("large", "true");
    let file = root.scratch().join("large.txt");
    let text = "x".repeat(1024 * 1024 + 1);
    std::fs::write(&file, &text).unwrap();
    let id = root.ok(&["bus", "post", "--task", "large", "--file", file.to_str().unwrap()]);
    let read = root.json(&["bus", "read", "--task", "large", "--tail", "1", "--full", "--json"]);
    assert_eq!((read["msg_id"].as_str(), read["body"] == text), (Some(id.as_str()), true));
}

#[test]
fn since_gives_the_next_messages_not_the_newest() {
    let root = Root::new();
    let _ = root.task_with("since", "true");
    let ids: Vec<String> = (0..30)
        .map(|n| root.ok(&["bus", "post", "--task", "since", "--type", "FACT", "--body", &n.to_string()]))
        .collect();
    let read = root.ok(&["bus", "read", "--task", "since", "--since", &ids[4], "--json"]);
    let first: serde_json::Value = serde_json::from_str(read.lines().next().unwrap()).unwrap();
    assert_eq!((first["body"].as_str(), read.lines().count()), (Some("5"), 25));
}

#[test]
fn an_unknown_resume_id_is_an_error_and_never_a_silent_skip() {
    let root = Root::new();
    let _ = root.task_with("unknown", "true");
    let done = root.run(&[
        "bus",
        "read",
        "--task",
        "unknown",
        "--since",
        "MSG-20200101-000000-000000000-PID00001-0001",
    ]);
    assert_eq!((done.code, done.stdout.as_str()), (5, ""), "{done:?}");
}

#[test]
fn a_killed_tool_leaves_no_run_that_is_running_for_ever() {
    let root = Root::new();
    let task = name("forever");
    let run =
        root.ok(&shell_args("job", &task, "echo $$ > \"$JRUN_RUN_FOLDER/pid\"; sleep 100", &["--detach"]));
    let id = run_agent_core::RunId::parse(&run).unwrap();
    let agent: u32 = text_of(&root.tree().run(&task, &id).folder().join("pid")).parse().unwrap();
    kill(root.view(&task).start_of(&id).unwrap().supervisor_pid, "KILL");
    kill(agent, "KILL");
    until(
        "the dead run is seen",
        || (root.json(&["status", &run, "--json"])["status"] == "failed").then_some(()),
        String::new,
    );
    let list = root.json(&["list", "--active", "--json"]);
    assert_eq!(list["total"], 0, "{list}");
}

#[test]
fn a_reused_pid_is_never_killed() {
    let root = Root::new();
    let task = name("reused");
    let run =
        root.ok(&shell_args("job", &task, "echo $$ > \"$JRUN_RUN_FOLDER/pid\"; sleep 100", &["--detach"]));
    let id = run_agent_core::RunId::parse(&run).unwrap();
    let paths = root.tree().run(&task, &id);
    let agent: u32 = text_of(&paths.folder().join("pid")).parse().unwrap();
    let supervisor = root.view(&task).start_of(&id).unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    kill(agent, "KILL");
    until("both are gone", || (!alive(agent) && !alive(supervisor)).then_some(()), String::new);
    // A stranger now has the pid that the run's notes name; only its start differs.
    let mut stranger = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let notes = std::fs::read_to_string(paths.supervisor_lock()).unwrap();
    let notes = notes.replace(&format!("\"pid\":{agent},"), &format!("\"pid\":{},", stranger.id()));
    std::fs::write(paths.supervisor_lock(), notes).unwrap();
    let stopped = root.run(&["stop", "--run", &run, "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    assert_eq!(root.view(&task).run(&id).unwrap().status(), RunStatus::Failed);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_failing_run_is_never_reported_as_completed() {
    let root = Root::new();
    let done = root.run(&["job", "--project", "p", "--agent", "shell", "--json", "--prompt", "exit 1"]);
    let value: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, value["status"].as_str()), (1, Some("failed")));
}

#[test]
fn an_environment_variable_never_beats_a_flag() {
    let root = Root::new();
    let task = root.task_with("flag", "true");
    let mut status = root.command(&["status", "--project", "p", "--task", "flag", "--json"]);
    status.env("JRUN_PROJECT_ID", "elsewhere").env("JRUN_TASK_ID", "task-20200101-000000-elsewhere");
    let done = Done::of(status.output().unwrap(), &[]);
    assert!(done.code == 0 && done.stdout.contains(task.task.as_str()), "{done:?}");
}

#[test]
fn reading_a_project_that_is_not_there_is_an_error() {
    let root = Root::new();
    for args in [&["bus", "read", "--project", "nope"][..], &["list", "--project", "nope"]] {
        assert_eq!(root.run(args).code, 5);
    }
    assert_eq!(root.tree().projects().unwrap(), []);
}

#[test]
fn run_ids_have_digits_below_the_second() {
    let root = Root::new();
    let task = root.task_with("digits", "true");
    for _ in 0..5 {
        assert_eq!(root.run(&["job", "--task", "digits", "--agent", "shell", "--prompt", "true"]).code, 0);
    }
    let fractions: std::collections::BTreeSet<String> =
        root.view(&task).task().runs.keys().map(|id| id.as_str()[15..19].to_owned()).collect();
    assert!(fractions.len() > 1, "{fractions:?}");
}

#[test]
fn field_names_are_the_same_on_every_way_of_reading() {
    let root = Root::new();
    let _ = root.task_with("fields", "true");
    assert_eq!(root.run(&["bus", "post", "--task", "fields", "--body", "x", "--meta", "k=v"]).code, 0);
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let read = root.json(&["bus", "read", "--task", "fields", "--tail", "1", "--json"]);
    let status = root.json(&["status", "--task", "fields", "--json"]);
    let last = status["last_messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(keys(&read), keys(&last));
    assert_eq!(read, last);
}

#[test]
fn a_create_on_a_finished_task_answers_truthfully() {
    let root = Root::new();
    assert_eq!(
        root.run(&[
            "task",
            "--project",
            "p",
            "--task",
            "finished",
            "--agent",
            "shell",
            "--prompt",
            "run-agent done"
        ])
        .code,
        0
    );
    let again = root.run(&[
        "task",
        "--project",
        "p",
        "--task",
        "finished",
        "--agent",
        "shell",
        "--prompt",
        "run-agent done",
    ]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stderr.contains("is completed") && again.stderr.contains("resume"), "{again:?}");
}
