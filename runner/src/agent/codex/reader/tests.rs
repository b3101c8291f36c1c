use super::*;
use crate::agent::stream::testing::lines_of;

const START: &str = r#"{"type":"thread.started","thread_id":"01a1"}"#;
const TURN: &str = r#"{"type":"turn.started"}"#;

fn lines(stdout: &[&str], exit: i32) -> String {
    lines_of(CodexReader::new(None), &stdout.join("\n"), "", Exit::Code(exit))
}

fn error(message: &str) -> String {
    format!(r#"{{"type":"error","message":"{message}"}}"#)
}

fn failed(message: &str) -> String {
    format!(r#"{{"type":"turn.failed","error":{{"message":"{message}"}}}}"#)
}

#[test]
fn all_kinds_of_items_are_read() {
    let told = lines(
        &[
            START,
            TURN,
            r#"{"type":"item.completed","item":{"id":"i0","type":"reasoning","text":"**Plan**"}}"#,
            r#"{"type":"item.started","item":{"id":"i1","type":"command_execution","command":"/bin/bash -lc 'echo a; exit 3'","aggregated_output":"","exit_code":null,"status":"in_progress"}}"#,
            r#"{"type":"item.completed","item":{"id":"i1","type":"command_execution","command":"/bin/bash -lc 'echo a; exit 3'","aggregated_output":"a\n","exit_code":3,"status":"failed"}}"#,
            r#"{"type":"item.completed","item":{"id":"i2","type":"file_change","changes":[{"path":"a.rs","kind":"add"},{"path":"b.rs","kind":"update"}],"status":"completed"}}"#,
            r#"{"type":"item.started","item":{"id":"i3","type":"mcp_tool_call","server":"s","tool":"look","arguments":{"query":"x"},"status":"in_progress"}}"#,
            r#"{"type":"item.completed","item":{"id":"i3","type":"mcp_tool_call","server":"s","tool":"look","arguments":{"query":"x"},"status":"failed"}}"#,
            r#"{"type":"item.completed","item":{"id":"i4","type":"web_search","query":"rust pipes"}}"#,
            r#"{"type":"item.started","item":{"id":"i5","type":"todo_list","items":[{"text":"a","completed":false}]}}"#,
            r#"{"type":"item.completed","item":{"id":"i6","type":"error","message":"Falling back from WebSockets"}}"#,
            r#"{"type":"item.completed","item":{"id":"i7","type":"agent_message","text":"First."}}"#,
            r#"{"type":"item.completed","item":{"id":"i8","type":"agent_message","text":"Last.\n"}}"#,
            r#"{"type":"turn.completed","usage":{"input_tokens":1200,"cached_input_tokens":200,"output_tokens":34,"reasoning_output_tokens":10}}"#,
        ],
        0,
    );
    let wanted = "session 01a1\n\
        thinking \"**Plan**\"\n\
        tool i1 shell: echo a; exit 3\n\
        ended i1 failed Some(true)\n\
        tool i2 edit: a.rs b.rs\n\
        ended i2 failed Some(false)\n\
        tool i3 look: x\n\
        ended i3 failed Some(true)\n\
        tool i4 web_search: rust pipes\n\
        ended i4 failed None\n\
        notice Falling back from WebSockets\n\
        text \"First.\"\n\
        text \"Last.\\n\"\n\
        usage - in 1200 (200 cached) out 34 (10 reasoning) cost ?\n\
        = text \"Last.\\n\"\n\
        = session \"01a1\"\n\
        = used - in 1200 (200 cached) out 34 (10 reasoning) cost ?\n";
    assert_eq!(told, wanted);
}

#[test]
fn an_error_line_is_not_the_end() {
    let cut = "stream disconnected before completion: Connection refused (os error 111)";
    let recovered = lines(
        &[
            START,
            TURN,
            &error(&format!("Reconnecting... 1/5 ({cut})")),
            &error("Reconnecting... waiting for network (Connection failed: error sending request)"),
            r#"{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"Back."}}"#,
            r#"{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}"#,
        ],
        0,
    );
    let wanted = format!(
        "session 01a1\n\
        retrying (network), retry 1 of 5: {cut}\n\
        retrying (network), retry 2: Connection failed: error sending request\n\
        recovered\n\
        text \"Back.\"\n\
        usage - in 1 (0 cached) out 1 (0 reasoning) cost ?\n\
        = text \"Back.\"\n\
        = session \"01a1\"\n\
        = used - in 1 (0 cached) out 1 (0 reasoning) cost ?\n"
    );
    assert_eq!(recovered, wanted);
    let forgiven = lines(&[START, TURN, &error("a hiccup"), r#"{"type":"turn.completed","usage":{}}"#], 0);
    assert_eq!(forgiven, "session 01a1\nproblem unknown: a hiccup\n= session \"01a1\"\n");
}

#[test]
fn a_failed_turn_is_the_end_and_told_once() {
    let cases = [
        ("exceeded retry limit, last status: 429 Too Many Requests", "rate_limit"),
        ("unexpected status 401 Unauthorized: no, url: http://127.0.0.1:1/v1/responses", "auth"),
        (
            "stream disconnected before completion: Transport error: network error: error decoding response body",
            "network",
        ),
        ("Quota exceeded. Check your plan and billing details.", "usage_limit"),
        ("Selected model is at capacity. Please try a different model.", "overloaded"),
        ("Codex ran out of room in the model's context window. Start a new thread", "context_too_long"),
        ("The model `gpt-x` does not exist or you do not have access to it.", "usage"),
        (
            "You’ve hit your usage limit. Visit https://chatgpt.com/settings/usage to purchase more credits or try again at 9:58 PM.",
            "usage_limit, over at None 21:58:00 None",
        ),
        ("You’ve hit your usage limit. Try again later.", "usage_limit"),
    ];
    for (message, class) in cases {
        let told = lines(&[START, TURN, &error(message), &failed(message)], 1);
        let word = class.split(',').next().unwrap();
        let wanted = format!(
            "session 01a1\nproblem {word}: {message}\n= session \"01a1\"\n= failed {class}: {message}\n"
        );
        assert_eq!(told, wanted);
    }
}

#[test]
fn the_usage_of_a_session_that_goes_on_is_what_came_on_top() {
    let usage = |input: u64, output: u64| {
        format!(
            r#"{{"type":"turn.completed","usage":{{"input_tokens":{input},"cached_input_tokens":200,"output_tokens":{output}}}}}"#
        )
    };
    let tokens = Tokens { input: 1200, output: 34, cached: 200, reasoning: 0 };
    let used = Used { tokens, ..Used::default() };
    let before = Before { session: Some("c-1".to_owned()), used };
    let told = |stdout: &str| lines_of(CodexReader::new(Some(&before)), stdout, "", Exit::Code(0));
    assert!(told(&usage(2400, 68)).contains("= used - in 1200 (0 cached) out 34 (0 reasoning)"));
    assert!(
        told(&format!("{}\n{}", usage(2400, 68), usage(2500, 70)))
            .contains("= used - in 1300 (0 cached) out 36")
    );
    assert!(
        told(&usage(700, 20)).contains("= used - in 700 (200 cached) out 20"),
        "a session of its own after all"
    );
    let named = |id: &str| {
        told(&format!("{{\"type\":\"thread.started\",\"thread_id\":\"{id}\"}}\n{}", usage(2400, 68)))
    };
    assert!(named("c-1").contains("= used - in 1200 (0 cached)"));
    assert!(named("c-2").contains("= used - in 2400 (200 cached)"), "another session has used nothing yet");
}

#[test]
fn a_turn_that_was_killed_has_failed() {
    assert!(
        lines(&[START, TURN], 0).contains("= failed unknown: its output ended in the middle (concluded)")
    );
    assert!(
        lines_of(CodexReader::new(None), START, "", Exit::Signal(15))
            .contains("= failed killed: ended by signal 15")
    );
    let stderr = "error: unexpected argument '--x' found\n\nUsage: codex exec [OPTIONS] [PROMPT]\n\nFor more information, try '--help'.\n";
    let told = lines_of(CodexReader::new(None), "", stderr, Exit::Code(2));
    assert_eq!(told, "= failed usage: error: unexpected argument '--x' found (concluded)\n");
}

#[test]
fn an_error_without_words_is_told_with_some() {
    let told = lines(&[START, TURN, &failed("")], 1);
    assert!(told.ends_with("= failed unknown: an error that says nothing\n"), "{told}");
    let nothing = r#"{"type":"item.completed","item":{"id":"i","type":"error","message":" "}}"#;
    assert!(!lines(&[START, nothing], 1).contains("notice"));
}

#[test]
fn only_a_shell_call_of_one_quoted_word_is_taken_off() {
    assert_eq!(without_shell("/bin/bash -lc 'ls -l'"), "ls -l");
    assert_eq!(without_shell("bash -lc ls"), "ls");
    assert_eq!(without_shell(r"/bin/bash -lc 'echo '\''a'\'''"), r"'echo '\''a'\'''");
    assert_eq!(without_shell("ls 'a'"), "ls 'a'");
}
