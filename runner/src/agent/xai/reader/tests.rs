use super::*;
use crate::agent::stream::testing::lines_of;

fn reader(status: u16, retry_after: Option<&str>) -> XaiReader {
    XaiReader::new(Head { status, retry_after: retry_after.map(str::to_owned) })
}

fn lines(body: &str) -> String {
    lines_of(reader(200, None), body, "", Exit::Code(0))
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
fn a_response_is_read() {
    let body = r#"event: response.created
data: {"type":"response.created","response":{"model":"grok-4.7"}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","delta":"Hi."}

data: {"type":"response.completed","response":{"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":2},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":10,"cost_in_usd_ticks":318319000}}}
"#;
    let wanted = "model grok-4.7\n\
        piece \"Hi.\"\n\
        usage grok-4.7 in 7 (2 cached) out 3 (1 reasoning) cost 0.031831\n\
        = text \"Hi.\"\n\
        = model \"grok-4.7\"\n\
        = used - in 7 (2 cached) out 3 (1 reasoning) cost 0.031831\n";
    assert_eq!(lines(&format!("{body}\n")), wanted);
}

#[test]
fn an_answer_that_stops_in_the_middle_was_cut() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"Half\"}}]}\n\n";
    let wanted = "piece \"Half\"\n= text \"Half\"\n= failed network: the answer was cut off (concluded)\n";
    assert_eq!(lines(body), wanted);
    assert_eq!(lines_of(reader(200, None), body, "", Exit::Code(1)), wanted);
}

#[test]
fn errors_within_the_stream_are_told() {
    let failed = r#"data: {"type":"response.failed","response":{"error":{"code":"server_error","message":"It broke."}}}"#;
    assert!(lines(&format!("{failed}\n\n")).ends_with("= failed overloaded: It broke.\n"));
    let error = r#"data: {"type":"error","code":"rate_limit_exceeded","message":"Slow down. Please try again in 2s."}"#;
    assert!(
        lines(&format!("{error}\n\n"))
            .ends_with("= failed rate_limit, over in 2s: Slow down. Please try again in 2s.\n")
    );
    let plain = r#"data: {"error":{"message":"The model is overloaded.","type":"x"}}"#;
    assert!(lines(&format!("{plain}\n\n")).ends_with("= failed overloaded: The model is overloaded.\n"));
    let half = r#"data: {"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}"#;
    assert_eq!(lines(&format!("{half}\n\n")), "notice the answer is not complete: max_output_tokens\n");
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
        let told = lines_of(reader(status, after), body, "", Exit::Code(1));
        let problem = wanted.replace(", over in 12s", "");
        assert_eq!(told, format!("problem {problem}\n= failed {wanted}\n"));
    }
}
