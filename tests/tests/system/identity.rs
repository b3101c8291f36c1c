//! Whose pid is it? Strangers that got one, reboots, other machines and containers.

use std::process::{Child, Command, Stdio};

use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, RunIntent, RunStart};
use run_agent_core::world::{RunStatus, TaskStatus};
use run_agent_core::{Durability, RunId, Timestamp};
use run_agent_runner::TaskView;
use run_agent_runner::files::is_locked;
use run_agent_runner::supervise::os::{Machine, ProcessId, processes};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, shell_args, text_of, until};

/// Goes on until it is killed.
const AGENT: &str = r#"echo $$ > "$JRUN_RUN_FOLDER/pid"; while :; do sleep 0.05; done"#;

/// A process that has nothing to do with any run.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run that a stream tells of, as if it had been started here, with an agent that had this pid once.
fn recorded(root: &Root, task: &TaskName, agent: ProcessId) -> RunId {
    let before = root.task_with(task.task.as_str().rsplit('-').next().unwrap(), "true");
    assert_eq!(&before, task);
    let run = RunId::new(Timestamp::now(), std::process::id(), 1);
    let here = Machine::here();
    let intent = RunIntent {
        agent: "shell".to_owned(),
        starter_pid: agent.pid,
        machine_id: here.machine_id.clone(),
        boot_id: here.boot_id.clone(),
        pid_namespace: here.pid_namespace.clone(),
        ..RunIntent::default()
    };
    let start = RunStart {
        agent: "shell".to_owned(),
        process_ownership: "managed".to_owned(),
        pid: agent.pid,
        pgid: agent.pid,
        pid_start_ticks: agent.start_ticks,
        supervisor_pid: agent.pid,
        supervisor_start_ticks: agent.start_ticks,
        machine_id: here.machine_id.clone(),
        boot_id: here.boot_id.clone(),
        pid_namespace: here.pid_namespace.clone(),
        ..RunStart::default()
    };
    let scope = task.scope(Some(run.clone()));
    let cause = Cause::Person("a test".to_owned());
    let events = [Event::RunIntent(intent), Event::RunStart(Box::new(start))];
    let batch = events.iter().map(|event| event.draft(&scope, &cause, "recorded")).collect();
    root.tree().store.open(&task.key()).unwrap().append(batch, Durability::None).unwrap();
    let paths = root.tree().run(task, &run);
    std::fs::create_dir(paths.folder()).unwrap();
    std::fs::write(paths.supervisor_lock(), "").unwrap();
    run
}

#[test]
fn a_stranger_that_got_a_runs_pid_is_never_signalled() {
    for look in ["stop", "stop --force", "status", "list", "wait"] {
        let root = Root::new();
        let task = name("stranger");
        let mut stranger = Stranger::new();
        let now = ProcessId::now(stranger.0.id()).unwrap();
        let run = recorded(&root, &task, ProcessId { start_ticks: now.start_ticks - 1, ..now });
        let done = match look {
            "stop" => root.run(&["stop", "--run", run.as_str(), "--grace", "100ms"]),
            "stop --force" => root.run(&["stop", "--task", task.task.as_str(), "--force"]),
            "status" => root.run(&["status", run.as_str()]),
            "list" => root.run(&["list"]),
            _ => root.run(&["wait", run.as_str()]),
        };
        assert!(matches!(done.code, 0 | 1), "{look}: {done:?}");
        assert!(stranger.lives(), "{look}");
        let view = root.view(&task);
        assert_eq!(view.run(&run).unwrap().end().unwrap().0.reason, "supervisor lost", "{look}");
        assert_eq!(root.count(&task, "RUN_CRASH"), 1, "{look}");
    }
}

/// Tasks at work, each with a driver and an agent.
fn at_work(root: &Root, count: usize) -> Vec<(TaskName, Child)> {
    let tasks: Vec<_> = (0..count).map(|n| name(&format!("n{n:02}"))).collect();
    let started: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let driver = root.drive(&task, AGENT);
            (task, driver)
        })
        .collect();
    for (task, _) in &started {
        until(
            "its agent is at work",
            || {
                let view = TaskView::open(&root.tree(), task).ok()?;
                let run = view.task().active_root()?.clone();
                root.tree().run(task, &run).folder().join("pid").exists().then_some(())
            },
            || task.to_string(),
        );
    }
    started
}

/// Waits until a supervisor that was killed is gone: of a process of several threads, until the last of them is.
fn free(root: &Root, task: &TaskName, run: &RunId) {
    let lock = root.tree().run(task, run).supervisor_lock();
    until("the lock is free", || (!is_locked(&lock).unwrap()).then_some(()), String::new);
}

/// Kills everything of the tool's and of the agents', as a power cut does; all but the last agent, which then stands
/// for a stranger that got a recorded pid, start and all, after the reboot.
fn cut_power(root: &Root, at_work: &mut [(TaskName, Child)]) -> u32 {
    let mut agents = Vec::new();
    for (task, driver) in at_work.iter_mut() {
        let view = root.view(task);
        let start = view.task().runs.values().next().unwrap().start().unwrap().clone();
        driver.kill().unwrap();
        driver.wait().unwrap();
        kill(start.supervisor_pid, "KILL");
        free(root, task, view.task().runs.keys().next().unwrap());
        agents.push(start);
    }
    let spared = agents.pop().unwrap().pid;
    let below: Vec<_> = processes().unwrap();
    for agent in &agents {
        for process in below.iter().filter(|process| process.pgid == agent.pgid) {
            let _ = process.id.signal(nix::sys::signal::Signal::SIGKILL);
        }
        until("the agent is gone", || (!alive(agent.pid)).then_some(()), String::new);
    }
    spared
}

#[test]
fn after_a_reboot_in_the_middle_of_twenty_loops_each_run_is_closed_once_and_none_starts() {
    let root = Root::made();
    std::fs::write(root.path().join("config.hcl"), "limits { max_agents = 0 }\n").unwrap();
    let mut at_work = at_work(&root, 20);
    let spared = cut_power(&root, &mut at_work);
    let look = |n: usize| {
        let mut command = match n % 2 {
            0 => root.command(&["list", "--json"]),
            _ => root.command(&["status", "--task", at_work[n].0.task.as_str(), "--json"]),
        };
        command.env("RUN_AGENT_FAKE_BOOT_ID", "another-boot").stdout(Stdio::null()).spawn().unwrap()
    };
    let lookers: Vec<Child> = (0..10).map(look).collect();
    for mut looker in lookers {
        assert!(looker.wait().unwrap().success());
    }
    for (task, _) in &at_work {
        let view = root.view(task);
        assert_eq!(root.count(task, "RUN_CRASH"), 1, "{task}");
        assert_eq!((view.task().runs.len(), root.count(task, "RUN_START")), (1, 1), "{task}: nothing starts");
        assert_eq!(view.task().runs.values().next().unwrap().status(), RunStatus::Failed, "{task}");
        assert!(view.is_driverless(&root.tree()), "{task}: its loop is there to be picked up");
    }
    assert!(alive(spared), "a process of this boot is nobody's that ran in the one before");
}

/// A run of somewhere else whose supervisor is not to be seen from here.
fn foreign(root: &Root, slug: &str, variable: &str, value: &str) -> (TaskName, RunId, u32) {
    let task = name(slug);
    let mut job = root.command(&shell_args("job", &task, AGENT, &["--detach"]));
    let job = job.env(variable, value).output().unwrap();
    let run = RunId::parse(String::from_utf8_lossy(&job.stdout).trim()).unwrap();
    let agent: u32 = text_of(&root.tree().run(&task, &run).folder().join("pid")).parse().unwrap();
    let supervisor = root.view(&task).start_of(&run).unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    free(root, &task, &run);
    (task, run, agent)
}

#[test]
fn a_run_of_another_machine_or_container_is_shown_as_foreign_and_left_alone() {
    let elsewhere = [
        ("machine", "RUN_AGENT_FAKE_MACHINE_ID", "another-machine"),
        ("container", "RUN_AGENT_FAKE_PID_NAMESPACE", "pid:[1]"),
    ];
    for (slug, variable, value) in elsewhere {
        let root = Root::new();
        let (task, run, agent) = foreign(&root, slug, variable, value);
        let before = root.messages(&task).len();

        let status = root.run(&["status", "--task", task.task.as_str()]);
        assert!(status.stdout.contains("foreign"), "{status:?}");
        let list = root.run(&["list"]);
        assert!(list.stdout.contains("foreign"), "{list:?}");
        let row = root.json(&["list", "--json"])["items"][0].clone();
        assert_eq!((&row["foreign_runs"], &row["status"]), (&1.into(), &"running".into()));
        let waited = root.run(&["wait", run.as_str(), "--wait", "10ms"]);
        assert_eq!(waited.code, 124, "{waited:?}");
        assert_eq!(root.messages(&task).len(), before, "who only looks or waits says nothing");

        for what in [["--run", run.as_str()], ["--task", task.task.as_str()]] {
            let stopped = root.run(&["stop", what[0], what[1], "--force"]);
            assert_eq!(stopped.code, 1, "{stopped:?}");
            assert!(stopped.stdout.contains("foreign"), "{stopped:?}");
        }
        assert!(alive(agent));
        assert_eq!(root.view(&task).run(&run).unwrap().status(), RunStatus::Running);
        assert_eq!(root.count(&task, "RUN_STOPPING"), 1, "asked once");

        // Where it belongs to, the same command ends it.
        let mut there = root.command(&["stop", "--run", run.as_str(), "--force"]);
        assert!(there.env(variable, value).stdout(Stdio::null()).status().unwrap().success());
        assert!(!alive(agent));
        let view = root.view(&task);
        assert_eq!(view.run(&run).unwrap().status(), RunStatus::Stopped);
        assert_ne!(view.task().status(), TaskStatus::Running);
    }
}

#[test]
fn a_run_that_waits_for_its_start_in_another_container_is_foreign_too() {
    let root = Root::new();
    let task = name("queued");
    let mut job = root.command(&shell_args("job", &task, "true", &[]));
    job.env("RUN_AGENT_FAKE_PID_NAMESPACE", "pid:[1]").env("RUN_AGENT_FAILPOINT", "starter.intent=kill");
    assert!(!job.output().unwrap().status.success());
    let look = || root.json(&["status", "--task", task.task.as_str(), "--json"]);
    assert_eq!(look()["runs"][0]["status"], "queued");
    assert!(look()["notes"].to_string().contains("foreign"), "{}", look());
    let mut there = root.command(&["list"]);
    there.env("RUN_AGENT_FAKE_PID_NAMESPACE", "pid:[1]").stdout(Stdio::null());
    assert!(there.status().unwrap().success());
    assert_eq!(look()["runs"][0]["status"], "failed", "where it belongs to it is closed");
}
