//! `bus search`, `bus export`, `bus discover`.

use std::process::Command;

use run_agent_core::store::Options;
use run_agent_core::{Draft, Durability, Kind, Message};
use run_agent_runner::tree::TaskName;
use run_agent_tests::Root;

fn post(root: &Root, task: &TaskName, kind: &str, body: &str) -> String {
    root.ok(&["bus", "post", "--task", task.task.as_str(), "--type", kind, "--body", body])
}

fn found(root: &Root, args: &[&str]) -> Vec<serde_json::Value> {
    let out = root.ok(&[&["bus", "search", "--json"], args].concat());
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_text_is_found_in_a_task_a_project_and_everywhere() {
    let root = Root::new();
    let (one, two) = (root.task_with("one", "true"), root.task_with("two", "true"));
    post(&root, &one, "FACT", "the needle is here\nand\nnot the other Needle");
    let id = post(&root, &two, "ERROR", "a needle, too");
    let other =
        ["job", "--project", "q", "--task", "third", "--agent", "shell", "--prompt", "echo a needle of q"];
    assert_eq!(root.run(&other).code, 0);
    assert_eq!(root.run(&["bus", "post", "--project", "p", "--body", "needle of the project"]).code, 0);

    let task = found(&root, &["needle", "--task", one.task.as_str()]);
    assert_eq!(task.len(), 1);
    assert_eq!(task[0]["lines"], serde_json::json!([{ "number": 1, "text": "the needle is here" }]));
    assert_eq!(task[0]["stream"], one.to_string());
    let insensitive = found(&root, &["NEEDLE", "-i", "--task", one.task.as_str()]);
    assert_eq!(insensitive[0]["lines"].as_array().unwrap().len(), 2);
    assert_eq!(found(&root, &["needle", "--project", "p"]).len(), 3);
    let everywhere = found(&root, &["needle", "--all-projects"]);
    assert!(everywhere.len() > 3, "{everywhere:?}");
    assert!(everywhere.iter().any(|m| m["project_id"] == "q"), "{everywhere:?}");
    assert_eq!(found(&root, &["n.+, too$", "--regex", "--project", "p"]).len(), 1);
    assert_eq!(found(&root, &["n.+, too", "--project", "p"]).len(), 0, "plain text is no expression");
    assert_eq!(found(&root, &["needle", "--project", "p", "--type", "ERROR,DECISION"]).len(), 1);
    assert_eq!(found(&root, &["needle", "--project", "p", "--limit", "2"]).len(), 2);
    assert_eq!(found(&root, &["needle", "--project", "p", "--since", "1h"]).len(), 3);
    assert_eq!(found(&root, &["needle", "--project", "p", "--since", &id]).len(), 1, "what came behind it");
    let text = root.ok(&["bus", "search", "needle", "--task", one.task.as_str()]);
    assert!(text.contains("    1: the needle is here") && !text.contains('\u{1b}'), "{text}");
    let none = root.run(&["bus", "search", "nowhere", "--all-projects"]);
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    for (args, word) in [
        (&["(", "--regex"][..], "expression"),
        (&["x", "--since", "soon"], "--since"),
        (&["x", "--project", "p"], "leave out"),
    ] {
        let done = root.run(&[&["bus", "search", "--all-projects"], args].concat());
        assert_eq!((done.code, done.stderr.contains(word)), (2, true), "{done:?}");
    }
    let nowhere = root.run(&["bus", "search", "x"]);
    assert!(nowhere.code == 2 && nowhere.stderr.contains("--all-projects"), "{nowhere:?}");
}

#[test]
fn an_export_holds_every_message_and_is_a_bus_again() {
    let root = Root::new();
    let task = root.task_with("export", "true");
    let first = post(&root, &task, "FACT", "a\n---\nb\\");
    post(&root, &task, "FACT", "last");
    let all = root.messages(&task);
    let named = ["--task", task.task.as_str()];
    let ndjson = root.ok(&[&["bus", "export", "--format", "ndjson"], &named[..]].concat());
    let lines: Vec<Message> = ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, all);
    let since = root.ok(&[&["bus", "export", "--format", "ndjson", "--since", &first], &named[..]].concat());
    assert_eq!(since.lines().count(), 1);

    let copy = Root::of_markdown();
    let there = copy.task_with("export", "true");
    let file = copy.bus(&there);
    let out = ["bus", "export", "--out", file.to_str().unwrap()];
    assert_eq!(root.run(&[&out[..], &named[..]].concat()).code, 0);
    assert_eq!(copy.messages(&there), all, "another root reads it");
    let md = copy.run(&[&["bus", "export"], &named[..]].concat());
    let bus = std::fs::read_to_string(&file).unwrap();
    assert_eq!((md.code, md.stdout), (0, bus), "the markdown of a markdown bus is the bus");
    let twice = root.json(&[&out[..], &named[..], &["--json"]].concat());
    assert_eq!(twice["messages"], all.len());
    let failed = root.run(&[&["bus", "export", "--out", "/nowhere/at/all"], &named[..]].concat());
    assert_eq!((failed.code, failed.stderr.lines().count()), (1, 1), "{failed:?}");
    let full = root.run(&[&["bus", "export", "--full"], &named[..]].concat());
    assert_eq!(full.code, 2, "{full:?}");
}

#[test]
fn what_lies_in_rotated_files_is_found_and_exported() {
    let root = Root::new();
    let task = root.task_with("rotated", "true");
    let options = Options { rotate_bytes: 8 * 1024, ..Options::default() };
    let stream = root.store(options).open(&task.key()).unwrap();
    for n in 0..200 {
        let text = format!("number {n}. {}", "x".repeat(200));
        let draft = Draft::new(Kind::FACT, task.project.clone(), Some(task.task.clone()), text);
        stream.append(vec![draft], Durability::None).unwrap();
    }
    assert!(stream.stats().unwrap().files > 5, "{:?}", stream.stats());
    let named = ["--task", task.task.as_str()];
    for n in ["0", "57", "199"] {
        assert_eq!(found(&root, &[&[&*format!("number {n}.")], &named[..]].concat()).len(), 1);
    }
    let all = root.ok(&[&["bus", "export", "--format", "ndjson"], &named[..]].concat());
    let all: Vec<Message> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all, root.messages(&task));
    let tail = root.ok(&[&["bus", "read", "--tail", "150", "--type", "FACT", "--json"], &named[..]].concat());
    assert_eq!(tail.lines().count(), 150);
    let done = root.run(&["store", "verify", "--deep", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn discover_tells_which_bus_and_why() {
    let root = Root::new();
    let task = root.task_with("found", "true");
    let last = root.messages(&task).last().unwrap().id.to_string();
    let bus = root.bus(&task);
    let args = ["bus", "discover", "--json"];
    let told = |change: &dyn Fn(&mut Command) -> &mut Command| -> serde_json::Value {
        let mut command = root.command(&args);
        change(&mut command);
        let out = command.output().unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"))
    };
    let folder = root.tree().task(&task).folder().to_owned();
    let project = root.tree().layout.project(&task.project);
    type Change<'a> = Box<dyn Fn(&mut Command) -> &mut Command + 'a>;
    let ways: [(&str, Change<'_>, bool); 6] = [
        ("--task", Box::new(|c| c.args(["--task", task.task.as_str()])), true),
        ("--project", Box::new(|c| c.args(["--project", "p"])), false),
        ("JRUN_MESSAGE_BUS", Box::new(|c| c.env("JRUN_MESSAGE_BUS", &bus)), true),
        (
            "JRUN_TASK_ID",
            Box::new(|c| c.env("JRUN_PROJECT_ID", "p").env("JRUN_TASK_ID", task.task.as_str())),
            true,
        ),
        ("the working folder", Box::new(|c| c.current_dir(folder.join("runs"))), true),
        ("the working folder", Box::new(|c| c.current_dir(&project)), false),
    ];
    for (why, change, of_task) in &ways {
        let told = told(change);
        assert_eq!((told["because"].as_str(), told["task_id"].is_string()), (Some(*why), *of_task), "{told}");
        assert_eq!(told["root_because"], "JRUN_ROOT");
        assert_eq!((&told["backend"], &told["exists"]), (&root.store_name().into(), &true.into()));
        if *of_task {
            assert_eq!((told["path"].as_str(), &told["last_msg_id"]), (bus.to_str(), &last.as_str().into()));
        }
    }
    let none = root.run(&args);
    assert_eq!((none.code, none.stdout.as_str()), (2, ""), "{none:?}");
    assert!(root.tree().store.open(&task.key()).is_ok());
}

#[test]
fn an_export_takes_no_place_but_that_of_a_file_outside_the_root() {
    use std::os::unix::fs::FileTypeExt;
    let root = Root::new();
    let task = root.task_with("goals", "true");
    let id = post(&root, &task, "FACT", "to be exported");
    let scratch = root.scratch();
    let export = |goal: &str| {
        root.run(&["bus", "export", "--task", task.task.as_str(), "--format", "ndjson", "--out", goal])
    };

    let pipe = scratch.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    assert_eq!(export(pipe.to_str().unwrap()).code, 0);
    assert!(reader.join().unwrap().contains(&id), "it was written into the pipe");
    assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());

    std::fs::write(scratch.join("real"), "before").unwrap();
    std::os::unix::fs::symlink("real", scratch.join("link")).unwrap();
    assert_eq!(export("link").code, 0);
    assert!(scratch.join("link").is_symlink(), "a link stays one");
    assert!(std::fs::read_to_string(scratch.join("real")).unwrap().contains(&id));
    std::os::unix::fs::symlink("nothing", scratch.join("dangling")).unwrap();
    assert_eq!(export("dangling").code, 2);

    let bus = root.bus_data(&task);
    let before = std::fs::read(&bus).unwrap();
    std::os::unix::fs::symlink(&bus, scratch.join("bus")).unwrap();
    let fresh = bus.with_file_name("TASK-MESSAGE-BUS.20261121-093000.md");
    let store = root.tree().layout.store_file();
    let (done, own) = (bus.with_file_name("DONE"), bus.with_file_name("mine.ndjson"));
    let inside = [&bus, &fresh, &store, &done, &own].map(|path| path.to_str().unwrap());
    for goal in inside.into_iter().chain(["bus"]) {
        let done = export(goal);
        assert_eq!((done.code, done.stderr.contains("storage folder")), (2, true), "{goal}: {done:?}");
    }
    assert_eq!(std::fs::read(&bus).unwrap(), before, "the bus is as it was");
    assert!(!done.exists() && !own.exists());
    let nowhere = export("nofolder/");
    assert!(nowhere.code == 2 && nowhere.stderr.contains("there is no folder nofolder/"), "{nowhere:?}");
    assert!(!scratch.join("nofolder").exists());
}
