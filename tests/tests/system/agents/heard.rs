//! What a stream says becomes the run's usage, session, class of error and output.

use run_agent_core::RunId;
use run_agent_core::world::RunStatus;
use run_agent_tests::stand_in::{Script, StandIn, claude};
use run_agent_tests::{Root, until};
use serde_json::json;

use super::{codex, first_run, root_with, step, told};

/// A job of one stand-in; its end, and what `output` says.
fn job(root: &Root, agent: &str, script: Script) -> (i32, String) {
    StandIn::of(root, agent).starts(script).install();
    let done = root.run(&["job", "--project", "p", "--agent", agent, "--prompt", "work"]);
    let run = first_run(root).unwrap();
    (done.code, root.ok(&["output", run.as_str()]))
}

#[test]
fn each_agents_usage_session_and_answer_are_known() {
    let gemini = [
        json!({ "type": "init", "session_id": "s-gemini", "model": "gemini-3.8-flash" }),
        json!({ "type": "message", "role": "assistant", "content": "an ", "delta": true }),
        json!({ "type": "message", "role": "assistant", "content": "answer", "delta": true }),
        json!({ "type": "result", "status": "success", "stats": { "total_tokens": 1250, "input_tokens": 1200, "output_tokens": 50, "cached": 0 } }),
    ];
    let gemini = gemini.map(|line| line.to_string()).join("\n");
    let text = json!({ "type": "text", "sessionID": "ses_1", "part": { "type": "text", "messageID": "m", "text": "an answer" } });
    let cases = [
        (
            "claude",
            format!("{}\n{}", claude::init(), claude::result("an answer", 1200, 50, 0.001)),
            claude::SESSION,
            1000,
        ),
        ("codex", codex("an answer", 1200, 50), "thread-1", 0),
        ("gemini", gemini, "s-gemini", 0),
        ("opencode", format!("{text}\n{}", step(1200, 50)), "ses_1", 1000),
    ];
    for (agent, lines, session, micros) in cases {
        let root = root_with(&[agent], "");
        assert_eq!(job(&root, agent, Script::new().prints(&lines)), (0, "an answer".to_owned()), "{agent}");
        let view = root.view(&root.only_task());
        let (id, run) = view.task().runs.iter().next().unwrap();
        let usage = (run.usage.input_tokens, run.usage.output_tokens, run.usage.cost_usd.micros);
        assert_eq!((usage, run.session_id.as_deref()), ((1200, 50, micros), Some(session)), "{agent}");
        assert_eq!((view.task().usage, run.status()), (run.usage, RunStatus::Completed), "{agent}");
        let output = std::fs::read_to_string(root.tree().run(&root.only_task(), id).output()).unwrap();
        assert_eq!(output.trim_end(), "an answer", "{agent}");
    }
}

#[test]
fn usage_and_retries_are_told_while_the_agent_works() {
    let root = root_with(&["opencode"], "");
    let log = "timestamp=2026-11-21T21:07:43.373Z level=ERROR run=6 message=\"stream error\" small=false error.error=\"AI_APICallError: Overloaded\"";
    StandIn::of(&root, "opencode")
        .starts(Script::new().prints(&step(1000, 10)).says(log).waits_for("go").prints(&step(1000, 10)))
        .install();
    let run = root.ok(&["job", "--project", "p", "--agent", "opencode", "--prompt", "work", "--detach"]);
    let heard =
        || (told(&root, "RUN_USAGE").len() == 2 && told(&root, "RUN_RETRYING").len() == 1).then_some(());
    until("usage and a retry are told", heard, || format!("{:?}", root.messages(&root.only_task())));
    assert!(root.view(&root.only_task()).task().active().next().is_some(), "it still works");
    std::fs::write(root.scratch().join("go"), "").unwrap();
    assert_eq!(root.run(&["wait", &run, "--wait", "60s"]).code, 0);
    let view = root.view(&root.only_task());
    assert_eq!((view.task().usage.input_tokens, view.task().usage.output_tokens), (2000, 20));
}

#[test]
fn an_exit_code_of_0_after_an_error_is_a_failure() {
    let root = root_with(&["claude"], "");
    let lines =
        format!("{}\n{}", claude::init(), claude::refused(401, "authentication_failed", "Invalid API key"));
    let (_, output) = job(&root, "claude", Script::new().prints(&lines).exits(0));
    let view = root.view(&root.only_task());
    let run = view.task().runs.values().next().unwrap();
    let (end, _) = run.end().unwrap();
    assert_eq!((run.status(), end.error_class.as_deref()), (RunStatus::Failed, Some("auth")), "{end:?}");
    assert_eq!((end.exit_code, output.as_str()), (Some(0), ""), "an error is no answer");
    assert_eq!(end.reason, "exit code 0: Invalid API key");
    assert_eq!(told(&root, "RUN_CRASH").len(), 1);
}

#[test]
fn a_stream_that_breaks_off_is_a_failure_whatever_the_code() {
    let root = root_with(&["claude"], "");
    let (_, output) =
        job(&root, "claude", Script::new().prints(&claude::init()).prints(&claude::text("half")));
    let view = root.view(&root.only_task());
    assert_eq!(view.task().runs.values().next().unwrap().status(), RunStatus::Failed);
    assert_eq!(output, "half", "what it had said is kept");
}

#[test]
fn a_line_of_megabytes_is_left_out_and_the_rest_is_heard() {
    let root = root_with(&["claude"], "");
    let long =
        "printf '{\"type\":\"user\",\"x\":\"'; head -c 5000000 /dev/zero | tr '\\0' x; printf '\"}\\n'";
    let script =
        Script::new().prints(&claude::init()).does(long).prints(&claude::result("after it", 7, 3, 0.0));
    assert_eq!(job(&root, "claude", script), (0, "after it".to_owned()));
    let name = root.only_task();
    assert_eq!(root.view(&name).task().usage.input_tokens, 7);
    let stdout = root.tree().run(&name, &first_run(&root).unwrap()).stdout();
    assert!(stdout.metadata().unwrap().len() > 5_000_000, "the raw stream is whole");
}

#[test]
fn the_answer_keeps_its_blanks_and_blocks_and_gives_way_to_the_agents_own_file() {
    let text = "  # x\n\n```rust\nfn main() {\n    let x =  1;\n\n}\n```\n\n- a\n  - b";
    let root = root_with(&["claude"], "");
    StandIn::of(&root, "claude")
        .starts(Script::new().prints(&claude::result(text, 1, 1, 0.0)))
        .starts(
            Script::new()
                .does("echo its own > \"$JRUN_RUN_FOLDER/output.md\"")
                .prints(&claude::result(text, 1, 1, 0.0)),
        )
        .install();
    let outputs = [1, 2].map(|_| {
        let run = root.ok(&[
            "job",
            "--project",
            "p",
            "--task",
            "task-20261121-093000-x",
            "--agent",
            "claude",
            "--prompt",
            "work",
            "--detach",
        ]);
        assert_eq!(root.run(&["wait", &run, "--wait", "60s"]).code, 0);
        let run = RunId::parse(&run).unwrap();
        std::fs::read_to_string(root.tree().run(&root.only_task(), &run).output()).unwrap()
    });
    assert_eq!(outputs[0].trim_end_matches('\n'), text);
    assert_eq!(outputs[1], "its own\n");
}

#[test]
fn a_supervisor_that_reads_a_chatty_stream_stays_small() {
    let root = root_with(&["opencode"], "");
    let text = json!({ "type": "text", "sessionID": "ses_1", "part": { "type": "text", "messageID": "mN", "text": "words ".repeat(30) } });
    let chatter = format!("awk '{{ for (i = 0; i < 50000; i++) print }}' <<'END'\n{text}\nEND");
    StandIn::of(&root, "opencode")
        .starts(Script::new().does(&chatter).prints(&step(1000, 10)).waits_for("go"))
        .install();
    let run = root.ok(&["job", "--project", "p", "--agent", "opencode", "--prompt", "work", "--detach"]);
    let run = RunId::parse(&run).unwrap();
    let name = root.only_task();
    let heard = || (root.view(&name).task().usage.input_tokens == 1000).then_some(());
    until("the stream is heard", heard, || root.run(&["status"]).stdout);
    let supervisor = root.view(&name).start_of(&run).unwrap().supervisor_pid;
    let rollup = std::fs::read_to_string(format!("/proc/{supervisor}/smaps_rollup")).unwrap();
    let written = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    let kilobytes: u64 = written.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes <= 4096, "{rollup}");
    std::fs::write(root.scratch().join("go"), "").unwrap();
    assert_eq!(root.run(&["wait", run.as_str(), "--wait", "60s"]).code, 0);
}

#[test]
fn a_conversation_is_not_taken_up_by_an_agent_of_another_kind() {
    let kind = |kind: &str| {
        format!(
            "agent \"a\" {{\n  type = \"{kind}\"\n}}\nloop {{\n  session = \"resume\"\n  max_restarts = 0\n}}\n"
        )
    };
    let root = Root::made();
    let config = root.path().join("config.hcl");
    std::fs::write(&config, kind("claude")).unwrap();
    let result = claude::result("so far", 10, 5, 0.25);
    StandIn::of(&root, "claude").starts(Script::new().prints(&claude::init()).prints(&result)).install();
    StandIn::of(&root, "codex").starts(Script::new().prints(&codex("done", 30, 2)).says_done()).install();
    let first = root.run(&["task", "--project", "p", "--agent", "a", "--prompt", "work"]);
    assert_eq!(first.code, 3, "{first:?}");
    std::fs::write(&config, kind("codex")).unwrap();
    let again = root.run(&["resume", "--task", root.only_task().task.as_str()]);
    assert_eq!(again.code, 0, "{again:?}");
    let view = root.view(&root.only_task());
    let second = view.task().runs.keys().nth(1).and_then(|run| view.start_of(run)).unwrap();
    assert!(second.commandline.contains(" exec ") && !second.commandline.contains("resume"), "{second:?}");
    assert_eq!(view.task().usage.input_tokens, 40);
}

#[test]
fn a_line_full_of_a_telling_word_holds_nobody_up() {
    let root = root_with(&["claude"], "");
    let line = "printf '{\"type\":\"result\",\"is_error\":true,\"result\":\"'; awk 'BEGIN { for (i = 0; i < 170000; i++) printf \"resets\" }'; printf '\"}\\n'";
    StandIn::of(&root, "claude")
        .starts(
            Script::new()
                .prints(&claude::init())
                .does(line)
                .prints(&claude::result("ok", 7, 2, 0.5))
                .waits_for("never"),
        )
        .install();
    let run = root.ok(&["job", "--project", "p", "--agent", "claude", "--prompt", "work", "--detach"]);
    let name = root.only_task();
    let heard = || (root.view(&name).task().usage.input_tokens == 7).then_some(());
    until("the stream is heard", heard, || root.run(&["status"]).stdout);
    let stopped = root.run(&["stop", "--task", name.task.as_str(), "--force"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let id = RunId::parse(&run).unwrap();
    assert_eq!(root.view(&name).run(&id).unwrap().status(), RunStatus::Stopped);
}
