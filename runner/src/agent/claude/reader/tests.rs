use super::*;
use crate::agent::stream::testing::lines_of;
use run_agent_core::event::Usd;

const INIT: &str =
    r#"{"type":"system","subtype":"init","session_id":"s-1","model":"claude-opus-5-5","tools":["Bash"]}"#;

fn lines(stdout: &[&str], exit: i32) -> String {
    lines_of(ClaudeReader::new(None), &stdout.join("\n"), "", Exit::Code(exit))
}

/// The message and the result in which an API error ends.
fn ends_with(text: &str, word: &str, status: u16, more: &str) -> [String; 2] {
    let message = format!(
        r#"{{"type":"assistant","message":{{"model":"<synthetic>","content":[{{"type":"text","text":"{text}"}}]}},"session_id":"s-1","error":"{word}","is_api_error_message":true,"api_error_status":{status}}}"#
    );
    let result = format!(
        r#"{{"session_id":"s-1","is_error":true,"subtype":"success","api_error_status":{status}{more},"result":"{text}","type":"result"}}"#
    );
    [message, result]
}

#[test]
fn a_run_with_a_tool_is_read() {
    let told = lines(
        &[
            INIT,
            r#"{"type":"assistant","message":{"model":"claude-opus-5-5","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"I look."},{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls\n-l","description":"d"}}],"usage":{"output_tokens":1}},"parent_tool_use_id":null,"session_id":"s-1"}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a helper's words"},{"type":"tool_use","id":"t2","name":"Read","input":{"file_path":"/a"}}]},"parent_tool_use_id":"t1","session_id":"s-1"}"#,
            r#"{"type":"user","message":{"content":[{"tool_use_id":"t1","type":"tool_result","content":[{"type":"text","text":"x"}],"is_error":true}]},"session_id":"s-1"}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"Done."}]},"parent_tool_use_id":null,"session_id":"s-1"}"#,
            r#"{"type":"result","subtype":"success","is_error":false,"result":"Done.","session_id":"s-1","total_cost_usd":0.5,"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"output_tokens":7,"output_tokens_details":{"thinking_tokens":3}}}"#,
        ],
        0,
    );
    let wanted = "session s-1\n\
        model claude-opus-5-5\n\
        thinking \"hm\"\n\
        text \"I look.\"\n\
        tool t1 Bash: ls -l\n\
        tool t2 Read: /a\n\
        ended t1 failed Some(true)\n\
        text \"Done.\"\n\
        usage claude-opus-5-5 in 35 (20 cached) out 7 (3 reasoning) cost 0.500000\n\
        = text \"Done.\"\n\
        = session \"s-1\"\n\
        = model \"claude-opus-5-5\"\n\
        = used - in 35 (20 cached) out 7 (3 reasoning) cost 0.500000\n";
    assert_eq!(told, wanted);
}

#[test]
fn a_success_that_is_an_error_is_an_error() {
    let [message, result] =
        ends_with("Failed to authenticate. API Error: 401 no", "authentication_failed", 401, "");
    let wanted = "session s-1\n\
        model claude-opus-5-5\n\
        problem auth: Failed to authenticate. API Error: 401 no\n\
        = session \"s-1\"\n\
        = model \"claude-opus-5-5\"\n\
        = failed auth: Failed to authenticate. API Error: 401 no\n";
    assert_eq!(lines(&[INIT, &message, &result], 1), wanted);
    assert_eq!(lines(&[INIT, &message, &result], 0), wanted, "whatever the exit code says");
}

#[test]
fn the_words_of_the_api_error_decide_its_class() {
    let cases = [
        ("Credit balance is too low", "billing_error", 400, "", "usage_limit"),
        ("There's an issue with the selected model (x).", "model_not_found", 404, "", "usage"),
        (
            "It is too much",
            "invalid_request",
            400,
            r#","terminal_reason":"prompt_too_long""#,
            "context_too_long",
        ),
        ("Something new", "rate_limit", 429, "", "rate_limit"),
        ("Something new", "something_new", 529, "", "overloaded"),
        ("Something new", "unknown", 500, r#","api_error_type":"api_error""#, "overloaded"),
        ("API Error: Request rejected (429) · no", "rate_limit", 429, "", "rate_limit"),
    ];
    for (text, word, status, more, class) in cases {
        let told = lines(
            &[INIT, &ends_with(text, word, status, more)[0], &ends_with(text, word, status, more)[1]],
            1,
        );
        assert!(told.contains(&format!("= failed {class}: {text}\n")), "{class}: {told}");
    }
}

#[test]
fn retries_are_told_while_they_happen_and_a_lost_network_has_no_status() {
    let retry = |n: u32, status: &str, word: &str| {
        format!(
            r#"{{"type":"system","subtype":"api_retry","attempt":{n},"max_retries":10,"retry_delay_ms":1500,"error_status":{status},"error":"{word}","session_id":"s-1"}}"#
        )
    };
    let message = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"Back."}]},"parent_tool_use_id":null}"#;
    let result = r#"{"type":"result","subtype":"success","is_error":false,"result":"Back."}"#;
    let stdout = [INIT, &retry(1, "null", "unknown"), &retry(2, "500", "server_error"), message, result];
    let wanted = "session s-1\n\
        model claude-opus-5-5\n\
        retrying (network), retry 1 of 10 wait 1.5s: unknown\n\
        retrying (500, overloaded), retry 2 of 10 wait 1.5s: server_error\n\
        recovered\n\
        text \"Back.\"\n\
        = text \"Back.\"\n\
        = session \"s-1\"\n\
        = model \"claude-opus-5-5\"\n";
    assert_eq!(lines(&stdout, 0), wanted);
}

#[test]
fn the_limits_own_line_has_the_time_of_its_end() {
    let event = |status: &str| {
        format!(
            r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"{status}","resetsAt":1778565600,"rateLimitType":"five_hour","overageStatus":"rejected"}}}}"#
        )
    };
    let [message, result] =
        ends_with("You've hit your limit · resets 2pm (Asia/Shanghai)", "rate_limit", 429, "");
    let told = lines(&[INIT, &event("rejected"), &message, &result], 1);
    assert!(
        told.contains("= failed usage_limit, over at 2026-05-12T06:00:00Z: You've hit your limit"),
        "{told}"
    );

    let told = lines(&[INIT, &message, &result], 1);
    assert!(
        told.contains("= failed usage_limit, over at None 14:00:00 Some(\"Asia/Shanghai\"): You've"),
        "{told}"
    );

    let [message, result] = ends_with("API Error: Request rejected (429) · later", "rate_limit", 429, "");
    let told = lines(&[INIT, &event("allowed_warning"), &message, &result], 1);
    assert!(told.contains("= failed rate_limit: API Error"), "a warning is no limit: {told}");

    let [message, result] = ends_with("Claude AI usage limit reached|1763500000", "unknown", 429, "");
    let told = lines(&[INIT, &message, &result], 1);
    assert!(told.contains("= failed usage_limit, over at 2025-11-18T21:06:40Z: "), "{told}");

    let event_first = lines(
        &[
            INIT,
            &event("rejected"),
            r#"{"type":"result","subtype":"success","is_error":false,"result":"ok"}"#,
        ],
        0,
    );
    assert!(!event_first.contains("failed"), "what went well in spite of it has not failed: {event_first}");
}

#[test]
fn the_cost_of_a_session_that_goes_on_is_what_came_on_top() {
    let result = |cost: &str, more: &str| {
        format!(
            r#"{{"type":"result","subtype":"success","is_error":false,"result":"ok","total_cost_usd":{cost},"usage":{{"input_tokens":10,"output_tokens":1}}{more}}}"#
        )
    };
    let used = Used { cost: Some(Usd { micros: 5520 }), ..Used::default() };
    let before = Before { session: Some("s-1".to_owned()), used };
    let told = |stdout: &str| lines_of(ClaudeReader::new(Some(&before)), stdout, "", Exit::Code(0));
    let older = told(&result("0.01104", ""));
    assert!(older.contains("usage - in 10 (0 cached) out 1 (0 reasoning) cost 0.005520\n"), "{older}");
    let two = told(&format!("{}\n{}", result("0.01104", ""), result("0.01204", "")));
    assert!(
        two.contains("cost 0.001000\n")
            && two.contains("= used - in 20 (0 cached) out 2 (0 reasoning) cost 0.006520"),
        "{two}"
    );
    let afresh = told(&result("0.002", ""));
    assert!(afresh.contains("cost 0.002000\n"), "a cost that is lower than before began afresh: {afresh}");
    let newer = told(&result(
        "0.02",
        r#","model_usage_since_last_result":{"m":{"inputTokens":1,"cacheReadInputTokens":2,"cacheCreationInputTokens":4,"outputTokens":8,"thinkingTokens":3,"costUSD":0.001}}"#,
    ));
    assert!(newer.contains("usage m in 7 (2 cached) out 8 (3 reasoning) cost 0.001000\n"), "{newer}");
    let named = |id: &str| told(&format!("{}\n{}", INIT.replace("s-1", id), result("0.01104", "")));
    assert!(named("s-1").contains("cost 0.005520\n"));
    assert!(named("s-2").contains("cost 0.011040\n"), "another session has cost nothing yet");
}

#[test]
fn an_end_without_a_result_is_told() {
    let said = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I begin."}]},"parent_tool_use_id":null}"#;
    let told = lines(&[INIT, said], 143);
    assert!(
        told.contains("= text \"I begin.\"\n") && told.contains("= failed killed: exit code 143 (concluded)"),
        "{told}"
    );
    let told = lines(&[INIT, said], 0);
    assert!(told.contains("= failed unknown: its output ended in the middle (concluded)"), "{told}");
}

#[test]
fn a_run_that_ended_for_another_reason_says_which() {
    let told = lines(
        &[
            INIT,
            r#"{"type":"result","subtype":"error_max_turns","is_error":true,"errors":["Reached maximum number of turns (3)"]}"#,
        ],
        1,
    );
    assert!(told.contains("= failed unknown: Reached maximum number of turns (3)\n"), "{told}");
    let told = lines(&[INIT, r#"{"type":"result","subtype":"error_during_execution"}"#], 0);
    assert!(told.contains("= failed unknown: error_during_execution\n"), "{told}");
}

#[test]
fn an_id_that_is_none_is_not_taken() {
    for id in ["--dangerous", "a b", "a/b", "", "é"] {
        let told = lines(&[&format!(r#"{{"type":"system","subtype":"x","session_id":"{id}"}}"#)], 1);
        assert!(!told.contains("session"), "{told}");
    }
}

#[test]
fn bad_flags_and_a_missing_login_are_told_by_stderr() {
    let told = |stderr: &str| lines_of(ClaudeReader::new(None), "", stderr, Exit::Code(1));
    assert_eq!(
        told("error: unknown option '--no-such-flag'\n"),
        "= failed usage: error: unknown option '--no-such-flag' (concluded)\n"
    );
    assert_eq!(
        told("Invalid API key · Please run /login\n"),
        "= failed auth: Invalid API key · Please run /login (concluded)\n"
    );
    assert_eq!(
        lines_of(ClaudeReader::new(None), "plain text\n", "", Exit::Code(0)),
        "",
        "another output is no failure"
    );
}

#[test]
fn a_result_counts_whatever_its_text_is() {
    let result = |text: &str, more: &str| {
        let line = format!(
            r#"{{"type":"result","subtype":"success","is_error":false,"result":"{text}"{more},"total_cost_usd":0.5,"usage":{{"input_tokens":10,"output_tokens":2}}}}"#
        );
        lines(&[INIT, &line], 0)
    };
    let used = "= used - in 10 (0 cached) out 2 (0 reasoning) cost 0.500000\n";
    for (text, more, wanted) in
        [(r"half \ud83d", "", "= text \"half \u{fffd}\""), ("ok", r#","x":1e999"#, "= text \"ok\"")]
    {
        let told = result(text, more);
        assert!(told.contains(wanted) && told.ends_with(used), "{told}");
    }
    let told = result(&"long ".repeat(400_000), "");
    assert!(
        told.contains("\\n\\n[cut here; agent-stdout.txt has the whole]\"\n"),
        "the text says that it was cut"
    );
    assert!(told.ends_with(used), "what stands behind it counts");
}

#[test]
fn what_others_said_on_stderr_before_is_not_why_it_ended() {
    let stderr = "hook: /bin/sh: 1: prettier: command not found\n[warn] 92% of your weekly usage limit used\nTypeError: x\n";
    let told = lines_of(ClaudeReader::new(None), INIT, stderr, Exit::Code(1));
    assert!(told.ends_with("= failed crash: TypeError: x (concluded)\n"), "{told}");
    let told = lines_of(ClaudeReader::new(None), "", "claude: command not found\n", Exit::Code(1));
    assert_eq!(told, "= failed not_found: claude: command not found (concluded)\n");
}
