//! Reading a bus: from the end, behind a message, on and on, and around what cannot be read.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use run_agent_core::{Draft, Durability, Kind};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, until};

fn fill(root: &Root, task: &TaskName, messages: usize) {
    let stream = root.tree().store.open(&task.key()).unwrap();
    let draft = |n: usize| {
        let kind = if n % 1000 == 5 { Kind::ERROR } else { Kind::PROGRESS };
        Draft::new(kind, task.project.clone(), Some(task.task.clone()), n.to_string())
    };
    stream.append((0..messages).map(draft).collect(), Durability::None).unwrap();
}

fn bodies(text: &str) -> Vec<String> {
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(|text| line(text)["body"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_last_that_match_are_shown_however_far_back_they_stand() {
    let root = Root::new();
    let task = root.task_with("far-back", "true");
    fill(&root, &task, 3000);
    let read = |args: &[&str]| {
        bodies(&root.ok(&[&["bus", "read", "--task", task.task.as_str(), "--json"], args].concat()))
    };
    assert_eq!(read(&["--tail", "2"]), ["2998", "2999"]);
    assert_eq!(read(&["--tail", "2", "--type", "ERROR"]), ["1005", "2005"]);
    assert_eq!(read(&["--tail", "99", "--type", "ERROR"]), ["5", "1005", "2005"]);
    assert_eq!(read(&["--tail", "1", "--type", "PROGRESS", "--grep", "17"]), ["2917"]);
    assert_eq!(read(&["--tail", "0"]), [""; 0]);
    assert_eq!(read(&[]).len(), 20);
    assert_eq!(read(&["--tail", "100000"]).len(), root.messages(&task).len());
    assert_eq!(read(&["--grep", "nowhere to be found"]), [""; 0]);
}

#[test]
fn a_message_that_is_not_there_is_told_and_is_not_the_beginning() {
    let root = Root::new();
    let task = root.task_with("unknown", "true");
    let id = "MSG-20200101-000000-000000000-PID00001-0001";
    for args in [vec!["read"], vec!["follow"], vec!["poll", "--wait", "10s"], vec!["export"]] {
        let all = [&["bus"], args.as_slice(), &["--task", task.task.as_str(), "--since", id]].concat();
        let done = root.run(&all);
        assert_eq!((done.code, done.stdout.as_str()), (5, ""), "{done:?}");
        assert!(done.stderr.contains(&format!("no message {id}")), "{done:?}");
    }
}

#[test]
fn poll_waits_for_news_alone() {
    let root = Root::new();
    let task = root.task_with("poll", "true");
    let done = root.run(&["bus", "poll", "--wait", "20ms", "--task", task.task.as_str()]);
    assert_eq!((done.code, done.stdout.as_str()), (124, ""), "{done:?}");
    let first = root.messages(&task)[0].id.to_string();
    let done = root.run(&["bus", "poll", "--since", &first, "--task", task.task.as_str()]);
    assert_eq!(done.code, 0, "what came since is news: {done:?}");
}

#[test]
fn damage_is_told_in_its_place_and_the_rest_is_read() {
    let root = Root::of_markdown();
    let task = root.task_with("damaged", "true");
    fill(&root, &task, 3);
    let bus = root.tree().layout.bus_file(&task.key());
    let text = std::fs::read_to_string(&bus).unwrap();
    std::fs::write(&bus, text.replace("\n1\n", "\n!\n")).unwrap();
    let args = ["bus", "read", "--task", task.task.as_str(), "--json", "--type", "PROGRESS"];
    let done = root.run(&args);
    let lines: Vec<serde_json::Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((done.code, lines.len()), (0, 3), "{done:?}");
    assert_eq!((&lines[0]["body"], &lines[2]["body"]), (&"0".into(), &"2".into()));
    let place = lines[1]["damage"]["place"].as_str().unwrap();
    assert!(place.contains(bus.to_str().unwrap()), "{place}");
    assert!(lines[1]["damage"]["what"].is_string());
    assert!(done.stderr.contains(place), "people are told as well: {done:?}");
    assert_eq!(lines[1]["damage"]["shown"]["body"], "!", "what is left of it, for people");
    let text = root.run(&args[..4]);
    assert!(text.stdout.contains("    !\n    ┄┄ damaged: the checksum"), "{text:?}");
    assert!(text.stdout.contains(place) && text.stderr.is_empty(), "once is enough: {text:?}");
    let export = root.run(&["bus", "export", "--task", task.task.as_str()]);
    assert_eq!(export.code, 1, "an export that lacks something says so: {}", export.stderr);
}

#[test]
fn what_is_damaged_and_can_be_shown_counts_among_the_last() {
    let root = Root::of_markdown();
    let task = root.task_with("damaged", "true");
    fill(&root, &task, 9);
    let bus = root.tree().layout.bus_file(&task.key());
    let text = std::fs::read_to_string(&bus).unwrap();
    let broken = (0..9).fold(text, |text, n| text.replace(&format!("\n{n}\n"), &format!("\n{n}!\n")));
    std::fs::write(&bus, broken.replace("bytes: 1\n", "bytes: 2\n")).unwrap();
    let done = root.run(&["bus", "read", "--task", "damaged", "--tail", "2"]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    assert_eq!(done.stdout.matches("damaged: the checksum").count(), 2, "{done:?}");
    assert!(done.stdout.contains("    7!") && done.stdout.contains("    8!"), "{done:?}");
}

#[test]
fn a_follower_goes_on_behind_what_it_has_read_when_the_file_is_replaced() {
    let root = Root::of_markdown();
    let task = root.task_with("replaced", "true");
    fill(&root, &task, 3);
    let mut command = root.command(&["bus", "follow", "--task", task.task.as_str(), "--json", "--tail", "3"]);
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!([next(), next(), next()].map(|m| m["body"].as_str().unwrap().to_owned()), ["0", "1", "2"]);

    let mut edit = root.command(&["bus", "edit", "--task", task.task.as_str()]);
    let status = edit.env("EDITOR", "sed -i 's/^0$/a longer text/'").stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    assert_eq!(
        root.run(&["bus", "post", "--task", task.task.as_str(), "--type", "PROGRESS", "--body", "3"]).code,
        0
    );
    assert_eq!(next()["replaced"]["stream"], task.to_string());
    assert_eq!(next()["body"], "3", "nothing is lost and nothing comes twice");

    // One that does not hold what was read: the follower cannot know where to go on.
    let bus = root.tree().layout.bus_file(&task.key());
    std::fs::remove_file(&bus).unwrap();
    std::fs::write(&bus, "").unwrap();
    assert_eq!(root.run(&["bus", "post", "--task", task.task.as_str(), "--body", "anew"]).code, 0);
    let code = until("the follower ends", || follower.try_wait().unwrap(), String::new).code();
    assert_eq!(code, Some(5));
}

#[test]
fn who_follows_ends_with_his_reader_though_nothing_new_comes() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let root = Root::new();
    let task = run_agent_tests::name("piped");
    let run = root.ok(&run_agent_tests::shell_args(
        "job",
        &task,
        "echo first; until [ -e \"$JRUN_TASK_FOLDER/go\" ]; do sleep 0.02; done",
        &["--detach"],
    ));
    for args in [
        &["bus", "follow", "--task", task.task.as_str()][..],
        &["output", &run, "--follow", "--stdout"],
        &["watch", task.task.as_str()],
    ] {
        let mut child = root.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{args:?}");
        drop(reader);
        let ended = || child.try_wait().unwrap();
        let status = until("the command ends", ended, || format!("{args:?}"));
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
    std::fs::write(root.tree().task(&task).folder().join("go"), "").unwrap();
}

#[test]
fn a_slip_in_a_type_is_told_to_whoever_finds_nothing() {
    let root = Root::new();
    let task = root.task_with("slip", "true");
    fill(&root, &task, 1);
    let read = |kind: &str| root.run(&["bus", "read", "--task", "slip", "--type", kind]);
    assert!(read("PROGRES").stderr.contains("did you mean `PROGRESS`?"));
    assert_eq!((read("PROGRESS").stderr.as_str(), read("RUN_STOP").stderr.as_str()), ("", ""));
}
