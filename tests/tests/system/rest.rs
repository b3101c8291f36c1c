//! REST agents: requests that the run's supervisor makes, against a provider in the test's own process.

mod check;
mod endpoint;
mod scripted;

use std::process::{Child, Stdio};

use run_agent_core::RunId;
use run_agent_core::event::RunStart;
use run_agent_core::world::{Run, RunStatus};
use run_agent_runner::files::is_locked;
use run_agent_runner::tree::TaskName;
use run_agent_tests::{Root, kill, name, supervisor_ends, text_of, until};

use self::endpoint::{Endpoint, INPUT, OUTPUT, OUTPUT_BEFORE};

const TOKEN: &str = "a-very-secret-token";

/// A root whose agents `xai` and `perplexity` are asked there. `more` comes before them in its configuration.
fn root(endpoint: &Endpoint, more: &str) -> Root {
    let root = Root::made();
    let agent = |name: &str| {
        format!("agent \"{name}\" {{\n  base_url = \"{}\"\n  token = \"{TOKEN}\"\n}}\n", endpoint.url())
    };
    let text = format!("{more}\n{}{}", agent("xai"), agent("perplexity"));
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    root
}

fn job<'a>(task: &'a TaskName, agent: &'a str, prompt: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let task = task.task.as_str();
    let mut args = vec!["job", "--project", "p", "--task", task, "--agent", agent, "--prompt", prompt];
    args.extend(more);
    args
}

/// A run that waits in the middle of its answer.
fn held(root: &Root, endpoint: &Endpoint, task: &TaskName) -> RunId {
    let run = root.ok(&job(task, "xai", "@hold Half of it.", &["--detach"]));
    let run = RunId::parse(&run).unwrap();
    endpoint.holds(1);
    // The text has come as far as to the file.
    let stdout = root.tree().run(task, &run).stdout();
    until("the text", || text_of(&stdout).contains("Half of it.").then_some(()), || root.ok(&["list"]));
    run
}

fn run_of(root: &Root, task: &TaskName, run: &RunId) -> Run {
    root.view(task).run(run).unwrap().clone()
}

fn only_run(root: &Root, task: &TaskName) -> (RunId, Run) {
    let view = root.view(task);
    assert_eq!(view.task().runs.len(), 1);
    view.task().runs.iter().next().map(|(id, run)| (id.clone(), run.clone())).unwrap()
}

fn start_of(root: &Root, task: &TaskName, run: &RunId) -> RunStart {
    root.view(task).start_of(run).unwrap()
}

fn end_of(run: &Run) -> (String, Option<String>) {
    let (end, _) = run.end().unwrap();
    (end.reason.clone(), end.error_class.clone())
}

fn output(root: &Root, task: &TaskName, run: &RunId) -> String {
    std::fs::read_to_string(root.tree().run(task, run).output()).unwrap()
}

/// Nothing is left of a run that is over: no supervisor, no slot, no connection.
fn assert_nothing_left(root: &Root, endpoint: &Endpoint, run: &RunId) {
    supervisor_ends(run);
    endpoint.holds(0);
    // A process that was killed holds its locks until the last of its threads is gone.
    let slots = root.path().join(".run-agent/slots");
    let entries = || std::fs::read_dir(&slots).into_iter().flatten().flatten();
    let held = || entries().filter(|entry| is_locked(&entry.path()).unwrap()).count();
    until("no slot is held", || (held() == 0).then_some(()), || format!("{} are", held()));
}

fn ends(root: &Root, task: &TaskName) -> usize {
    root.count(task, "RUN_STOP") + root.count(task, "RUN_CRASH")
}

/// Every file below a folder.
fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn an_answer_is_the_output_its_usage_is_told_and_the_token_touches_no_disk() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let task = name("answer");
    assert_eq!(root.ok(&job(&task, "xai", "@answer All is well.", &[])), "All is well.");
    let (id, run) = only_run(&root, &task);
    assert_eq!((run.usage.input_tokens, run.usage.output_tokens), (INPUT, OUTPUT));
    assert_eq!((run.status(), end_of(&run)), (RunStatus::Completed, ("answered".to_owned(), None)));
    let start = start_of(&root, &task, &id);
    assert_eq!((start.process_ownership.as_str(), start.pid, start.pgid), ("external", 0, 0));
    let told = root.json(&["status", id.as_str(), "--json"]);
    let endpoint_of_it = format!("{}/chat/completions", endpoint.url());
    assert_eq!((&told["backend_provider"], &told["backend_model"]), (&"xai".into(), &"grok-4.7".into()));
    assert_eq!(told["backend_endpoint"].as_str(), Some(endpoint_of_it.as_str()));
    let (head, body) = endpoint.last();
    assert!(head.contains(&format!("authorization: Bearer {TOKEN}\r\n")), "{head}");
    let prompt = text_of(&root.tree().run(&task, &id).prompt());
    assert_eq!(body["messages"][0]["content"].as_str().unwrap().trim(), prompt);
    let (preamble, said) = prompt.split_once("\n---\n").unwrap();
    assert_eq!((preamble.lines().count(), said.trim()), (1, "@answer All is well."));
    assert!(!preamble.contains("JRUN_") && !preamble.contains("run-agent bus"), "{preamble}");
    assert_eq!((&body["model"], &body["stream"]), (&"grok-4.7".into(), &true.into()));
    let merged = root.ok(&["output", id.as_str(), "--merged"]);
    let asked = format!("asking {}/chat/completions, model grok-4.7\nHTTP 200\nAll is well.", endpoint.url());
    assert_eq!(merged, asked, "in the order in which it came");
    let raw = text_of(&root.tree().run(&task, &id).stdout());
    assert!(raw.starts_with("data: {") && raw.ends_with("data: [DONE]"), "{raw}");
    assert_token_nowhere(&root, &id);
}

fn assert_token_nowhere(root: &Root, run: &RunId) {
    supervisor_ends(run);
    for file in files_below(&root.path()).iter().filter(|path| !path.ends_with("config.hcl")) {
        let bytes = std::fs::read(file).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "{}", file.display());
    }
}

#[test]
fn a_token_that_the_provider_says_again_touches_no_disk_either() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let task = name("accused");
    let done = root.run(&job(&task, "xai", "@accuse", &[]));
    assert!(done.code != 0 && !done.stdout.contains(TOKEN) && !done.stderr.contains(TOKEN), "{done:?}");
    let (id, run) = only_run(&root, &task);
    let (reason, class) = end_of(&run);
    assert!(reason.contains("Bearer …") && class.as_deref() == Some("auth"), "{reason}");
    assert!(text_of(&root.tree().run(&task, &id).stdout()).contains("Bearer …"));
    assert_token_nowhere(&root, &id);
}

#[test]
fn a_task_warns_of_an_agent_that_cannot_end_it_and_of_a_limit_that_does_not_hold_it() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "limits {\n  max_cost_usd = 1\n}\n");
    let args = ["task", "--project", "p", "--agent", "xai", "--max-restarts", "0", "--prompt", "@answer x"];
    let done = root.run(&args);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.stderr.contains("warning: agent `xai` only answers"), "{done:?}");
    assert!(done.stderr.contains("limits.max_cost_usd does not hold it"), "{done:?}");
    let args =
        ["task", "--project", "p", "--agent", "perplexity", "--max-restarts", "0", "--prompt", "@answer x"];
    let done = root.run(&args);
    assert!(!done.stderr.contains("limits.max_cost_usd"), "perplexity tells its costs: {done:?}");
}

#[test]
fn what_perplexity_cites_stands_behind_its_answer() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let task = name("sources");
    let out = root.ok(&job(&task, "perplexity", "@answer So it is [1].", &[]));
    assert_eq!(out, "So it is [1].\n\n## References\n\n1. <https://example.org/a>");
    assert_eq!(endpoint.last().1["model"], "sonar-pro");
}

#[test]
fn without_a_token_nothing_is_made_and_a_variable_gives_one() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let text = format!("agent \"mine\" {{\n  type = \"xai\"\n  base_url = \"{}\"\n}}\n", endpoint.url());
    std::fs::write(root.path().join("config.hcl"), text).unwrap();
    for command in ["job", "task"] {
        let mut without =
            root.command(&[command, "--project", "p", "--agent", "mine", "--prompt", "@answer x"]);
        let out = without.env_remove("XAI_API_KEY").output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.contains("agent `mine`: it has no token") && said.contains("XAI_API_KEY"), "{said}");
        assert_ne!(out.status.code(), Some(0));
        assert!(!root.path().join("p").exists(), "{command}");
    }
    let task = name("variable");
    let mut with = root.command(&job(&task, "mine", "@answer With one.", &[]));
    let out = with.env("XAI_API_KEY", TOKEN).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "With one.\n");
}

#[test]
fn refusals_that_pass_are_told_and_outlived_and_others_are_the_end() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let task = name("passes");
    assert_eq!(root.ok(&job(&task, "xai", "@refuse 500 2 At last.", &[])), "At last.");
    assert_eq!(endpoint.requests(), 3);
    let told: Vec<String> = root
        .messages(&task)
        .into_iter()
        .filter(|message| message.content.kind.as_str() == "RUN_RETRYING")
        .map(|message| message.content.body)
        .collect();
    assert!(told[0].starts_with("retrying (500, overloaded), retry 1 of 6 in "), "{told:?}");
    assert_eq!(told.last().unwrap(), "its calls are answered again");

    let task = name("ends");
    let done = root.run(&job(&task, "xai", "@refuse 401 9 bad key", &[]));
    assert_eq!((done.code, endpoint.requests()), (1, 4), "{done:?}");
    assert_eq!(
        (done.stdout.as_str(), done.stderr.matches("bad key").count()),
        ("", 1),
        "told once: {done:?}"
    );
    let (_, run) = only_run(&root, &task);
    assert_eq!(end_of(&run), ("HTTP 401: bad key".to_owned(), Some("auth".to_owned())));
}

#[test]
fn a_stop_in_the_middle_of_an_answer_ends_it_at_once_and_leaves_nothing() {
    let endpoint = Endpoint::new();
    // Nobody waits out this grace period.
    let root = root(&endpoint, "stop { grace = \"1h\" }\nlimits { max_agents = 2 }");
    let task = name("stop");
    let run = held(&root, &endpoint, &task);
    let _ = root.ok(&["stop", "--run", run.as_str()]);
    assert_nothing_left(&root, &endpoint, &run);
    let ended = run_of(&root, &task, &run);
    assert_eq!((ended.status(), ends(&root, &task)), (RunStatus::Stopped, 1));
    assert_eq!(output(&root, &task, &run), "Half of it.\n", "what was heard is kept");
    assert_eq!((ended.usage.input_tokens, ended.usage.output_tokens), (INPUT, OUTPUT_BEFORE));
}

#[test]
fn a_time_limit_ends_a_request() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let task = name("limit");
    let done = root.run(&job(&task, "xai", "@hold Half.", &["--timeout", "1s"]));
    assert_eq!(done.code, 124, "{done:?}");
    let (id, run) = only_run(&root, &task);
    assert!(end_of(&run).0.starts_with("time limit of 1s reached"), "{:?}", end_of(&run));
    assert_nothing_left(&root, &endpoint, &id);
}

#[test]
fn a_provider_that_falls_silent_makes_its_run_idle_and_then_stuck() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "watch {\n  idle_after = \"1s\"\n  stuck_after = \"5s\"\n}");
    let task = name("silent");
    let done = root.run(&job(&task, "xai", "@hold Half.", &[]));
    assert_eq!(done.code, 1, "{done:?}");
    let (id, run) = only_run(&root, &task);
    assert!(end_of(&run).0.starts_with("stuck: "), "{:?}", end_of(&run));
    assert_eq!((root.count(&task, "RUN_IDLE"), root.count(&task, "RUN_STUCK")), (1, 1));
    assert_nothing_left(&root, &endpoint, &id);
}

#[test]
fn a_request_whose_supervisor_was_killed_is_closed_once_and_made_by_nobody_else() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "limits { max_agents = 1 }");
    let task = name("killed");
    let run = held(&root, &endpoint, &task);
    let supervisor = start_of(&root, &task, &run).supervisor_pid;
    kill(supervisor, "KILL");
    endpoint.holds(0);
    let look =
        |args: &[&str]| root.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let task_id = task.task.as_str();
    let lock = root.tree().run(&task, &run).supervisor_lock();
    until("its lock is free", || (!is_locked(&lock).unwrap()).then_some(()), String::new);
    let mut lookers: Vec<Child> = (0..3)
        .flat_map(|_| [look(&["status", "--task", task_id]), look(&["wait", run.as_str()]), look(&["list"])])
        .collect();
    lookers.iter_mut().for_each(|looker| drop(looker.wait()));
    let ended = run_of(&root, &task, &run);
    assert_eq!(end_of(&ended), ("supervisor lost".to_owned(), Some("killed".to_owned())));
    assert_eq!((ends(&root, &task), root.count(&task, "SUPERVISOR_RESTART"), endpoint.requests()), (1, 0, 1));
    assert_eq!(output(&root, &task, &run), "Half of it.\n", "what came is read by who closes it");
    assert_eq!((ended.usage.input_tokens, ended.usage.output_tokens), (INPUT, OUTPUT_BEFORE));
    assert_eq!(root.ok(&job(&name("next"), "xai", "@answer Free.", &[])), "Free.", "its slot is free");
}

#[test]
fn a_kill_at_any_step_leaves_one_end_and_at_most_one_request() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "limits { max_agents = 1 }");
    for (step, asked) in [
        ("supervisor.noted", 0),
        ("supervisor.slot", 0),
        ("supervisor.shim", 0),
        ("supervisor.posted", 0),
        ("supervisor.reaped", 1),
        ("supervisor.exit_noted", 1),
        ("supervisor.ended", 1),
    ] {
        let before = endpoint.requests();
        let task = name(&step.replace(['.', '_'], "-"));
        let mut killed = root.command(&job(&task, "xai", "@answer Said.", &[]));
        let _ = killed.env("RUN_AGENT_FAILPOINT", format!("{step}=kill")).output().unwrap();
        let look = || root.run(&["status", "--task", task.task.as_str()]);
        until(step, || (look().code == 0 && ends(&root, &task) > 0).then_some(()), || look().stdout);
        let (id, run) = only_run(&root, &task);
        assert_eq!((ends(&root, &task), endpoint.requests() - before), (1, asked), "{step}");
        if asked == 1 {
            assert_eq!(output(&root, &task, &id), "Said.\n", "{step}");
            assert_eq!((run.usage.input_tokens, run.usage.output_tokens), (INPUT, OUTPUT), "{step}");
        }
        assert_nothing_left(&root, &endpoint, &id);
    }
}

#[test]
fn twenty_requests_share_four_slots() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "limits { max_agents = 4 }");
    let tasks: Vec<TaskName> = (0..20).map(|n| name(&format!("n{n:02}"))).collect();
    let jobs: Vec<Child> = tasks
        .iter()
        .map(|task| {
            let mut command = root.command(&job(task, "xai", "@hold One of many.", &[]));
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    endpoint.holds(4);
    endpoint.let_go();
    for job in jobs {
        let out = job.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(out.stdout).unwrap(), "One of many.\n");
    }
    assert!(endpoint.most() <= 4, "{}", endpoint.most());
    assert_eq!(endpoint.requests(), 20);
    for task in &tasks {
        let (id, run) = only_run(&root, task);
        assert_eq!((run.status(), ends(&root, task)), (RunStatus::Completed, 1));
        assert_nothing_left(&root, &endpoint, &id);
    }
}

#[test]
fn a_limit_of_hours_is_not_slept_through_but_told() {
    let endpoint = Endpoint::new();
    let root = root(&endpoint, "");
    let task = name("quota");
    let done = root.run(&job(
        &task,
        "xai",
        "@refuse 429 9 Your team has used all available credits. Try again in 3 hours.",
        &[],
    ));
    assert_eq!((done.code, endpoint.requests()), (1, 1), "{done:?}");
    let (_, run) = only_run(&root, &task);
    let (end, _) = run.end().unwrap();
    assert_eq!(end.error_class.as_deref(), Some("usage_limit"), "{end:?}");
    let over = end.retry_at.expect("it says when");
    let told = format!("Try again in 3 hours.; the limit is over at {over:.0}");
    assert!(done.stderr.contains(&told), "{told}: {done:?}");
    let status = root.json(&["status", task.task.as_str(), "--project", "p", "--json"]);
    assert_eq!(status["runs"][0]["retry_at"], serde_json::json!(over), "{status}");
    assert!(root.ok(&["why", task.task.as_str(), "--project", "p"]).contains(&told));
}

#[test]
fn an_agent_without_a_token_is_passed_over_when_one_is_chosen() {
    let endpoint = Endpoint::new();
    let root =
        root(&endpoint, "agents { order = [\"other\", \"shell\"] }\nagent \"other\" { type = \"xai\" }");
    let mut command = root.command(&["job", "--project", "p", "--prompt", "echo from the shell"]);
    let out = command.env_remove("XAI_API_KEY").output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "from the shell\n");
}
