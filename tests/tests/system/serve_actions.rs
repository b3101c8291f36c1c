//! What is started, stopped and deleted over HTTP, by the same processes as at a terminal.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::Signal;
use run_agent_tests::{Root, until};
use serde_json::{Value, json};

use crate::http::Server;

/// A root with an empty project, served.
fn served() -> (Root, Server, String) {
    let root = Root::new();
    let home = root.scratch().join("home");
    std::fs::create_dir(&home).unwrap();
    let home = home.to_str().unwrap().to_owned();
    let server = Server::start(&root);
    let (status, made) = server.post("/api/projects", &json!({ "project_id": "p", "project_root": home }));
    assert_eq!((status, &made["id"], &made["project_root"]), (201, &json!("p"), &json!(home)));
    (root, server, home)
}

fn start(server: &Server, prompt: &str) -> String {
    let new = json!({ "project_id": "p", "agent_type": "shell", "prompt": prompt });
    let (status, made) = server.post("/api/v1/tasks", &new);
    assert_eq!(status, 201, "{made}");
    assert!(made["run_id"].is_string(), "{made}");
    made["task_id"].as_str().unwrap().to_owned()
}

fn status_is(server: &Server, task: &str, wanted: &str) {
    let path = format!("/api/projects/p/tasks/{task}");
    let is = || (server.ask(&path).1["status"] == wanted).then_some(());
    until(wanted, is, || server.get(&path).to_string());
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_default())
}

#[test]
fn a_task_is_started_stopped_taken_up_again_and_deleted() {
    let (root, server, home) = served();
    assert_eq!(server.get("/api/projects/home-dirs"), json!({ "dirs": [home] }));
    let task = start(&server, "pwd; [ -e again ] && run-agent done && exit; touch again; sleep 600");
    status_is(&server, &task, "running");
    let told = root.json(&["status", "--project", "p", "--task", &task, "--json"]);
    assert_eq!(told["status"], "running", "the command line knows it: {told}");
    let path = format!("/api/projects/p/tasks/{task}");
    let refused = server.ask_with("DELETE", &path, &[], "");
    assert_eq!(refused.0, 409, "it is active: {}", refused.1);
    let (status, stopped) = server.post(&format!("{path}/stop"), &json!({ "force": true }));
    assert_eq!((status, &stopped["stopped_runs"]), (202, &json!(1)), "{stopped}");
    status_is(&server, &task, "stopped");
    let (status, again) = server.post(&format!("{path}/resume"), &Value::Null);
    assert_eq!(status, 400, "null is no object: {again}");
    let (status, again) = server.post(&format!("{path}/resume"), &json!({}));
    assert_eq!(status, 200, "{again}");
    status_is(&server, &task, "completed");
    let runs = server.get(&path)["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 2);
    let run = runs[1]["id"].as_str().unwrap();
    let file = server.get(&format!("{path}/runs/{run}/file?name=stdout"));
    assert_eq!(file["content"].as_str().unwrap().trim_end(), home, "it works in the project's folder");
    let over = server.post(&format!("/api/v1/runs/{run}/stop"), &json!({}));
    assert_eq!(code(&over), (409, "CONFLICT"));
    let (status, info) = server.ask_with("GET", &format!("/api/v1/runs/{run}/info"), &[], "");
    assert!(status == 200 && info.contains(&format!("run_id: \"{run}\"")), "{info}");
    assert_eq!(server.ask_with("DELETE", &format!("{path}/runs/{run}"), &[], "").0, 200);
    assert_eq!(server.get(&path)["runs"].as_array().unwrap().len(), 1);
    assert_eq!(server.ask_with("DELETE", &path, &[], "").0, 200);
    assert_eq!(server.ask(&path).0, 404);
    assert_eq!(server.ask_with("DELETE", "/api/projects/p", &[], "").0, 200);
    assert_eq!(server.get("/api/projects")["projects"], json!([]));
    assert!(!root.path().join("p").exists());
}

#[test]
fn what_cannot_be_started_is_refused_at_once_and_nothing_is_made() {
    let (root, server, home) = served();
    let post = |new: Value| server.post("/api/v1/tasks", &new);
    let unknown = post(json!({ "project_id": "p", "agent_type": "shel", "prompt": "x" }));
    assert_eq!(code(&unknown), (404, "NOT_FOUND"));
    assert_eq!(unknown.1["error"]["details"]["candidates"], json!(["shell"]));
    for wrong in [
        json!({ "project_id": "p", "prompt": "" }),
        json!({ "project_id": "p", "agent_type": "shell", "prompt": " \n" }),
        json!({ "project_id": "../p", "agent_type": "shell", "prompt": "x" }),
        json!({ "project_id": "new", "agent_type": "shell", "prompt": "x" }),
        json!({ "project_id": "new", "agent_type": "shell", "prompt": "x", "project_root": "relative" }),
        json!({ "project_id": "new", "agent_type": "shell", "prompt": "x", "project_root": format!("{home}/no") }),
        json!({ "project_id": "p", "task_id": "task-1", "agent_type": "shell", "prompt": "x" }),
        json!({ "project_id": "p", "agent_type": "shell\u{0}", "prompt": "x" }),
        json!({ "project_id": "p", "agent_type": "--detach", "prompt": "x" }),
        json!({ "project_id": "p", "agent_type": "shell", "prompt": "x", "config": { "env": "x" } }),
        json!({ "project_id": "p", "agent_type": "shell", "prompt": "x", "config": { "timeout": "soon" } }),
        json!({ "project_id": "p", "agent_type": "shell", "prompt": "x", "attach_mode": "take" }),
        json!({ "project_id": "p", "agent_type": "shell", "prompt": "x", "depends_on": ["*"] }),
        json!({ "project_id": "p", "agent_type": "shell", "prompt": 1 }),
    ] {
        let answer = post(wrong.clone());
        assert!(matches!(answer.0, 400 | 404), "{wrong}: {}", answer.1);
    }
    let missing = json!({ "project_id": "p", "task_id": "task-20261121-093000-no", "attach_mode": "attach" });
    assert_eq!(code(&post(missing)), (404, "NOT_FOUND"));
    let depends = json!({ "project_id": "p", "agent_type": "shell", "prompt": "x", "depends_on": ["task-20261121-093000-no"] });
    assert!(matches!(post(depends).0, 400 | 404));
    assert_eq!(server.get("/api/v1/tasks")["tasks"], json!([]));
    let entries = root.path().join("p").read_dir().unwrap().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(names.all(|name| !name.starts_with("task-")), "no folder is left");
    assert!(!root.path().join("new").exists());
}

#[test]
fn a_task_that_is_there_is_joined_or_taken_up_again_but_not_made_again() {
    let (_root, server, _) = served();
    let task = start(&server, "run-agent done");
    status_is(&server, &task, "completed");
    let post = |mode: &str| {
        server.post("/api/v1/tasks", &json!({ "project_id": "p", "task_id": task, "prompt": "run-agent done", "agent_type": "shell", "attach_mode": mode }))
    };
    let made = post("create");
    assert_eq!(
        (code(&made), &made.1["error"]["details"]["status"]),
        ((409, "CONFLICT"), &json!("completed"))
    );
    let joined = post("attach");
    assert_eq!((joined.0, &joined.1["status"]), (201, &json!("completed")), "nothing is started");
    let again = post("resume");
    assert_eq!(again.0, 201, "{}", again.1);
    status_is(&server, &task, "completed");
    assert_eq!(server.get(&format!("/api/v1/tasks/{task}"))["runs"].as_array().unwrap().len(), 2);
    // A lock that another driver holds is no error for who wants to join, and one for who wants to begin.
    let long = start(&server, "sleep 600");
    let join = json!({ "project_id": "p", "task_id": long, "attach_mode": "attach" });
    let joined = server.post("/api/v1/tasks", &join);
    assert!(joined.0 == 201 && joined.1["run_id"].is_string(), "{}", joined.1);
    let taken = server.post(&format!("/api/projects/p/tasks/{long}/resume"), &json!({}));
    assert_eq!(code(&taken), (409, "CONFLICT"), "{}", taken.1);
    let (status, stopped) = server.ask_with("DELETE", &format!("/api/v1/tasks/{long}"), &[], "");
    assert_eq!(status, 202, "{stopped}");
    status_is(&server, &long, "stopped");
}

#[test]
fn a_task_waits_for_another_one_and_tells_from_which_message_it_was_started() {
    let (root, server, _) = served();
    let first = start(&server, "while ! [ -e go ]; do sleep 0.05; done; run-agent done");
    let asked = server.post("/api/projects/p/messages", &json!({ "type": "QUESTION", "body": "how?" }));
    let id = asked.1["msg_id"].as_str().unwrap();
    let new = json!({
        "project_id": "p", "agent_type": "shell", "prompt": "run-agent done", "depends_on": [first],
        "thread_parent": { "project_id": "p", "message_id": id }, "thread_message_type": "USER_REQUEST",
    });
    let (status, made) = server.post("/api/v1/tasks", &new);
    assert_eq!((status, &made["status"], &made["run_id"]), (201, &json!("blocked"), &Value::Null), "{made}");
    assert_eq!(made["depends_on"], json!([first]));
    let task = made["task_id"].as_str().unwrap();
    let detail = server.get(&format!("/api/projects/p/tasks/{task}"));
    assert_eq!((&detail["thread_parent"], &detail["blocked_by"]), (&json!(id), &json!([first])));
    let messages = server.get(&format!("/api/projects/p/tasks/{task}/messages"));
    let opened =
        messages["messages"].as_array().unwrap().iter().find(|m| m["type"] == "USER_REQUEST").unwrap();
    assert_eq!(opened["parents"][0]["msg_id"], id);
    std::fs::write(root.scratch().join("home/go"), "").unwrap();
    status_is(&server, task, "completed");
}

#[test]
fn agents_outlive_a_server_that_is_killed_and_pages_may_not_delete() {
    let (root, server, _) = served();
    let task = start(&server, "sleep 600");
    let path = format!("/api/projects/p/tasks/{task}");
    let own = format!("http://{}", server.address);
    for header in [("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")] {
        for path in [path.as_str(), "/api/projects/p"] {
            assert_eq!(server.ask_with("DELETE", path, &[header], "").0, 403, "{path}");
        }
        let kind = ("Content-Type", "application/json");
        let gc = server.ask_with("POST", "/api/projects/p/gc", &[kind, header], "{}");
        assert_eq!(gc.0, 403, "{}", gc.1);
        let look = server.ask_with(
            "POST",
            "/api/projects/p/gc",
            &[kind, header],
            r#"{"dry_run":true,"older_than":"7d"}"#,
        );
        assert_eq!(look.0, 200, "{}", look.1);
    }
    status_is(&server, &task, "running");
    server.signal(Signal::SIGKILL);
    drop(server);
    let status = root.json(&["status", "--project", "p", "--task", &task, "--json"]);
    assert_eq!(status["status"], "running", "{status}");
    let server = Server::start(&root);
    let (status, stopped) = server.post(&format!("{path}/stop"), &json!({ "force": true }));
    assert_eq!(status, 202, "{stopped}");
    status_is(&server, &task, "stopped");
}

#[test]
fn one_run_is_started_in_a_task_once_a_key() {
    let (_root, server, _) = served();
    let task = start(&server, "sleep 600");
    let job = || {
        let new = json!({ "project_id": "p", "task_id": task, "agent_type": "shell", "prompt": "echo hi", "key": "k" });
        let (status, made) = server.post("/api/v1/jobs", &new);
        assert_eq!(status, 201, "{made}");
        made["run_id"].as_str().unwrap().to_owned()
    };
    let run = job();
    let over = || (server.get(&format!("/api/v1/runs/{run}"))["status"] == "completed").then_some(());
    until("the job", over, String::new);
    assert_eq!(job(), run);
    let _ = server.post(&format!("/api/projects/p/tasks/{task}/stop"), &json!({ "force": true }));
    status_is(&server, &task, "stopped");
}

#[test]
fn the_audit_log_tells_who_changed_what_without_secrets() {
    let (root, server, _) = served();
    let new = json!({
        "project_id": "p", "agent_type": "shel", "prompt": "use ghp_0123456789abcdef0123 for it",
        "api_token": "whatever it is",
    });
    let _ = server.post("/api/v1/tasks", &new);
    let page = format!("http://{}", server.address);
    let headers = [("Content-Type", "application/json"), ("Origin", page.as_str())];
    let posted = server.ask_with("POST", "/api/projects/p/messages", &headers, r#"{"body":"from a page"}"#);
    assert_eq!(posted.0, 201);
    let _ = server.post("/api/projects/p/messages", &json!({ "body": "from a program" }));
    let path = root.path().join(".run-agent/audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (line["path"].as_str().unwrap(), line["from"].as_str().unwrap(), line["status"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/api/projects", "program", 201),
            ("/api/v1/tasks", "program", 404),
            ("/api/projects/p/messages", "page", 201)
        ]
    );
    assert_eq!(lines[1]["body"]["prompt"], "use … for it");
    assert_eq!(lines[1]["body"]["api_token"], "…");
    assert!(!text.contains("ghp_0123") && !text.contains("whatever"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// Takes requests and hands on their heads and bodies; the first is refused.
fn taker() -> (String, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (told, takes) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (mut text, mut piece) = (Vec::new(), [0; 4096]);
            let (head, body) = loop {
                let Ok(count) = stream.read(&mut piece) else { return };
                text.extend_from_slice(&piece[..count]);
                let all = String::from_utf8_lossy(&text).into_owned();
                let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
                let head = head.to_lowercase();
                let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() >= len.parse().unwrap() {
                    break (head.clone(), body.to_owned());
                }
            };
            let status = if number == 0 { "503 Not Now" } else { "204 Taken" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
            if told.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, takes)
}

#[test]
fn chosen_events_reach_the_webhook_signed_in_order_and_again_where_it_failed() {
    let root = Root::new();
    std::fs::create_dir_all(root.path()).unwrap();
    let (url, takes) = taker();
    std::fs::write(root.path().join("secret"), "s3cret\n").unwrap();
    let secret = root.path().join("secret");
    let config = format!(
        "webhook {{\n  url = \"{url}\"\n  events = [\"FACT\"]\n  secret_file = \"{}\"\n}}\n",
        secret.display()
    );
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    let server = Server::start(&root);
    let home = root.scratch().to_str().unwrap().to_owned();
    let _ = server.post("/api/projects", &json!({ "project_id": "p", "project_root": home }));
    for (kind, body) in [("FACT", "one"), ("INFO", "not this"), ("FACT", "two")] {
        let _ = server.post("/api/projects/p/messages", &json!({ "type": kind, "body": body }));
    }
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let (head, body) = takes.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(head.contains("x-run-agent-signature: sha256="), "{head}");
        let event: Value = serde_json::from_str(&body).unwrap();
        bodies.push(event["message"]["body"].as_str().unwrap().to_owned());
    }
    assert_eq!(bodies, ["one", "one", "two"], "the first was refused once");
}

#[test]
fn a_thread_that_cannot_be_opened_starts_nothing() {
    let (_root, server, _) = served();
    for (parent, kind) in [
        (json!({ "message_id": "MSG-1" }), "RUN_START"),
        (json!({ "message_id": "MSG-1" }), "lower case"),
        (json!({ "message_id": "" }), "USER"),
        (json!({ "message_id": "MSG-1", "project_id": "x".repeat(100_000) + "/" }), "USER"),
    ] {
        let new = json!({
            "project_id": "p", "agent_type": "shell", "prompt": "sleep 600", "thread_parent": parent,
            "thread_message_type": kind,
        });
        let (status, answer) = server.post("/api/v1/tasks", &new);
        assert!((400..=403).contains(&status), "{answer}");
    }
    assert_eq!(server.get("/api/v1/tasks")["tasks"], json!([]));
}

#[test]
fn the_audit_log_and_projections_are_written_through_no_link_and_nothing_waits_for_a_pipe() {
    use std::os::unix::fs::symlink;
    let (root, server, _) = served();
    let own = root.path().join(".run-agent");
    let victim = root.scratch().join("victim");
    std::fs::write(&victim, "as it was").unwrap();
    std::fs::remove_file(own.join("audit.log")).unwrap();
    symlink(&victim, own.join("audit.log")).unwrap();
    let post = || server.post("/api/projects/p/gc", &json!({ "dry_run": true, "older_than": "7d" })).0;
    assert_eq!(post(), 200);
    std::fs::remove_file(own.join("audit.log")).unwrap();
    nix::unistd::mkfifo(&own.join("audit.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(post(), 200, "nobody reads the pipe");
    std::fs::remove_file(own.join("audit.log")).unwrap();
    assert_eq!(post(), 200);
    assert_eq!(std::fs::read_to_string(own.join("audit.log")).unwrap().lines().count(), 1);
    let _ = server.end();
    let kept = own.join("projections/p");
    std::fs::remove_file(&kept).unwrap();
    nix::unistd::mkfifo(&kept, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let server = Server::start(&root);
    assert_eq!(server.get("/api/projects")["projects"][0]["id"], "p", "a pipe there holds up nobody");
    assert_eq!(server.end(), 0);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "as it was");
}
