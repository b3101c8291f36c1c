//! SIGKILL at every step: an agent outlives the tool, no run has two agents, and every run has exactly one end.

use std::process::Stdio;

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_runner::supervise::record;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, shell_args, text_of, until};

/// Writes its pid, waits for `go`, ends with 5. Each start leaves a line.
const AGENT: &str = r#"echo start >> "$JRUN_TASK_FOLDER/starts"; echo $$ > "$JRUN_TASK_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; exit 5"#;

fn starts(root: &Root, task: &TaskName) -> usize {
    let text = std::fs::read_to_string(root.tree().task(task).folder().join("starts")).unwrap_or_default();
    text.lines().count()
}

fn go(root: &Root, task: &TaskName) {
    std::fs::write(root.tree().task(task).folder().join("go"), "").unwrap();
}

/// Waits until every run of the task has ended, looking as any later process does.
fn all_ended(root: &Root, task: &TaskName) {
    until(
        "every run ends",
        || {
            let status = root.json(&["status", "--task", task.task.as_str(), "--json"]);
            let ended = status["runs"]
                .as_array()
                .unwrap()
                .iter()
                .all(|run| run["status"] != "running" && run["status"] != "queued");
            ended.then_some(())
        },
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
    let messages = root.messages(task);
    for run in root.view(task).task().runs.keys() {
        let ends = messages.iter().filter(|m| {
            m.content.run.as_ref() == Some(run) && matches!(m.content.kind.as_str(), "RUN_STOP" | "RUN_CRASH")
        });
        assert_eq!(ends.count(), 1, "run {run} has exactly one end");
    }
}

#[test]
fn a_killed_job_leaves_the_agent_and_its_exit_code() {
    let root = Root::new();
    let task = name("job");
    let mut job = root.command(&shell_args("job", &task, AGENT, &[])).stdout(Stdio::null()).spawn().unwrap();
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    job.kill().unwrap();
    job.wait().unwrap();
    assert!(alive(pid));
    go(&root, &task);
    all_ended(&root, &task);
    let view = root.view(&task);
    let run = view.task().runs.values().next().unwrap();
    assert_eq!((run.status(), run.end().unwrap().0.exit_code), (RunStatus::Failed, Some(5)));
}

#[test]
fn a_killed_driver_leaves_the_agent_and_a_new_one_joins_it() {
    let root = Root::new();
    let task = name("task");
    let prompt = r#"echo start >> "$JRUN_TASK_FOLDER/starts"; echo $$ > "$JRUN_TASK_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; run-agent done"#;
    let mut driver = root.drive(&task, prompt);
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    driver.kill().unwrap();
    driver.wait().unwrap();
    assert!(alive(pid));
    let mut second = root
        .command(&["task", "--task", task.task.as_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(
        "the new driver takes the loop",
        || (root.count(&task, "LOOP_START") == 2).then_some(()),
        String::new,
    );
    assert!(alive(pid));
    go(&root, &task);
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!((starts(&root, &task), root.view(&task).task().runs.len()), (1, 1), "joined, not doubled");
}

#[test]
fn a_killed_driver_that_finds_the_run_ended_goes_on_with_its_count() {
    let root = Root::new();
    let task = name("gap");
    let mut driver = root.drive(&task, AGENT);
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    driver.kill().unwrap();
    driver.wait().unwrap();
    go(&root, &task);
    all_ended(&root, &task);
    let done = root.run(&["task", "--task", task.task.as_str(), "--max-restarts", "1"]);
    assert_eq!(done.code, 3, "{done:?}");
    let view = root.view(&task);
    assert_eq!((starts(&root, &task), view.task().ralph.restarts), (2, 1));
    assert!(
        view.task().runs.values().all(|run| run.end().unwrap().0.exit_code == Some(5)),
        "no exit code is lost"
    );
}

/// The steps of the starter and of the supervisor at which a SIGKILL is tried, and whether the agent was let go.
const STEPS: [(&str, bool); 15] = [
    ("starter.folder", false),
    ("starter.lock", false),
    ("starter.intent", false),
    ("starter.spawned", false),
    ("starter.ordered", true),
    ("supervisor.noted", false),
    ("supervisor.slot", false),
    ("supervisor.cgroup", false),
    ("supervisor.shim", false),
    ("supervisor.posted", false),
    ("supervisor.let_go", true),
    ("supervisor.reported", true),
    ("supervisor.reaped", true),
    ("supervisor.exit_noted", true),
    ("supervisor.ended", true),
];

#[test]
fn a_kill_at_any_step_gives_no_second_agent_and_no_run_without_an_end() {
    for (step, let_go) in STEPS {
        let root = Root::new();
        let task = root.task_with("before", "true");
        go(&root, &task);
        let killed = root
            .command(&shell_args("job", &task, AGENT, &[]))
            .env("RUN_AGENT_FAILPOINT", format!("{step}=kill"))
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{step}: {killed:?}");
        all_ended(&root, &task);
        let count = starts(&root, &task);
        assert_eq!(count, usize::from(let_go), "{step}: the agent was started {count} times");
        let view = root.view(&task);
        let known = view.task().runs.len() - 1;
        assert_eq!(known, usize::from(!matches!(step, "starter.folder" | "starter.lock")), "{step}");
        if let Some((id, run)) = view.task().runs.iter().nth(1) {
            let noted = matches!(step, "supervisor.exit_noted" | "supervisor.ended" | "starter.ordered");
            let code = run.end().unwrap().0.exit_code;
            assert_eq!(
                code,
                noted.then_some(5),
                "{step}: the exit code survives from the moment it is noted"
            );
            let info = root.tree().run(&task, id).info();
            // It is brought up to date just after the run's end is posted.
            until(
                &format!("{step}: the run's end in its run-info"),
                || text_of(&info).contains("status: \"failed\"").then_some(()),
                || text_of(&info),
            );
        }
        for run in view.task().runs.keys() {
            let notes = record::notes(&root.tree().run(&task, run).supervisor_lock()).unwrap();
            assert!(notes.cgroup.is_none_or(|path| !path.exists()), "{step}: no cgroup is left");
        }
        // The task is as good as before: the next run is an ordinary one.
        let next = root.run(&shell_args("job", &task, "exit 0", &[]));
        assert_eq!(next.code, 0, "{step}: {next:?}");
    }
}

#[test]
fn a_loop_whose_run_is_killed_at_any_step_never_has_two_agents_at_once() {
    for (step, _) in STEPS {
        let root = Root::new();
        let task = name("loop");
        // Fails when another one of its kind is at work.
        let prompt = r#"
            mkdir "$JRUN_TASK_FOLDER/alone" || { echo two > "$JRUN_TASK_FOLDER/two"; exit 1; }
            sleep 0.1; rmdir "$JRUN_TASK_FOLDER/alone"
            n=$(ls "$JRUN_RUNS_DIR" | wc -l); [ "$n" -lt 2 ] || run-agent done
        "#;
        let killed = root
            .command(&shell_args("task", &task, prompt, &[]))
            .env("RUN_AGENT_FAILPOINT", format!("{step}=kill"))
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // A driver that is not the one that is killed fails its restarts at the same step, or goes on.
        let mut killed = killed;
        if step.starts_with("supervisor") {
            until(
                "the first run is over",
                || {
                    let status = root.run(&["status", "--task", task.task.as_str(), "--json"]);
                    let ended = ["\"status\":\"failed\"", "\"status\":\"completed\""];
                    ended.iter().any(|word| status.stdout.contains(word)).then_some(())
                },
                || root.run(&["status", "--task", task.task.as_str()]).stdout,
            );
            killed.kill().unwrap();
        }
        killed.wait().unwrap();
        if root.tree().task(&task).folder().exists() {
            // A shim of a run that was cut short ends by itself.
            let again = root.run(&["task", "--task", task.task.as_str(), "--agent", "shell"]);
            assert_eq!(again.code, 0, "{step}: {again:?}");
            all_ended(&root, &task);
        }
        assert!(!root.tree().task(&task).folder().join("two").exists(), "{step}: two root agents at once");
    }
}

#[test]
fn a_killed_agent_is_a_crash_with_its_signal() {
    let root = Root::new();
    let task = name("agent");
    let run = root.ok(&shell_args("job", &task, AGENT, &["--detach"]));
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    kill(pid, "KILL");
    let waited = root.run(&["wait", &run, "--wait", "60s"]);
    assert_eq!(waited.code, 1, "{waited:?}");
    let view = root.view(&task);
    let end = view.run(&RunId::parse(&run).unwrap()).unwrap().end().unwrap().0.clone();
    assert_eq!((end.exit_code, end.signal, end.error_class.as_deref()), (Some(137), Some(9), Some("killed")));
}

#[test]
fn of_many_who_find_a_dead_run_one_closes_it() {
    let root = Root::new();
    let task = name("closers");
    let run = root.ok(&shell_args("job", &task, AGENT, &["--detach"]));
    let run = RunId::parse(&run).unwrap();
    let pid: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    let supervisor = root.view(&task).start_of(&run).unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    kill(pid, "KILL");
    until("both are gone", || (!alive(pid) && !alive(supervisor)).then_some(()), String::new);
    let lookers: Vec<_> = (0..10)
        .map(|_| {
            root.command(&["status", "--task", task.task.as_str()]).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut looker in lookers {
        assert!(looker.wait().unwrap().success());
    }
    all_ended(&root, &task);
    let view = root.view(&task);
    assert_eq!(view.run(&run).unwrap().end().unwrap().0.reason, "supervisor lost");
}
