//! What was: events as a list, the graph at any moment, search, counters, and a root of which a part is broken.

use std::collections::BTreeMap;

use run_agent_tests::{Root, name, shell_args};
use serde_json::{Value, json};

use crate::http::Server;

/// Two tasks, one of which has asked and was answered by the other's stream.
fn story() -> (Root, [String; 2]) {
    let root = Root::new();
    let (one, two) = (name("one"), name("two"));
    let _ = root.ok(&shell_args("task", &one, "echo needle in the output; run-agent done", &[]));
    assert_eq!(root.run(&shell_args("task", &two, "exit 3", &["--max-restarts", "0"])).code, 3);
    (root, [one.task.to_string(), two.task.to_string()])
}

type Rows = (BTreeMap<String, Value>, BTreeMap<String, Value>, Vec<String>);

/// What a viewer that only applies changes knows.
fn mirror<'a>(events: impl IntoIterator<Item = &'a Value>) -> Rows {
    let (mut tasks, mut runs, mut questions) = Rows::default();
    for change in events.into_iter().flat_map(|event| event["changes"].as_array().unwrap()) {
        let mut row = change.clone();
        let kind = row.as_object_mut().unwrap().remove("change").unwrap();
        let text = |field: &str| change[field].as_str().unwrap().to_owned();
        match kind.as_str().unwrap() {
            "task" => drop(tasks.insert(text("task_id"), row)),
            "run" => drop(runs.insert(text("run_id"), row)),
            "run_deleted" => drop(runs.remove(&text("id"))),
            "question_asked" => questions.push(text("id")),
            "question_answered" => questions.retain(|id| *id != text("id")),
            _ => {}
        }
    }
    (tasks, runs, questions)
}

fn rows(state: &Value) -> Rows {
    let by = |list: &str, id: &str| -> BTreeMap<String, Value> {
        let all = state[list].as_array().unwrap().iter();
        all.map(|row| (row[id].as_str().unwrap().to_owned(), row.clone())).collect()
    };
    let questions = state["questions"].as_array().unwrap().iter();
    let questions = questions.map(|one| one["msg_id"].as_str().unwrap().to_owned()).collect();
    (by("tasks", "task_id"), by("runs", "run_id"), questions)
}

#[test]
fn the_graph_at_each_moment_is_what_the_changes_up_to_it_come_to() {
    let (root, [one, two]) = story();
    let asked = root.json(&[
        "bus",
        "post",
        "--project",
        "p",
        "--task",
        &one,
        "--type",
        "QUESTION",
        "--body",
        "why?",
        "--json",
    ]);
    let id = asked["msg_id"].as_str().unwrap();
    let _ = root.ok(&[
        "bus",
        "post",
        "--project",
        "p",
        "--task",
        &two,
        "--type",
        "ANSWER",
        "--parent",
        id,
        "--body",
        "so",
    ]);
    let server = Server::start(&root);
    let all = server.get("/api/v1/events?project=p&limit=5000")["events"].as_array().unwrap().clone();
    assert!(all.len() > 12, "{}", all.len());
    let (mut paged, mut from) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/api/v1/events?project=p&limit=5{from}"));
        paged.extend(page["events"].as_array().unwrap().iter().cloned());
        if page["has_more"] != true {
            break;
        }
        from = format!("&from={}", page["last"].as_str().unwrap());
    }
    assert_eq!(paged, all, "page by page as in one piece");
    for (at, event) in all.iter().enumerate() {
        let id = event["message"]["msg_id"].as_str().unwrap();
        let state = server.get(&format!("/api/v1/state?project=p&at={id}"));
        assert_eq!(rows(&state), mirror(&all[..=at]), "at event {at}");
        assert_eq!(state["msg_id"], id);
    }
    let time = all[6]["message"]["timestamp"].as_str().unwrap();
    let then = server.get(&format!("/api/v1/state?project=p&at={time}"));
    assert_eq!(rows(&then), mirror(&all[..=6]));
    let now = server.get("/api/v1/state?project=p");
    assert_eq!(rows(&now), mirror(&all));
    let since = server.get(&format!("/api/v1/events?project=p&from={time}"));
    assert_eq!(since["events"].as_array().unwrap().as_slice(), &all[6..]);
    let alone = server.get(&format!("/api/v1/state?project=p&task={two}"));
    assert_eq!(alone["tasks"].as_array().unwrap().len(), 1);
    for (path, status) in [
        ("/api/v1/state?project=p&at=yesterday%20night", 400),
        ("/api/v1/state?project=p&at=MSG-20260101-000000-000000000-PID1-0001", 404),
        ("/api/v1/state?project=nobody", 404),
        ("/api/v1/state", 400),
        ("/api/v1/events?project=p&task=task-20261121-093000-no", 404),
    ] {
        assert_eq!(server.ask(path).0, status, "{path}");
    }
}

#[test]
fn what_was_said_or_printed_anywhere_is_found() {
    let (root, [one, two]) = story();
    let _ = root.ok(&[
        "bus",
        "post",
        "--project",
        "p",
        "--task",
        &two,
        "--type",
        "FACT",
        "--body",
        "first\nthe Needle is here",
    ]);
    let server = Server::start(&root);
    let found = server.get("/api/v1/search?q=nEEdle");
    assert_eq!(found["complete"], true, "{found}");
    let found = found["found"].as_array().unwrap();
    let said = found.iter().find(|place| place["type"] == "FACT" && place["task_id"] == json!(two));
    let message = said.unwrap();
    assert_eq!(message["line"], 2, "{found:?}");
    assert_eq!(message["text"], "the Needle is here");
    let printed = found.iter().find(|place| place["file"] == "stdout").unwrap();
    assert_eq!((&printed["task_id"], &printed["text"]), (&json!(one), &json!("needle in the output")));
    let only = server.get(&format!("/api/v1/search?q=needle&project=p&task={two}"));
    assert!(only["found"].as_array().unwrap().iter().all(|place| place["task_id"] == json!(two)));
    assert_eq!(server.get("/api/v1/search?q=nowhere+to+be+found")["found"], json!([]));
    let cut = server.get("/api/v1/search?q=e&limit=1");
    assert_eq!((cut["found"].as_array().unwrap().len(), &cut["complete"]), (1, &json!(false)));
    assert_eq!(server.ask("/api/v1/search?q=%20").0, 400);
    assert_eq!(server.ask("/api/v1/search").0, 400);
}

#[test]
fn counters_grow_with_what_is_done() {
    let (root, [one, _]) = story();
    let server = Server::start(&root);
    let count = |name: &str| {
        let (status, text) = server.ask_with("GET", "/metrics", &[], "");
        assert_eq!(status, 200);
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(count("run_agent_tasks{status=\"completed\"}"), 1.0);
    assert_eq!(count("run_agent_messages_appended_total"), 0.0);
    let _ = server.post(&format!("/api/projects/p/tasks/{one}/messages"), &json!({ "body": "x" }));
    assert_eq!(count("run_agent_messages_appended_total"), 1.0);
    let appends = "run_agent_append_seconds_count{durability=\"interval\"}";
    assert_eq!(count(appends), 1.0);
    assert!(count("run_agent_http_requests_total{method=\"GET\",status=\"200\"}") >= 4.0);
    let mut events = server.follow("/api/v1/events/stream", None);
    assert_eq!(events.next().unwrap().name, "reset");
    assert_eq!(count("run_agent_stream_clients"), 1.0);
}

#[test]
fn what_is_broken_is_named_and_everything_else_is_served() {
    let (root, [one, two]) = story();
    let paths = root.tree().task(&name("one"));
    let run = root.view(&name("one")).task().runs.keys().next().unwrap().clone();
    std::fs::write(paths.run(&run).info(), "{ nonsense").unwrap();
    let other = name("three");
    let _ = root.ok(&shell_args("task", &other, "run-agent done", &[]));
    let folder = root.tree().task(&other).folder().to_owned();
    let bus = folder.join("TASK-MESSAGE-BUS.md");
    let segment = folder.join("bus/00000000000000000000.log");
    let broken = if bus.exists() { bus } else { segment };
    let mut bytes = std::fs::read(&broken).unwrap();
    let half = bytes.iter().take(4000).rposition(|byte| *byte != 0).unwrap() / 2;
    bytes[half..half + 40].fill(b'#');
    std::fs::write(&broken, bytes).unwrap();
    std::fs::remove_dir_all(root.path().join(".run-agent/projections")).unwrap_or_default();
    let server = Server::start(&root);
    assert_eq!(server.get(&format!("/api/projects/p/tasks/{one}"))["runs"][0]["status"], "completed");
    assert_eq!(server.get(&format!("/api/v1/runs/{run}"))["status"], "completed");
    let (status, info) = server.ask_with("GET", &format!("/api/v1/runs/{run}/info"), &[], "");
    assert_eq!((status, info.as_str()), (200, "{ nonsense"), "as it lies there");
    assert_eq!(server.get(&format!("/api/projects/p/tasks/{two}"))["status"], "failed");
    let detail = server.get(&format!("/api/projects/p/tasks/{}", other.task));
    assert!(!detail["damage"].as_array().unwrap().is_empty(), "{detail}");
    assert_eq!(server.get("/api/projects/p/tasks")["total"], 3);
}
