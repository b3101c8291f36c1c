//! Taking up loops whose drivers died: each once, each in the same place, and none that was ended, stopped or is
//! somebody else's.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use run_agent_core::Cause;
use run_agent_core::event::{Event, LoopStart};
use run_agent_core::world::{RalphState, TaskStatus};
use run_agent_runner::adopt::DriverLife;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, shell_args, text_of, until};
use serde_json::{Value, json};

/// Fails when another one of its kind is at work; says DONE in the third run.
const THREE: &str = r#"
    mkdir "$JRUN_TASK_FOLDER/alone" || { echo two > "$JRUN_TASK_FOLDER/two"; exit 1; }
    echo start >> "$JRUN_TASK_FOLDER/starts"; sleep 0.2; rmdir "$JRUN_TASK_FOLDER/alone"
    [ "$(wc -l < "$JRUN_TASK_FOLDER/starts")" -lt 3 ] || run-agent done
"#;
/// Hangs in the first run, says DONE in the second.
const HANG: &str = r#"if [ -e "$JRUN_TASK_FOLDER/pid" ]; then run-agent done; else echo $$ > "$JRUN_TASK_FOLDER/pid"; sleep 1000; fi"#;

fn detach(root: &Root, task: &TaskName, prompt: &str) {
    let _ = root.ok(&shell_args("task", task, prompt, &["--detach"]));
}

fn starts(root: &Root, task: &TaskName) -> usize {
    let text = std::fs::read_to_string(root.tree().task(task).folder().join("starts")).unwrap_or_default();
    text.lines().count()
}

fn kill_driver(root: &Root, task: &TaskName) {
    let driver = root.view(task).task().ralph.driver.clone().unwrap();
    kill(driver.driver_pid, "KILL");
    until(
        "the driver is gone",
        || (root.view(task).driver(&root.tree()) != DriverLife::Alive).then_some(()),
        String::new,
    );
}

fn completes(root: &Root, task: &TaskName) {
    until(
        "the task completes",
        || (root.view(task).task().status() == TaskStatus::Completed).then_some(()),
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
}

fn adopt(root: &Root, more: &[&str]) -> Vec<Value> {
    let told = root.json(&[&["adopt", "--json"], more].concat());
    told["loops"].as_array().unwrap().clone()
}

fn ten_adopts(root: &Root) -> Vec<Child> {
    let start = |_| root.command(&["adopt"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (0..10).map(start).collect()
}

#[test]
fn of_ten_adopts_at_once_each_loop_gets_one_driver_and_no_run_is_started_twice() {
    let root = Root::new();
    let tasks: Vec<TaskName> = (0..20).map(|n| name(&format!("loop-{n}"))).collect();
    // Pinned: the moments at which the drivers are killed differ, and are the same in each test run.
    let mut seed: u64 = 0x5eed;
    let mut drawn = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for task in &tasks {
        detach(&root, task, THREE);
    }
    for task in &tasks {
        let after = usize::try_from(drawn(3)).unwrap();
        until("so many starts", || (starts(&root, task) >= after).then_some(()), String::new);
        std::thread::sleep(std::time::Duration::from_millis(drawn(40)));
        kill_driver(&root, task);
    }
    let open: BTreeSet<&TaskName> =
        tasks.iter().filter(|task| root.view(task).task().ralph.is_open()).collect();
    for mut adopter in ten_adopts(&root) {
        assert_eq!(adopter.wait().unwrap().code(), Some(0));
    }
    for task in &tasks {
        completes(&root, task);
        let lost = usize::from(open.contains(task));
        assert_eq!(
            (root.count(task, "LOOP_START"), root.count(task, "SUPERVISOR_RESTART")),
            (1 + lost, lost),
            "{task}"
        );
        assert!(!root.tree().task(task).folder().join("two").exists(), "{task}: two root agents at once");
        let view = root.view(task);
        let started = view.task().runs.values().filter(|run| run.started().is_some()).count();
        assert_eq!((starts(&root, task), started), (3, 3), "{task}");
        // A driver that is killed while it starts a run leaves one that never started.
        let ends = root.count(task, "RUN_STOP") + root.count(task, "RUN_CRASH");
        assert_eq!(ends, view.task().runs.len(), "{task}: each run has one end");
    }
    assert!(open.len() > 10, "most were killed while they were at work: {}", open.len());
    assert_eq!(adopt(&root, &[]), Vec::<Value>::new());
}

#[test]
fn after_a_death_of_everything_adopt_brings_every_loop_to_its_end() {
    let root = Root::new();
    let tasks: Vec<TaskName> = (0..6).map(|n| name(&format!("all-{n}"))).collect();
    for task in &tasks {
        detach(&root, task, HANG);
        let _ = text_of(&root.tree().task(task).folder().join("pid"));
    }
    for task in &tasks {
        let view = root.view(task);
        let ralph = &view.task().ralph;
        let run = view.start_of(ralph.last_root.as_ref().unwrap()).unwrap();
        for pid in [ralph.driver.as_ref().unwrap().driver_pid, run.supervisor_pid, run.pid] {
            kill(pid, "KILL");
        }
    }
    let listed = adopt(&root, &["--dry-run"]);
    assert_eq!(listed.len(), 6, "{listed:?}");
    assert!(listed.iter().all(|told| told["state"] == "would_adopt"), "{listed:?}");
    let told = adopt(&root, &[]);
    assert!(told.len() == 6 && told.iter().all(|told| told["state"] == "adopted"), "{told:?}");
    for task in &tasks {
        completes(&root, task);
        let view = root.view(task);
        let reasons: Vec<_> =
            view.task().runs.values().map(|run| run.end().unwrap().0.reason.clone()).collect();
        assert_eq!((reasons.len(), reasons[0].as_str()), (2, "supervisor lost"), "{task}");
    }
}

#[test]
fn a_loop_is_adopted_with_what_it_was_asked_for() {
    let root = Root::new();
    let config = root.scratch().join("other.hcl");
    std::fs::write(&config, "agent \"mine\" {\n  type = \"shell\"\n}\n").unwrap();
    let task = name("kept");
    let mut args = shell_args("task", &task, "sleep 0.3", &["--detach", "--max-restarts", "1"]);
    args[6] = "mine";
    args.extend(["--config", config.to_str().unwrap()]);
    assert_eq!(args[5], "--agent");
    let _ = root.ok(&args);
    kill_driver(&root, &task);
    let before = root.view(&task).task().ralph.driver.clone().unwrap();
    let told = adopt(&root, &[]);
    assert_eq!(told[0]["state"], "adopted", "{told:?}");
    until(
        "the loop gives up",
        || (root.view(&task).task().status() == TaskStatus::Failed).then_some(()),
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
    let view = root.view(&task);
    assert_eq!((view.task().reason().as_str(), view.task().runs.len()), ("exhausted", 2), "--max-restarts 1");
    assert!(view.task().runs.values().all(|run| run.agent == "mine"));
    assert_eq!(view.task().ralph.driver.as_ref().unwrap().settings, before.settings);
    let restarts: Vec<_> = root
        .messages(&task)
        .into_iter()
        .filter(|message| message.content.kind.as_str() == "SUPERVISOR_RESTART")
        .map(|message| (message.content.meta["reason"].clone(), message.content.meta["previous_pid"].clone()))
        .collect();
    assert_eq!(restarts, [("driver lost".to_owned(), before.driver_pid.to_string())]);
}

#[test]
fn a_loop_that_another_tasks_run_started_keeps_its_depth_and_comes_first() {
    let root = Root::new();
    let (parent, child) = (name("a-parent"), name("b-child"));
    let prompt = format!(
        "run-agent task --task {} --agent shell --prompt 'until [ -e go ]; do sleep 0.05; done; run-agent done' --detach; until [ -e go ]; do sleep 0.05; done; run-agent done",
        child.task
    );
    detach(&root, &parent, &prompt);
    until(
        "the child's loop",
        || {
            root.tree()
                .task(&child)
                .folder()
                .exists()
                .then(|| root.count(&child, "RUN_START"))
                .filter(|n| *n == 1)
        },
        || root.run(&["status", "--task", parent.task.as_str()]).stdout,
    );
    let start = root.view(&child).task().ralph.driver.clone().unwrap();
    let of = root.view(&parent).task().ralph.last_root.clone();
    assert_eq!((start.depth, start.parent_run_id), (1, of.clone()));
    kill_driver(&root, &parent);
    kill_driver(&root, &child);
    let told = adopt(&root, &[]);
    let order: Vec<_> = told.iter().map(|told| told["task_id"].as_str().unwrap()).collect();
    assert_eq!(order, [child.task.as_str(), parent.task.as_str()], "the deeper one first: {told:?}");
    let start = root.view(&child).task().ralph.driver.clone().unwrap();
    assert_eq!((start.depth, start.parent_run_id), (1, of));
    std::fs::write(root.scratch().join("go"), "").unwrap();
    completes(&root, &child);
    completes(&root, &parent);
}

#[test]
fn what_was_stopped_is_not_adopted() {
    let root = Root::new();
    let (whole, only_root) = (name("whole"), name("only-root"));
    for task in [&whole, &only_root] {
        detach(&root, task, HANG);
        let _ = text_of(&root.tree().task(task).folder().join("pid"));
        kill_driver(&root, task);
    }
    let listed = root.json(&["list", "--json"]);
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["no_driver"] == true), "{listed}");
    assert!(root.ok(&["list"]).contains("running (no driver)"));
    assert_eq!(root.run(&["stop", "--task", whole.task.as_str(), "--force"]).code, 0);
    let run = root.view(&only_root).task().ralph.last_root.clone().unwrap();
    assert_eq!(root.run(&["stop", "--run", run.as_str(), "--force"]).code, 0);
    assert_eq!(adopt(&root, &[]), Vec::<Value>::new());
    let named = adopt(&root, &[whole.task.as_str(), only_root.task.as_str()]);
    assert!(named.iter().all(|told| told["state"] == "not_open" && told["status"] == "stopped"), "{named:?}");
}

#[test]
fn since_bounds_by_the_last_activity() {
    let root = Root::new();
    let task = name("since");
    detach(&root, &task, HANG);
    // What its run says of its start is activity, too.
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    kill_driver(&root, &task);
    assert_eq!(adopt(&root, &["--since", "1ms", "--dry-run"]), Vec::<Value>::new());
    let told = adopt(&root, &["--since", "24h", "--dry-run"]);
    assert_eq!((told.len(), &told[0]["state"]), (1, &json!("would_adopt")), "{told:?}");
    let elsewhere = root.run(&["adopt", "--project", "none"]);
    assert_eq!(elsewhere.code, 5, "{elsewhere:?}");
    assert_eq!(root.count(&task, "LOOP_START"), 1, "nothing was started");
}

#[test]
fn a_service_adopts_only_where_the_configuration_says_so() {
    let root = Root::made();
    let task = name("auto");
    detach(&root, &task, HANG);
    let _ = text_of(&root.tree().task(&task).folder().join("pid"));
    kill_driver(&root, &task);
    for (setting, driven) in
        [("", false), ("loop { adopt = \"never\" }", false), ("loop { adopt = \"auto\" }", true)]
    {
        std::fs::write(root.path().join("config.hcl"), setting).unwrap();
        let done = root.run(&["adopt", "--if-auto"]);
        assert_eq!((done.code, !done.stdout.is_empty()), (0, driven), "{setting}: {done:?}");
        let life = root.view(&task).driver(&root.tree());
        assert_eq!(life, if driven { DriverLife::Alive } else { DriverLife::Lost }, "{setting}");
    }
    assert_eq!(root.run(&["stop", "--task", task.task.as_str(), "--force"]).code, 0);
}

#[test]
fn a_loop_of_another_machine_or_namespace_is_told_and_left_alone() {
    let root = Root::new();
    let task = root.task_with("foreign", "true");
    detach(&root, &task, "true");
    kill_driver(&root, &task);
    let own = root.view(&task).task().ralph.driver.clone().unwrap();
    let rebooted = LoopStart {
        boot_id: "the one before".to_owned(),
        pid_namespace: "pid:[1]".to_owned(),
        ..(*own).clone()
    };
    let machine = LoopStart { machine_id: "another".to_owned(), ..(*own).clone() };
    let namespace = LoopStart { pid_namespace: "pid:[1]".to_owned(), ..*own };
    for start in [machine, namespace] {
        let draft = Event::LoopStart(start).draft(
            &task.scope(None),
            &Cause::Person("somebody".to_owned()),
            "loop started",
        );
        root.tree()
            .store
            .open(&task.key())
            .unwrap()
            .append(vec![draft], run_agent_core::Durability::None)
            .unwrap();
        let before = root.count(&task, "LOOP_START");
        let told = adopt(&root, &[]);
        assert_eq!((told.len(), &told[0]["state"]), (1, &json!("foreign")), "{told:?}");
        assert_eq!(root.count(&task, "LOOP_START"), before);
        let status = root.run(&["status", "--task", task.task.as_str()]);
        assert!(!status.stdout.contains("driver is gone"), "{status:?}");
        let attached = root.run(&["task", "--task", task.task.as_str(), "--attach"]);
        assert!(
            attached.code == 1 && attached.stderr.contains("another machine or container"),
            "{attached:?}"
        );
    }
    let draft = Event::LoopStart(rebooted).draft(
        &task.scope(None),
        &Cause::Person("somebody".to_owned()),
        "loop started",
    );
    root.tree()
        .store
        .open(&task.key())
        .unwrap()
        .append(vec![draft], run_agent_core::Durability::None)
        .unwrap();
    let told = adopt(&root, &["--dry-run"]);
    assert_eq!(
        (told.len(), &told[0]["state"]),
        (1, &json!("would_adopt")),
        "a reboot makes nothing foreign: {told:?}"
    );
    // A person may know better.
    let taken = root.run(&["task", "--task", task.task.as_str(), "--max-restarts", "0", "--agent", "shell"]);
    assert!(matches!(root.view(&task).task().ralph.state, RalphState::Ended { .. }), "{taken:?}");
}

#[test]
fn a_loop_that_cannot_be_taken_is_told_and_the_others_are_taken() {
    let root = Root::new();
    let (good, bad) = (name("good"), name("bad"));
    for task in [&good, &bad] {
        detach(&root, task, HANG);
        let _ = text_of(&root.tree().task(task).folder().join("pid"));
        kill_driver(&root, task);
    }
    std::fs::write(root.tree().task(&bad).prompt(), "").unwrap();
    let done = root.run(&["adopt", "--json"]);
    assert_eq!(done.code, 1, "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    let state = |slug: &str| {
        let loops = told["loops"].as_array().unwrap();
        loops.iter().find(|told| told["task_id"].as_str().unwrap().ends_with(slug)).unwrap().clone()
    };
    assert_eq!((&state("good")["state"], &state("bad")["state"]), (&json!("adopted"), &json!("failed")));
    assert!(state("bad")["error"].as_str().unwrap().contains("TASK.md is empty"), "{told}");
    assert_eq!(root.run(&["stop", "--task", good.task.as_str(), "--force"]).code, 0);
    assert_eq!(root.run(&["stop", "--task", bad.task.as_str(), "--force"]).code, 0);
}
