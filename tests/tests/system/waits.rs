//! Runs that would wait for each other for ever.

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_tests::{Root, kill, name, shell_args, text_of, until};

fn waits(root: &Root) -> Vec<String> {
    let entries = std::fs::read_dir(root.tree().layout.waits()).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "mutex").collect()
}

#[test]
fn the_wait_that_would_close_a_circle_is_refused_and_the_others_go_on() {
    let root = Root::new();
    let [first, second, third] = ["first", "second", "third"].map(name);
    // Each waits for the one whose id it finds, and leaves what came of it.
    let prompt = r#"until [ -s "$JRUN_TASK_FOLDER/on" ]; do sleep 0.02; done
run-agent wait $(cat "$JRUN_TASK_FOLDER/on") > /dev/null 2> "$JRUN_TASK_FOLDER/saying" || echo "exit $?" >> "$JRUN_TASK_FOLDER/saying"
mv "$JRUN_TASK_FOLDER/saying" "$JRUN_TASK_FOLDER/said""#;
    let started = [&first, &second, &third]
        .map(|task| (task, RunId::parse(&root.ok(&shell_args("job", task, prompt, &["--detach"]))).unwrap()));
    let on = |n: usize, on: usize| {
        let folder = root.tree().task(started[n].0).folder().to_owned();
        std::fs::write(folder.join(".on"), started[on].1.as_str()).unwrap();
        std::fs::rename(folder.join(".on"), folder.join("on")).unwrap();
    };
    on(0, 1);
    until("the first waits", || (waits(&root).len() == 1).then_some(()), String::new);
    on(1, 2);
    until("the second waits", || (waits(&root).len() == 2).then_some(()), String::new);
    on(2, 0);
    let said = text_of(&root.tree().task(&third).folder().join("said"));
    for (task, run) in &started {
        let waited = root.run(&["wait", run.as_str(), "--wait", "60s"]);
        assert!(waited.code < 2, "{waited:?}");
        assert!(!root.view(task).run(run).unwrap().is_active());
    }
    assert!(said.contains("exit 2"), "{said}");
    let [a, b, c] = started.map(|(_, run)| run);
    assert!(said.contains(&format!("{a} waits for {b}, {b} waits for {c}")), "{said}");
    assert_eq!(waits(&root), [""; 0]);
}

#[test]
fn a_child_that_waits_for_its_parent_is_told_unless_it_waits_with_a_limit() {
    let root = Root::new();
    let child = r#"run-agent wait "$JRUN_PARENT_ID" --wait 10ms || echo $?; run-agent wait "$JRUN_PARENT_ID" || echo $?"#;
    let prompt = format!("run-agent job --agent shell --prompt '{child}'");
    let task = root.task_with("parent", &prompt);
    let view = root.view(&task);
    let (id, run) = view.task().runs.iter().find(|(_, run)| run.parent.is_some()).unwrap();
    assert_eq!(run.status(), RunStatus::Completed);
    let said = root.ok(&["output", id.as_str()]);
    let codes: Vec<&str> = said.lines().filter(|line| line.parse::<u8>().is_ok()).collect();
    assert_eq!(codes, ["124", "2"], "{said}");
}

#[test]
fn a_waiting_command_that_was_killed_stands_in_nobodys_way() {
    let root = Root::new();
    let (first, second) = (name("first"), name("second"));
    let hold = r#"until [ -e "$JRUN_TASK_FOLDER/go" ]; do sleep 0.02; done"#;
    let run = root.ok(&shell_args("job", &second, hold, &["--detach"]));
    let prompt = format!("run-agent wait {run} & echo $! > \"$JRUN_TASK_FOLDER/pid\"; {hold}");
    let waits_for = root.ok(&shell_args("job", &first, &prompt, &["--detach"]));
    let waiting = until("a wait", || waits(&root).pop(), String::new);
    kill(text_of(&root.tree().task(&first).folder().join("pid")).parse().unwrap(), "KILL");
    let path = root.tree().layout.waits().join(&waiting);
    let free = || (!run_agent_runner::files::is_locked(&path).unwrap()).then_some(());
    until("its lock is free", free, String::new);
    std::fs::write(root.tree().task(&first).folder().join("go"), "").unwrap();
    std::fs::write(root.tree().task(&second).folder().join("go"), "").unwrap();
    let back = root.task_with("third", &format!("run-agent wait {waits_for}"));
    assert_eq!(root.view(&back).task().runs.len(), 1);
    assert_eq!(waits(&root), [""; 0], "what the dead left is removed");
}
