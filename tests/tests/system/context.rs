//! Where a command works: roots that are named, found and passed over; projects and tasks of flags, variables, folders.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use run_agent_tests::{Done, Root};

/// A command in a folder, with no root named.
fn inside(root: &Root, folder: &Path, args: &[&str]) -> Done {
    Done::of(root.command(args).env_remove("JRUN_ROOT").current_dir(folder).output().unwrap(), args)
}

fn root_of(done: &Done) -> String {
    let json: serde_json::Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    json["root"].as_str().unwrap().to_owned()
}

/// A root with a project, and a copy of it with a configuration that names an agent.
fn root_and_copy() -> (Root, std::path::PathBuf) {
    let root = Root::new();
    root.task_with("one", "true");
    let copy = root.scratch().join("checkout");
    assert!(Command::new("cp").arg("-a").arg(root.path()).arg(&copy).status().unwrap().success());
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
