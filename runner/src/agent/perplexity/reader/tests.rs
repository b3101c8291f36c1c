use super::*;
use crate::agent::stream::Exit;
use crate::agent::stream::testing::lines_of;

fn lines(body: &str) -> String {
    lines_of(PerplexityReader::default(), body, "HTTP 200\n", Exit::Code(0))
}

#[test]
fn the_sources_follow_the_text_in_the_order_of_their_numbers() {
    let body = r#"data: {"model":"sonar-pro","choices":[{"delta":{"content":"So it is [2]."}}],"citations":["https://example.org/b"],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14,"cost":{"total_cost":0.001}}}

data: {"model":"sonar-pro","choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16,"cost":{"total_cost":0.0077}},"citations":["https://example.org/b","https://example.org/a"],"search_results":[{"title":"A\n title","url":"https://example.org/a"}]}

data: [DONE]

"#;
    let wanted = "model sonar-pro\n\
        piece \"So it is [2].\"\n\
        usage sonar-pro in 12 (0 cached) out 2 (0 reasoning) cost 0.001000\n\
        usage sonar-pro in 0 (0 cached) out 2 (0 reasoning) cost 0.006700\n\
        piece \"\\n\\n## References\\n\\n1. <https://example.org/b>\\n2. A title: <https://example.org/a>\\n\"\n\
        = text \"So it is [2].\\n\\n## References\\n\\n1. <https://example.org/b>\\n2. A title: <https://example.org/a>\\n\"\n\
        = model \"sonar-pro\"\n\
        = used - in 12 (0 cached) out 4 (0 reasoning) cost 0.007700\n";
    assert_eq!(lines(body), wanted);
}

#[test]
fn search_results_alone_are_sources_and_none_makes_no_section() {
    let body = |more: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}},\"finish_reason\":\"stop\"}}]{more}}}\n\n"
        )
    };
    assert_eq!(lines(&body("")), "piece \"x\"\n= text \"x\"\n");
    let told = lines(&body(
        r#","search_results":[{"title":"B","url":"https://example.org/b"},{"title":"no address"}]"#,
    ));
    assert!(
        told.ends_with("= text \"x\\n\\n## References\\n\\n1. B: <https://example.org/b>\\n\"\n"),
        "{told}"
    );
}

#[test]
fn a_refusal_says_why() {
    let body = r#"{"error":{"message":"Invalid API key provided.","type":"invalid_api_key","code":401}}"#;
    let told = lines_of(PerplexityReader::default(), body, "HTTP 401\n", Exit::Code(1));
    assert!(told.ends_with("= failed auth: HTTP 401: Invalid API key provided.\n"), "{told}");
}

#[test]
fn halves_of_a_character_in_two_pieces_cost_no_more_than_the_character() {
    let piece = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let told = lines(&(piece(r"Hi \ud83d") + &piece(r"\ude00 there") + "data: [DONE]\n\n"));
    assert!(told.contains("= text \"Hi \u{fffd}\u{fffd} there\"\n"), "{told}");
}
