//! `serve`, as programs and browsers meet it: over HTTP, beside the command line, killed and started again.

use nix::sys::signal::Signal;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, name, shell_args, until};
use serde_json::json;

use crate::http::{Event, Events, Server};

/// A root with a task that has run once.
fn root() -> (Root, String) {
    let root = Root::new();
    let name = name("first");
    let _ = root.ok(&shell_args("task", &name, "echo out; echo err >&2; run-agent done", &[]));
    (root, name.task.to_string())
}

fn full_name(task: &str) -> TaskName {
    TaskName { project: "p".parse().unwrap(), task: task.parse().unwrap() }
}

/// The bodies of messages up to one, with the id of that.
fn bodies_until(events: &mut Events, last: &str) -> (Vec<String>, String) {
    let mut bodies = Vec::new();
    while let Some(Event { name, id, data }) = events.next() {
        assert_eq!(name, "message", "{data}");
        bodies.push(data["body"].as_str().unwrap().to_owned());
        if bodies.last().is_some_and(|body| body == last) {
            return (bodies, id);
        }
    }
    panic!("the stream ended after {bodies:?}");
}

fn post(root: &Root, task: &str, body: &str) {
    let _ = root.ok(&["bus", "post", "--project", "p", "--task", task, "--type", "FACT", "--body", body]);
}

#[test]
fn what_the_command_line_does_is_there_at_once_and_the_other_way_round() {
    let (root, task) = root();
    let server = Server::start(&root);
    assert_eq!(server.get("/api/projects")["projects"][0]["id"], "p");
    let item = &server.get("/api/projects/p/tasks")["items"][0];
    assert_eq!(
        (&item["id"], &item["status"], &item["run_count"]),
        (&json!(task), &json!("completed"), &json!(1))
    );
    let detail = server.get(&format!("/api/projects/p/tasks/{task}"));
    let run = detail["runs"][0]["id"].as_str().unwrap();
    let file = server.get(&format!("/api/projects/p/tasks/{task}/runs/{run}/file?name=stderr"));
    assert_eq!(file["content"], "err\n");
    assert_eq!(server.get(&format!("/api/v1/runs/{run}"))["task_id"], json!(task));
    let messages = format!("/api/projects/p/tasks/{task}/messages");
    let (status, posted) = server.post(&messages, &json!({ "body": "hello", "type": "DECISION" }));
    assert_eq!(status, 201, "{posted}");
    let read = root.json(&["bus", "read", "--project", "p", "--task", &task, "--tail", "1", "--json"]);
    assert_eq!((&read["body"], &read["msg_id"]), (&json!("hello"), &posted["msg_id"]));
    // A task that is made while it serves.
    let _ = root.ok(&[
        "task",
        "--project",
        "q",
        "--task",
        "new",
        "--agent",
        "shell",
        "--prompt",
        "run-agent done",
    ]);
    let is_there =
        || (server.get("/api/projects/q/tasks")["items"][0]["status"] == "completed").then_some(());
    until("the new task is listed as completed", is_there, || server.get("/api/projects").to_string());
    assert_eq!(server.end(), 0);
}

#[test]
fn a_stream_of_messages_is_complete_across_breaks_restarts_and_rotation() {
    let (root, task) = root();
    let path = format!("/api/projects/p/tasks/{task}/messages/stream");
    let mut server = Server::start(&root);
    let (mut told, mut last) = (Vec::new(), None::<String>);
    for round in 0..4 {
        let mut events = server.follow(&path, last.as_deref());
        for n in 0..5 {
            post(&root, &task, &format!("{round}.{n}"));
        }
        if round == 1 {
            root.tree().store.open(&full_name(&task).key()).unwrap().rotate().unwrap();
        }
        post(&root, &task, &format!("{round} ends"));
        let (bodies, id) = bodies_until(&mut events, &format!("{round} ends"));
        told.extend(bodies);
        last = Some(id);
        // While nobody follows.
        post(&root, &task, &format!("{round} aside"));
        if round == 2 {
            server.signal(Signal::SIGKILL);
            server = Server::start(&root);
        }
    }
    post(&root, &task, "the end");
    told.extend(bodies_until(&mut server.follow(&path, last.as_deref()), "the end").0);
    let all = root.messages(&full_name(&task));
    let all: Vec<&str> = all.iter().map(|message| message.content.body.as_str()).collect();
    assert_eq!(told, all);
    // An id that nobody knows is no silent skip.
    let mut events = server.follow(&path, Some("MSG-20200101-000000-000000000-PID00001-0001"));
    assert_eq!(events.next().unwrap().name, "reset");
    assert_eq!(events.next().unwrap().data["body"], told[0]);
}

#[test]
fn what_changes_is_told_with_its_rows_and_a_client_of_another_server_begins_anew() {
    let (root, task) = root();
    let server = Server::start(&root);
    let mut events = server.follow("/api/v1/events/stream?project=p", None);
    let Event { name, id, .. } = events.next().unwrap();
    assert_eq!(name, "reset");
    let _ = root.ok(&["resume", "--project", "p", "--task", &task, "--agent", "shell"]);
    let mut statuses = Vec::new();
    loop {
        let data = events.next().unwrap().data;
        let changes = data["changes"].as_array().unwrap().clone();
        statuses.extend(changes.iter().filter(|c| c["change"] == "task").map(|c| c["status"].clone()));
        if data["message"]["type"] == "LOOP_END" {
            break;
        }
    }
    assert_eq!(statuses.last(), Some(&json!("completed")));
    assert!(statuses.contains(&json!("running")), "{statuses:?}");
    let mut again = server.follow("/api/v1/events/stream?project=p", Some(&id));
    assert_eq!(again.next().unwrap().name, "event", "what the ring holds is told again");
    let mut other = server.follow("/api/v1/events/stream", Some("1-1"));
    assert_eq!(other.next().unwrap().name, "reset");
}

#[test]
fn a_damaged_or_stale_projection_is_noticed() {
    let (root, task) = root();
    assert_eq!(Server::start(&root).end(), 0);
    let path = root.path().join(".run-agent/projections/p");
    let kept = std::fs::read_to_string(&path).unwrap();
    let detail = |server: &Server| server.get(&format!("/api/projects/p/tasks/{task}"));
    let right = detail(&Server::start(&root));
    for damaged in
        [kept.replace("completed", "complexed"), kept[..kept.len() / 2].to_owned(), "nonsense".to_owned()]
    {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(detail(&Server::start(&root)), right);
    }
    // Written while no server looked.
    std::fs::write(&path, &kept).unwrap();
    post(&root, &task, "since");
    let server = Server::start(&root);
    let messages = server.get(&format!("/api/projects/p/tasks/{task}/messages?limit=1"));
    assert_eq!(messages["messages"][0]["body"], "since");
    assert_ne!(detail(&server)["last_activity"], right["last_activity"]);
}

#[test]
fn who_may_not_ask_is_refused_and_nothing_is_written() {
    let (root, task) = root();
    let server = Server::start(&root);
    let path = format!("/api/projects/p/tasks/{task}/messages");
    let before = server.get(&path);
    let body = r#"{"body":"from elsewhere"}"#;
    let kind = ("Content-Type", "application/json");
    let refused = |headers: &[(&str, &str)]| server.ask_with("POST", &path, headers, body).0;
    assert_eq!(refused(&[kind, ("Host", "evil.example")]), 403);
    assert_eq!(refused(&[kind, ("Origin", "http://evil.example")]), 403);
    assert_eq!(refused(&[kind, ("Origin", "null")]), 403);
    assert_eq!(refused(&[("Content-Type", "text/plain")]), 415);
    assert_eq!(refused(&[]), 415);
    assert_eq!(server.ask_with("GET", "/api/projects", &[("Host", "evil.example")], "").0, 403);
    let forged = server.post(&path, &json!({ "body": "x", "type": "RUN_STOP" }));
    assert_eq!((forged.0, &forged.1["error"]["code"]), (403, &json!("FORBIDDEN")));
    // Without a body nothing is said.
    let v1 = json!({ "project_id": "p", "task_id": task, "type": "FACT" });
    assert_eq!(server.post("/api/v1/messages", &v1).0, 400);
    let large = server.post(&path, &json!({ "body": "x".repeat(10 << 20) }));
    assert_eq!(large.0, 413);
    for wrong in ["..", "%2e%2e", "..%2f..%2fetc", "p%00", "*", ".run-agent"] {
        let (status, body) = server.ask(&format!("/api/projects/{wrong}/tasks"));
        assert!((400..=404).contains(&status), "{wrong}: {status} {body}");
    }
    for name in ["../TASK.md", "/etc/passwd", "DONE", "%2e%2e/%2e%2e/x"] {
        assert_eq!(server.ask(&format!("/api/projects/p/tasks/{task}/file?name={name}")).0, 400, "{name}");
    }
    assert_eq!(server.ask_with("DELETE", "/api/projects", &[], "").0, 405);
    let nothing = server.ask("/api/nothing");
    assert_eq!((nothing.0, &nothing.1["error"]["code"]), (404, &json!("NOT_FOUND")));
    assert_eq!(server.get(&path), before);
    // The page's own origin may.
    let own = format!("http://{}", server.address);
    assert_eq!(refused(&[kind, ("Origin", &own)]), 201);
}

#[test]
fn an_address_that_others_reach_wants_a_key() {
    let (root, _) = root();
    let output = root.command(&["serve", "--host", "0.0.0.0", "--port", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let key = root.path().join("key");
    std::fs::write(&key, "secret-key\n").unwrap();
    let config = format!("server {{\n  api_key_file = \"{}\"\n}}\n", key.display());
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    let server = Server::start(&root);
    assert_eq!(server.ask("/api/projects").0, 401);
    let with = |name, value| server.ask_with("GET", "/api/projects", &[(name, value)], "").0;
    assert_eq!(with("Authorization", "Bearer secret-kez"), 401);
    assert_eq!(with("Authorization", "Bearer secret-key"), 200);
    assert_eq!(with("X-API-Key", "secret-key"), 200);
}

#[test]
fn a_server_that_is_stopped_ends_its_streams_and_no_agent() {
    let root = Root::new();
    let server = Server::start(&root);
    let long = name("long");
    let _ = root.ok(&shell_args("task", &long, "echo here; sleep 600", &["--detach"]));
    let task = long.task.to_string();
    let runs = || {
        let (status, detail) = server.ask(&format!("/api/projects/p/tasks/{task}"));
        (status == 200 && detail["status"] == "running").then_some(())
    };
    until("the task runs", runs, || server.get("/api/projects").to_string());
    let mut events = server.follow("/api/v1/events/stream", None);
    assert_eq!(events.next().unwrap().name, "reset");
    assert_eq!(server.end(), 0);
    assert!(events.next().is_none());
    let status = root.json(&["status", "--project", "p", "--task", &task, "--json"]);
    assert_eq!(status["status"], "running", "{status}");
    let _ = root.ok(&["stop", "--project", "p", "--task", &task, "--force"]);
}

#[test]
fn every_path_of_the_document_is_there() {
    let (root, _) = root();
    let server = Server::start(&root);
    let document = server.get("/api/openapi.json");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 15, "{}", paths.len());
    for (path, methods) in paths {
        let real = path
            .replace("{project}", "p")
            .replace("{task}", "task-20261121-093000-x")
            .replace("{run}", "20261121-0930001234-1-1");
        for method in methods.as_object().unwrap().keys() {
            if real.contains("/stream") {
                continue;
            }
            let kind = [("Content-Type", "application/json")];
            let (status, body) = server.ask_with(&method.to_uppercase(), &real, &kind, "{}");
            assert!(!body.contains("nothing at this path"), "{method} {path}: {body}");
            assert!(status < 500 && status != 405, "{method} {path}: {status} {body}");
        }
    }
}
