//! `why` with real processes and real kills: it must name what truly happened.

use std::process::Stdio;

use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, shell_args, text_of, until};
use serde_json::Value;

/// Writes its pid, and goes on for as long as nobody ends it.
const AT_WORK: &str = r#"echo $$ > "$JRUN_TASK_FOLDER/pid"; while :; do sleep 0.05; done"#;

fn why(root: &Root, task: &TaskName) -> Value {
    root.json(&["why", task.task.as_str(), "--json"])
}

/// The nearest causes, in order.
fn causes(why: &Value) -> Vec<&str> {
    why["causes"].as_array().unwrap().iter().map(|cause| cause["text"].as_str().unwrap()).collect()
}

fn commands(why: &Value) -> Vec<&str> {
    let changes = why["changes"].as_array().unwrap();
    changes.iter().filter_map(|change| change["command"].as_str()).collect()
}

/// The answer begins with these causes; the message that is named for the first one is of this type.
fn says(root: &Root, task: &TaskName, status: &str, kind: Option<&str>, wanted: &[&str]) -> Value {
    let why = why(root, task);
    assert_eq!(why["status"], status, "{why:#}");
    let told = causes(&why);
    assert!(told.len() >= wanted.len(), "{told:#?}");
    for (text, words) in told.iter().zip(wanted) {
        assert!(text.contains(words), "`{words}` is not in `{text}`: {told:#?}");
    }
    let first = &why["causes"][0];
    assert_eq!(first["type"].as_str(), kind, "{first:#}");
    if let Some(id) = first["msg_id"].as_str() {
        let messages = root.messages(task);
        let message = messages.iter().find(|message| message.id.as_str() == id).unwrap();
        assert_eq!(Some(message.content.kind.as_str()), kind);
        assert_eq!(why["evidence"][0], id);
    }
    why
}

fn pid(root: &Root, task: &TaskName) -> u32 {
    text_of(&root.tree().task(task).folder().join("pid")).parse().unwrap()
}

fn detached(root: &Root, task: &TaskName, prompt: &str) -> String {
    root.ok(&shell_args("job", task, prompt, &["--detach"]))
}

#[test]
fn a_killed_agent_is_named_with_its_signal() {
    let root = Root::new();
    let task = name("agent");
    let run = detached(&root, &task, AT_WORK);
    kill(pid(&root, &task), "KILL");
    let _ = root.run(&["wait", &run]);
    let told = "was killed by SIGKILL; nobody asked run-agent for it";
    let answer = says(&root, &task, "failed", Some("RUN_CRASH"), &[told, "it was started by user"]);
    assert!(commands(&answer)[0].contains(&format!("output {run} --merged")), "{answer:#}");
    assert_eq!(root.json(&["why", &run, "--json"])["causes"], answer["causes"], "of the run, the same");
}

#[test]
fn a_killed_supervisor_is_named_while_its_agent_goes_on_and_after() {
    let root = Root::new();
    let task = name("supervisor");
    let run = detached(&root, &task, AT_WORK);
    let agent = pid(&root, &task);
    let supervisor = root.view(&task).task().runs.values().next().unwrap().start().unwrap().supervisor_pid;
    kill(supervisor, "KILL");
    let look = || causes(&why(&root, &task))[0].contains("supervisor of run").then_some(());
    until("the supervisor is gone", look, || why(&root, &task).to_string());
    let words = format!("its agent (pid {agent}) goes on");
    says(&root, &task, "running", Some("RUN_START"), &[words.as_str()]);
    kill(agent, "KILL");
    let look = || (why(&root, &task)["status"] == "failed").then_some(());
    until("the run is closed", look, || why(&root, &task).to_string());
    says(&root, &task, "failed", Some("RUN_CRASH"), &["its supervisor was lost, and with it"]);
    assert!(root.ok(&["why", &run]).contains("supervisor lost"));
}

#[test]
fn a_killed_driver_is_named_and_its_loop_can_be_gone_on_with() {
    let root = Root::new();
    let task = name("driver");
    let mut driver = root.drive(&task, AT_WORK);
    let _ = pid(&root, &task);
    let at_work = why(&root, &task);
    assert!(causes(&at_work)[0].contains("is at work"), "{at_work:#}");
    driver.kill().unwrap();
    driver.wait().unwrap();
    let gone = "nobody drives the loop: its driver";
    let answer = says(&root, &task, "running", Some("LOOP_START"), &[gone, "is at work"]);
    assert!(commands(&answer)[0].starts_with("run-agent task --task"), "{answer:#}");
    let inbox = root.json(&["inbox", "--json"]);
    assert_eq!((&inbox["total"], &inbox["items"][0]["kind"]), (&1.into(), &"no_driver".into()), "{inbox:#}");
    std::fs::write(root.path().join("config.hcl"), "loop { adopt = \"never\" }\n").unwrap();
    assert_eq!(root.json(&["inbox", "--json"])["total"], 0, "nobody asked to be told of it");
}

#[test]
fn a_stuck_run_is_named_with_the_silence_that_ended_it() {
    let root = Root::made();
    let watch =
        "watch {\n  idle_after = \"200ms\"\n  stuck_after = \"600ms\"\n}\nstop {\n  grace = \"0s\"\n}\n";
    std::fs::write(root.path().join("config.hcl"), watch).unwrap();
    let task = name("stuck");
    let run = detached(&root, &task, "sleep 1000");
    let _ = root.run(&["wait", &run]);
    let told =
        ["was ended: stuck: no sign of life", "its silence reached watch.stuck_after", "it was started"];
    let answer = says(&root, &task, "failed", Some("RUN_CRASH"), &told);
    assert_eq!(answer["causes"][1]["type"], "RUN_STUCK", "{answer:#}");
}

#[test]
fn a_parked_run_names_how_many_are_before_it() {
    let root = Root::made();
    std::fs::write(root.path().join("config.hcl"), "limits { max_agents = 1 }\n").unwrap();
    let (first, second) = (name("first"), name("second"));
    let at_work = detached(&root, &first, AT_WORK);
    let parked = detached(&root, &second, "true");
    let look = || (root.count(&second, "RUN_PARKED") > 0).then_some(());
    until("the run is parked", look, || why(&root, &second).to_string());
    let told = ["waits for other agents to complete", "it was started by user"];
    says(&root, &second, "queued", Some("RUN_PARKED"), &told);
    let _ = root.ok(&["stop", "--run", &at_work, "--force"]);
    assert_eq!(root.run(&["wait", &parked]).code, 0);
}

#[test]
fn a_stop_names_the_person_and_a_later_resume_is_offered() {
    let root = Root::new();
    let task = name("stop");
    let mut driver = root.drive(&task, AT_WORK);
    let _ = pid(&root, &task);
    let _ = root.ok(&["stop", "--task", task.task.as_str(), "--force"]);
    driver.wait().unwrap();
    let asked = "a stop of the whole task was asked for by user";
    let answer = says(&root, &task, "stopped", Some("LOOP_END"), &["the loop was stopped", asked]);
    assert!(commands(&answer)[0].starts_with("run-agent resume"), "{answer:#}");
}

#[test]
fn an_exhausted_loop_names_the_limit_and_what_the_agent_said_last() {
    let root = Root::new();
    let task = name("exhausted");
    let prompt = "echo the disk is full >&2; exit 7";
    let done = root.run(&shell_args("task", &task, prompt, &["--max-restarts", "1"]));
    assert_eq!(done.code, 3, "{done:?}");
    let limit = "the loop gave up: max_restarts was reached after 1 restart";
    let answer = says(&root, &task, "failed", Some("LOOP_END"), &[limit, "exit code 7: the disk is full"]);
    let resume = format!("run-agent resume --task {}", task.task);
    assert_eq!(commands(&answer)[1], resume);
    let status = root.ok(&["status", task.task.as_str()]);
    assert!(status.contains(&format!("why: {limit}\n")), "{status}");
}

#[test]
fn a_loop_that_waits_names_its_children_and_who_said_done() {
    let root = Root::new();
    let task = name("children");
    let prompt = format!("run-agent job --agent shell --detach --prompt '{AT_WORK}'; run-agent done");
    let mut driver = with_path(&root, &task, &prompt);
    let look = || root.run(&["why", task.task.as_str()]).stdout.contains("\nwaiting").then_some(());
    until("the loop waits", look, || format!("{:?}", root.run(&["why", task.task.as_str()])));
    let told = ["the loop waits for 1 active child run", "is at work", "said DONE"];
    let answer = says(&root, &task, "waiting", Some("LOOP_WAITING"), &told);
    let root_run = root.view(&task).task().ralph.last_root.clone().unwrap();
    assert_eq!(causes(&answer)[2].split("; ").next().unwrap(), format!("run {root_run} said DONE"));
    let _ = root.ok(&["stop", "--task", task.task.as_str(), "--force"]);
    driver.wait().unwrap();
}

#[test]
fn a_run_that_asks_is_waited_for_by_name_until_it_is_answered() {
    let root = Root::new();
    let task = name("ask");
    let run = detached_with_path(&root, &task, "run-agent ask 'which way?' > \"$JRUN_TASK_FOLDER/answer\"");
    let look = || (root.json(&["inbox", "--json"])["total"] == 1).then_some(());
    until("the question is in the inbox", look, || root.ok(&["inbox"]));
    let answer = says(&root, &task, "running", Some("RUN_START"), &["waits for an answer", "which way?"]);
    let question = answer["causes"][1]["msg_id"].as_str().unwrap();
    assert_eq!(commands(&answer)[0], format!("run-agent inbox answer {question} TEXT"));
    let _ = root.ok(&["inbox", "answer", question, "left"]);
    assert_eq!(root.run(&["wait", &run]).code, 0);
    assert_eq!(text_of(&root.tree().task(&task).folder().join("answer")), "left");
}

#[test]
fn a_done_by_hand_is_told_apart_from_one_that_was_said() {
    let root = Root::new();
    let (by_hand, said, person) = (name("hand"), name("said"), name("person"));
    let prompt = r#"echo > "$JRUN_TASK_FOLDER/DONE""#;
    assert_eq!(root.run(&shell_args("task", &by_hand, prompt, &[])).code, 0);
    let hand = "a DONE file was found that was not made by `run-agent done`";
    says(&root, &by_hand, "completed", Some("LOOP_END"), &["the loop completed", hand]);
    let mut driver = with_path(&root, &said, "run-agent done; sleep 0.2");
    assert!(driver.wait().unwrap().success());
    let run = root.view(&said).task().ralph.last_root.clone().unwrap();
    says(&root, &said, "completed", Some("LOOP_END"), &["completed", &format!("run {run} said DONE")]);
    let mut driver = root.drive(&person, AT_WORK);
    let agent = pid(&root, &person);
    let _ = root.ok(&["done", "--task", person.task.as_str()]);
    kill(agent, "TERM");
    assert!(driver.wait().unwrap().success());
    let user = causes(&why(&root, &person))[1].to_owned();
    assert!(user.starts_with("user ") && user.contains(" said DONE"), "{user}");
}

#[test]
fn a_done_that_is_a_folder_is_named_with_what_to_do() {
    let root = Root::new();
    let task = name("folder");
    let done = root.run(&shell_args("task", &task, r#"mkdir "$JRUN_TASK_FOLDER/DONE""#, &[]));
    assert_eq!(done.code, 1, "{done:?}");
    let answer = says(&root, &task, "failed", Some("LOOP_END"), &["the loop gave up: DONE is a folder"]);
    assert_eq!(answer["changes"][0]["text"], "remove it from the task's folder first");
}

#[test]
fn an_interrupted_loop_leaves_its_run_and_says_so() {
    let root = Root::new();
    let task = name("interrupted");
    let mut driver = root.drive(&task, AT_WORK);
    let _ = pid(&root, &task);
    kill(driver.id(), "INT");
    driver.wait().unwrap();
    let told = ["1 run goes on without the loop", "is at work", "the loop's driver was interrupted"];
    says(&root, &task, "running", None, &told);
}

#[test]
fn a_rejected_done_is_named_behind_the_limit_that_it_used_up() {
    let root = Root::new();
    let task = name("verify");
    let args = shell_args(
        "task",
        &task,
        "run-agent done",
        &["--max-restarts", "0", "--verify", "echo 2 tests failed; exit 9"],
    );
    let done = root.command(&args).env("PATH", path()).output().unwrap();
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let rejected = "DONE was rejected: `echo 2 tests failed; exit 9` ended with 9: 2 tests failed";
    let told = ["the loop gave up: max_restarts was reached", rejected, "completed: exit code 0"];
    says(&root, &task, "failed", Some("LOOP_END"), &told);
}

#[test]
fn a_loop_that_waits_for_a_failed_task_names_it_and_stands_in_the_inbox() {
    let root = Root::new();
    let (first, second) = (name("first"), name("second"));
    let args = shell_args("task", &first, "exit 1", &["--max-restarts", "0"]);
    assert_eq!(root.run(&args).code, 3);
    let more = ["--depends-on", first.task.as_str(), "--detach"];
    assert_eq!(root.run(&shell_args("task", &second, "true", &more)).code, 0);
    let look = || root.run(&["why", second.task.as_str()]).stdout.contains("\nblocked").then_some(());
    until("the loop is blocked", look, || root.run(&["why", second.task.as_str()]).stdout);
    let words = format!("task {} is failed (exhausted)", first.task);
    let answer =
        says(&root, &second, "blocked", Some("LOOP_BLOCKED"), &["1 task that it depends on", &words]);
    assert_eq!(commands(&answer)[0], format!("run-agent why --task {}", first.task));
    let inbox = root.json(&["inbox", "--json"]);
    let kinds: Vec<_> = inbox["items"].as_array().unwrap().iter().map(|item| &item["kind"]).collect();
    assert_eq!(kinds, ["blocked", "gave_up"]);
    let _ = root.ok(&["stop", "--task", second.task.as_str(), "--force"]);
}

#[test]
fn a_question_that_holds_a_loop_is_named_and_its_answer_lets_the_loop_go_on() {
    let root = Root::new();
    let task = name("held");
    // The first root run asks; the next one finds the answer in its prompt.
    let prompt = r#"if grep -q 'forty[-]two' "$JRUN_RUN_FOLDER/prompt.md"; then run-agent done; else run-agent bus post --type QUESTION --blocking --body 'how many?'; fi"#;
    let mut driver = with_path(&root, &task, prompt);
    let look = || root.run(&["why", task.task.as_str()]).stdout.contains("\nwaiting").then_some(());
    until("the loop waits", look, || root.run(&["why", task.task.as_str()]).stdout);
    let told = ["the loop waits for the answer to a question", "asks: how many?"];
    let answer = says(&root, &task, "waiting", Some("LOOP_WAITING"), &told);
    let question = answer["causes"][1]["msg_id"].as_str().unwrap();
    let inbox = root.json(&["inbox", "--json"]);
    assert_eq!(
        (&inbox["items"][0]["asker"], &inbox["items"][0]["msg_id"]),
        (&"loop".into(), &question.into())
    );
    let _ = root.ok(&["inbox", "answer", question, "forty-two"]);
    assert!(driver.wait().unwrap().success());
}

#[test]
fn the_answer_reads_a_handful_of_entries_of_a_long_stream() {
    let root = Root::new();
    let task = name("long");
    let _ = root.run(&shell_args("job", &task, "exit 4", &[]));
    let lines = "{\"type\":\"PROGRESS\",\"body\":\"still at it\"}\n".repeat(3000);
    let mut post = root.command(&["bus", "post", "--stdin-ndjson", "--task", task.task.as_str()]);
    let file = root.scratch().join("lines");
    std::fs::write(&file, lines).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    assert!(post.stdin(input).stdout(Stdio::null()).status().unwrap().success());
    says(&root, &task, "failed", Some("RUN_CRASH"), &["failed: exit code 4", "it was started by user"]);
    // The checkpoint that the first look left holds the places; the second folds nothing again.
    says(&root, &task, "failed", Some("RUN_CRASH"), &["failed: exit code 4", "it was started by user"]);
}

/// A loop whose agents find `run-agent`.
fn with_path(root: &Root, task: &TaskName, prompt: &str) -> std::process::Child {
    let mut command = root.command(&shell_args("task", task, prompt, &[]));
    command.env("PATH", path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn detached_with_path(root: &Root, task: &TaskName, prompt: &str) -> String {
    let out = root.command(&shell_args("job", task, prompt, &["--detach"])).env("PATH", path()).output();
    String::from_utf8(out.unwrap().stdout).unwrap().trim().to_owned()
}

fn path() -> String {
    let binary = run_agent_tests::binary();
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{}:{own}", binary.parent().unwrap().display())
}
