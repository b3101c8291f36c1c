use super::*;
use crate::agent::stream::testing::lines_of;

fn lines(stdout: &[&str], exit: i32) -> String {
    lines_of(OpencodeReader::new(), &stdout.join("\n"), "", Exit::Code(exit))
}

const START: &str =
    r#"{"type":"step_start","sessionID":"ses_1","part":{"messageID":"m1","type":"step-start"}}"#;

fn finish(reason: &str) -> String {
    format!(
        r#"{{"type":"step_finish","sessionID":"ses_1","part":{{"reason":"{reason}","tokens":{{"total":1244,"input":1000,"output":34,"reasoning":10,"cache":{{"write":5,"read":200}}}},"cost":0.002304}}}}"#
    )
}

fn text(message: &str, text: &str) -> String {
    format!(
        r#"{{"type":"text","sessionID":"ses_1","part":{{"messageID":"{message}","type":"text","text":"{text}"}}}}"#
    )
}

fn tool(id: &str, state: &str) -> String {
    format!(
        r#"{{"type":"tool_use","sessionID":"ses_1","part":{{"type":"tool","tool":"bash","callID":"{id}","state":{state}}}}}"#
    )
}

#[test]
fn the_steps_are_added_up() {
    let told = lines(
        &[
            START,
            r#"{"type":"reasoning","sessionID":"ses_1","part":{"text":"hm"}}"#,
            &text("m1", "I look."),
            &tool("c1", r#"{"status":"completed","input":{"command":"exit 3"},"metadata":{"exit":3}}"#),
            &tool("c2", r#"{"status":"error","input":{"filePath":"/a"},"error":"no such file"}"#),
            &tool("c3", r#"{"status":"completed","input":{"pattern":"x"},"metadata":{}}"#),
            &finish("tool-calls"),
            START,
            &text("m2", "One."),
            &text("m2", "Two."),
            &finish("stop"),
        ],
        0,
    );
    let usage = "usage - in 1205 (200 cached) out 44 (10 reasoning) cost 0.002304\n";
    let wanted = format!(
        "session ses_1\n\
        thinking \"hm\"\n\
        text \"I look.\"\n\
        tool c1 bash: exit 3\n\
        ended c1 failed Some(true)\n\
        tool c2 bash: /a\n\
        ended c2 failed Some(true)\n\
        tool c3 bash: x\n\
        ended c3 failed Some(false)\n\
        {usage}\
        text \"One.\"\n\
        text \"Two.\"\n\
        {usage}\
        = text \"One.\\nTwo.\"\n\
        = session \"ses_1\"\n\
        = used - in 2410 (400 cached) out 88 (20 reasoning) cost 0.004608\n"
    );
    assert_eq!(told, wanted);
}

#[test]
fn an_end_between_two_steps_is_no_good_end() {
    let told = lines(&[START, &finish("tool-calls")], 0);
    assert!(told.contains("= failed unknown: its output ended in the middle (concluded)"), "{told}");
    assert!(!lines(&[START, &finish("stop")], 0).contains("failed"));
}

#[test]
fn errors_are_classified_by_words_status_and_body() {
    let error = |name: &str, data: &str| {
        format!(r#"{{"type":"error","sessionID":"ses_1","error":{{"name":"{name}","data":{data}}}}}"#)
    };
    let cases = [
        ("APIError", r#"{"message":"no","statusCode":401,"isRetryable":false}"#, "auth: no"),
        (
            "APIError",
            r#"{"message":"slow","statusCode":429,"responseHeaders":{"retry-after":"7"},"responseBody":"{\"error\": {\"code\": \"rate_limit_exceeded\"}}"}"#,
            "rate_limit, over in 7s: slow",
        ),
        (
            "APIError",
            r#"{"message":"no","statusCode":429,"responseBody":"{\"error\":{\"type\":\"usage_limit_reached\",\"resets_in_seconds\":9568}}"}"#,
            "usage_limit, over in 9568s: no",
        ),
        (
            "APIError",
            r#"{"message":"May not: Your newly created team doesn't have any credits yet.","statusCode":403}"#,
            "usage_limit: May not: Your newly created team doesn't have any credits yet.",
        ),
        (
            "APIError",
            r#"{"message":"Client specified an invalid argument: Incorrect API key provided","statusCode":400}"#,
            "auth: Client specified an invalid argument: Incorrect API key provided",
        ),
        ("ContextOverflowError", r#"{"message":"far too much"}"#, "context_too_long: far too much"),
        ("ProviderAuthError", r#"{"providerID":"x","message":"no key"}"#, "auth: no key"),
        (
            "ProviderModelNotFoundError",
            r#"{"providerID":"x","modelID":"y"}"#,
            "usage: ProviderModelNotFoundError",
        ),
        ("UnknownError", r#"{"message":"TypeError: fetch failed"}"#, "network: TypeError: fetch failed"),
        ("UnknownError", r#"{"message":"what"}"#, "unknown: what"),
    ];
    for (name, data, wanted) in cases {
        let told = lines(&[&error(name, data), &error(name, data)], 1);
        assert!(told.ends_with(&format!("= failed {wanted}\n")), "{wanted}: {told}");
        assert_eq!(told.matches("problem ").count(), 1, "told once: {told}");
    }
}

#[test]
fn a_step_that_ends_well_after_an_error_takes_it_back() {
    let error = r#"{"type":"error","sessionID":"ses_1","error":{"name":"ContextOverflowError","data":{"message":"too long"}}}"#;
    let told = lines(&[error, START, &text("m2", "Shorter."), &finish("stop")], 0);
    assert!(told.contains("problem context_too_long: too long\n") && !told.contains("= failed"), "{told}");
}

#[test]
fn a_request_that_is_tried_again_is_told_by_the_log() {
    let log = |small, error: &str| {
        format!(
            "timestamp=2026-11-21T21:07:43.373Z level=ERROR run=6 message=\"stream error\" providerID=xai \
             session.id=ses_1 small={small} agent=build mode=primary error.error={error}\n"
        )
    };
    let stderr = [
        log(true, r#""AI_APICallError: for a title""#),
        log(false, r#""AI_APICallError: Rate limit reached \"x\"""#),
        log(
            false,
            r#""AI_APICallError: Cannot connect to API: The socket connection was closed unexpectedly.""#,
        ),
        log(false, r#""AI_APICallError: error 429""#),
        log(false, "odd"),
        "timestamp=2026 level=INFO run=6 message=loop step=0\n".to_owned(),
    ];
    let told = lines_of(OpencodeReader::new(), "", &stderr.concat(), Exit::Code(0));
    let wanted = "retrying (rate_limit), retry 1: Rate limit reached \"x\"\n\
                  retrying (network), retry 2: Cannot connect to API: The socket connection was closed unexpectedly.\n\
                  retrying (429, rate_limit), retry 3: error 429\n\
                  retrying (unknown), retry 4: odd\n";
    assert_eq!(told, wanted);
}

#[test]
fn the_request_that_it_was_at_explains_an_end_without_a_word() {
    let log = "timestamp=1 level=ERROR run=6 message=\"stream error\" small=false error.error=\"AI_APICallError: Invalid API key\"\n";
    let ended = lines_of(OpencodeReader::new(), START, &format!("{log}ended\n"), Exit::Code(1));
    assert!(
        ended.ends_with("= failed auth: ended; it was retrying (auth), retry 1 (concluded)\n"),
        "{ended}"
    );
}

#[test]
fn the_log_says_what_an_error_without_a_reason_does_not() {
    let stdout = format!(
        "{START}\n{}\n",
        r#"{"type":"error","sessionID":"ses_1","error":{"name":"UnknownError","data":{"message":"Unexpected server error. Check server logs for details."}}}"#
    );
    let stderr = "timestamp=2026-11-21T21:07:43Z level=ERROR run=6 message=failed error=\"ProviderModelNotFoundError: \
        Model not found: xai/nonesuch\\n    at get (provider.ts:9)\"\n";
    let told = lines_of(OpencodeReader::new(), &stdout, stderr, Exit::Code(1));
    assert!(
        told.ends_with("= failed usage: ProviderModelNotFoundError: Model not found: xai/nonesuch\n"),
        "{told}"
    );
}
