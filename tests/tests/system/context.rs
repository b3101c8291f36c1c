//! Where a command works: roots that are named, found and passed over; projects and tasks of flags, variables, folders.

mod agents;
mod links;
mod names;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use run_agent_runner::files::is_locked;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root, until};

/// A command in a folder, with no root named.
fn inside(root: &Root, folder: &Path, args: &[&str]) -> Done {
    Done::of(root.command(args).env_remove("JRUN_ROOT").current_dir(folder).output().unwrap(), args)
}

fn root_of(done: &Done) -> String {
    let json: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    json["root"].as_str().unwrap().to_owned()
}

/// Copies a folder once nothing in it goes away any more: a supervisor cleans up after its run was seen to end.
fn copied(root: &Root, task: &TaskName, from: &Path, to: &Path) {
    let runs = root.view(task).task().runs.keys().cloned().collect::<Vec<_>>();
    let lives = |run| is_locked(&root.tree().run(task, run).supervisor_lock()).unwrap();
    until("the supervisors have gone", || (!runs.iter().any(lives)).then_some(()), String::new);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A root with a project, and a copy of it with a configuration that names an agent.
fn root_and_copy() -> (Root, std::path::PathBuf) {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let copy = root.scratch().join("checkout");
    copied(&root, &task, &root.path(), &copy);
    std::fs::write(
        copy.join("config.hcl"),
        "agent \"evil\" {\n  type = \"command\"\n  argv = [\"true\"]\n}\n",
    )
    .unwrap();
    (root, copy)
}

const DISCOVER: [&str; 5] = ["bus", "discover", "--project", "p", "--json"];

#[test]
fn a_root_is_inferred_only_in_the_folder_that_it_was_made_in() {
    let (root, copy) = root_and_copy();
    let own = inside(&root, &root.path().join("p"), &DISCOVER);
    assert_eq!((root_of(&own), own.stderr.as_str()), (root.path().display().to_string(), ""));
    let shown = inside(&root, &copy, &["config", "path", "--json"]);
    assert!(!shown.stdout.contains("checkout"), "{shown:?}");
    assert_eq!(shown.stderr.lines().count(), 1, "{shown:?}");
    assert!(shown.stderr.starts_with("warning: "), "{shown:?}");
    assert!(shown.stderr.contains(&format!("--root {}", copy.display())), "{shown:?}");
    let started = inside(&root, &copy, &["job", "--project", "p", "--agent", "evil", "--prompt", "x"]);
    assert_eq!(started.code, 5, "{started:?}");
}

#[test]
fn a_root_that_was_moved_is_inferred_again_once_it_was_named() {
    let (root, copy) = root_and_copy();
    std::fs::write(copy.join("config.hcl"), "").unwrap();
    assert_eq!(inside(&root, &copy, &DISCOVER).code, 5);
    assert_eq!(inside(&root, &root.scratch(), &["list", "--root", copy.to_str().unwrap()]).code, 0);
    let found = inside(&root, &copy, &DISCOVER);
    assert_eq!((root_of(&found), found.stderr.as_str()), (copy.display().to_string(), ""));
}

#[test]
fn a_link_to_a_real_roots_own_folder_makes_no_root() {
    let (root, copy) = root_and_copy();
    std::fs::remove_dir_all(copy.join(".run-agent")).unwrap();
    symlink(root.path().join(".run-agent"), copy.join(".run-agent")).unwrap();
    let shown = inside(&root, &copy, &["config", "path", "--json"]);
    assert!(!shown.stdout.contains("checkout") && shown.stderr.starts_with("warning: "), "{shown:?}");
}

#[test]
fn a_checkout_inside_a_root_leads_to_the_root_around_it() {
    let (root, copy) = root_and_copy();
    let nested = root.path().join("p/checkout");
    std::fs::rename(&copy, &nested).unwrap();
    let found = inside(&root, &nested, &DISCOVER);
    assert_eq!(root_of(&found), root.path().display().to_string());
    assert!(found.stderr.starts_with("warning: "), "{found:?}");
}

#[test]
fn the_default_root_needs_no_line_of_its_own() {
    let (root, copy) = root_and_copy();
    let home = root.scratch().join("run-agent");
    std::fs::write(copy.join("config.hcl"), "").unwrap();
    std::fs::rename(&copy, &home).unwrap();
    let found = inside(&root, &home, &DISCOVER);
    assert_eq!((root_of(&found), found.stderr.as_str()), (home.display().to_string(), ""));
}

/// The environment of a run's agent, of the newest run of a task.
fn as_agent(root: &Root, task: &TaskName, command: &mut Command) {
    let run = root.view(task).task().runs.keys().next_back().unwrap().clone();
    command
        .env("JRUN_PROJECT_ID", task.project.as_str())
        .env("JRUN_TASK_ID", task.task.as_str())
        .env("JRUN_ID", run.as_str())
        .env("JRUN_MESSAGE_BUS", root.bus(task));
}

fn agents_call(root: &Root, task: &TaskName, args: &[&str]) -> Done {
    let mut command = root.command(args);
    as_agent(root, task, &mut command);
    Done::of(command.output().unwrap(), args)
}

/// The root around the working folder, with this for the text of its store file.
fn around_with(text: impl Fn(&str) -> String) -> (Root, Done) {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    let file = root.path().join(".run-agent/store.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text(&before)).unwrap();
    let done = inside(&root, &root.path().join("p"), &["list"]);
    (root, done)
}

#[test]
fn no_other_root_is_taken_instead_of_one_that_cannot_be_used() {
    let without_folder = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("folder:"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let (_, newer) = around_with(|text| text.replace("format: 1", "format: 2"));
    assert!(newer.code == 2 && newer.stderr.contains("format 2 is newer"), "{newer:?}");
    let (_, other) = around_with(|text| text.replace("backend: \"", "backend: \"no-"));
    assert!(other.code == 2 && other.stderr.contains("the store `no-"), "{other:?}");
    let (_, unknown) = around_with(|text| without_folder(text).replace("version: 1", "version: 2"));
    assert!(unknown.code == 2 && unknown.stderr.contains("version 2 is newer"), "{unknown:?}");
    let (_, foreign) = around_with(|text| without_folder(text).replace("backend: \"", "backend: \"no-"));
    assert!(foreign.code == 0 && foreign.stderr.contains("is passed over"), "{foreign:?}");
    for done in [newer, other, unknown] {
        assert!(!done.stderr.contains("passed over") && done.stderr.contains("--root"), "{done:?}");
    }
}

#[test]
fn a_root_is_found_through_a_link_to_its_store_file() {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    let (file, aside) = (root.path().join(".run-agent/store.yaml"), root.scratch().join("store.yaml"));
    std::fs::rename(&file, &aside).unwrap();
    symlink(&aside, &file).unwrap();
    assert_eq!(root_of(&inside(&root, &root.path().join("p"), &DISCOVER)), root.path().display().to_string());
}

#[test]
fn the_warning_of_a_root_that_is_passed_over_says_what_naming_it_means() {
    let (root, copy) = root_and_copy();
    let shown = inside(&root, &copy, &["list"]);
    assert!(shown.stderr.contains("names commands to run; only if you trust it"), "{shown:?}");
}

#[test]
fn a_shell_that_asks_for_names_is_told_no_warning() {
    let (root, copy) = root_and_copy();
    let mut command = root.command(&["--", "run-agent", "status", ""]);
    command
        .env("RUN_AGENT_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2")
        .env("_CLAP_COMPLETE_COMP_TYPE", "9");
    let done = Done::of(command.env_remove("JRUN_ROOT").current_dir(&copy).output().unwrap(), &[]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn commands_that_only_look_make_no_root() {
    let root = Root::new();
    let task = root.task_with("one", "true");
    let id = task.task.as_str();
    let typo = root.scratch().join("typo");
    let empty = root.scratch().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for place in [&typo, &empty] {
        for args in [
            &["list"][..],
            &["status", "one"],
            &["watch"],
            &["replay", "one"],
            &["output", "--task", "one"],
            &["bus", "read", "--project", "p"],
            &["bus", "search", "x"],
            &["bus", "export", "--project", "p"],
            &["bus", "discover", "--project", "p"],
            &["bus", "poll", "--project", "p"],
            &["bus", "follow", "--project", "p"],
            &["wait", "20261121-1200000000-1-1"],
            &["stop", "--task", "one"],
            &["resume", "--task", "one"],
            &["done", "--task", id],
            &["ask", "--project", "p", "what?"],
            &["store", "verify"],
            &["store", "stats"],
        ] {
            let args = [&["--root", place.to_str().unwrap()], args].concat();
            let done = root.run(&args);
            assert!(done.code == 5 && done.stderr.contains("is no storage folder"), "{done:?}");
        }
        assert!(!typo.exists());
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    }
    let by_variable = Done::of(root.command(&["list"]).env("JRUN_ROOT", &typo).output().unwrap(), &[]);
    assert!(by_variable.code == 5 && !typo.exists(), "{by_variable:?}");
    for args in [&["config", "show"][..], &["config", "path"], &["config", "validate"]] {
        let args = [&["--root", typo.to_str().unwrap()], args].concat();
        let done = root.run(&args);
        assert!(done.code == 0 && !typo.exists(), "{done:?}");
    }
    let _ = root.ok(&["--root", typo.to_str().unwrap(), "config", "init"]);
    assert_eq!(root.run(&["--root", typo.to_str().unwrap(), "list"]).code, 0);
}

#[test]
fn the_default_root_is_empty_before_its_first_use() {
    let root = Root::new();
    let home = root.scratch().join("run-agent");
    let listed = inside(&root, &root.scratch(), &["list"]);
    assert!(listed.code == 0 && listed.stderr.contains("no tasks yet"), "{listed:?}");
    assert_eq!(inside(&root, &root.scratch(), &["status", "one"]).code, 5);
    assert_eq!(inside(&root, &root.scratch(), &["store", "verify"]).code, 0);
    assert!(!home.exists());
}

#[test]
fn commands_that_an_error_names_look_where_this_one_looked() {
    let root = Root::new();
    let _ = root.task_with("one", "true");
    let blank = root.scratch().join("with blank");
    std::fs::rename(root.path(), &blank).unwrap();
    let named = blank.to_str().unwrap();
    for args in [
        &["status", "nowhere-near"][..],
        &["status", "--project", "nowhere-near"],
        &["status", "20261121-1200000000-1-1"],
    ] {
        let args = [&["--root", named], args].concat();
        let done = root.run(&args);
        assert!(done.code == 5 && done.stderr.contains(&format!(" --root '{named}'`")), "{done:?}");
    }
    assert!(!root.run(&["list", "--project", "nowhere-near"]).stderr.contains("--root"));
    let demo = root.run(&["--root", named, "demo"]);
    assert!(demo.stdout.contains(&format!("run-agent --root '{named}' status")), "{demo:?}");
}
