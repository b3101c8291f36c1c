//! What was found by trying to break it, each as a test that fails without its mending.

use std::process::Stdio;

use run_agent_core::RunId;
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, alive, kill, name, processes_of, shell_args, text_of, until};

fn folder(root: &Root, task: &TaskName) -> std::path::PathBuf {
    root.tree().task(task).folder().to_owned()
}

fn running_root(root: &Root, task: &TaskName) -> RunId {
    until(
        "a running root",
        || {
            let view = run_agent_runner::TaskView::open(&root.tree(), task).ok()?;
            let id = view.task().active_root()?;
            (view.run(id)?.status() == RunStatus::Running).then(|| id.clone())
        },
        String::new,
    )
}

#[test]
fn an_agent_that_empties_its_run_folder_is_not_taken_for_dead() {
    let root = Root::new();
    let task = name("emptied");
    let prompt = "echo start >> \"$JRUN_TASK_FOLDER/starts\"; rm -rf \"$JRUN_RUN_FOLDER\"; touch \"$JRUN_TASK_FOLDER/gone\"; while [ ! -f \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done; run-agent done";
    let mut driver = root.drive(&task, prompt);
    until("the folder is gone", || folder(&root, &task).join("gone").exists().then_some(()), String::new);
    // Everybody who looks finds it alive.
    for _ in 0..5 {
        assert_eq!(root.json(&["status", "--task", "emptied", "--json"])["status"], "running");
    }
    std::fs::write(folder(&root, &task).join("go"), "").unwrap();
    // `done` inside finds its own folder gone and refuses: the marker is made by hand here.
    std::fs::write(root.tree().task(&task).done(), "").unwrap();
    assert!(driver.wait().unwrap().code().is_some());
    assert_eq!(std::fs::read_to_string(folder(&root, &task).join("starts")).unwrap().lines().count(), 1);
}

#[test]
fn a_loop_is_not_started_while_its_task_is_being_stopped() {
    let root = Root::new();
    let task = name("stopping");
    let prompt = "trap '' TERM; touch \"$JRUN_TASK_FOLDER/up\"; while :; do sleep 0.05; done";
    let mut driver = root.drive(&task, prompt);
    until("the agent is up", || folder(&root, &task).join("up").exists().then_some(()), String::new);
    kill(driver.id(), "KILL");
    driver.wait().unwrap();
    let mut stop =
        root.command(&["stop", "--task", "stopping", "--grace", "2s"]).stdout(Stdio::null()).spawn().unwrap();
    until("the stop is asked for", || (root.count(&task, "LOOP_STOPPING") == 1).then_some(()), String::new);
    let second = root.run(&["task", "--task", "stopping"]);
    assert_eq!(second.code, 4, "{second:?}");
    assert!(second.stderr.contains("being stopped"), "{second:?}");
    assert_eq!(stop.wait().unwrap().code(), Some(0));
    let view = root.view(&task);
    assert_eq!((view.task().status(), view.task().runs.len()), (TaskStatus::Stopped, 1));
}

#[test]
fn an_interrupted_driver_does_not_lift_a_stop() {
    let root = Root::new();
    let task = name("lifted");
    let prompt = "trap 'sleep 0.5; run-agent job --detach --agent shell --prompt \"sleep 300\" || true; exit 0' TERM; touch \"$JRUN_TASK_FOLDER/up\"; while :; do sleep 0.05; done";
    let mut driver = root.drive(&task, prompt);
    until("the agent is up", || folder(&root, &task).join("up").exists().then_some(()), String::new);
    let mut stop =
        root.command(&["stop", "--task", "lifted", "--grace", "10s"]).stdout(Stdio::null()).spawn().unwrap();
    until("the stop is asked for", || (root.count(&task, "LOOP_STOPPING") == 1).then_some(()), String::new);
    kill(driver.id(), "INT");
    driver.wait().unwrap();
    assert_eq!(stop.wait().unwrap().code(), Some(0));
    let view = root.view(&task);
    assert_eq!(
        (view.task().status(), view.task().runs.len()),
        (TaskStatus::Stopped, 1),
        "no child was started"
    );
}

#[test]
fn a_run_that_is_being_stopped_starts_no_child() {
    let root = Root::new();
    let task = name("trap");
    let prompt = "trap 'run-agent job --detach --agent shell --prompt \"sleep 300\" 2> \"$JRUN_TASK_FOLDER/refused\"; exit 0' TERM; touch \"$JRUN_TASK_FOLDER/up\"; while :; do sleep 0.05; done";
    let run = root.ok(&shell_args("job", &task, prompt, &["--detach"]));
    until("the agent is up", || folder(&root, &task).join("up").exists().then_some(()), String::new);
    assert_eq!(root.run(&["stop", "--run", &run, "--grace", "20s"]).code, 0);
    assert!(text_of(&folder(&root, &task).join("refused")).contains("is being stopped"));
    assert_eq!(root.json(&["list", "--active", "--json"])["total"], 0);
}

#[test]
fn a_killed_stop_does_not_lock_its_task_for_ever() {
    let root = Root::new();
    let task = name("halfstop");
    let run = root.ok(&shell_args("job", &task, "trap '' TERM; touch \"$JRUN_TASK_FOLDER/up\"; while [ ! -f \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done", &["--detach"]));
    until("the agent is up", || folder(&root, &task).join("up").exists().then_some(()), String::new);
    let mut stop = root
        .command(&["stop", "--task", "halfstop", "--grace", "60s"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the run is asked", || (root.count(&task, "RUN_STOPPING") == 1).then_some(()), String::new);
    stop.kill().unwrap();
    stop.wait().unwrap();
    std::fs::write(folder(&root, &task).join("go"), "").unwrap();
    let _ = root.run(&["wait", &run, "--wait", "60s"]);
    assert_eq!(root.json(&["status", "--task", "halfstop", "--json"])["status"], "stopped");
    let next = root.run(&shell_args("job", &task, "true", &[]));
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(root.json(&["status", "--task", "halfstop", "--json"])["status"], "completed");
}

#[test]
fn an_emptied_or_foreign_run_id_does_not_hide_a_process_from_its_stop() {
    let root = Root::new();
    let task = name("hiding");
    let prompt = "JRUN_ID= setsid sh -c 'echo $$ > \"$JRUN_TASK_FOLDER/a\"; sleep 100' & JRUN_ID=zzz setsid sh -c 'echo $$ > \"$JRUN_TASK_FOLDER/b\"; sleep 100' & wait";
    let run = root.ok(&shell_args("job", &task, prompt, &["--detach"]));
    let pids: Vec<u32> =
        ["a", "b"].iter().map(|f| text_of(&folder(&root, &task).join(f)).parse().unwrap()).collect();
    assert_eq!(root.run(&["stop", "--run", &run, "--grace", "1s"]).code, 0);
    assert!(!pids.iter().any(|pid| alive(*pid)));
}

#[test]
fn a_configuration_cannot_set_the_tools_own_variables() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    let config = "agent \"x\" {\n type = \"command\"\n argv = [\"env\"]\n env = { JRUN_ID = \"evil\" }\n}\n";
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    let done = root.run(&["job", "--project", "p", "--agent", "x", "--prompt", "y"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("JRUN_ID"), "{done:?}");
}

#[test]
fn what_an_agent_left_running_when_its_supervisor_was_lost_is_ended() {
    let root = Root::new();
    let task = name("lostleft");
    let run = root.ok(&shell_args("job", &task, "setsid sleep 776 & echo $! > \"$JRUN_TASK_FOLDER/left\"; while [ ! -f \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done", &["--detach"]));
    let left: u32 = text_of(&folder(&root, &task).join("left")).parse().unwrap();
    let id = RunId::parse(&run).unwrap();
    kill(root.view(&task).start_of(&id).unwrap().supervisor_pid, "KILL");
    std::fs::write(folder(&root, &task).join("go"), "").unwrap();
    until(
        "the run is closed",
        || (root.json(&["status", &run, "--json"])["status"] == "failed").then_some(()),
        String::new,
    );
    assert!(!alive(left));
    assert_eq!(processes_of(&id), [0u32; 0]);
}

#[test]
fn a_task_that_is_deleted_under_its_loop_ends_it_with_a_clear_error() {
    let root = Root::new();
    let prompt = "rm -rf \"$JRUN_TASK_FOLDER\"; sleep 100";
    let done = root.run(&["task", "--project", "p", "--agent", "shell", "--prompt", prompt]);
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stderr.lines().last().unwrap().contains("was deleted"), "{done:?}");
    until(
        "the agent, which nothing can reach any more, is ended",
        || {
            let wanted = format!("JRUN_ROOT={}", root.path().display());
            let left = run_agent_runner::supervise::os::processes().unwrap().into_iter().any(|p| {
                std::fs::read(format!("/proc/{}/environ", p.id.pid))
                    .unwrap_or_default()
                    .split(|b| *b == 0)
                    .any(|var| var == wanted.as_bytes())
            });
            (!left).then_some(())
        },
        String::new,
    );
}

#[test]
fn a_driver_keeps_no_zombies() {
    let root = Root::new();
    let task = name("zombies");
    let prompt = "n=$(ls \"$JRUN_RUNS_DIR\" | wc -l); [ \"$n\" -lt 3 ] && exit 0; touch \"$JRUN_TASK_FOLDER/third\"; while [ ! -f \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.05; done; run-agent done";
    let mut driver = root.drive(&task, prompt);
    until("the third run", || folder(&root, &task).join("third").exists().then_some(()), String::new);
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", driver.id())).unwrap_or_default();
    assert!(children.split_whitespace().count() <= 1, "one supervisor and no zombie: {children}");
    std::fs::write(folder(&root, &task).join("go"), "").unwrap();
    assert_eq!(driver.wait().unwrap().code(), Some(0));
}

#[test]
fn many_who_name_the_same_new_task_make_one() {
    let root = Root::new();
    let args = [
        "job",
        "--project",
        "p",
        "--task",
        "same",
        "--agent",
        "shell",
        "--detach",
        "--key",
        "k",
        "--prompt",
        "true",
    ];
    let children: Vec<_> =
        (0..12).map(|_| root.command(&args).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let ids: std::collections::BTreeSet<String> = children
        .into_iter()
        .map(|child| Done::of(child.wait_with_output().unwrap(), &args))
        .map(|done| {
            assert_eq!(done.code, 0, "{done:?}");
            done.stdout
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(root.view(&root.only_task()).task().runs.len(), 1);
}

#[test]
fn a_closed_stderr_is_no_panic() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    std::fs::write(root.path().join("config.hcl"), "breaker { failures = 3 }\n").unwrap();
    let mut job = root
        .command(&["job", "--project", "p", "--agent", "shell", "--prompt", "true"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(job.stderr.take());
    assert_eq!(job.wait().unwrap().code(), Some(0));
}

#[test]
fn an_output_that_is_no_file_holds_nobody_up() {
    let root = Root::new();
    let done = root.run(&[
        "job",
        "--project",
        "p",
        "--agent",
        "shell",
        "--prompt",
        "mkfifo \"$JRUN_RUN_FOLDER/output.md\"",
    ]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
    let task = root.only_task();
    for args in
        [&["output", "--task", task.task.as_str()][..], &["output", "--task", task.task.as_str(), "--json"]]
    {
        let shown = root.run(args);
        assert_eq!(shown.code, 1, "{shown:?}");
        assert!(shown.stderr.contains("not a regular file"), "{shown:?}");
    }
}

#[test]
fn a_resume_that_cannot_start_changes_nothing() {
    let root = Root::new();
    assert_eq!(
        root.run(&[
            "task",
            "--project",
            "p",
            "--task",
            "kept",
            "--agent",
            "shell",
            "--prompt",
            "run-agent done"
        ])
        .code,
        0
    );
    let task = root.only_task();
    let resumed = root.run(&["resume", "--task", "kept", "--agent", "nobody"]);
    assert_eq!(resumed.code, 5, "{resumed:?}");
    assert!(root.tree().task(&task).done().is_file());
    assert_eq!(root.count(&task, "DONE_CLEARED"), 0);
}

#[test]
fn a_marker_that_is_removed_by_hand_makes_the_task_undone() {
    let root = Root::new();
    assert_eq!(
        root.run(&[
            "task",
            "--project",
            "p",
            "--task",
            "undone",
            "--agent",
            "shell",
            "--prompt",
            "run-agent done"
        ])
        .code,
        0
    );
    let task = root.only_task();
    std::fs::remove_file(root.tree().task(&task).done()).unwrap();
    let again = root.run(&["task", "--task", "undone"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!((root.count(&task, "DONE_CLEARED"), root.view(&task).task().runs.len()), (1, 2));
}

#[test]
fn variables_without_a_run_name_project_and_task() {
    let root = Root::new();
    let task = root.task_with("variables", "true");
    let mut status = root.command(&["status", "--json"]);
    status.env("JRUN_PROJECT_ID", "p").env("JRUN_TASK_ID", task.task.as_str());
    let done = Done::of(status.output().unwrap(), &[]);
    assert!(done.code == 0 && done.stdout.contains(task.task.as_str()), "{done:?}");
}

#[test]
fn a_job_that_reaches_its_time_limit_ends_with_124_and_a_stopped_root_leaves_a_stopped_task() {
    let root = Root::new();
    let task = name("limits");
    let done = root.run(&shell_args("job", &task, "sleep 100", &["--timeout", "200ms"]));
    assert_eq!(done.code, 124, "{done:?}");

    let looped = name("rootless");
    let args = shell_args("task", &looped, "sleep 100", &[]);
    let mut driver = root.command(&args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let run = running_root(&root, &looped);
    kill(driver.id(), "KILL");
    driver.wait().unwrap();
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
    let view = root.view(&looped);
    assert_eq!(
        (view.task().status(), view.run(&run).unwrap().status()),
        (TaskStatus::Stopped, RunStatus::Stopped)
    );
}

#[test]
fn a_task_at_the_depth_limit_is_refused_with_one_line_and_makes_nothing() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    std::fs::write(root.path().join("config.hcl"), "limits { max_depth = 1 }\n").unwrap();
    let inner = "run-agent task --task deeper --agent shell --prompt true 2> \"$JRUN_TASK_FOLDER/task\" || true; run-agent job --agent shell --prompt true 2> \"$JRUN_TASK_FOLDER/job\" || true";
    let outer = format!("run-agent job --agent shell --prompt '{inner}'");
    let task = name("deep");
    let done = root.run(&shell_args("job", &task, &outer, &[]));
    assert_eq!(done.code, 0, "{done:?}");
    for file in ["task", "job"] {
        let said = text_of(&folder(&root, &task).join(file));
        assert!(said.contains("depth 2 is above the limit of 1") && said.lines().count() == 1, "{said}");
    }
    assert_eq!(root.only_task(), task);
    assert_eq!(root.view(&task).task().runs.len(), 2);
}

#[test]
fn an_orphan_whose_run_folder_is_gone_is_stopped_too() {
    let root = Root::new();
    let task = name("bare");
    let prompt = "echo $$ > \"$JRUN_TASK_FOLDER/pid.$JRUN_ID\"; trap '' TERM; while :; do sleep 0.05; done";
    let runs: Vec<RunId> = (0..3)
        .map(|_| RunId::parse(&root.ok(&shell_args("job", &task, prompt, &["--detach"]))).unwrap())
        .collect();
    let mut agents = Vec::new();
    for run in &runs {
        agents.push(text_of(&folder(&root, &task).join(format!("pid.{run}"))).parse::<u32>().unwrap());
        let supervisor = root.view(&task).start_of(run).unwrap().supervisor_pid;
        kill(supervisor, "KILL");
        until("the supervisor is gone", || (!alive(supervisor)).then_some(()), String::new);
    }
    std::fs::remove_dir_all(root.tree().run(&task, &runs[0]).folder()).unwrap();
    let stopped = root.run(&["stop", "--task", "bare", "--grace", "300ms"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(!agents.iter().any(|pid| alive(*pid)));
    let view = root.view(&task);
    assert!(runs.iter().all(|run| view.run(run).unwrap().status() == RunStatus::Stopped));
}

#[test]
fn a_stop_names_only_what_it_stopped_itself() {
    let root = Root::new();
    let task = name("names");
    let prompt =
        "run-agent job --detach --agent shell --prompt 'sleep 100' > \"$JRUN_TASK_FOLDER/child\"; sleep 100";
    let parent = root.ok(&shell_args("job", &task, prompt, &["--detach"]));
    let child = text_of(&folder(&root, &task).join("child"));
    assert_eq!(root.json(&["stop", "--run", &child, "--json"])["stopped_runs"], serde_json::json!([child]));
    assert_eq!(root.json(&["stop", "--run", &parent, "--json"])["stopped_runs"], serde_json::json!([parent]));
}

#[test]
fn a_resume_that_is_refused_leaves_the_marker() {
    let root = Root::new();
    let task = name("refused");
    let prompt = "trap '' TERM; touch \"$JRUN_TASK_FOLDER/up\"; while :; do sleep 0.05; done";
    let _ = root.ok(&shell_args("job", &task, prompt, &["--detach"]));
    until("the agent is up", || folder(&root, &task).join("up").exists().then_some(()), String::new);
    assert_eq!(root.run(&["done", "--task", "refused"]).code, 0);
    let mut stop =
        root.command(&["stop", "--task", "refused", "--grace", "3s"]).stdout(Stdio::null()).spawn().unwrap();
    until("the stop is asked for", || (root.count(&task, "LOOP_STOPPING") == 1).then_some(()), String::new);
    let resumed = root.run(&["resume", "--task", "refused", "--agent", "shell"]);
    assert_eq!(resumed.code, 4, "{resumed:?}");
    assert!(root.tree().task(&task).done().is_file());
    assert_eq!(root.count(&task, "DONE_CLEARED"), 0);
    assert_eq!(stop.wait().unwrap().code(), Some(0));
}

#[test]
fn a_run_that_starts_while_it_is_looked_at_is_not_closed() {
    // Lookers by the dozen while runs come up and go: none may close a run that lives.
    let root = Root::new();
    let task = root.task_with("busy", "true");
    let lookers: Vec<_> = (0..3)
        .map(|_| {
            let script = "for i in $(seq 40); do \"$0\" status --task busy > /dev/null; done";
            let binary = root.command(&[]).get_program().to_owned();
            let mut looker = std::process::Command::new("sh");
            looker.args(["-c", script]).arg(binary).env("JRUN_ROOT", root.path()).stdout(Stdio::null());
            looker.spawn().unwrap()
        })
        .collect();
    for _ in 0..25 {
        assert_eq!(root.run(&shell_args("job", &task, "true", &[])).code, 0);
    }
    for mut looker in lookers {
        assert!(looker.wait().unwrap().success());
    }
    assert!(root.view(&task).task().runs.values().all(|run| run.status() == RunStatus::Completed));
}
