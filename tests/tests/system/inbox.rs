//! `inbox`: what needs a person, over all projects, and answering it.

use run_agent_tests::{Root, name, shell_args, text_of, until};
use serde_json::Value;

fn items(root: &Root, more: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["inbox", "--json"].iter().chain(more).copied().collect();
    root.json(&args)["items"].as_array().unwrap().clone()
}

fn kinds(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

fn ask(root: &Root, place: &[&str], body: &str) -> String {
    let args: Vec<&str> =
        ["bus", "post", "--type", "QUESTION", "--body", body].iter().chain(place).copied().collect();
    root.ok(&args)
}

#[test]
fn an_inbox_without_anything_says_so() {
    let root = Root::made();
    let done = root.run(&["inbox"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", "nothing needs you\n"));
    assert_eq!(root.json(&["inbox", "--json"]), serde_json::json!({ "items": [], "total": 0 }));
}

#[test]
fn what_somebody_waits_for_comes_first_over_all_projects() {
    let root = Root::new();
    let gave_up = name("gave-up");
    assert_eq!(root.run(&shell_args("task", &gave_up, "exit 1", &["--max-restarts", "0"])).code, 3);
    let task = gave_up.task.as_str();
    let open = ask(&root, &["--task", task], "any news?");
    let own = ask(&root, &["--project", "p"], "which database?");
    let _ = root.ok(&["job", "--project", "q", "--task", "other", "--agent", "shell", "--prompt", "true"]);
    let blocking = ask(&root, &["--project", "q", "--task", "other", "--blocking"], "may I drop it?");
    let found = items(&root, &[]);
    assert_eq!(kinds(&found), ["question", "gave_up", "question", "question"]);
    let ids: Vec<&str> = found.iter().filter_map(|item| item["msg_id"].as_str()).collect();
    assert_eq!((ids[0], ids[2], ids[3]), (blocking.as_str(), own.as_str(), open.as_str()), "newest first");
    assert_eq!((&found[0]["blocking"], &found[0]["project_id"]), (&true.into(), &"q".into()));
    assert_eq!(found[2]["task_id"], Value::Null, "it stands in the project's own stream");
    assert_eq!(found[1]["reason"], "exhausted");
    assert_eq!(kinds(&items(&root, &["--project", "q"])), ["question"]);
    assert_eq!(items(&root, &["--limit", "1"]).len(), 1);
    assert_eq!(items(&root, &[]), found, "the roster says the same");
    let list = root.ok(&["list"]);
    assert!(list.lines().next().unwrap().contains("ASKS"), "{list}");
}

#[test]
fn an_answer_stands_where_its_question_does_and_closes_it() {
    let root = Root::new();
    let task = root.task_with("answered", "true");
    let place = ["--task", task.task.as_str()];
    let (first, second) = (ask(&root, &place, "one?"), ask(&root, &place, "two?"));
    let end = first.split_once("-PID").map(|(_, end)| format!("PID{end}")).unwrap();
    let answer = root.ok(&["inbox", "answer", &end, "yes"]);
    let messages = root.messages(&task);
    let posted = messages.iter().find(|message| message.id.as_str() == answer).unwrap();
    assert_eq!((posted.content.kind.as_str(), posted.content.body.as_str()), ("ANSWER", "yes"));
    assert_eq!(posted.content.parents[0].msg_id.as_str(), first);
    let left: Vec<_> = items(&root, &[]).iter().map(|item| item["msg_id"].clone()).collect();
    assert_eq!(left, [second.as_str()]);
    let own = ask(&root, &["--project", "p"], "three?");
    let told = root.json(&["inbox", "answer", &own, "no", "--json"]);
    assert_eq!((&told["question_id"], &told["task_id"]), (&own.as_str().into(), &Value::Null));
    assert_eq!(items(&root, &[]).len(), 1);
}

#[test]
fn a_long_answer_from_a_file_is_attached() {
    let root = Root::new();
    let task = root.task_with("long", "true");
    let question = ask(&root, &["--task", task.task.as_str()], "how?");
    let file = root.scratch().join("answer.txt");
    std::fs::write(&file, "long answer ".repeat(10_000)).unwrap();
    let told = root.json(&["inbox", "answer", &question, "--file", file.to_str().unwrap(), "--json"]);
    let path = told["attachment_path"].as_str().unwrap();
    assert!(path.contains("ATTACH-") && path.ends_with("answer.txt"), "{told}");
    assert_eq!(items(&root, &[]).len(), 0);
}

#[test]
fn what_is_no_open_question_is_told_apart() {
    let root = Root::new();
    let task = root.task_with("wrong", "true");
    let place = ["--task", task.task.as_str()];
    let (first, second) = (ask(&root, &place, "one?"), ask(&root, &place, "two?"));
    let fact = root.ok(&["bus", "post", "--task", task.task.as_str(), "--type", "FACT", "--body", "x"]);
    let error = |args: &[&str]| {
        let done = root.run(&[&["inbox", "answer"], args].concat());
        (done.code, done.stderr)
    };
    let (code, text) = error(&["MSG-", "x"]);
    assert!(code == 2 && text.contains("fits several open questions"), "{text}");
    let (code, text) = error(&["nonsense", "x"]);
    assert!(code == 5 && text.contains("open are PID"), "{text}");
    let (code, text) = error(&["MSG-20010101-000000-000000000-PID00001-0001", "x"]);
    assert!(code == 5 && text.contains("no open question"), "{text}");
    let (code, text) = error(&[&fact, "x"]);
    assert!(code == 2 && text.contains("is no question: it is of type FACT"), "{text}");
    let (code, text) = error(&[&first, " "]);
    assert!(code == 2 && text.contains("the answer is empty"), "{text}");
    let _ = root.ok(&["inbox", "answer", &first, "yes"]);
    let (code, text) = error(&[&first, "again"]);
    assert!(
        code == 1 && text.contains("was answered already") && text.contains(&format!("--parent {first}")),
        "{text}"
    );
    let _ = root.ok(&["inbox", "answer", &second, "yes"]);
    let (_, text) = error(&["nonsense", "x"]);
    assert!(text.contains("no question is open"), "{text}");
}

#[test]
fn a_question_whose_asker_has_ended_is_marked_and_comes_last() {
    let root = Root::new();
    let task = name("ended");
    let binary = run_agent_tests::binary();
    let prompt = format!("{} bus post --type QUESTION --blocking --body 'who reads this?'", binary.display());
    assert_eq!(root.run(&shell_args("job", &task, &prompt, &[])).code, 0);
    let _ = ask(&root, &["--task", task.task.as_str()], "and this?");
    let found = items(&root, &[]);
    let askers: Vec<&str> = found.iter().map(|item| item["asker"].as_str().unwrap()).collect();
    assert_eq!(askers, ["unknown", "ended"]);
    assert!(root.ok(&["inbox"]).contains("(its asker has ended) who reads this?"));
}

#[test]
fn a_loop_that_gave_up_leaves_the_inbox_when_somebody_says_that_it_is_done() {
    let root = Root::new();
    let task = name("settled");
    assert_eq!(root.run(&shell_args("task", &task, "exit 1", &["--max-restarts", "0"])).code, 3);
    assert_eq!(kinds(&items(&root, &[])), ["gave_up"]);
    let _ = root.ok(&["done", "--task", task.task.as_str()]);
    assert_eq!(items(&root, &[]).len(), 0);
}

#[test]
fn a_run_that_waits_for_an_answer_gets_the_one_from_the_inbox() {
    let root = Root::new();
    let task = name("waits");
    let binary = run_agent_tests::binary();
    let prompt = format!("{} ask 'left or right?' > \"$JRUN_TASK_FOLDER/answer\"", binary.display());
    let run = root.ok(&shell_args("job", &task, &prompt, &["--detach"]));
    let found = until(
        "the question is in the inbox",
        || Some(items(&root, &[])).filter(|items| items.len() == 1),
        || root.ok(&["inbox"]),
    );
    assert_eq!((&found[0]["asker"], &found[0]["run_id"]), (&"active".into(), &run.as_str().into()));
    let _ = root.ok(&["inbox", "answer", found[0]["msg_id"].as_str().unwrap(), "left"]);
    assert_eq!(root.run(&["wait", &run]).code, 0);
    assert_eq!(text_of(&root.tree().task(&task).folder().join("answer")), "left");
}

#[test]
fn of_many_answers_at_once_one_counts_and_the_others_are_told() {
    let root = Root::new();
    let task = root.task_with("asked", "true");
    let question = ask(&root, &["--task", task.task.as_str()], "which?");
    let answers: Vec<_> = (0..8)
        .map(|n| root.command(&["inbox", "answer", &question, &n.to_string()]).spawn().unwrap())
        .collect();
    let codes: Vec<_> = answers.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(root.count(&task, "ANSWER"), 1);
}
