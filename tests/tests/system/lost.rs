//! Supervisors that are lost: their agents get another one, whoever looks, once, under the same terms.

use std::path::PathBuf;
use std::process::Stdio;

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_runner::files::is_locked;
use run_agent_runner::supervise::record;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, processes_of, shell_args, supervisor_ends, text_of, until};

/// Prints before and after it is let go on, and ends with 7.
const AGENT: &str = r#"echo before; echo $$ > "$JRUN_RUN_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; echo after; exit 7"#;

/// A run whose agent goes on without a supervisor.
struct Lost {
    root: Root,
    task: TaskName,
    run: RunId,
    agent: u32,
}

fn lost(slug: &str, prompt: &str, more: &[&str]) -> Lost {
    let root = Root::new();
    let task = name(slug);
    let more: Vec<&str> = std::iter::once("--detach").chain(more.iter().copied()).collect();
    let run = RunId::parse(&root.ok(&shell_args("job", &task, prompt, &more))).unwrap();
    let agent = text_of(&root.tree().run(&task, &run).folder().join("pid")).parse().unwrap();
    let lost = Lost { root, task, run, agent };
    lost.kill_supervisor();
    lost
}

impl Lost {
    fn supervisor(&self) -> u32 {
        self.root.view(&self.task).start_of(&self.run).unwrap().supervisor_pid
    }

    fn kill_supervisor(&self) {
        kill(self.supervisor(), "KILL");
        // A process of several threads is gone when the last of them is.
        let lock = self.root.tree().run(&self.task, &self.run).supervisor_lock();
        until("the lock is free", || (!is_locked(&lock).unwrap()).then_some(()), String::new);
    }

    fn go(&self) {
        std::fs::write(self.root.tree().task(&self.task).folder().join("go"), "").unwrap();
    }

    fn wait(&self) -> i32 {
        self.root.run(&["wait", self.run.as_str(), "--wait", "60s"]).code
    }

    /// Waits in the background until some process has taken the run over.
    fn taken_over(&self, times: usize) -> std::process::Child {
        let waiter = self
            .root
            .command(&["wait", self.run.as_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until(
            "somebody takes the run over",
            || (self.root.count(&self.task, "SUPERVISOR_RESTART") == times).then_some(()),
            || self.state(),
        );
        waiter
    }

    fn state(&self) -> String {
        self.root.run(&["status", "--task", self.task.task.as_str()]).stdout
    }

    fn assert_one_end(&self) {
        let ends = self.root.count(&self.task, "RUN_STOP") + self.root.count(&self.task, "RUN_CRASH");
        assert_eq!(ends, 1, "{}", self.state());
        supervisor_ends(&self.run);
    }

    fn cgroup(&self) -> Option<PathBuf> {
        let lock = self.root.tree().run(&self.task, &self.run).supervisor_lock();
        record::notes(&lock).unwrap().cgroup.filter(|path| path.exists())
    }
}

#[test]
fn an_agent_whose_supervisor_was_lost_gets_another_one_that_records_its_end() {
    let lost = lost("lost", AGENT, &[]);
    let first = lost.supervisor();
    let mut waiter = lost.taken_over(1);
    let second = lost.supervisor();
    assert!(second != first && alive(second), "the stream names the new supervisor");
    let restart = lost.root.messages(&lost.task);
    let restart = restart.iter().find(|m| m.content.kind.as_str() == "SUPERVISOR_RESTART").unwrap();
    assert_eq!(restart.content.meta["previous_pid"], first.to_string());
    assert_eq!(restart.content.run.as_ref(), Some(&lost.run));
    lost.go();
    assert_eq!(waiter.wait().unwrap().code(), Some(1));
    lost.assert_one_end();
    let view = lost.root.view(&lost.task);
    let end = view.run(&lost.run).unwrap().end().unwrap().0.clone();
    // Kernels before 6.15 do not tell.
    match end.exit_code {
        Some(code) => assert_eq!((code, end.reason.as_str()), (7, "exit code 7")),
        None => assert_eq!(end.reason, "supervisor lost"),
    }
    let run = lost.root.tree().run(&lost.task, &lost.run);
    let marks = run_agent_runner::output::marks(&lost.root.tree(), &run);
    let printed = std::fs::metadata(run.stdout()).unwrap().len();
    assert_eq!(marks.last().unwrap().stdout, printed, "the marks go on: {marks:?}");
    assert!(marks.is_sorted_by_key(|mark| (mark.ms, mark.stdout)), "{marks:?}");
}

#[test]
fn of_many_who_look_one_takes_a_run_over() {
    let lost = lost("many", AGENT, &[]);
    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let mut wait = lost.root.command(&["wait", lost.run.as_str()]);
            wait.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    until(
        "one takes it over",
        || (lost.root.count(&lost.task, "SUPERVISOR_RESTART") > 0).then_some(()),
        || lost.state(),
    );
    lost.go();
    for mut waiter in waiters {
        assert_eq!(waiter.wait().unwrap().code(), Some(1));
    }
    assert_eq!(lost.root.count(&lost.task, "SUPERVISOR_RESTART"), 1, "{}", lost.state());
    lost.assert_one_end();
}

#[test]
fn a_look_takes_nothing_over() {
    let lost = lost("look", AGENT, &[]);
    for look in [vec!["status", lost.run.as_str()], vec!["list"]] {
        let done = lost.root.run(&look);
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert!(alive(lost.agent));
    assert_eq!(lost.root.count(&lost.task, "SUPERVISOR_RESTART"), 0);
}

#[test]
fn a_time_limit_holds_whichever_supervisor_looks_at_the_clock() {
    let lost = lost("limit", AGENT, &["--timeout", "1500ms"]);
    assert_eq!(lost.wait(), 1, "{}", lost.state());
    let view = lost.root.view(&lost.task);
    let end = view.run(&lost.run).unwrap().end().unwrap().0.clone();
    assert!(end.reason.contains("time limit of 1.5s reached"), "{end:?}");
    assert!(!alive(lost.agent));
    lost.assert_one_end();
}

#[test]
fn a_driver_takes_over_the_root_run_that_it_joins() {
    let root = Root::new();
    let task = name("join");
    let prompt = r#"echo start >> "$JRUN_TASK_FOLDER/starts"; echo $$ > "$JRUN_TASK_FOLDER/pid"; while [ ! -f "$JRUN_TASK_FOLDER/go" ]; do sleep 0.05; done; run-agent done"#;
    let mut driver = root.drive(&task, prompt);
    let agent: u32 = text_of(&root.tree().task(&task).folder().join("pid")).parse().unwrap();
    let view = root.view(&task);
    let (run, state) = view.task().runs.iter().next().unwrap();
    let supervisor = state.start().unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    until(
        "the driver starts another supervisor",
        || (root.count(&task, "SUPERVISOR_RESTART") == 1).then_some(()),
        String::new,
    );
    assert!(alive(agent));
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
    let code = driver.wait().unwrap().code();
    let starts = text_of(&root.tree().task(&task).folder().join("starts"));
    let known = root.view(&task).run(run).unwrap().end().unwrap().0.exit_code.is_some();
    assert_eq!((code, starts.lines().count()), (Some(0), 1), "known: {known}");
}

#[test]
fn a_stop_of_a_run_that_was_taken_over_goes_to_the_last_process() {
    let prompt = r#"
        trap '' TERM
        (env -i setsid sh -c 'trap "" TERM; echo $$ > "'"$JRUN_RUN_FOLDER"'/bare.pid"; while :; do sleep 0.1; done' &)
        until [ -s "$JRUN_RUN_FOLDER/bare.pid" ]; do :; done
        echo $$ > "$JRUN_RUN_FOLDER/pid"
        while :; do sleep 0.1; done
    "#;
    let lost = lost("stop", prompt, &[]);
    let in_cgroup = lost.cgroup().is_some();
    let bare: u32 =
        text_of(&lost.root.tree().run(&lost.task, &lost.run).folder().join("bare.pid")).parse().unwrap();
    let mut waiter = lost.taken_over(1);
    let stopped = lost.root.run(&["stop", "--run", lost.run.as_str(), "--grace", "100ms"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(!alive(lost.agent));
    if in_cgroup {
        assert!(!alive(bare), "only its cgroup tells whose it is");
    } else {
        eprintln!("skipped in part: no cgroup can be made here, by which alone a bare orphan would be known");
        kill(bare, "KILL");
    }
    assert_eq!(waiter.wait().unwrap().code(), Some(1));
    assert_eq!(lost.root.view(&lost.task).run(&lost.run).unwrap().status(), RunStatus::Stopped);
    lost.assert_one_end();
}

#[test]
fn what_leaves_its_session_its_parents_and_its_environment_does_not_survive_a_stop() {
    let prompt = r#"
        (env -i setsid sh -c '(trap "" TERM; while :; do sleep 0.1; done) & echo $! > "'"$JRUN_RUN_FOLDER"'/bare.pid"' &)
        until [ -s "$JRUN_RUN_FOLDER/bare.pid" ]; do :; done
        echo $$ > "$JRUN_RUN_FOLDER/pid"
        sleep 1000
    "#;
    // Without its supervisor, the subreaper, nothing but the cgroup is left to tell.
    let lost = lost("bare", prompt, &[]);
    let Some(cgroup) = lost.cgroup() else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let bare: u32 =
        text_of(&lost.root.tree().run(&lost.task, &lost.run).folder().join("bare.pid")).parse().unwrap();
    assert!(alive(bare));
    let stopped = lost.root.run(&["stop", "--run", lost.run.as_str(), "--grace", "100ms"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(!alive(bare) && !alive(lost.agent));
    assert!(!cgroup.exists(), "and nothing is left of its cgroup");
    lost.assert_one_end();
}

#[test]
fn a_closer_removes_the_cgroup_that_a_dead_supervisor_left() {
    let lost = lost("cgroup", AGENT, &[]);
    let Some(cgroup) = lost.cgroup() else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    kill(lost.agent, "KILL");
    until("the agent is gone", || processes_of(&lost.run).is_empty().then_some(()), String::new);
    assert_eq!(lost.root.run(&["status", lost.run.as_str()]).code, 0);
    assert!(!cgroup.exists());
    lost.assert_one_end();
}

#[test]
fn a_kill_at_any_step_of_taking_over_is_followed_by_the_next_who_looks() {
    for step in ["starter.spawned", "starter.ordered", "successor.noted", "successor.posted"] {
        let lost = lost("steps", AGENT, &[]);
        let mut killed = lost.root.command(&["wait", lost.run.as_str()]);
        killed.env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut killed = killed.spawn().unwrap();
        if step.starts_with("starter") {
            assert!(!killed.wait().unwrap().success(), "{step}");
        } else {
            until(
                "one that took over was killed",
                || (record_of(&lost) > 1).then_some(()),
                || format!("{step}: {}", lost.state()),
            );
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        assert!(alive(lost.agent), "{step}");
        lost.go();
        assert_eq!(lost.wait(), 1, "{step}: {}", lost.state());
        lost.assert_one_end();
    }
}

/// How many supervisors noted that the run is theirs.
fn record_of(lost: &Lost) -> usize {
    let lock = lost.root.tree().run(&lost.task, &lost.run).supervisor_lock();
    std::fs::read_to_string(lock).unwrap().matches("\"supervisor\"").count()
}

#[test]
fn an_agent_that_deleted_its_runs_folder_is_left_to_those_who_look() {
    let lost = lost("deleted", AGENT, &[]);
    std::fs::remove_dir_all(lost.root.tree().run(&lost.task, &lost.run).folder()).unwrap();
    let task = lost.task.task.as_str();
    let look = || lost.root.json(&["status", "--task", task, "--json"])["runs"][0]["status"].clone();
    assert_eq!(look(), "running");
    assert_eq!(lost.root.count(&lost.task, "SUPERVISOR_RESTART"), 0, "there is no lock that one could hold");
    assert!(alive(lost.agent));
    lost.go();
    until("it is closed", || (look() == "failed").then_some(()), || lost.state());
    lost.assert_one_end();
}
