//! The readers of agents' output: no bytes make one panic; how they are cut is irrelevant; what is told at the end is the sum
//! of what was heard; everything that is shown is bounded; no limit ends later than a month from now.
//!
//! The first byte of an input names the reader, the second the size of the pieces, the third the exit; stdout follows, and
//! after a byte 0x1e stderr. Inputs are read a second time as choices of which lines of the agents' own words are made.
#![no_main]

use arbitrary::{Result, Unstructured};
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use run_agent_core::Timestamp;
use run_agent_core::event::Usd;
use run_agent_runner::agent::Stream;
use run_agent_runner::agent::stream::show::Show;
use run_agent_runner::agent::stream::{
    ARGUMENT_MAX, Before, Exit, Heard, Listener, MESSAGE_MAX, NAME_MAX, Tokens, Told, Used,
};

const KINDS: [&str; 24] = [
    "system",
    "assistant",
    "user",
    "result",
    "rate_limit_event",
    "thread.started",
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
    "response.created",
    "response.output_text.delta",
    "response.completed",
    "response.failed",
    "response.incomplete",
];

const KEYS: [&str; 48] = [
    "subtype",
    "session_id",
    "sessionID",
    "thread_id",
    "model",
    "message",
    "error",
    "is_error",
    "is_api_error_message",
    "result",
    "usage",
    "item",
    "part",
    "stats",
    "models",
    "status",
    "role",
    "content",
    "delta",
    "id",
    "tool_id",
    "tool_name",
    "parameters",
    "input",
    "command",
    "type",
    "text",
    "total_cost_usd",
    "cost",
    "model_usage_since_last_result",
    "api_error_status",
    "rate_limit_info",
    "resetsAt",
    "choices",
    "response",
    "citations",
    "search_results",
    "severity",
    "tokens",
    "cache",
    "read",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "total_tokens",
    "data",
    "state",
    "exit_code",
];

const WORDS: [&str; 22] = [
    "success",
    "error",
    "rejected",
    "assistant",
    "agent_message",
    "command_execution",
    "api_retry",
    "init",
    "text",
    "tool_use",
    "tool_result",
    "stop",
    "tool-calls",
    "Reconnecting... 2/5 (unexpected status 429 Too Many Requests)",
    "Reconnecting... waiting for network (x)",
    "You've hit your limit · resets 3pm (Europe/Berlin)",
    "You’ve hit your usage limit or try again at Nov 24th, 2026 5:31 AM.",
    "Claude AI usage limit reached|1763500000",
    "try again in 2 days 3 hours",
    "[API Error: {\\\"error\\\":{\\\"code\\\":429,\\\"message\\\":\\\"Please retry in 12.3s\\\"}}]",
    "/bin/bash -lc 'ls'",
    "",
];

const STDERR: [&str; 9] = [
    "Attempt 1 failed with status 429. Retrying with backoff... _ApiError: {\"error\":{\"code\":429}}\n",
    "Attempt 2 failed: quota. \n",
    "Suggested retry after 2s.. Retrying after 5468ms...\n",
    "thread 'main' panicked at src/main.rs:1:1:\n",
    "error: unknown option '--x'\n",
    "HTTP 200\n",
    "HTTP 503, retry-after 5\n",
    "retrying (429, rate_limit), retry 1 of 6 in 2 s: slow\n",
    "JavaScript heap out of memory",
];

fuzz_target!(|bytes: &[u8]| {
    if let [reader, size, exit, output @ ..] = bytes {
        let at = output.iter().position(|b| *b == 0x1e).unwrap_or(output.len());
        let stderr = output.get(at + 1..).unwrap_or_default();
        check(*reader, usize::from(*size) + 1, exit_of(*exit), &output[..at], stderr);
    }
    let mut u = Unstructured::new(bytes);
    let _ = written(&mut u);
});

fn exit_of(byte: u8) -> Exit {
    match byte {
        255 => Exit::Unknown,
        200..=254 => Exit::Signal(i32::from(byte - 200)),
        code => Exit::Code(i32::from(code)),
    }
}

/// What agents may print, in any combination.
fn written(u: &mut Unstructured<'_>) -> Result<()> {
    let (reader, size, exit) = (u.arbitrary()?, u.int_in_range(1..=100)?, exit_of(u.arbitrary()?));
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for _ in 0..u.int_in_range(1..=6)? {
        if reader % 8 >= 4 {
            stdout.push_str("data: ");
        }
        stdout.push_str(&format!("{{\"type\":\"{}\"", u.choose(&KINDS)?));
        fields(u, &mut stdout, 4)?;
        stdout.push_str(if u.ratio(1, 2)? { "}\n\n" } else { "}\n" });
        if u.ratio(1, 3)? {
            stderr.push_str(u.choose(&STDERR)?);
        }
    }
    check(reader, size, exit, stdout.as_bytes(), stderr.as_bytes());
    Ok(())
}

fn fields(u: &mut Unstructured<'_>, out: &mut String, depth: u32) -> Result<()> {
    for _ in 0..u.int_in_range(0..=4)? {
        out.push_str(&format!(",\"{}\":", u.choose(&KEYS)?));
        value(u, out, depth)?;
    }
    Ok(())
}

fn value(u: &mut Unstructured<'_>, out: &mut String, depth: u32) -> Result<()> {
    match u.int_in_range(0..=9)? {
        0..=2 if depth > 0 => {
            out.push_str("{\"type\":\"text\"");
            fields(u, out, depth - 1)?;
            out.push('}');
        }
        3 if depth > 0 => {
            out.push('[');
            value(u, out, depth - 1)?;
            out.push(']');
        }
        4 => out.push_str(&u.arbitrary::<i64>()?.to_string()),
        5 => out.push_str(&format!("{:e}", u.arbitrary::<f64>()?)),
        6 => out.push_str(u.choose(&["null", "true", "false"])?),
        _ => out.push_str(&format!("\"{}\"", u.choose(&WORDS)?)),
    }
    Ok(())
}

fn listener(number: u8) -> Listener {
    let tokens = Tokens { input: 9, output: 9, cached: 9, reasoning: 9 };
    let used = Used { tokens, cost: Some(Usd { micros: 9 }), ..Used::default() };
    let before = Before { session: None, used };
    let (form, before) = match number % 8 {
        0 => (Stream::Claude, Some(&before)),
        1 => (Stream::Codex, Some(&before)),
        2 => (Stream::Gemini, None),
        3 => (Stream::Opencode, None),
        4 => (Stream::Xai, None),
        5 => (Stream::Perplexity, None),
        6 => (Stream::Claude, None),
        _ => (Stream::Codex, None),
    };
    form.listener(before)
}

fn hear(number: u8, size: usize, exit: Exit, stdout: &[u8], stderr: &[u8]) -> (Vec<Heard>, Told) {
    let (mut listener, mut heard) = (listener(number), Vec::new());
    stdout.chunks(size).for_each(|bytes| listener.stdout(bytes, &mut heard));
    stderr.chunks(size).for_each(|bytes| listener.stderr(bytes, &mut heard));
    let told = listener.end(exit, &mut heard);
    (heard, told)
}

fn check(number: u8, size: usize, exit: Exit, stdout: &[u8], stderr: &[u8]) {
    let (heard, told) = hear(number, size, exit, stdout, stderr);
    // Lines of stdout and stderr without an end are read at the end: pieces of the same order, whatever their size.
    assert_eq!(hear(number, usize::MAX, exit, stdout, stderr), (heard.clone(), told.clone()));
    let (mut sum, mut show, mut shown) = (Tokens::default(), Show::default(), String::new());
    for heard in &heard {
        show.push(heard, &mut shown);
        match heard {
            Heard::Usage(used) => sum = plus(sum, used.tokens),
            Heard::Tool { id, name, argument } => {
                assert!(id.len() <= NAME_MAX && name.len() <= NAME_MAX && argument.len() <= ARGUMENT_MAX);
                assert!(!argument.contains('\n') && !name.contains('\n'));
            }
            Heard::Problem { message, .. } | Heard::Notice(message) => {
                assert!(message.len() <= MESSAGE_MAX && !message.contains('\n'));
            }
            Heard::Session(id) => assert!(!id.starts_with('-') && id.len() <= NAME_MAX),
            Heard::Retrying(retry) => assert!(retry.message.len() <= MESSAGE_MAX),
            Heard::Model(_)
            | Heard::Text { .. }
            | Heard::Thinking(_)
            | Heard::ToolEnd { .. }
            | Heard::Recovered => {}
        }
    }
    show.end(&mut shown);
    assert!(shown.is_empty() || shown.ends_with('\n'), "{shown:?}");
    assert_eq!(told.used.as_ref().map(|used| used.tokens).unwrap_or_default(), sum);
    let said: Timestamp = "2026-11-21T12:00:00Z".parse().expect("it is a time");
    let berlin = || TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").ok();
    let reset = told.failure.as_ref().and_then(|failure| failure.reset.as_ref());
    if let Some(moment) = reset.and_then(|reset| reset.moment(said, |_| berlin())) {
        assert!(moment.as_second() <= said.as_second() + 32 * 86_400, "{reset:?}");
    }
    assert!(told.answer().is_some() || !told.known);
}

fn plus(one: Tokens, other: Tokens) -> Tokens {
    Tokens {
        input: one.input.saturating_add(other.input),
        output: one.output.saturating_add(other.output),
        cached: one.cached.saturating_add(other.cached),
        reasoning: one.reasoning.saturating_add(other.reasoning),
    }
}
