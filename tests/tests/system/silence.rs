//! Silence: what is idle and what hangs, and what only looks like it. Time limits, and time in which nobody looked.

use std::time::{Duration, Instant};

use run_agent_core::event::Event;
use run_agent_core::policy::watch::STUCK;
use run_agent_core::world::{Run, RunStatus};
use run_agent_core::{MsgId, RunId};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, alive, kill, name, processes_of, shell_args, supervisor_ends, text_of, until};

/// A root with these settings of silence, and a short grace.
fn root_with(idle_after: &str, stuck_after: &str) -> Root {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    let text = format!(
        "watch {{\n  idle_after = \"{idle_after}\"\n  stuck_after = \"{stuck_after}\"\n}}\nstop {{\n  grace = \"1s\"\n}}\n"
    );
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

fn detached(root: &Root, task: &TaskName, prompt: &str) -> RunId {
    RunId::parse(&root.ok(&shell_args("job", task, prompt, &["--detach"]))).unwrap()
}

/// The run's silence as the stream tells it, in order.
fn told(root: &Root, task: &TaskName, run: &RunId) -> Vec<String> {
    let of_run = root.messages(task).into_iter().filter(|m| m.content.run.as_ref() == Some(run));
    let kinds = of_run.map(|m| m.content.kind.to_string());
    kinds.filter(|kind| ["RUN_IDLE", "RUN_ACTIVE", "RUN_STUCK"].contains(&kind.as_str())).collect()
}

fn until_told(root: &Root, task: &TaskName, run: &RunId, wanted: &[&str]) {
    let state = || format!("{:#?}", root.messages(task));
    until(&format!("{wanted:?}"), || (told(root, task, run) == wanted).then_some(()), state);
}

fn ends_as(root: &Root, task: &TaskName, run: &RunId, status: RunStatus) {
    let ended = || root.view(task).run(run).filter(|run| !run.is_active()).map(Run::status);
    assert_eq!(until("the run ends", ended, || format!("{:#?}", root.messages(task))), status);
    supervisor_ends(run);
}

/// Waits for a second run of the same root, which hangs, to be called idle: by then this one would have been too.
fn as_long_as_a_hung_run_takes_to_be_idle(root: &Root) {
    let task = name("yardstick");
    let run = detached(root, &task, "sleep 1000");
    until_told(root, &task, &run, &["RUN_IDLE"]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
}

#[test]
fn a_hung_run_is_idle_then_stuck_and_ended_to_its_last_process() {
    let root = root_with("1s", "5s");
    let task = name("hung");
    let done = root.run(&shell_args("job", &task, "setsid sleep 1000 & echo begun; sleep 1000", &[]));
    assert_ne!(done.code, 0, "{done:?}");
    let view = root.view(&task);
    let (id, run) = view.task().runs.iter().next().unwrap();
    let (end, _) = run.end().unwrap();
    assert_eq!(run.status(), RunStatus::Failed);
    assert!(end.reason.starts_with(STUCK) && end.error_class.as_deref() == Some("killed"), "{end:?}");
    assert_eq!(told(&root, &task, id), ["RUN_IDLE", "RUN_STUCK"]);
    assert_eq!(processes_of(id), [0u32; 0], "left-overs are gone");

    let messages = root.messages(&task);
    let of = |kind: &str| messages.iter().find(|m| m.content.kind.as_str() == kind).unwrap();
    let stuck = of("RUN_STUCK");
    assert_eq!(of("RUN_CRASH").content.meta["cause"], format!("message:{}", stuck.id));
    let parents: Vec<&MsgId> = of("WARNING").content.parents.iter().map(|parent| &parent.msg_id).collect();
    assert_eq!(parents, [&stuck.id], "a person sees it as a plain warning");
    for (kind, after) in [("RUN_IDLE", 1), ("RUN_STUCK", 5)] {
        let silence = match Event::read(of(kind)).unwrap() {
            Event::RunIdle(silence) | Event::RunStuck(silence) => silence.silent_s,
            other => panic!("{other:?}"),
        };
        assert!(silence >= after, "{kind}: {silence}");
    }
}

#[test]
fn a_run_that_works_without_a_word_is_not_idle() {
    let root = root_with("1s", "3s");
    let task = name("burner");
    let run = detached(&root, &task, "(while :; do :; done)");
    as_long_as_a_hung_run_takes_to_be_idle(&root);
    assert_eq!(told(&root, &task, &run), [""; 0]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
}

#[test]
fn work_in_processes_that_come_and_go_is_seen() {
    let root = root_with("1s", "0s");
    let task = name("compiles");
    // Each of them lives for less than a look, and one in two is waited for by nobody but the supervisor.
    let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    let prompt = format!("while :; do sh -c '{work}'; (setsid sh -c '{work}' &); sleep 0.1; done");
    let run = detached(&root, &task, &prompt);
    as_long_as_a_hung_run_takes_to_be_idle(&root);
    assert_eq!(told(&root, &task, &run), [""; 0]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
}

#[test]
fn a_run_that_prints_now_and_then_is_active() {
    let root = root_with("3s", "6s");
    let task = name("drip");
    let run = detached(&root, &task, "while :; do echo . >&2; sleep 0.5; done");
    as_long_as_a_hung_run_takes_to_be_idle(&root);
    assert_eq!(told(&root, &task, &run), [""; 0]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
}

#[test]
fn a_run_that_waits_for_its_child_is_not_idle_and_the_child_that_hangs_is() {
    let root = root_with("1s", "0s");
    let task = name("parent");
    let run = detached(
        &root,
        &task,
        "c=`run-agent job --detach --agent shell --prompt 'sleep 1000'`; echo $c > \"$JRUN_TASK_FOLDER/child\"; run-agent wait $c",
    );
    let child = RunId::parse(&text_of(&root.tree().task(&task).folder().join("child"))).unwrap();
    until_told(&root, &task, &child, &["RUN_IDLE"]);
    as_long_as_a_hung_run_takes_to_be_idle(&root);
    assert_eq!(told(&root, &task, &run), [""; 0]);
    // The child ends: from then on nothing shows that a parent lives which does not go on by itself.
    assert_eq!(root.run(&["stop", "--run", child.as_str()]).code, 0);
    let _ = root.run(&["stop", "--run", run.as_str()]);
}

#[test]
fn the_end_of_a_child_begins_its_parents_silence() {
    let root = root_with("1s", "0s");
    let task = name("later");
    let run = detached(
        &root,
        &task,
        "run-agent job --detach --agent shell --prompt 'sleep 1000' > \"$JRUN_TASK_FOLDER/child\"; exec sleep 1000",
    );
    let child = RunId::parse(&text_of(&root.tree().task(&task).folder().join("child"))).unwrap();
    until_told(&root, &task, &child, &["RUN_IDLE"]);
    assert_eq!(told(&root, &task, &run), [""; 0]);
    assert_eq!(root.run(&["stop", "--run", child.as_str()]).code, 0);
    until_told(&root, &task, &run, &["RUN_IDLE"]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
}

#[test]
fn a_run_that_asks_is_not_idle_until_it_is_answered() {
    let root = root_with("1s", "0s");
    let task = name("asks");
    // The question stays open when nobody waits for it any more.
    let run = detached(
        &root,
        &task,
        "run-agent bus post --type QUESTION --blocking --body 'which?'; exec sleep 1000",
    );
    as_long_as_a_hung_run_takes_to_be_idle(&root);
    assert_eq!(told(&root, &task, &run), [""; 0]);
    let question = root.view(&task).task().thread.open_questions.keys().next().unwrap().to_string();
    let slug = task.task.as_str();
    let answer = ["bus", "post", "--task", slug, "--type", "ANSWER", "--parent", &question, "--body", "this"];
    let _ = root.ok(&answer);
    until_told(&root, &task, &run, &["RUN_IDLE"]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
}

#[test]
fn a_run_that_lives_again_is_active_and_then_ends_well() {
    let root = root_with("1s", "0s");
    let task = name("again");
    let folder = root.tree().task(&task).folder().to_owned();
    let wait = |file: &str| format!("while [ ! -e \"$JRUN_TASK_FOLDER/{file}\" ]; do sleep 0.3; done");
    let run = detached(&root, &task, &format!("{}; echo hello; {}", wait("go"), wait("end")));
    until_told(&root, &task, &run, &["RUN_IDLE"]);

    let shown = root.ok(&["status", task.task.as_str()]);
    assert!(shown.contains("running (idle)") && shown.contains("idle for "), "{shown}");
    let row = &root.json(&["status", task.task.as_str(), "--json"])["runs"][0];
    assert!(row["idle_since"].is_string() && row["status"] == "running", "{row}");
    assert!(root.ok(&["status", run.as_str()]).contains("# note: idle for "));
    assert!(
        root.ok(&["list", "--project", "p"]).contains("running (idle)"),
        "{}",
        root.ok(&["list", "--project", "p"])
    );
    let waited = root.run(&["wait", run.as_str(), "--wait", "0s"]);
    assert!(waited.code == 124 && waited.stdout.contains("still running (idle for "), "{waited:?}");

    std::fs::write(folder.join("go"), "").unwrap();
    until_told(&root, &task, &run, &["RUN_IDLE", "RUN_ACTIVE"]);
    let shown = root.ok(&["status", task.task.as_str()]);
    assert!(!shown.contains("running (idle)"), "{shown}");
    std::fs::write(folder.join("end"), "").unwrap();
    ends_as(&root, &task, &run, RunStatus::Completed);
    assert_eq!(root.count(&task, "WARNING"), 0, "to be idle is no trouble");
}

#[test]
fn zero_is_never_stuck_and_a_stop_wins_over_silence() {
    let root = root_with("1s", "0s");
    let task = name("never");
    let run = detached(&root, &task, "sleep 1000");
    until_told(&root, &task, &run, &["RUN_IDLE"]);
    as_long_as_a_hung_run_takes_to_be_idle(&root);
    assert_eq!(told(&root, &task, &run), ["RUN_IDLE"]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
    ends_as(&root, &task, &run, RunStatus::Stopped);
    assert_eq!(told(&root, &task, &run), ["RUN_IDLE"]);
}

#[test]
fn a_loop_starts_its_root_again_after_it_hung() {
    let root = root_with("1s", "2s");
    let task = name("loop");
    let prompt = "if [ -e \"$JRUN_TASK_FOLDER/again\" ]; then run-agent done; else touch \"$JRUN_TASK_FOLDER/again\"; sleep 1000; fi";
    assert_eq!(root.drive(&task, prompt).wait().unwrap().code(), Some(0));
    let view = root.view(&task);
    let ends: Vec<String> =
        view.task().runs.values().map(|run| run.end().unwrap().0.reason.clone()).collect();
    assert!(ends.len() == 2 && ends[0].starts_with(STUCK) && ends[1] == "exit code 0", "{ends:?}");
}

#[test]
fn a_batch_and_a_loop_take_the_settings_too_and_a_command_by_hand_is_never_stuck() {
    let root = root_with("1s", "5s");
    let file = root.scratch().join("batch.yaml");
    std::fs::write(&file, "agent: shell\ntasks:\n- {id: a, prompt: sleep 1000}\n").unwrap();
    let mut by_hand = root.command(&["wrap", "--project", "w", "--", "sleep", "1000"]).spawn().unwrap();
    let batch = root.run(&["--project", "b", "job", "batch", "--spec", file.to_str().unwrap()]);
    assert_eq!(batch.code, 1, "{batch:?}");
    let only = |project: &str| {
        let project = run_agent_core::ProjectId::parse(project).unwrap();
        let task = root.tree().tasks(&project).unwrap().remove(0);
        let name = TaskName { project, task };
        let run = root.view(&name).task().runs.keys().next().unwrap().clone();
        (name, run)
    };
    let (task, run) = only("b");
    assert_eq!(told(&root, &task, &run), ["RUN_IDLE", "RUN_STUCK"]);
    // It began before that one, and is as silent.
    let (task, run) = only("w");
    assert_eq!(told(&root, &task, &run), ["RUN_IDLE"]);
    assert_eq!(root.run(&["stop", "--run", run.as_str()]).code, 0);
    let _ = by_hand.wait();
}

#[test]
fn a_supervisor_that_is_halted_right_after_the_start_makes_its_run_no_older() {
    let root = Root::new();
    let task = name("asleep");
    let folder = root.tree().task(&task).folder().to_owned();
    let prompt = "while [ ! -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.1; done";
    let mut starter = root
        .command(&shell_args("job", &task, prompt, &["--timeout", "4s"]))
        .env("RUN_AGENT_FAILPOINT", "supervisor.let_go=stop")
        .spawn()
        .unwrap();
    let started = || {
        let there = folder.join("runs").is_dir();
        let view = there.then(|| root.view(&task))?;
        let (id, run) = view.task().runs.iter().next()?;
        Some((id.clone(), run.start()?.supervisor_pid))
    };
    let (_, supervisor) = until("a run that started", started, String::new);
    let state = || text_of(format!("/proc/{supervisor}/stat").as_ref());
    until("a halted supervisor", || state().contains(") T ").then_some(()), state);
    let halted = Instant::now();
    let long_enough = || (halted.elapsed() > Duration::from_secs(5)).then_some(());
    until("more time has passed than the limit allows", long_enough, String::new);
    kill(supervisor, "CONT");
    std::fs::write(folder.join("go"), "").unwrap();
    assert!(starter.wait().unwrap().success(), "{:#?}", root.messages(&task));
}

#[test]
fn time_in_which_the_supervisor_did_not_run_makes_nothing_idle_stuck_or_late() {
    let root = root_with("5s", "6s");
    let task = name("asleep");
    let folder = root.tree().task(&task).folder().to_owned();
    let prompt = "while [ ! -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.3; done";
    let run =
        RunId::parse(&root.ok(&shell_args("job", &task, prompt, &["--detach", "--timeout", "7s"]))).unwrap();
    let supervisor = root.view(&task).start_of(&run).unwrap().supervisor_pid;
    kill(supervisor, "STOP");
    let halted = Instant::now();
    let long_enough = || (halted.elapsed() > Duration::from_secs(9)).then_some(());
    until("more time has passed than any limit allows", long_enough, String::new);
    assert!(alive(supervisor));
    kill(supervisor, "CONT");
    // It looks at once; the agent is let go when it has done so.
    let bell = root.run(&["status", run.as_str()]);
    assert_eq!(bell.code, 0, "{bell:?}");
    std::fs::write(folder.join("go"), "").unwrap();
    ends_as(&root, &task, &run, RunStatus::Completed);
    assert_eq!(told(&root, &task, &run), [""; 0]);
}

#[test]
fn a_time_limit_ends_a_run_whatever_it_does() {
    let root = root_with("1s", "0s");
    let task = name("limit");
    let done =
        root.run(&shell_args("job", &task, "while :; do echo busy; done > /dev/null", &["--timeout", "1s"]));
    assert_eq!(done.code, 124, "{done:?}");
    let mut limited = root.command(&shell_args("job", &task, "while :; do echo .; sleep 0.1; done", &[]));
    let done = limited.env("JRUN_AGENT_TIMEOUT", "1s").output().unwrap();
    assert_eq!(done.status.code(), Some(124), "{done:?}");
    let view = root.view(&task);
    let causes: Vec<String> = root
        .messages(&task)
        .into_iter()
        .filter(|m| m.content.kind.as_str() == "RUN_CRASH")
        .map(|m| m.content.meta["cause"].clone())
        .collect();
    assert_eq!(causes, ["limit:timeout", "limit:timeout"]);
    assert!(view.task().runs.keys().all(|run| told(&root, &task, run).is_empty()));
}
