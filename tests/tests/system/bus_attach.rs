//! Payloads that are too large for a message, or no text at all.

use std::path::PathBuf;

use run_agent_core::{Draft, Durability, Kind, Message};
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root};

fn attachments(root: &Root, task: &TaskName) -> Vec<PathBuf> {
    let folder = root.tree().task(task).folder().to_owned();
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().contains("ATTACH"))
        .collect();
    found.sort();
    found
}

/// Posts a file's text from stdin.
fn post_text(root: &Root, task: &TaskName, text: &str, more: &[&str]) -> Done {
    let path = root.scratch().join("text");
    std::fs::write(&path, text).unwrap();
    let kind: &[&str] = if more.contains(&"--type") { &[] } else { &["--type", "FACT"] };
    let args = [&["bus", "post", "--task", task.task.as_str()], kind, more].concat();
    let stdin = std::fs::File::open(path).unwrap();
    Done::of(root.command(&args).stdin(stdin).output().unwrap(), &args)
}

fn read(root: &Root, task: &TaskName, more: &[&str]) -> Vec<serde_json::Value> {
    let args = [&["bus", "read", "--task", task.task.as_str(), "--type", "FACT", "--json"], more].concat();
    root.ok(&args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_large_body_is_stored_beside_the_bus_and_read_whole_again() {
    let root = Root::new();
    let task = root.task_with("large", "true");
    let text = "---\nline é of many\n".repeat(20_000);
    for durability in ["none", "interval", "always"] {
        let done = post_text(&root, &task, &text, &["--durability", durability]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    assert_eq!(attachments(&root, &task).len(), 3);
    for (cut, whole) in read(&root, &task, &[]).iter().zip(&read(&root, &task, &["--full"])) {
        let head = cut["body"].as_str().unwrap();
        assert!(text.starts_with(head) && (1..=1024).contains(&head.len()), "{head}");
        assert_eq!(cut["meta"]["attachment_bytes"], text.len().to_string());
        assert_eq!(whole["body"], text);
        assert_eq!((&whole["msg_id"], whole.get("attachment_text")), (&cut["msg_id"], None));
    }
    let found = read(&root, &task, &["--full", "--grep", "many\n---\nline é of many\n---\nline"]);
    assert_eq!(found.len(), 3, "with --full the whole text is searched");
    let told = root.ok(&["bus", "read", "--task", task.task.as_str(), "--type", "FACT", "--tail", "1"]);
    assert!(told.ends_with("--full shows it"), "{told}");
}

#[test]
fn a_file_of_any_kind_goes_with_a_message() {
    let root = Root::new();
    let task = root.task_with("binary", "true");
    let file = root.scratch().join("shot of it.png");
    std::fs::write(&file, b"\x89PNG\0\xff\n").unwrap();
    let file = file.to_str().unwrap();
    let post = ["bus", "post", "--task", task.task.as_str(), "--type", "FACT", "--attach", file];
    let told = root.json(&[&post[..], &["--json", "--body", "look"]].concat());
    // Its stdin is a pipe that nobody closes: beside an attachment it is not read.
    let args = post.to_vec();
    let mut child = root.command(&args).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let held = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(held);

    let all = read(&root, &task, &["--full"]);
    assert_eq!((&all[0]["body"], &all[1]["body"]), (&"look".into(), &"shot of it.png".into()));
    assert_eq!(all[0]["attachment_text"], "\u{fffd}PNG\0\u{fffd}\n");
    assert_eq!(all[0]["attachment_path"], told["attachment_path"]);
    let name = told["attachment_path"].as_str().unwrap();
    assert!(name.starts_with("ATTACH-20") && name.ends_with("-shot-of-it.png"), "{name}");
    let stored = root.tree().task(&task).folder().join(name);
    assert_eq!(std::fs::read(stored).unwrap(), b"\x89PNG\0\xff\n");

    for (bad, code) in [("/tmp", 2), ("nowhere.txt", 2)] {
        let done = root.run(&["bus", "post", "--task", task.task.as_str(), "--attach", bad]);
        assert_eq!(done.code, code, "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    }
    let text = "x".repeat(70_000);
    let both = post_text(&root, &task, &text, &["--file", "-", "--attach", file]);
    assert_eq!(both.code, 2, "{both:?}");
    assert!(both.stderr.contains("one attachment"), "{both:?}");
}

#[test]
fn a_crash_between_file_and_entry_leaves_a_file_that_no_message_names() {
    let root = Root::new();
    let task = root.task_with("crash", "true");
    let before = root.messages(&task).len();
    let path = root.scratch().join("text");
    std::fs::write(&path, "y".repeat(100_000)).unwrap();
    let args = ["bus", "post", "--task", task.task.as_str(), "--file", path.to_str().unwrap()];
    let status = root.command(&args).env("RUN_AGENT_FAILPOINT", "attachment-placed=kill").status().unwrap();
    assert!(!status.success());
    let left = attachments(&root, &task);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(std::fs::metadata(&left[0]).unwrap().len(), 100_000, "the file is whole");
    assert_eq!(root.messages(&task).len(), before);
    assert_eq!(root.run(&["store", "verify", "--deep"]).code, 0);
}

#[test]
fn a_path_that_a_hand_wrote_leads_nowhere_else() {
    let root = Root::new();
    let task = root.task_with("forged", "true");
    let secret = root.scratch().join("ATTACH-secret");
    std::fs::write(&secret, "secret").unwrap();
    let folder = root.tree().task(&task).folder().to_owned();
    std::os::unix::fs::symlink(&secret, folder.join("ATTACH-link")).unwrap();
    let stream = root.tree().store.open(&task.key()).unwrap();
    let forged = ["../../../ATTACH-secret", secret.to_str().unwrap(), "ATTACH-link", "TASK.md"];
    for path in forged {
        let mut draft = Draft::new(Kind::FACT, task.project.clone(), Some(task.task.clone()), "");
        draft.attachment_path = Some(path.to_owned());
        stream.append(vec![draft], Durability::None).unwrap();
    }
    for message in read(&root, &task, &["--full"]) {
        assert!(!message.to_string().contains("\"secret\""), "{message}");
        assert_eq!((&message["body"], message["attachment_left_out"].is_string()), (&"".into(), true));
    }
    let deep = root.run(&["store", "verify", "--deep"]);
    assert_eq!((deep.code, deep.stdout.lines().count()), (1, forged.len() + 1), "{deep:?}");
}

#[test]
fn questions_and_last_words_may_be_long_too() {
    let root = Root::new();
    let task = root.task_with("long", "true");
    let long = "why? ".repeat(20_000);
    let asked = root.run(&["ask", &long, "--task", task.task.as_str(), "--wait", "10ms"]);
    assert_eq!(asked.code, 124, "{asked:?}");
    let id = asked.stdout.trim();
    let answer = format!("{}the end", "so, ".repeat(40_000));
    let done = post_text(&root, &task, &answer, &["--type", "ANSWER", "--parent", id]);
    assert_eq!(done.code, 0, "{done:?}");
    let got = root.run(&["ask", "--resume", id, "--task", task.task.as_str()]);
    assert_eq!((got.code, got.stdout.trim_end() == answer), (0, true), "the asker gets all of it");
    assert_eq!(root.run(&["done", "--message", &long, "--task", task.task.as_str()]).code, 0);
    let long_ones: Vec<Message> =
        root.messages(&task).into_iter().filter(|m| m.content.attachment_path.is_some()).collect();
    assert_eq!(long_ones.len(), 3);
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_copied() {
    let root = Root::new();
    let task = root.task_with("sparse", "true");
    let path = root.scratch().join("sparse");
    std::fs::File::create(&path).unwrap().set_len(5 * 1024 * 1024 * 1024).unwrap();
    // With room for a small file alone, a copy would fail for another reason before it is refused.
    let script = format!(
        "ulimit -f 1000; exec {} bus post --task {} --attach {}",
        run_agent_tests::binary().display(),
        task.task,
        path.display()
    );
    let mut command = std::process::Command::new("sh");
    let done = command.args(["-c", &script]).env("JRUN_ROOT", root.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(
        (done.status.code(), stderr.contains("the most that is attached")),
        (Some(2), true),
        "{done:?}"
    );
}
