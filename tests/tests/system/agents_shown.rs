//! What people and programs see of real agents: stand-ins print what those print, and the real tool shows it.

use std::io::Read;
use std::process::{Child, Stdio};

use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::{Root, until};
use serde_json::{Value, json};

/// A root whose `claude` does this at each start.
fn with_claude(scripts: impl IntoIterator<Item = Script>) -> Root {
    let root = Root::made();
    scripts.into_iter().fold(StandIn::of(&root, "claude"), StandIn::starts).install();
    root
}

fn begins() -> Script {
    Script::new().prints(&claude::init())
}

fn reports(script: Script, text: &str) -> Script {
    script.prints(&claude::text(text)).prints(&claude::result(text, 12_300, 1_200, 0.05))
}

fn finished(text: &str) -> Script {
    reports(begins(), text)
}

fn job(root: &Root) -> String {
    root.ok(&["job", "--project", "p", "--task", "t", "--agent", "claude", "--prompt", "x", "--detach"])
}

fn task(root: &Root, more: &[&str]) -> run_agent_tests::Done {
    let args = ["task", "--project", "p", "--task", "t", "--agent", "claude", "--prompt", "x"];
    root.run(&[&args[..], more].concat())
}

fn status(root: &Root) -> Value {
    root.json(&["status", "t", "--project", "p", "--json"])
}

/// A command that goes on, and what it printed so far.
fn goes_on(root: &Root, args: &[&str]) -> Child {
    root.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn rest_of(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

const ANSWER: &str = "Two  blanks.\n\n```sh\n  ls\n```";

#[test]
fn an_agents_answer_is_what_the_job_prints() {
    let root = with_claude([finished(ANSWER)]);
    assert_eq!(root.ok(&["job", "--project", "p", "--agent", "claude", "--prompt", "x"]), ANSWER);
}

#[test]
fn who_is_stopped_leaves_what_it_had_said_and_no_raw_stream() {
    for (said, wanted) in [(begins(), ""), (begins().prints(&claude::text(ANSWER)), ANSWER)] {
        let root = with_claude([said.says("a stack of its own").waits_for("never")]);
        let args = ["job", "--project", "p", "--agent", "claude", "--prompt", "x", "--timeout", "2s"];
        let done = root.run(&args);
        assert_eq!((done.code, done.stdout.trim_end()), (124, wanted), "{done:?}");
        assert!(done.stderr.contains("failed: time limit of 2s reached; see run-agent output "), "{done:?}");
        let run = root.view(&root.only_task()).task().runs.keys().next().unwrap().to_string();
        assert_eq!(root.run(&["output", &run]).stdout.trim_end(), wanted);
        let status = root.ok(&["status", &root.only_task().task.to_string(), "--project", "p"]);
        assert!(status.contains("used: at least 0 in, 0 out, cost unknown\n"), "{status}");
        assert!(status.contains(", since ") && status.contains("\n1 run\n"), "a job is no loop: {status}");
    }
}

#[test]
fn a_stream_of_another_form_is_the_answer_as_it_is() {
    let root = with_claude([Script::new().prints("no JSON at all")]);
    let args = ["job", "--project", "p", "--agent", "claude", "--prompt", "x"];
    assert_eq!(root.ok(&args), "no JSON at all");
}

#[test]
fn who_follows_reads_the_text_while_the_agent_works_and_bytes_only_when_asked() {
    let script = begins().prints(&claude::text(ANSWER)).says("a warning").waits_for("go");
    let root = with_claude([reports(script.prints(&claude::tool("ls -l")), "the end")]);
    let run = job(&root);
    let mut follower = goes_on(&root, &["output", &run, "--follow"]);
    let before = format!("{ANSWER}\na warning\n");
    let mut text = vec![0; before.len()];
    follower.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), before, "before the agent has ended");
    // Within a mark of both streams their order is not known.
    let id = run_agent_core::RunId::parse(&run).unwrap();
    let marks = root.tree().run(&root.only_task(), &id).marks();
    let marked =
        || std::fs::read_to_string(&marks).is_ok_and(|text| text.lines().any(|mark| !mark.ends_with(" 0")));
    until("a mark of the warning", || marked().then_some(()), || format!("{marks:?}"));
    root.lets("go");
    assert_eq!(rest_of(follower), "> Bash ls -l\nthe end\n");
    let whole = format!("{ANSWER}\na warning\n> Bash ls -l\nthe end\n");
    assert_eq!(root.run(&["output", &run, "--merged"]).stdout, whole);
    assert_eq!(root.run(&["output", &run, "--follow"]).stdout, whole, "also when it is over");
    let raw = root.run(&["output", &run, "--follow", "--raw"]).stdout;
    assert!(raw.starts_with("{\"") && raw.contains("a warning\n") && raw.contains("\"result\""), "{raw}");
    assert_eq!(root.run(&["output", &run, "--merged", "--raw"]).stdout, raw);
    assert!(root.ok(&["output", &run, "--stdout"]).starts_with("{\""), "a file is as it is");
    assert_eq!(root.ok(&["output", &run]), "the end");
    assert_eq!(root.run(&["output", &run, "--raw"]).code, 2);
}

#[test]
fn the_tail_of_a_stream_is_counted_in_lines_of_its_text() {
    let many: Vec<String> = (0..500).map(|n| format!("line {n}")).collect();
    let script = begins().prints(&claude::text(&many.join("\n"))).waits_for("go");
    let root = with_claude([reports(script, "the end")]);
    let run = job(&root);
    let told = || root.ok(&["output", &run, "--merged", "--tail", "2"]);
    until("its text", || (told() == "line 498\nline 499").then_some(()), told);
    let follower = goes_on(&root, &["output", &run, "--follow", "--tail", "1"]);
    root.lets("go");
    let followed = rest_of(follower);
    assert!(followed.ends_with("the end\n") && !followed.contains("line 497"), "{followed}");
    assert_eq!(root.ok(&["output", &run, "--merged", "--tail", "2"]), "line 499\nthe end");
}

#[test]
fn followers_of_jobs_and_loops_read_text_too() {
    let root = with_claude([finished(ANSWER).says_done()]);
    let wanted = format!("{ANSWER}\n");
    let args = ["job", "--project", "p", "--agent", "claude", "--prompt", "x", "--follow"];
    assert_eq!(root.run(&args).stdout, wanted);
    assert!(root.run(&[&args[..], &["--raw"]].concat()).stdout.starts_with("{\""));
    let told = task(&root, &["--follow"]);
    assert!(told.code == 0 && told.stdout.starts_with(&wanted), "{told:?}");
    assert!(told.stdout.ends_with("12.3k in, 1.2k out, $0.05\n"), "the loop's own last words: {told:?}");
}

#[test]
fn events_stand_on_lines_of_their_own_between_pieces_of_text() {
    let root = Root::made();
    let gate = root.scratch().join("go");
    let work =
        format!("printf by; until [ -e {} ]; do sleep 0.02; done; printf e; run-agent done", gate.display());
    let args = ["task", "--project", "p", "--agent", "shell", "--prompt", &work, "--follow"];
    let words: Vec<String> = args.iter().map(|word| format!("\"{word}\"")).collect();
    let mut shell = std::process::Command::new("sh");
    let line = format!("exec {} {} 2>&1", run_agent_tests::binary().display(), words.join(" "));
    shell.args(["-c", &line]).stdout(Stdio::piped());
    for (name, value) in root.command(&[]).get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    let mut child = shell.spawn().unwrap();
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("by") {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    root.lets("go");
    text.push_str(&rest_of(child));
    let told: Vec<&str> = text.lines().filter(|line| line.contains(" RUN_STOP ")).collect();
    assert!(told.len() == 1 && told[0].as_bytes()[2] == b':', "{text}");
    let own = |line: &&str| matches!(*line, "by" | "e" | "bye");
    assert_eq!(text.lines().filter(own).collect::<String>(), "bye", "{text}");
}

#[test]
fn an_agent_of_no_form_is_followed_byte_by_byte() {
    let root = Root::made();
    let args = [
        "job",
        "--project",
        "p",
        "--agent",
        "shell",
        "--prompt",
        "printf '{\"type\":\"result\"}'",
        "--follow",
    ];
    assert_eq!(root.run(&args).stdout, "{\"type\":\"result\"}");
}

#[test]
fn what_was_used_is_told_for_each_run_task_and_project() {
    let root = with_claude([finished("one"), begins(), finished("three")]);
    for _ in 0..3 {
        let run = job(&root);
        let _ = root.run(&["wait", &run]);
    }
    let used = |input, output, cost: Option<f64>, incomplete: bool| json!({ "input_tokens": input, "output_tokens": output, "cached_tokens": 0, "cost_usd": cost, "cost_incomplete": incomplete, "incomplete": incomplete });
    let status = status(&root);
    // The third begins where the session of the first stood, but is one of its own: its cost is its own.
    assert_eq!(status["runs"][0]["usage"], used(12_300, 1_200, Some(0.05), false), "{status:#}");
    assert_eq!(status["runs"][1]["usage"], used(0, 0, None, true), "its report never came: {status:#}");
    assert_eq!(status["runs"][0]["session_id"], claude::SESSION);
    assert_eq!(status["usage"], used(24_600, 2_400, Some(0.1), true));
    let list = root.json(&["list", "--json"]);
    assert_eq!(list["items"][0]["usage"], status["usage"], "{list:#}");
    assert_eq!(list["projects"], json!([{ "project_id": "p", "usage": status["usage"] }]));
    assert!(
        root.ok(&["status", "t", "--project", "p"])
            .contains("used: at least 24.6k in, 2.4k out, at least $0.10\n")
    );
    assert!(root.ok(&["list"]).contains("≥27.0k ≥$0.10"));
    let run = status["runs"][0]["run_id"].as_str().unwrap();
    let info = root.ok(&["status", run]);
    assert!(info.contains("cost_usd: 0.050000\n") && info.contains(claude::SESSION), "{info}");
    let projected = root.tree().run(&root.only_task(), &run_agent_core::RunId::parse(run).unwrap()).info();
    assert_eq!(std::fs::read_to_string(projected).unwrap().trim_end(), info, "the file says the same");
}

#[test]
fn a_run_whose_calls_fail_is_shown_retrying_until_they_are_answered() {
    let script = begins().prints(&claude::retry(3, 429, "rate_limit")).waits_for("go");
    let root = with_claude([reports(script, "the end").waits_for("over")]);
    let run = job(&root);
    let told = || root.ok(&["status", "t", "--project", "p"]);
    let words = "running (retrying 429 rate_limit, retry 3 of 10)";
    until("the retry", || told().contains(words).then_some(()), told);
    assert!(told().contains("why: run "), "{}", told());
    let row = &status(&root)["runs"][0]["retrying"];
    assert_eq!((&row["http_status"], &row["attempt"], &row["of"]), (&429.into(), &3.into(), &10.into()));
    assert_eq!(root.json(&["status", &run, "--json"])["retrying"], *row);
    assert!(root.ok(&["list"]).contains("running (retrying)"));
    let why = root.json(&["why", "t", "--project", "p", "--json"]);
    assert_eq!(why["causes"][0]["type"], "RUN_RETRYING", "{why:#}");
    root.lets("go");
    until("the answer", || (!told().contains("retrying 429")).then_some(()), told);
    assert_eq!(status(&root)["runs"][0]["retrying"], Value::Null);
    root.lets("over");
    let _ = root.run(&["wait", &run]);
}

#[test]
fn a_spent_budget_is_told_and_the_inbox_says_how_to_go_on() {
    let root = with_claude([finished("one"), finished("two"), finished("three").says_done()]);
    std::fs::write(
        root.path().join("config.hcl"),
        "limits { max_tokens = 16000 }\nloop { restart_delay = \"0s\" }\n",
    )
    .unwrap();
    assert_eq!(task(&root, &[]).code, 3);
    let status = status(&root);
    assert_eq!((&status["status"], &status["reason"]), (&"failed".into(), &"budget".into()));
    let budget = json!({ "percent": 100, "limit": "limits.max_tokens", "tokens": 27_000, "cost_usd": 0.1 });
    assert_eq!(status["budget"], budget);
    let text = root.ok(&["status", "t", "--project", "p"]);
    assert!(text.contains("budget: 100 % of limits.max_tokens used: 27.0k tokens, $0.10\n"), "{text}");
    let inbox = root.json(&["inbox", "--json"]);
    let item = &inbox["items"][0];
    assert_eq!((&inbox["total"], &item["kind"]), (&1.into(), &"limit".into()), "{inbox:#}");
    assert!(item["command"].as_str().unwrap().starts_with("run-agent resume"), "{inbox:#}");
    assert!(root.ok(&["list"]).contains("27.0k $0.10 (100 %)"));
    let why = root.json(&["why", "t", "--project", "p", "--json"]);
    assert!(why["causes"][1]["text"].as_str().unwrap().starts_with("all of the budget is used"), "{why:#}");
    let resumed = root.run(&["resume", "--project", "p", "--task", "t"]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert_eq!(root.json(&["inbox", "--json"])["total"], 0);
}

#[test]
fn a_loop_that_waits_for_a_usage_limit_says_until_when_and_needs_nobody() {
    let until_second = run_agent_core::Timestamp::now().as_second() + 7200;
    let refused = claude::refused(429, "rate_limit", "You've hit your limit");
    let root = with_claude([begins().prints(&claude::limited(until_second)).prints(&refused).exits(1)]);
    let args = ["task", "--project", "p", "--task", "t", "--agent", "claude", "--prompt", "x"];
    let mut driver = goes_on(&root, &args);
    let told = || root.run(&["status", "t", "--project", "p"]).stdout;
    let at = run_agent_core::Timestamp::from_second(until_second).unwrap();
    let words = format!("waiting (usage_limit, until {at})");
    until("the wait", || told().contains(&words).then_some(()), told);
    assert_eq!(status(&root)["until"], at.to_string());
    assert!(root.ok(&["list"]).contains(&words));
    assert_eq!(root.json(&["inbox", "--json"])["total"], 0, "it passes by itself");
    let why = root.json(&["why", "t", "--project", "p", "--json"]);
    assert!(why["causes"][0]["text"].as_str().unwrap().ends_with(&at.to_string()), "{why:#}");
    let _ = root.run(&["stop", "--project", "p", "--task", "t"]);
    driver.wait().unwrap();
}

#[test]
fn an_account_that_is_refused_stands_in_the_inbox_while_others_work() {
    let refused = claude::refused(401, "authentication_failed", "Failed to authenticate. API Error: 401");
    let root = with_claude([begins().prints(&refused).exits(1)]);
    std::fs::write(
        root.path().join("config.hcl"),
        "agents { order = [\"claude\", \"shell\"] }\nagent \"shell\" { type = \"shell\" }\n",
    )
    .unwrap();
    let args = [
        "task",
        "--project",
        "p",
        "--task",
        "t",
        "--prompt",
        "until [ -e ../go ]; do sleep 0.05; done; run-agent done",
        "--cwd",
    ];
    let folder = root.scratch().join("work");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.display().to_string();
    let mut driver = goes_on(&root, &[&args[..], &[&folder]].concat());
    let inbox = || root.run(&["inbox", "--json"]).stdout;
    let card = || {
        let inbox: Value = serde_json::from_str(&inbox()).ok()?;
        (inbox["items"][0]["kind"] == "agent").then(|| inbox["items"][0].clone())
    };
    let card = until("the card", card, inbox);
    assert_eq!((&card["agent"], &card["error_class"]), (&"claude".into(), &"auth".into()), "{card:#}");
    assert!(root.ok(&["inbox"]).contains("agent refused"));
    root.lets("go");
    driver.wait().unwrap();
    assert_eq!(root.json(&["inbox", "--json"])["total"], 0);
}

/// Recordings of whole runs, where they are beside this repository: name, program, what `output --merged` must say.
const RECORDINGS: [(&str, &str, &[&str]); 4] = [
    ("claude-tool-closed", "claude", &["> Bash"]),
    ("codex-tool-closed", "codex", &["> "]),
    ("gemini-tool2-closed", "gemini", &["> "]),
    ("opencode-tool-closed", "opencode", &["> "]),
];

#[test]
fn what_real_agents_printed_is_shown_as_text_and_their_answer_stands_last() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/rig/captures");
    for (recording, program, wanted) in RECORDINGS {
        let path = folder.join(format!("{recording}.stdout"));
        if !path.is_file() {
            eprintln!("skipped: there is no {}", path.display());
            return;
        }
        let root = Root::made();
        StandIn::of(&root, program).starts(Script::new().plays(&path)).install();
        let config = format!("agent \"{program}\" {{ model = \"xai/grok\" }}\n");
        std::fs::write(root.path().join("config.hcl"), config).unwrap();
        let answer = root.ok(&["job", "--project", "p", "--agent", program, "--prompt", "x"]);
        let name = root.only_task();
        let run = root.tree().runs(&name).unwrap()[0].to_string();
        let shown = root.ok(&["output", &run, "--merged"]);
        assert!(!shown.contains("{\"type\""), "{program}: {shown}");
        assert!(wanted.iter().all(|words| shown.contains(words)), "{program}: {shown}");
        assert!(!answer.is_empty() && shown.ends_with(&answer), "{program}: {answer}\n{shown}");
        let status = root.json(&["status", &run, "--json"]);
        assert!(status["usage"]["input_tokens"].as_u64().is_some_and(|n| n > 0), "{program}: {status:#}");
        assert!(status["session_id"].is_string(), "{program}: {status:#}");
        let costs = matches!(program, "claude" | "opencode");
        assert_eq!(status["usage"]["cost_usd"].is_number(), costs, "{program}: {status:#}");
    }
}

#[test]
fn who_watches_reads_of_retries_and_of_what_was_used() {
    let script = begins().prints(&claude::retry(3, 429, "rate_limit")).waits_for("go");
    let root = with_claude([reports(script, "the end")]);
    let run = job(&root);
    let watcher = goes_on(&root, &["watch", "t", "--project", "p"]);
    let told = || root.ok(&["status", "t", "--project", "p"]);
    until("the retry", || told().contains("retrying 429").then_some(()), told);
    root.lets("go");
    let watched = rest_of(watcher);
    assert!(watched.lines().last().is_some_and(|line| line.contains("completed")), "{watched}");
    let replayed = root.ok(&["replay", "t", "--project", "p"]);
    let short = run.splitn(3, '-').nth(2).unwrap();
    let words =
        format!("=> run {short} running (retrying 429 rate_limit, retry 3 of 10), task running (retrying)");
    assert!(replayed.contains(&words), "{replayed}");
    assert!(replayed.contains("12300 tokens in, 1200 out, $0.05"), "{replayed}");
    let changes = root.run(&["replay", "t", "--project", "p", "--json"]).stdout;
    let mut row = changes.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let last = row.rfind(|change| change["change"] == "run").unwrap();
    assert_eq!(last["usage"]["cost_usd"], 0.05, "{last:#}");
}

#[test]
fn a_budget_that_stops_what_runs_ends_its_loop() {
    let script = begins().prints(&claude::result("x", 900, 100, 0.05)).waits_for("never");
    let root = with_claude([script]);
    let config = "limits { max_tokens = 1000 }\nstop { grace = \"5s\" }\n";
    std::fs::write(root.path().join("config.hcl"), config).unwrap();
    assert_eq!(task(&root, &[]).code, 3);
    let status = status(&root);
    assert_eq!((&status["status"], &status["reason"]), (&"failed".into(), &"budget".into()), "{status:#}");
    assert_eq!(status["runs"][0]["status"], "stopped", "{status:#}");
}
