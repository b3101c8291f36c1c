//! `bus edit`: a person mends a bus while others go on posting.

use std::path::PathBuf;

use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root};

/// Runs `bus edit` with a shell script as editor: `$1` is the copy, `$RA` the binary.
fn edit(root: &Root, task: &TaskName, script: &str, more: &[&str]) -> Done {
    let path = root.scratch().join("editor.sh");
    std::fs::write(&path, format!("set -e\n{script}\n")).unwrap();
    let args = [&["bus", "edit", "--task", task.task.as_str()], more].concat();
    let mut command = root.command(&args);
    command.env("VISUAL", format!("sh {}", path.display())).env("RA", run_agent_tests::binary());
    Done::of(command.output().unwrap(), &args)
}

fn post(root: &Root, task: &TaskName, body: &str) {
    let _ = root.ok(&["bus", "post", "--task", task.task.as_str(), "--type", "FACT", "--body", body]);
}

fn facts(root: &Root, task: &TaskName) -> Vec<String> {
    let facts = root.messages(task).into_iter().filter(|m| m.content.kind.as_str() == "FACT");
    facts.map(|m| m.content.body).collect()
}

fn copies(root: &Root) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root.path().join(".run-agent/edits"));
    folder.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

#[test]
fn what_is_posted_while_the_editor_is_open_is_kept() {
    let root = Root::of_markdown();
    let task = root.task_with("busy", "true");
    post(&root, &task, "one");
    post(&root, &task, "two");
    let script = format!(
        "for n in 1 2 3; do $RA bus post --task {} --type FACT --body \"meanwhile $n\" >/dev/null; done\n\
         sed -i 's/^one$/first\\n---\\nof all/' \"$1\"",
        task.task
    );
    let done = edit(&root, &task, &script, &[]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("sealed again: 1 message"), "{done:?}");
    let wanted = ["first\n---\nof all", "two", "meanwhile 1", "meanwhile 2", "meanwhile 3"];
    assert_eq!(facts(&root, &task), wanted);
    post(&root, &task, "after");
    assert_eq!(facts(&root, &task).len(), 6);
    assert_eq!(root.run(&["store", "verify", "--deep"]).code, 0);
    assert!(copies(&root).is_empty());
}

#[test]
fn a_result_that_would_not_be_read_is_not_taken_unless_it_is_wanted() {
    let root = Root::of_markdown();
    let task = root.task_with("broken", "true");
    post(&root, &task, "one");
    post(&root, &task, "two");
    let bus = root.tree().layout.bus_file(&task.key());
    let before = std::fs::read(&bus).unwrap();
    let script = "sed -i 's/^type: \"FACT\"$/type: \"FACT/' \"$1\"";
    let done = edit(&root, &task, script, &[]);
    assert_eq!(done.code, 1, "{done:?}");
    let copy = copies(&root).pop().unwrap();
    assert!(done.stderr.contains(copy.to_str().unwrap()) && done.stderr.contains(".md:"), "{done:?}");
    assert_eq!(std::fs::read(&bus).unwrap(), before, "the bus is as it was");
    std::fs::remove_file(copy).unwrap();
    assert_eq!(edit(&root, &task, script, &["--force"]).code, 0);
    assert_ne!(std::fs::read(&bus).unwrap(), before);
}

#[test]
fn an_edit_of_another_is_not_overwritten() {
    let root = Root::of_markdown();
    let task = root.task_with("both", "true");
    post(&root, &task, "one");
    let bus = root.tree().layout.bus_file(&task.key());
    let script = format!("sed -i 's/^one$/mine/' \"$1\"; sed -i 's/^one$/his/' {}", bus.display());
    let done = edit(&root, &task, &script, &[]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(std::fs::read_to_string(&bus).unwrap().contains("his"));
    let copy = std::fs::read_to_string(copies(&root).pop().unwrap()).unwrap();
    assert!(copy.contains("mine"), "what was edited is kept");
}

#[test]
fn an_editor_that_changes_nothing_or_fails_leaves_everything() {
    let root = Root::of_markdown();
    let task = root.task_with("nothing", "true");
    let bus = root.tree().layout.bus_file(&task.key());
    let before = std::fs::read(&bus).unwrap();
    for (script, code) in [("true", 0), ("false", 1), ("echo x > \"$1\"; false", 1)] {
        let done = edit(&root, &task, script, &[]);
        assert_eq!((done.code, done.stderr.lines().count()), (code, 1), "{done:?}");
        assert_eq!(std::fs::read(&bus).unwrap(), before);
    }
    assert_eq!(copies(&root).len(), 1, "only what was changed is kept");
    let none = root.run(&["bus", "edit", "--task", "task-20261121-093000-nowhere"]);
    assert_eq!(none.code, 5, "{none:?}");
}

#[test]
fn a_result_that_is_no_bus_any_more_is_not_taken_unless_it_is_wanted() {
    let root = Root::of_markdown();
    let task = root.task_with("noise", "true");
    post(&root, &task, "one");
    let bus = root.tree().layout.bus_file(&task.key());
    let before = std::fs::read(&bus).unwrap();
    for (script, word) in [
        (": > \"$1\"", "messages would be gone"),
        ("echo noise > \"$1\"", "messages would be gone"),
        ("sed -i 's/^---$/---x/' \"$1\"", "would not be read"),
        ("rm \"$1\"; ln -s /etc/hostname \"$1\"", "not a regular file"),
        ("rm \"$1\"; mkfifo \"$1\"", "not a regular file"),
    ] {
        let done = edit(&root, &task, script, &[]);
        assert_eq!((done.code, done.stderr.contains(word)), (1, true), "{script}: {done:?}");
        assert_eq!(std::fs::read(&bus).unwrap(), before, "{script}: the bus is as it was");
    }
    assert_eq!(edit(&root, &task, ": > \"$1\"", &["--force"]).code, 0);
    assert_eq!(root.messages(&task).len(), 0);
}

#[test]
fn a_program_is_told_that_nothing_was_changed() {
    let root = Root::of_markdown();
    let task = root.task_with("same", "true");
    let done = edit(&root, &task, "true", &["--json"]);
    let told: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, &told["changed"]), (0, &serde_json::json!(false)), "{done:?}");
}
