//! Slots: no more agents at work than the root allows, in order, whoever is killed; and who waits for others holds none.

mod blocking;

use std::path::PathBuf;
use std::process::{Child, Stdio};

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, kill, name, shell_args, text_of, until};

/// A root on which so many agents may be at work.
fn root(max_agents: u32) -> Root {
    let root = Root::made();
    limit(&root, max_agents);
    root
}

fn limit(root: &Root, max_agents: u32) {
    std::fs::write(root.path().join("config.hcl"), format!("limits {{ max_agents = {max_agents} }}\n"))
        .unwrap();
}

/// What an agent does around its own work, so that its time at work is on record: one line at its beginning, one at its
/// end. Waiting for others is no work.
const WORK: &str = r#"work() { echo + >> "$JRUN_ROOT/marks"; }; rest() { echo - >> "$JRUN_ROOT/marks"; }; "#;

/// The most that were at work at once.
fn most_at_work(root: &Root) -> i64 {
    let marks = std::fs::read_to_string(root.path().join("marks")).unwrap();
    let (mut now, mut most) = (0, 0);
    for line in marks.lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!(now, 0, "{marks}");
    most
}

/// An agent that is at work until `<root>/go-<slug>` is there, and leaves its slug in `<root>/order`.
fn worker() -> String {
    format!(
        r#"{WORK} work; s=${{JRUN_TASK_ID##*-}}; echo $s >> "$JRUN_ROOT/order"; while [ ! -f "$JRUN_ROOT/go-$s" ]; do sleep 0.02; done; rest"#
    )
}

fn go(root: &Root, slug: &str) {
    std::fs::write(root.path().join(format!("go-{slug}")), "").unwrap();
}

fn order(root: &Root) -> Vec<String> {
    let text = std::fs::read_to_string(root.path().join("order")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Starts a worker that is not waited for.
fn detached(root: &Root, slug: &str) -> (TaskName, RunId) {
    let task = name(slug);
    let run = root.ok(&shell_args("job", &task, &worker(), &["--detach"]));
    (task, RunId::parse(&run).unwrap())
}

fn status(root: &Root, task: &TaskName, run: &RunId) -> RunStatus {
    root.view(task).run(run).unwrap().status()
}

/// Waits until a run has this status, looking as any later process does.
fn becomes(root: &Root, task: &TaskName, run: &RunId, wanted: RunStatus) {
    until(
        &format!("run {run} is {wanted}"),
        || {
            let _ = root.run(&["status", "--task", task.task.as_str()]);
            (status(root, task, run) == wanted).then_some(())
        },
        || root.run(&["status", "--task", task.task.as_str()]).stdout,
    );
}

fn supervisor_of(root: &Root, task: &TaskName, run: &RunId) -> u32 {
    let lock = text_of(&root.tree().run(task, run).supervisor_lock());
    let first: serde_json::Value = serde_json::from_str(lock.lines().next().unwrap()).unwrap();
    u32::try_from(first["supervisor"]["pid"].as_u64().unwrap()).unwrap()
}

fn kinds(root: &Root, task: &TaskName, run: &RunId) -> Vec<String> {
    let messages = root.messages(task).into_iter().map(|message| message.content);
    let own = messages.filter(|content| content.run.as_ref() == Some(run));
    own.map(|content| content.kind.as_str().to_owned()).collect()
}

fn slots(root: &Root) -> PathBuf {
    root.path().join(".run-agent/slots")
}

/// Waits until nobody holds a slot or waits for one: no lock and no ticket is left.
fn all_given_back(root: &Root) {
    until(
        "no slot is held and no ticket is left",
        || {
            let mut names = std::fs::read_dir(slots(root)).unwrap().map(|entry| entry.unwrap());
            let left = names.any(|entry| {
                let is_ticket = entry.file_name().to_string_lossy().starts_with("ticket-");
                is_ticket || run_agent_runner::files::is_locked(&entry.path()).unwrap()
            });
            (!left).then_some(())
        },
        || format!("{:?}", std::fs::read_dir(slots(root)).unwrap().collect::<Vec<_>>()),
    );
}

/// `Some` when a run of the task waits for a slot. The task need not be there yet.
fn is_parked(root: &Root, task: &TaskName) -> Option<()> {
    let view = run_agent_runner::TaskView::open(&root.tree(), task).ok()?;
    view.task().active().find_map(|(_, run)| run.state.ahead()).map(|_| ())
}

fn spawn(root: &Root, args: &[&str]) -> Child {
    root.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn those_who_wait_start_in_the_order_in_which_they_came() {
    let root = root(1);
    let all: Vec<_> = ["a", "b", "c"].map(|slug| detached(&root, slug)).into();
    let mut last = spawn(&root, &shell_args("job", &name("d"), &worker(), &[]));
    until("the last one is parked", || is_parked(&root, &name("d")), || root.run(&["list"]).stdout);
    assert_eq!(status(&root, &all[0].0, &all[0].1), RunStatus::Running);
    let shown = root.ok(&["status", "--task", all[2].0.task.as_str()]);
    assert!(shown.contains("queued (waiting for other agents, 1 ahead)"), "{shown}");
    let row = root.json(&["status", "--task", all[2].0.task.as_str(), "--json"]);
    assert_eq!(row["runs"][0]["reason"], "waiting for other agents, 1 ahead");
    assert_eq!(order(&root), ["a"]);
    for slug in ["a", "b", "c", "d"] {
        until("its turn comes", || (order(&root).last().unwrap() == slug).then_some(()), String::new);
        go(&root, slug);
    }
    assert!(last.wait().unwrap().success());
    let said = Done::of(last.wait_with_output().unwrap(), &[]);
    assert!(said.stderr.contains("Waiting for other agents to complete (2 ahead)"), "{said:?}");
    assert_eq!((order(&root).join(""), most_at_work(&root)), ("abcd".to_owned(), 1));
    let (task, run) = &all[1];
    becomes(&root, task, run, RunStatus::Completed);
    assert_eq!(
        kinds(&root, task, run),
        ["RUN_INTENT", "RUN_PARKED", "RUN_PARKED", "RUN_START", "RUN_STOP"],
        "it says that it waits, and that it does not any more"
    );
    all_given_back(&root);
}

#[test]
fn without_a_limit_nothing_is_counted() {
    let root = root(0);
    let all = ["a", "b", "c"].map(|slug| detached(&root, slug));
    assert!(all.iter().all(|(task, run)| status(&root, task, run) == RunStatus::Running));
    assert!(!slots(&root).exists());
    for ((task, run), slug) in all.iter().zip(["a", "b", "c"]) {
        go(&root, slug);
        becomes(&root, task, run, RunStatus::Completed);
    }
}

#[test]
fn a_loop_that_waits_for_a_slot_is_queued_and_tells_so() {
    let root = root(1);
    let (holder, run) = detached(&root, "a");
    let task = name("loop");
    let driver = spawn(&root, &shell_args("task", &task, "run-agent done", &[]));
    until("its root run is parked", || is_parked(&root, &task), String::new);
    let shown = root.json(&["status", "--task", task.task.as_str(), "--json"]);
    assert_eq!(
        (shown["status"].as_str(), shown["reason"].as_str()),
        (Some("queued"), Some("waiting for other agents, 0 ahead"))
    );
    go(&root, "a");
    let done = Done::of(driver.wait_with_output().unwrap(), &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("waiting for other agents to complete (0 ahead)"), "{done:?}");
    becomes(&root, &holder, &run, RunStatus::Completed);
}

#[test]
fn a_killed_holder_frees_its_slot() {
    let root = root(1);
    let (task, run) = detached(&root, "a");
    let (next, next_run) = detached(&root, "b");
    let agent = root.view(&task).start_of(&run).unwrap().pid;
    kill(supervisor_of(&root, &task, &run), "KILL");
    kill(agent, "KILL");
    becomes(&root, &next, &next_run, RunStatus::Running);
    becomes(&root, &task, &run, RunStatus::Failed);
    go(&root, "b");
    becomes(&root, &next, &next_run, RunStatus::Completed);
    all_given_back(&root);
}

#[test]
fn a_parked_run_whose_supervisor_is_killed_is_passed_over_and_closed_once() {
    let root = root(1);
    let [first, lost, next] = ["a", "b", "c"].map(|slug| detached(&root, slug));
    kill(supervisor_of(&root, &lost.0, &lost.1), "KILL");
    go(&root, "a");
    becomes(&root, &next.0, &next.1, RunStatus::Running);
    becomes(&root, &lost.0, &lost.1, RunStatus::Failed);
    assert_eq!(kinds(&root, &lost.0, &lost.1), ["RUN_INTENT", "RUN_PARKED", "RUN_CRASH"]);
    assert_eq!(
        root.view(&lost.0).run(&lost.1).unwrap().end().unwrap().0.reason,
        "supervisor lost before the start"
    );
    go(&root, "c");
    becomes(&root, &next.0, &next.1, RunStatus::Completed);
    becomes(&root, &first.0, &first.1, RunStatus::Completed);
    assert_eq!(order(&root), ["a", "c"]);
    all_given_back(&root);
}

#[test]
fn a_parked_supervisor_that_was_halted_is_passed_by_and_comes_next_when_it_goes_on() {
    let root = root(1);
    let [first, halted, next, last] = ["a", "b", "c", "d"].map(|slug| detached(&root, slug));
    let supervisor = supervisor_of(&root, &halted.0, &halted.1);
    kill(supervisor, "STOP");
    go(&root, "a");
    becomes(&root, &next.0, &next.1, RunStatus::Running);
    assert_eq!(status(&root, &halted.0, &halted.1), RunStatus::Queued);
    kill(supervisor, "CONT");
    until(
        "it is awake again",
        || {
            let mut files = std::fs::read_dir(slots(&root)).unwrap();
            let asleep = files.any(|f| f.unwrap().file_name().to_string_lossy().starts_with("asleep-"));
            (!asleep).then_some(())
        },
        String::new,
    );
    go(&root, "c");
    becomes(&root, &halted.0, &halted.1, RunStatus::Running);
    assert_eq!(status(&root, &last.0, &last.1), RunStatus::Queued, "it has its old place");
    go(&root, "b");
    go(&root, "d");
    for (task, run) in [&first, &halted, &next, &last] {
        becomes(&root, task, run, RunStatus::Completed);
    }
    assert_eq!(order(&root), ["a", "c", "b", "d"]);
    assert_eq!(most_at_work(&root), 1);
    all_given_back(&root);
}

#[test]
fn a_stop_ends_a_parked_run_whose_agent_never_was() {
    let root = root(1);
    let [first, stopped, next] = ["a", "b", "c"].map(|slug| detached(&root, slug));
    let done = root.run(&["stop", "--run", stopped.1.as_str()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(
        kinds(&root, &stopped.0, &stopped.1),
        ["RUN_INTENT", "RUN_PARKED", "RUN_STOPPING", "RUN_STOP"]
    );
    assert_eq!(status(&root, &stopped.0, &stopped.1), RunStatus::Stopped);
    // A whole task, too.
    let done = root.run(&["stop", "--task", next.0.task.as_str()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(status(&root, &next.0, &next.1), RunStatus::Stopped);
    go(&root, "a");
    becomes(&root, &first.0, &first.1, RunStatus::Completed);
    assert_eq!(order(&root), ["a"]);
    all_given_back(&root);
}

#[test]
fn a_starter_that_is_killed_leaves_its_parked_run_in_the_queue() {
    let root = root(1);
    let first = detached(&root, "a");
    let task = name("b");
    let mut starter = spawn(&root, &shell_args("job", &task, &worker(), &[]));
    until("it is parked", || is_parked(&root, &task), String::new);
    starter.kill().unwrap();
    starter.wait().unwrap();
    go(&root, "b");
    go(&root, "a");
    let run = root.view(&task).task().runs.keys().next().unwrap().clone();
    becomes(&root, &task, &run, RunStatus::Completed);
    becomes(&root, &first.0, &first.1, RunStatus::Completed);
    all_given_back(&root);
}

#[test]
fn a_kill_at_any_step_of_the_wait_loses_no_slot_and_no_run() {
    for step in ["supervisor.ticket", "supervisor.parked", "supervisor.slot"] {
        let root = root(1);
        let first = detached(&root, "a");
        let task = name("b");
        let mut job = root
            .command(&shell_args("job", &task, &worker(), &[]))
            .env("RUN_AGENT_FAILPOINT", format!("{step}=kill"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if step == "supervisor.slot" {
            until("it is parked", || is_parked(&root, &task), String::new);
            go(&root, "a");
        }
        assert!(!job.wait().unwrap().success(), "{step}");
        let run = root.view(&task).task().runs.keys().next().unwrap().clone();
        becomes(&root, &task, &run, RunStatus::Failed);
        assert_eq!(kinds(&root, &task, &run).iter().filter(|kind| *kind == "RUN_CRASH").count(), 1, "{step}");
        let next = detached(&root, "c");
        go(&root, "a");
        go(&root, "c");
        becomes(&root, &next.0, &next.1, RunStatus::Completed);
        becomes(&root, &first.0, &first.1, RunStatus::Completed);
        assert_eq!(order(&root), ["a", "c"], "{step}");
        all_given_back(&root);
    }
}

#[test]
fn a_smaller_limit_waits_until_fewer_are_at_work() {
    let root = root(2);
    let [first, second] = ["a", "b"].map(|slug| detached(&root, slug));
    limit(&root, 1);
    let third = detached(&root, "c");
    assert_eq!(status(&root, &third.0, &third.1), RunStatus::Queued);
    go(&root, "a");
    becomes(&root, &first.0, &first.1, RunStatus::Completed);
    assert_eq!(status(&root, &third.0, &third.1), RunStatus::Queued, "one is at work still");
    go(&root, "b");
    becomes(&root, &third.0, &third.1, RunStatus::Running);
    go(&root, "c");
    becomes(&root, &third.0, &third.1, RunStatus::Completed);
    becomes(&root, &second.0, &second.1, RunStatus::Completed);
}

/// Delegates to two siblings at a time, four levels deep, and rests while it waits for them.
const TREE: &str = r#"
    work; sleep 0.02
    if [ "${JRUN_DEPTH:-0}" -lt 3 ]; then
        rest
        run-agent job --agent shell --prompt-file "$JRUN_TASK_FOLDER/tree.md" & one=$!
        run-agent job --agent shell --prompt-file "$JRUN_TASK_FOLDER/tree.md" & two=$!
        wait $one || exit 1; wait $two || exit 1
        work; sleep 0.02
    fi
    rest; [ -n "$JRUN_PARENT_ID" ] || run-agent done
"#;

#[test]
fn a_swarm_on_few_slots_completes_with_nothing_lost_doubled_or_left() {
    let deep = std::env::var_os("RUN_AGENT_DEEP").is_some();
    let (tasks, sleep) = if deep { (100, "2") } else { (12, "0.1") };
    let root = root(8);
    let child = format!("{WORK} work; sleep {sleep}; rest");
    let job = format!("run-agent job --agent shell --prompt '{child}' &\n");
    let prompt = format!(
        "{WORK} work; sleep {sleep}; rest\n{job}a=$!\n{job}b=$!\n{job}c=$!\nwait $a && wait $b && wait $c || exit 1\nwork; run-agent done; rest"
    );
    let names: Vec<TaskName> = (0..tasks).map(|n| name(&format!("n{n:03}"))).collect();
    let drivers: Vec<Child> = names.iter().map(|task| root.drive(task, &prompt)).collect();
    for (mut driver, task) in drivers.into_iter().zip(&names) {
        assert!(
            driver.wait().unwrap().success(),
            "{}",
            root.run(&["status", "--task", task.task.as_str()]).stdout
        );
    }
    for task in &names {
        let view = root.view(task);
        let runs = &view.task().runs;
        assert_eq!((runs.len(), view.task().ralph.restarts), (4, 0), "{task}");
        for (id, run) in runs.iter() {
            assert_eq!(run.status(), RunStatus::Completed, "{id}");
            let kinds = kinds(&root, task, id);
            let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
            assert_eq!((count("RUN_INTENT"), count("RUN_START"), count("RUN_STOP")), (1, 1, 1), "{kinds:?}");
        }
    }
    assert!(most_at_work(&root) <= 8, "{} at once", most_at_work(&root));
    all_given_back(&root);
    let wanted = format!("JRUN_ROOT={}", root.path().display());
    until(
        "no process of the root is left, alive or as a zombie",
        || left(&wanted).is_empty().then_some(()),
        || format!("{:?}", left(&wanted)),
    );
}

/// The processes whose environment names a root.
fn left(wanted: &str) -> Vec<String> {
    let processes = run_agent_runner::supervise::os::processes().unwrap();
    let of_root = |pid: u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let left = processes.into_iter().filter(|process| of_root(process.id.pid));
    left.map(|process| format!("{} {}", process.id.pid, process.name)).collect()
}
