//! What holds for every reader, whatever it reads.

use proptest::prelude::*;

use super::lines::LINE_MAX;
use super::testing::told_in_pieces;
use super::{ARGUMENT_MAX, Before, Exit, Heard, MESSAGE_MAX, Reader, TEXT_MAX, Tokens, Told, Used};
use crate::agent::claude::ClaudeReader;
use crate::agent::codex::CodexReader;
use crate::agent::gemini::GeminiReader;
use crate::agent::opencode::OpencodeReader;
use crate::agent::perplexity::PerplexityReader;
use crate::agent::xai::XaiReader;

const READERS: usize = 9;

/// Asks each reader by its number.
fn hear(reader: usize, input: (&[u8], &[u8]), exit: Exit, size: usize) -> (Vec<Heard>, Told) {
    let used = Used { tokens: Tokens { input: 9, output: 9, cached: 9, reasoning: 9 }, ..Used::default() };
    let before = Before { session: Some("text".to_owned()), used };
    // The head of an answer stands in stderr.
    let (refused, taken) = ([b"HTTP 429\n", input.1].concat(), [b"HTTP 200\n", input.1].concat());
    fn with(
        reader: impl Reader + 'static,
        input: (&[u8], &[u8]),
        exit: Exit,
        size: usize,
    ) -> (Vec<Heard>, Told) {
        told_in_pieces(reader, input, exit, size)
    }
    match reader {
        0 => with(ClaudeReader::new(Some(&before)), input, exit, size),
        1 => with(CodexReader::new(Some(&before)), input, exit, size),
        2 => with(GeminiReader::new(), input, exit, size),
        3 => with(OpencodeReader::new(), input, exit, size),
        4 => with(XaiReader::default(), (input.0, &taken), exit, size),
        5 => with(PerplexityReader::default(), (input.0, &taken), exit, size),
        6 => with(XaiReader::default(), (input.0, &refused), exit, size),
        7 => with(XaiReader::default(), input, exit, size),
        _ => with(PerplexityReader::default(), input, exit, size),
    }
}

/// Values that a field may have, sensible and not.
fn value() -> impl Strategy<Value = String> {
    let words = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1e300",
        "18446744073709551615",
        "429",
        "\"\"",
        "\"text\"",
        "\"success\"",
        "\"error\"",
        "\"bash\"",
        "\"Reconnecting... 1/5 (x)\"",
        "\"Reconnecting...\"",
        "\"stop\"",
        "\"tool-calls\"",
        "\"assistant\"",
        "[]",
        "{}",
        "[{\"type\":\"text\",\"text\":\"a\"}]",
        "[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{\"command\":[1]}}]",
        "{\"type\":\"agent_message\",\"text\":\"b\",\"id\":\"i\"}",
        "{\"type\":\"command_execution\",\"id\":\"i\",\"exit_code\":1}",
        "{\"input_tokens\":18446744073709551615,\"output_tokens\":3}",
        "{\"input_tokens\":5,\"output_tokens\":3,\"cached_input_tokens\":-2}",
        "{\"content\":[{\"type\":\"text\",\"text\":\"c\"}]}",
        "{\"models\":{\"m\":{\"total_tokens\":9,\"input_tokens\":2,\"output_tokens\":1}}}",
        "{\"tokens\":{\"input\":3,\"cache\":{\"read\":4}},\"cost\":0.5,\"reason\":\"stop\"}",
        "{\"message\":\"You've hit your limit · resets 3pm (Europe/Berlin)\"}",
        "[{\"delta\":{\"content\":\"d\"},\"finish_reason\":\"stop\"}]",
    ];
    prop_oneof![8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>().prop_map(|text| format!("{text:?}"))]
}

/// Lines of the agents' own words in all combinations, and others.
fn line() -> impl Strategy<Value = String> {
    let kinds = [
        "system",
        "assistant",
        "user",
        "result",
        "rate_limit_event",
        "thread.started",
        "turn.started",
        "turn.completed",
        "turn.failed",
        "item.started",
        "item.completed",
        "error",
        "init",
        "message",
        "tool_use",
        "tool_result",
        "step_start",
        "step_finish",
        "text",
        "reasoning",
        "never heard of",
    ];
    let keys = [
        "subtype",
        "session_id",
        "sessionID",
        "thread_id",
        "model",
        "message",
        "error",
        "is_error",
        "result",
        "usage",
        "item",
        "part",
        "stats",
        "status",
        "role",
        "content",
        "delta",
        "tool_id",
        "tool_name",
        "parameters",
        "total_cost_usd",
        "model_usage_since_last_result",
        "api_error_status",
        "rate_limit_info",
        "choices",
        "citations",
        "search_results",
        "severity",
    ];
    let fields = prop::collection::vec((prop::sample::select(keys.to_vec()), value()), 0..5);
    let own =
        (prop::sample::select(kinds.to_vec()), fields, any::<bool>()).prop_map(|(kind, fields, sse)| {
            let fields: String = fields.iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
            let line = format!("{{\"type\":\"{kind}\"{fields}}}");
            if sse { format!("data: {line}\n") } else { line }
        });
    prop_oneof![
        8 => own,
        1 => any::<String>(),
        1 => Just("Attempt 1 failed: x. Retrying after 5ms...".to_owned()),
        1 => Just("data: [DONE]\n".to_owned()),
        1 => prop::sample::select(vec!["HTTP 200", "HTTP 503, retry-after 5", "failed (network): cut", "retrying (429, rate_limit), retry 1 of 6 in 2 s: slow"]).prop_map(str::to_owned),
        1 => Just(String::new())
    ]
}

fn stream() -> impl Strategy<Value = String> {
    prop::collection::vec(line(), 0..8).prop_map(|lines| lines.join("\n"))
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        Just(Exit::Code(0)),
        Just(Exit::Unknown)
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        reader in 0..READERS, stdout in prop::collection::vec(any::<u8>(), 0..300), stderr in prop::collection::vec(any::<u8>(), 0..300), exit in exit()
    ) {
        hear(reader, (&stdout, &stderr), exit, 64);
    }

    #[test]
    fn how_the_output_is_cut_is_irrelevant(reader in 0..READERS, stdout in stream(), stderr in stream(), exit in exit(), size in 1usize..40) {
        let input = (stdout.as_bytes(), stderr.as_bytes());
        prop_assert_eq!(hear(reader, input, exit, size), hear(reader, input, exit, usize::MAX));
    }

    #[test]
    fn what_is_told_at_the_end_is_the_sum_and_all_is_bounded(reader in 0..READERS, stdout in stream(), stderr in stream(), exit in exit()) {
        let (heard, told) = hear(reader, (stdout.as_bytes(), stderr.as_bytes()), exit, 4096);
        let mut sum = Tokens::default();
        for heard in &heard {
            match heard {
                Heard::Usage(used) => sum = sum.plus(used.tokens),
                Heard::Tool { argument, .. } => prop_assert!(argument.len() <= ARGUMENT_MAX && !argument.contains('\n')),
                Heard::Problem { message, .. } | Heard::Notice(message) => {
                    prop_assert!(message.len() <= MESSAGE_MAX && !message.contains('\n'));
                }
                Heard::Retrying(retry) => prop_assert!(retry.message.len() <= MESSAGE_MAX),
                Heard::Session(_) | Heard::Model(_) | Heard::Text { .. } | Heard::Thinking(_) | Heard::ToolEnd { .. } | Heard::Recovered => {}
            }
        }
        let total = told.used.as_ref().map(|used| used.tokens).unwrap_or_default();
        prop_assert_eq!(total, sum);
        prop_assert!([sum.input, sum.output].into_iter().all(|sum| sum <= heard.len() as u64 * 1_000_000_000_000), "no report uses a budget up");
        prop_assert!(told.text.as_ref().is_none_or(|text| text.len() <= TEXT_MAX + 100));
        prop_assert!(told.failure.as_ref().is_none_or(|failure| failure.message.len() <= MESSAGE_MAX));
    }

    #[test]
    fn lines_that_nobody_knows_change_nothing(
        reader in 0..4usize, lines in prop::collection::vec(line(), 0..6), at in 0usize..6,
        unknown in prop::sample::select(vec!["warning: slow", "", "{\"type\":\"never heard of\",\"x\":[1]}", "{\"type\":7}", "[]", "{", "\u{feff}", "{\"typ\":\"result\"}"])
    ) {
        let with = {
            let mut with = lines.clone();
            with.insert(at.min(lines.len()), unknown.to_owned());
            with.join("\n")
        };
        let without = lines.join("\n");
        let (heard, told) = hear(reader, (without.as_bytes(), b""), Exit::Code(0), 4096);
        prop_assert_eq!(hear(reader, (with.as_bytes(), b""), Exit::Code(0), 4096), (heard, told));
    }
}

#[test]
fn a_final_text_over_the_bound_is_cut_and_says_so() {
    let piece = format!(
        "{{\"type\":\"message\",\"role\":\"assistant\",\"delta\":true,\"content\":\"{}\"}}\n",
        "x".repeat(700_000)
    );
    let (_, told) = hear(2, (piece.repeat(2).as_bytes(), b""), Exit::Code(0), 1 << 16);
    let text = told.text.unwrap();
    assert!(text.len() < TEXT_MAX + 100 && text.ends_with("x\n\n[cut here; agent-stdout.txt has the whole]"));
}

/// What a line costs is bounded by its length: with work for each pair of its words, none of these would come to an end.
#[test]
fn a_line_full_of_telling_words_is_read_in_no_time() {
    for words in
        ["resets", "try again at ", "resets (", "limit reached|1", "429 status", "{\"error\":", "retry in 1h"]
    {
        let said = words.replace('"', "\\\"").repeat((LINE_MAX - 200) / (words.len() + 4));
        let lines = [
            (0, format!("{{\"type\":\"result\",\"is_error\":true,\"result\":\"{said}\"}}")),
            (1, format!("{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{said}\"}}}}")),
            (2, format!("{{\"type\":\"error\",\"message\":\"{said}\"}}")),
            (3, format!("{{\"type\":\"error\",\"error\":{{\"data\":{{\"responseBody\":\"{said}\"}}}}}}")),
            (4, format!("data: {{\"error\":{{\"message\":\"{said}\"}}}}\n")),
        ];
        for (reader, line) in lines {
            for (stdout, stderr) in [(line.as_str(), ""), ("", said.as_str())] {
                let (_, told) = hear(reader, (stdout.as_bytes(), stderr.as_bytes()), Exit::Code(1), 1 << 16);
                assert!(told.failure.is_some(), "{reader}: {words}");
            }
        }
    }
}
