//! `bus post --stdin-ndjson`: a stream of messages in, an id a line out.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use run_agent_runner::tree::TaskName;
use run_agent_tests::{Done, Root};

fn start(root: &Root, task: &TaskName, more: &[&str]) -> Child {
    let args = [&["bus", "post", "--task", task.task.as_str(), "--stdin-ndjson"], more].concat();
    let mut command = root.command(&args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Feeds all of `input` at once.
fn feed(root: &Root, task: &TaskName, input: &str, more: &[&str]) -> Done {
    let path = root.scratch().join("lines");
    std::fs::write(&path, input).unwrap();
    let args = [&["bus", "post", "--task", task.task.as_str(), "--stdin-ndjson"], more].concat();
    let stdin = std::fs::File::open(path).unwrap();
    Done::of(root.command(&args).stdin(stdin).output().unwrap(), &args)
}

#[test]
fn thousands_of_lines_are_posted_in_order_with_an_id_each() {
    let root = Root::new();
    let task = root.task_with("many-lines", "true");
    let before = root.messages(&task).len();
    let input: String =
        (0..5000).map(|n| format!("{{\"type\":\"PROGRESS\",\"body\":\"{n} \\u00e9\"}}\n")).collect();
    let done = feed(&root, &task, &input, &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let posted = root.messages(&task).split_off(before);
    let ids: Vec<&str> = posted.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(done.stdout.lines().collect::<Vec<_>>(), ids);
    for (n, message) in posted.iter().enumerate() {
        assert_eq!(message.content.body, format!("{n} é"));
    }
}

#[test]
fn a_line_is_answered_before_the_next_is_written() {
    let root = Root::new();
    let task = root.task_with("dialogue", "true");
    let mut child = start(&root, &task, &[]);
    let mut lines = child.stdin.take().unwrap();
    let mut ids = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = String::new();
    for n in 0..5 {
        writeln!(
            lines,
            "{{\"body\":\"{n}\",\"parents\":[{}]}}",
            serde_json::json!(if n > 0 { &last } else { "MSG-0" })
        )
        .unwrap();
        last = ids.next().unwrap().unwrap();
        assert_eq!(root.messages(&task).last().unwrap().id.as_str(), last, "it is there when it is told");
    }
    // The last line needs no end.
    write!(lines, "{{\"body\":\"last\"}}").unwrap();
    drop(lines);
    assert!(ids.next().unwrap().unwrap() > last);
    assert!(child.wait().unwrap().success());
}

#[test]
fn all_fields_of_a_line_are_posted() {
    let root = Root::new();
    let task = root.task_with("fields", "true");
    let file = root.scratch().join("data.bin");
    std::fs::write(&file, b"\xff").unwrap();
    let line = serde_json::json!({
        "type": "ISSUE", "body": "it is broken", "issue_id": "MSG-ISSUE",
        "parents": ["MSG-1", { "msg_id": "MSG-2", "kind": "blocks", "meta": { "why": "so" } }],
        "links": ["http://one", { "url": "http://two", "label": "two" }],
        "meta": { "k": "v" }, "attach": file,
    });
    assert_eq!(feed(&root, &task, &format!("\n{line}\n\n"), &[]).code, 0);
    let posted = root.messages(&task).pop().unwrap().content;
    assert_eq!((posted.kind.as_str(), posted.body.as_str()), ("ISSUE", "it is broken"));
    assert_eq!(posted.issue.unwrap().as_str(), "MSG-ISSUE");
    assert_eq!(posted.parents[1].kind.as_deref(), Some("blocks"));
    assert_eq!(posted.parents[1].meta["why"], "so");
    assert_eq!(posted.links[1].label.as_deref(), Some("two"));
    assert_eq!((posted.meta["k"].as_str(), posted.meta["attachment_bytes"].as_str()), ("v", "1"));
    let large = serde_json::json!({ "body": "z".repeat(200_000) });
    assert_eq!(feed(&root, &task, &large.to_string(), &["--type", "FACT"]).code, 0);
    let posted = root.messages(&task).pop().unwrap().content;
    assert_eq!((posted.kind.as_str(), posted.attachment_path.is_some()), ("FACT", true));
}

#[test]
fn a_line_that_is_refused_ends_the_stream_or_is_passed_over() {
    let root = Root::new();
    let task = root.task_with("refused-lines", "true");
    let meta = "m".repeat(62_000);
    for bad in [
        "{\"bodi\":\"x\"}".to_owned(),
        "{\"body\":7}".to_owned(),
        "no json".to_owned(),
        "{\"type\":\"RUN_STOP\"}".to_owned(),
        "{\"type\":\"lower\"}".to_owned(),
        "{\"attach\":\"/nowhere\"}".to_owned(),
        "{\"parents\":[\"a b\"]}".to_owned(),
        serde_json::json!({ "meta": { "k": meta } }).to_string(),
    ] {
        let name = &bad[..bad.len().min(40)];
        let input = format!("{{\"body\":\"before\"}}\n{bad}\n{{\"body\":\"behind\"}}\n");
        let before = root.messages(&task).len();
        let done = feed(&root, &task, &input, &[]);
        assert_eq!((done.code, done.stdout.lines().count()), (2, 1), "{name}: {done:?}");
        assert!(done.stderr.starts_with("error: line 2: "), "{name}: {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        assert_eq!(root.messages(&task).len(), before + 1, "what stands before it is posted");

        let done = feed(&root, &task, &input, &["--continue"]);
        let ids: Vec<&str> = done.stdout.lines().collect();
        assert_eq!((done.code, ids.len(), ids[1]), (2, 3, ""), "{name}: {done:?}");
        assert_eq!(root.messages(&task).len(), before + 3);
        let done = feed(&root, &task, &input, &["--continue", "--json"]);
        let told: Vec<serde_json::Value> =
            done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(told[1]["line"], 2, "{told:?}");
        assert!(told[1]["error"].is_string() && told[2]["msg_id"].is_string(), "{told:?}");
    }
}

#[test]
fn a_line_is_an_object_with_or_without_a_byte_order_mark() {
    let root = Root::new();
    let task = root.task_with("objects", "true");
    let done = feed(&root, &task, "[\"FACT\",\"b\",[],[],{},null,null]\n", &[]);
    assert_eq!((done.code, done.stderr.contains("no JSON object")), (2, true), "{done:?}");
    let done = feed(&root, &task, "1\n", &[]);
    assert_eq!((done.code, done.stderr.contains("expected a JSON object")), (2, true), "{done:?}");
    assert_eq!(feed(&root, &task, "\u{feff}{\"body\":\"marked\"}\n", &[]).code, 0);
    for line in [r#"{"body":"x","meta":{"":"v"}}"#, r#"{"body":"x","links":[""]}"#] {
        assert_eq!(feed(&root, &task, line, &[]).code, 2, "{line}");
    }
    let large = serde_json::json!({ "body": "x".repeat(100_000) }).to_string();
    let told: serde_json::Value =
        serde_json::from_str(&feed(&root, &task, &large, &["--json"]).stdout).unwrap();
    assert!(told["attachment_path"].as_str().unwrap().starts_with("ATTACH-"), "{told}");
}

#[test]
fn no_list_stands_for_an_object_at_any_level() {
    let root = Root::new();
    let task = root.task_with("lists", "true");
    let before = root.messages(&task).len();
    for (line, wanted) in [
        (r#"{"links":[["u","l","k"]]}"#, "a URL, or an object with url"),
        (r#"{"parents":[["MSG-1","answers",{}]]}"#, "a message id, or an object with msg_id"),
        (r#"{"parents":[{"msg_id":"MSG-1","meta":["k"]}]}"#, "expected a map"),
    ] {
        let done = feed(&root, &task, line, &[]);
        assert!(done.code == 2 && done.stderr.contains(wanted), "{line}: {done:?}");
    }
    assert_eq!(root.messages(&task).len(), before);
}
