use super::*;
use crate::agent::stream::testing::lines_of;

const INIT: &str = r#"{"type":"init","session_id":"g-1","model":"auto"}"#;

fn lines(stdout: &[&str], stderr: &str, exit: i32) -> String {
    lines_of(GeminiReader::new(), &stdout.join("\n"), stderr, Exit::Code(exit))
}

fn failed(message: &str) -> String {
    format!(
        r#"{{"type":"result","status":"error","error":{{"type":"unknown","message":"{message}"}},"stats":{{"models":{{}}}}}}"#
    )
}

#[test]
fn pieces_are_joined_with_their_blanks_and_the_last_text_counts() {
    let piece =
        |text: &str| format!(r#"{{"type":"message","role":"assistant","content":"{text}","delta":true}}"#);
    let told = lines(
        &[
            INIT,
            r#"{"type":"message","role":"user","content":"the prompt"}"#,
            &piece("I "),
            &piece("look.\\n"),
            r#"{"type":"tool_use","tool_name":"run_shell_command","tool_id":"t1","parameters":{"command":"false","description":"d"}}"#,
            r#"{"type":"tool_result","tool_id":"t1","status":"success","output":""}"#,
            r#"{"type":"tool_use","tool_name":"read_file","tool_id":"t2","parameters":{"absolute_path":"/a"}}"#,
            r#"{"type":"tool_result","tool_id":"t2","status":"error","error":{"type":"x","message":"no"}}"#,
            r#"{"type":"error","severity":"warning","message":"Loop detected, stopping execution"}"#,
            &piece("  Two "),
            &piece(" words."),
            r#"{"type":"result","status":"success","stats":{"total_tokens":30,"models":{"lite":{"total_tokens":8,"input_tokens":5,"output_tokens":3,"cached":1},"pro":{"total_tokens":22,"input_tokens":10,"output_tokens":4,"cached":2}}}}"#,
        ],
        "",
        0,
    );
    let wanted = "session g-1\n\
        piece \"I \"\n\
        piece \"look.\\n\"\n\
        tool t1 run_shell_command: false\n\
        ended t1 failed None\n\
        tool t2 read_file: /a\n\
        ended t2 failed Some(true)\n\
        notice Loop detected, stopping execution\n\
        piece \"  Two \"\n\
        piece \" words.\"\n\
        model pro\n\
        usage lite in 5 (1 cached) out 3 (0 reasoning) cost ?\n\
        usage pro in 10 (2 cached) out 12 (8 reasoning) cost ?\n\
        = text \"  Two  words.\"\n\
        = session \"g-1\"\n\
        = model \"pro\"\n\
        = used - in 15 (3 cached) out 15 (8 reasoning) cost ?\n";
    assert_eq!(told, wanted);
}

#[test]
fn errors_are_unpacked_and_classified() {
    let cases = [
        (
            r#"[API Error: {\"error\":{\"code\":401,\"message\":\"bad\",\"status\":\"UNAUTHENTICATED\"}}]"#,
            145,
            "auth: bad",
        ),
        (
            r#"[API Error: {\"error\":{\"code\":400,\"message\":\"API key not valid. Please pass a valid API key.\",\"details\":[{\"reason\":\"API_KEY_INVALID\"}]}}]"#,
            144,
            "auth: API key not valid. Please pass a valid API key.",
        ),
        (
            r#"[API Error: {\"error\":{\"code\":400,\"message\":\"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).\"}}]"#,
            144,
            "context_too_long: The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        (
            r"[API Error: You have exhausted your daily quota on this model.]\nPlease wait and try again later. To increase your limits, request a quota increase",
            173,
            "usage_limit: You have exhausted your daily quota on this model.",
        ),
        (
            r"[API Error: You have exhausted your capacity on this model. Your quota will reset after 3h49m0s.]",
            173,
            "usage_limit, over in 13740s: You have exhausted your capacity on this model. Your quota will reset after 3h49m0s.",
        ),
        (
            r"[API Error: no more]\nPlease wait and try again later. To increase your limits, request a quota increase",
            173,
            "rate_limit: no more",
        ),
        (
            r"[API Error: models/x is not found for API version v1beta]",
            1,
            "usage: models/x is not found for API version v1beta",
        ),
        (r"[API Error: terminated]", 1, "network: terminated"),
        (
            r"[API Error: exception TypeError: fetch failed sending request]",
            1,
            "network: exception TypeError: fetch failed sending request",
        ),
        (r"something new", 173, "rate_limit: something new"),
        (r"something new", 1, "unknown: something new"),
    ];
    for (message, exit, wanted) in cases {
        let told = lines(&[INIT, &failed(message)], "", exit);
        assert!(told.ends_with(&format!("= failed {wanted}\n")), "{wanted}: {told}");
    }
}

#[test]
fn a_text_that_was_cut_is_kept_beside_the_failure() {
    let told = lines(
        &[
            INIT,
            r#"{"type":"message","role":"assistant","content":"This answ","delta":true}"#,
            &failed("[API Error: terminated]"),
        ],
        "",
        1,
    );
    assert!(
        told.contains("= text \"This answ\"\n") && told.contains("= failed network: terminated\n"),
        "{told}"
    );
}

#[test]
fn stderr_tells_that_a_request_is_tried_again() {
    let stderr = "YOLO mode is enabled. All tool calls will be automatically approved.\n\
        Attempt 1 failed with status 429. Retrying with backoff... _ApiError: {\"error\":{\"code\":429,\"message\":\"too fast\",\"status\":\"RESOURCE_EXHAUSTED\"}}\n    \
        at throwErrorIfNotOK (file:///x.js:1:1) {\n  status: 429\n}\n\
        Attempt 2 failed: You exceeded your current quota. \n\
        * Quota exceeded for metric: x, limit: 2\n\
        Please retry in 2.5s.\n\
        Suggested retry after 2s.. Retrying after 5468ms...\n\
        Attempt 3 failed. Retrying with backoff... Error: exception TypeError: fetch failed sending request\n\
        Attempt 4 failed with status 503. Retrying with backoff... _ApiError: {\"error\":{\"code\":503,\"message\":\"The model is overloaded. Please try again later.\"}}\n";
    let told = lines_of(GeminiReader::new(), &format!("{INIT}\n"), stderr, Exit::Signal(15));
    let wanted = "session g-1\n\
        retrying (429, rate_limit), retry 1: too fast\n\
        retrying (rate_limit), retry 2 wait 5.468s: You exceeded your current quota. * Quota exceeded for metric: x, limit: 2 Please retry in 2.5s. Suggested retry after 2s\n\
        retrying (network), retry 3: Error: exception TypeError: fetch failed sending request\n\
        retrying (503, overloaded), retry 4: The model is overloaded. Please try again later.\n\
        = session \"g-1\"\n\
        = failed killed: ended by signal 15; it was retrying (503, overloaded), retry 4 (concluded)\n";
    assert_eq!(told, wanted);
}

#[test]
fn a_zero_after_a_signal_is_no_good_end() {
    assert!(lines(&[INIT], "", 0).contains("= failed unknown: its output ended in the middle (concluded)"));
}

#[test]
fn the_words_of_a_retry_are_bounded() {
    let stderr = format!("Attempt 1 failed: x\n{}Retrying after 5ms...\n", "more\n".repeat(RETRY_MAX));
    assert_eq!(lines_of(GeminiReader::new(), "", &stderr, Exit::Code(0)), "");
}

#[test]
fn what_it_says_before_its_stream_begins_is_classified() {
    let told = lines(
        &[],
        "Please set an Auth method in your settings.json or specify one of the following environment variables before running: GEMINI_API_KEY\n",
        41,
    );
    assert!(told.starts_with("= failed auth: Please set an Auth method"), "{told}");
    assert_eq!(lines(&[], "", 41), "= failed auth: exit code 41 (concluded)\n");
    let told = lines(&[], "Unknown arguments: such-flag, suchFlag\nUsage: gemini [options] [command]\n", 1);
    assert_eq!(told, "= failed usage: Unknown arguments: such-flag, suchFlag (concluded)\n");
}
