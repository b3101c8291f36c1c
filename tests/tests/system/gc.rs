//! `gc` and `task delete`: what ended goes, event before folder; what is active stays, also under load.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use run_agent_core::{RunId, StreamKey};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, processes_of, shell_args, supervisor_ends, text_of, until};

/// Everything that ended, whenever that was.
const ALL: [&str; 4] = ["gc", "--older-than", "0s", "--force"];

/// A task with so many runs that have ended, and their ids.
fn with_runs(root: &Root, slug: &str, prompts: &[&str]) -> (TaskName, Vec<RunId>) {
    let task = name(slug);
    for prompt in prompts {
        let done = root.run(&shell_args("job", &task, prompt, &[]));
        assert!(matches!(done.code, 0 | 3), "{done:?}");
    }
    let runs: Vec<RunId> = root.tree().runs(&task).unwrap();
    for run in &runs {
        supervisor_ends(run);
    }
    (task, runs)
}

/// The tasks that the project's stream says are deleted.
fn told(root: &Root) -> Vec<String> {
    let key = StreamKey::project(name("x").project);
    let page = root.tree().store.open(&key).unwrap().last(usize::MAX).unwrap();
    let deleted = page.entries.iter().filter(|e| e.message.content.kind.as_str() == "TASK_DELETED");
    deleted.map(|e| e.message.content.task.as_ref().unwrap().slug().to_owned()).collect()
}

fn trash_is_empty(root: &Root) -> bool {
    std::fs::read_dir(root.tree().layout.trash()).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn runs_go_by_age_with_their_event_and_a_dry_run_touches_nothing() {
    let root = Root::new();
    let (task, runs) = with_runs(&root, "old", &["echo 1", "exit 3", "echo 3"]);
    let young = root.json(&["gc", "--older-than", "1h", "--json"]);
    assert_eq!((&young["counts"]["run"], &young["freed_bytes"]), (&0.into(), &0.into()));
    let dry = root.json(&[&ALL[..], &["--dry-run", "--json"]].concat());
    assert_eq!((&dry["counts"]["run"], &dry["dry_run"]), (&2.into(), &true.into()));
    assert_eq!((root.tree().runs(&task).unwrap().len(), root.count(&task, "RUN_DELETED")), (3, 0));
    let kept = root.json(&[&ALL[..], &["--keep-failed", "--json"]].concat());
    assert_eq!(kept["counts"]["run"], 1, "{kept}");
    let real = root.json(&[&ALL[..], &["--json"]].concat());
    assert_eq!(real["counts"]["run"], 1, "{real}");
    let freed = |told: &serde_json::Value| told["freed_bytes"].as_u64().unwrap();
    assert_eq!(freed(&kept) + freed(&real), freed(&dry), "what was said is what was freed");
    assert_eq!(root.tree().runs(&task).unwrap(), [runs[2].clone()], "the newest tells how the task stands");
    assert_eq!((root.count(&task, "RUN_DELETED"), root.count(&task, "RUN_START")), (2, 3), "history stays");
    assert_eq!(root.view(&task).task().runs.len(), 1);
    assert_eq!(root.json(&["doctor", "--json"])["left"], 0);
    assert!(trash_is_empty(&root));
}

#[test]
fn a_task_goes_whole_and_the_project_says_so_once() {
    let root = Root::new();
    let (done, _) = with_runs(&root, "done", &["true"]);
    let (failed, _) = with_runs(&root, "failed", &["exit 3"]);
    let (other, _) = with_runs(&root, "other", &["true"]);
    let _ = root.ok(&[&ALL[..], &["--delete-done-tasks", "--task", "p/done"]].concat());
    assert_eq!((told(&root), root.tree().task(&done).folder().exists()), (vec!["done".to_owned()], false));
    assert!(root.tree().task(&failed).folder().exists() && root.tree().task(&other).folder().exists());
    let _ = root.ok(&[&ALL[..], &["--delete-done-tasks"]].concat());
    assert_eq!(told(&root), ["done", "other"], "what failed is not done");
    assert_eq!(root.run(&["status", "--task", "p/done"]).code, 5);
    assert_eq!(root.json(&["doctor", "--json"])["left"], 0);
}

#[test]
fn a_kill_at_any_step_of_a_deletion_leaves_what_the_next_one_finishes() {
    for step in ["delete.run_locked", "delete.run_posted", "delete.run_aside"] {
        let root = Root::new();
        let (task, runs) = with_runs(&root, "steps", &["true", "true"]);
        let killed = root.command(&ALL).env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).output().unwrap();
        assert!(!killed.status.success(), "{step}: {killed:?}");
        let _ = root.ok(&ALL);
        assert_eq!(root.tree().runs(&task).unwrap(), [runs[1].clone()], "{step}");
        assert_eq!(root.count(&task, "RUN_DELETED"), 1, "{step}: once");
        assert!(trash_is_empty(&root), "{step}");
        assert_eq!(root.json(&["doctor", "--json"])["left"], 0, "{step}");
    }
    for step in ["delete.task_locked", "delete.task_posted", "delete.task_told", "delete.task_aside"] {
        let root = Root::new();
        let (task, _) = with_runs(&root, "steps", &["true"]);
        let delete = ["task", "delete", "p/steps", "--yes"];
        let killed =
            root.command(&delete).env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).output().unwrap();
        assert!(!killed.status.success(), "{step}: {killed:?}");
        if matches!(step, "delete.task_posted" | "delete.task_told") {
            let refused = root.run(&shell_args("job", &task, "true", &[]));
            assert_eq!(refused.code, 5, "{step}: nothing starts in a deleted task: {refused:?}");
        }
        if step == "delete.task_locked" {
            let _ = root.ok(&delete);
        } else {
            let _ = root.ok(&["gc"]);
        }
        assert!(!root.tree().task(&task).folder().exists(), "{step}");
        assert_eq!(told(&root), ["steps"], "{step}: told once");
        let _ = root.run(&["gc"]);
        assert!(trash_is_empty(&root), "{step}");
        assert_eq!(root.json(&["doctor", "--json"])["left"], 0, "{step}");
    }
}

#[test]
fn an_active_task_is_not_deleted_and_its_error_says_what_to_do() {
    let root = Root::new();
    let (jobs, looped) = (name("jobs"), name("looped"));
    let hang = "echo $$ > \"$JRUN_TASK_FOLDER/pid\"; sleep 1000";
    let _ = root.ok(&shell_args("job", &jobs, hang, &["--detach"]));
    let mut driver = root.drive(&looped, hang);
    for task in [&jobs, &looped] {
        let pid: u32 = text_of(&root.tree().task(task).folder().join("pid")).parse().unwrap();
        let refused = root.run(&["task", "delete", task.task.as_str(), "--yes"]);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains("run-agent stop"), "{refused:?}");
        let _ = root.ok(&[&ALL[..], &["--delete-done-tasks"]].concat());
        assert!(alive(pid) && root.tree().task(task).folder().exists());
    }
    let asked = root.run(&["task", "delete", "p/jobs"]);
    assert_eq!(asked.code, 4, "what is active is told first: {asked:?}");
    for task in [&jobs, &looped] {
        let _ = root.ok(&["stop", "--task", task.task.as_str(), "--force"]);
    }
    driver.wait().unwrap();
    let asked = root.run(&["task", "delete", "p/jobs"]);
    assert_eq!((asked.code, asked.stderr.contains("--yes")), (2, true), "{asked:?}");
    for task in [&jobs, &looped] {
        for run in root.tree().runs(task).unwrap() {
            supervisor_ends(&run);
        }
        let _ = root.ok(&["task", "delete", task.task.as_str(), "--yes"]);
        assert!(!root.tree().task(task).folder().exists());
    }
    assert_eq!(told(&root), ["jobs", "looped"]);
}

#[test]
fn a_task_that_an_unfinished_one_waits_for_stays() {
    let root = Root::new();
    let (first, _) = with_runs(&root, "first", &["exit 3"]);
    let (second, _) = with_runs(&root, "second", &["true"]);
    let mut waiting = root
        .command(&shell_args(
            "task",
            &name("later"),
            "true",
            &["--depends-on", first.task.as_str(), "--depends-on", second.task.as_str()],
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(
        "it waits",
        || {
            (root.tree().task(&name("later")).folder().exists()
                && root.count(&name("later"), "LOOP_BLOCKED") > 0)
                .then_some(())
        },
        String::new,
    );
    let _ = root.ok(&[&ALL[..], &["--delete-done-tasks"]].concat());
    assert!(root.tree().task(&second).folder().exists(), "a task that is to come waits for it");
    let _ = root.ok(&["stop", "--task", "p/later", "--force"]);
    waiting.wait().unwrap();
    let _ = root.ok(&[&ALL[..], &["--delete-done-tasks"]].concat());
    assert!(!root.tree().task(&second).folder().exists());
}

#[test]
fn a_driver_keeps_the_newest_runs_at_the_end_of_its_loop() {
    let root = Root::made();
    std::fs::write(
        root.path().join("config.hcl"),
        "retention { max_runs_per_task = 2 }\nloop { restart_delay = \"1ms\" }\n",
    )
    .unwrap();
    let task = name("many");
    let prompt = r#"n=$(ls "$JRUN_RUNS_DIR" | wc -l); [ "$n" -lt 5 ] || run-agent done"#;
    let done = root.run(&shell_args("task", &task, prompt, &[]));
    assert_eq!(done.code, 0, "{done:?}");
    let left = root.tree().runs(&task).unwrap();
    assert_eq!(left.len(), 2, "{done:?}");
    let deleted = root.messages(&task).into_iter().filter(|m| m.content.kind.as_str() == "RUN_DELETED");
    let causes: Vec<_> = deleted.map(|m| m.content.meta["cause"].clone()).collect();
    assert_eq!(causes, ["limit:retention.max_runs_per_task"; 3]);
    assert_eq!(root.view(&task).task().ralph.attempts, 5, "the story goes on counting");
}

#[test]
fn buses_above_a_size_are_rotated_and_caches_of_what_is_gone_are_removed() {
    let root = Root::new();
    let (task, _) = with_runs(&root, "bus", &["true"]);
    let before = root.messages(&task).len();
    let gone = root.path().join(".run-agent/checkpoints/gone");
    std::fs::create_dir_all(&gone).unwrap();
    let told = root.json(&["gc", "--rotate-bus=1KiB", "--json"]);
    assert_eq!((&told["counts"]["rotation"], &told["counts"]["cache"]), (&1.into(), &1.into()), "{told}");
    assert_eq!((root.messages(&task).len(), gone.exists()), (before, false));
    assert_eq!(root.json(&["gc", "--rotate-bus=1KiB", "--json"])["counts"]["rotation"], 0, "it is empty");
}

fn sweep(root: &Root, stop: &AtomicBool, more: &[&str]) -> usize {
    let mut deleted = 0;
    while !stop.load(Ordering::Relaxed) {
        let told = root.run(&[&ALL[..], more, &["--json"]].concat());
        assert_eq!(told.code, 0, "{told:?}");
        let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        deleted += told["items"].as_array().unwrap().len();
    }
    deleted
}

#[test]
fn gc_under_load_deletes_nothing_that_is_active_and_loses_no_end() {
    let root = Root::new();
    // One agent that works all the time, in a task of its own and below a loop.
    let hang = "echo $$ > \"$JRUN_TASK_FOLDER/pid\"; sleep 1000";
    let (lasting, looped) = (name("lasting"), name("looped"));
    let _ = root.ok(&shell_args("job", &lasting, hang, &["--detach"]));
    let mut driver: Child = root.drive(&looped, hang);
    let pids: Vec<u32> = [&lasting, &looped]
        .map(|task| text_of(&root.tree().task(task).folder().join("pid")).parse().unwrap())
        .to_vec();
    let stop = AtomicBool::new(false);
    let tasks: Vec<TaskName> = (0..3).map(|n| name(&format!("jobs-{n}"))).collect();
    let mut started: BTreeMap<&TaskName, Vec<String>> = BTreeMap::new();
    let deleted = std::thread::scope(|scope| {
        let sweepers: Vec<_> = (0..3).map(|_| scope.spawn(|| sweep(&root, &stop, &[]))).collect();
        let workers: Vec<_> = tasks
            .iter()
            .map(|task| {
                let root = &root;
                scope.spawn(move || {
                    let job = |n: usize| {
                        root.ok(&shell_args("job", task, &format!("exit {}", n % 2), &["--detach"]))
                    };
                    let runs: Vec<String> = (0..20).map(job).collect();
                    let prompt = "run-agent job --agent shell --prompt true; run-agent done";
                    let loops = name(&format!("loop-{}", task.task.slug()));
                    assert_eq!(root.run(&shell_args("task", &loops, prompt, &[])).code, 0);
                    (task, runs)
                })
            })
            .collect();
        for worker in workers {
            let (task, runs) = worker.join().unwrap();
            started.insert(task, runs);
        }
        for task in &tasks {
            until(
                "every run ends",
                || root.view(task).task().active().next().is_none().then_some(()),
                || root.run(&["status", "--task", task.task.as_str()]).stdout,
            );
        }
        stop.store(true, Ordering::Relaxed);
        sweepers.into_iter().map(|sweeper| sweeper.join().unwrap()).sum::<usize>()
    });
    assert!(deleted > 0, "something was deleted under load");
    assert!(pids.iter().all(|pid| alive(*pid)), "what is active lives on");
    for task in [&lasting, &looped] {
        let view = root.view(task);
        let active: Vec<&RunId> = view.task().active().map(|(id, _)| id).collect();
        assert_eq!(active.len(), 1);
        assert!(root.tree().run(task, active[0]).prompt().exists(), "and has its folder");
    }
    for (task, runs) in &started {
        let messages = root.messages(task);
        for (n, run) in runs.iter().enumerate() {
            let of = |kind: &str| {
                let is = |m: &&run_agent_core::Message| {
                    m.content.kind.as_str() == kind
                        && m.content.run.as_ref().is_some_and(|id| id.as_str() == run)
                };
                messages.iter().filter(is).count()
            };
            let ends = if n % 2 == 0 { ("RUN_STOP", "RUN_CRASH") } else { ("RUN_CRASH", "RUN_STOP") };
            assert_eq!(
                (of("RUN_START"), of(ends.0), of(ends.1)),
                (1, 1, 0),
                "run {run} has its own end, once"
            );
            assert!(of("RUN_DELETED") <= 1);
            let id = RunId::parse(run).unwrap();
            assert_eq!(of("RUN_DELETED") == 1, !root.tree().run(task, &id).folder().exists(), "{run}");
            assert!(processes_of(&id).is_empty(), "no process without a folder");
        }
    }
    for pid in pids {
        kill(pid, "KILL");
    }
    let _ = driver.kill();
    driver.wait().unwrap();
}

#[test]
fn whole_tasks_deleted_under_load_take_no_start_with_them() {
    let root = Root::made();
    let stop = AtomicBool::new(false);
    let (codes, deleted) = std::thread::scope(|scope| {
        let sweepers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| sweep(&root, &stop, &["--delete-done-tasks"]))).collect();
        let start = |n: usize| {
            let task = name(&format!("fleeting-{n}"));
            let args = shell_args("task", &task, "echo ran >> \"$HOME/ran\"; run-agent done", &[]);
            root.run(&args).code
        };
        let workers: Vec<_> = (0..2)
            .map(|w| scope.spawn(move || (0..8).map(|n| start(w * 8 + n)).collect::<Vec<i32>>()))
            .collect();
        let codes: Vec<i32> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        (codes, sweepers.into_iter().map(|sweeper| sweeper.join().unwrap()).sum::<usize>())
    });
    assert!(deleted > 0);
    assert!(codes.iter().all(|code| *code == 0), "a loop that ended is told as such: {codes:?}");
    let ran = std::fs::read_to_string(root.scratch().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), 16, "each ran once");
    let _ = root.ok(&[&ALL[..], &["--delete-done-tasks"]].concat());
    let told = told(&root);
    assert_eq!(
        told.iter().collect::<std::collections::BTreeSet<_>>().len(),
        told.len(),
        "each is told once: {told:?}"
    );
}
