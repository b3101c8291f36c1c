use super::*;
use crate::agent::stream::Exit;
use crate::agent::stream::testing::lines_of;

/// `head` as the supervisor writes it.
fn told(head: &str, body: &str, exit: i32) -> String {
    lines_of(XaiReader::default(), body, &format!("{head}\n"), Exit::Code(exit))
}

fn lines(body: &str) -> String {
    told("HTTP 200", body, 0)
}

#[test]
fn a_chat_completion_is_read_with_usage_that_grows() {
    let body = r#"data: {"model":"grok-4.7","choices":[{"delta":{"role":"assistant","content":""}}]}

data: {"model":"grok-4.7","choices":[{"delta":{"reasoning_content":"hm"}}],"usage":{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11}}

: a comment
data: {"model":"grok-4.7","choices":[{"delta":{"content":"Two "},"finish_reason":null}]}

data: {"model":"grok-4.7","choices":[{"delta":{"content":" words."},"finish_reason":"stop"}]}

data: {"model":"grok-4.7","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":34,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":20}}}

data: [DONE]

"#;
    let wanted = "model grok-4.7\n\
        thinking \"hm\"\n\
        usage grok-4.7 in 10 (0 cached) out 1 (0 reasoning) cost ?\n\
        piece \"Two \"\n\
        piece \" words.\"\n\
        usage grok-4.7 in 0 (3 cached) out 23 (20 reasoning) cost ?\n\
        = text \"Two  words.\"\n\
        = model \"grok-4.7\"\n\
        = used - in 10 (3 cached) out 24 (20 reasoning) cost ?\n";
    assert_eq!(lines(body), wanted);
    assert_eq!(lines(&body.replace('\n', "\r\n")), wanted, "with the other line ends");
}

#[test]
fn an_answer_that_stops_in_the_middle_was_cut() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"Half\"}}]}\n\n";
    let wanted = "piece \"Half\"\n= text \"Half\"\n= failed network: the answer was cut off (concluded)\n";
    assert_eq!(lines(body), wanted);
    assert_eq!(told("HTTP 200", body, 1), wanted);
}

#[test]
fn errors_within_the_stream_are_told() {
    let error = r#"data: {"type":"error","code":"rate_limit_exceeded","message":"Slow down. Please try again in 2s."}"#;
    assert!(
        lines(&format!("{error}\n\n"))
            .ends_with("= failed rate_limit, over in 2s: Slow down. Please try again in 2s.\n")
    );
    let plain = r#"data: {"error":{"message":"The model is overloaded.","type":"x"}}"#;
    assert!(lines(&format!("{plain}\n\n")).ends_with("= failed overloaded: The model is overloaded.\n"));
}

#[test]
fn a_refusal_is_classified_by_body_and_status() {
    let cases = [
        (
            401,
            None,
            r#"{"error":{"message":"bad key","type":"x","code":"invalid_api_key"}}"#,
            "auth: HTTP 401: bad key",
        ),
        (
            403,
            None,
            r#"{"code":"The caller may not","error":"Your newly created team doesn't have any credits yet."}"#,
            "usage_limit: HTTP 403: Your newly created team doesn't have any credits yet.",
        ),
        (429, Some("12"), r#"{"error":{"message":"slow"}}"#, "rate_limit, over in 12s: HTTP 429: slow"),
        (429, Some("Fri, 31 Dec"), "", "rate_limit: HTTP 429: the request was refused"),
        (
            400,
            None,
            "{\n \"error\": {\"message\": \"This model's maximum prompt length is 131072 but\"}\n}",
            "context_too_long: HTTP 400: This model's maximum prompt length is 131072 but",
        ),
        (
            404,
            None,
            r#"{"error":"The model x does not exist or you do not have access to it."}"#,
            "usage: HTTP 404: The model x does not exist or you do not have access to it.",
        ),
        (502, None, "<html>\n<b>Bad Gateway</b>", "overloaded: HTTP 502: <html> <b>Bad Gateway</b>"),
        (503, None, "", "overloaded: HTTP 503: the request was refused"),
    ];
    for (status, after, body, wanted) in cases {
        let after = after.map(|after| format!(", retry-after {after}")).unwrap_or_default();
        let told = told(&format!("HTTP {status}{after}"), body, 1);
        let problem = wanted.replace(", over in 12s", "");
        assert_eq!(told, format!("problem {problem}\n= failed {wanted}\n"));
    }
}

#[test]
fn a_refusal_in_an_answer_is_one_too() {
    let body = r#"{"error":{"message":"You exceeded your current quota, try again in 3 hours","code":"insufficient_quota"}}"#;
    let wanted = "= failed usage_limit, over in 10800s: HTTP 200: You exceeded your current quota, try again in 3 hours\n";
    assert!(lines(body).ends_with(wanted), "{}", lines(body));
    let overloaded = r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert!(lines(&format!("{overloaded}\n\n")).ends_with("= failed overloaded: Overloaded\n"));
    let html = lines("<html>\n<p>Welcome</p>\n");
    assert!(html.ends_with("= failed usage: the answer is no stream of events; check base_url\n"), "{html}");
    let whole = lines(r#"{"choices":[{"message":{"content":"x"}}]}"#);
    assert!(whole.contains("the answer is no stream of events"), "{whole}");
}

#[test]
fn an_answer_that_the_provider_ended_says_so() {
    for reason in ["length", "content_filter"] {
        let piece = |text: &str, end: &str| {
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{end}}}]}}\n\n"
            )
        };
        let end = format!("\"{reason}\"");
        let told = lines(&[piece("Half", "null"), piece("", &end), piece("", &end)].concat());
        let wanted = format!(
            "piece \"Half\"\nnotice the answer is not complete: {reason}\n= text \"Half\\n\\n[the answer is not complete: {reason}]\"\n"
        );
        assert_eq!(told, wanted);
    }
}

#[test]
fn a_mark_of_the_byte_order_costs_no_event() {
    let body = "\u{feff}data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(lines(body), "piece \"x\"\n= text \"x\"\n");
}
