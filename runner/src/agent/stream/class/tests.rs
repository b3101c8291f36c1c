use jiff::Timestamp;
use jiff::tz::TimeZone;
use run_agent_core::ErrorClass::Sandbox;

use super::*;
use crate::agent::stream::Failure;

/// Texts that the CLIs print or pass on, and what each of them is.
const SAID: &[(&str, ErrorClass, &str)] = &[
    // claude
    ("claude: a window's limit", UsageLimit, "You've hit your session limit · resets 8:30pm (Asia/Tokyo)"),
    ("claude: older words", UsageLimit, "You've hit your limit · resets Jan 30, 11:30am (Asia/Calcutta)"),
    ("claude: oldest words", UsageLimit, "Claude AI usage limit reached|1763500000"),
    ("claude: a model's limit", UsageLimit, "You've hit your Opus limit · resets 2am (Europe/Berlin)"),
    ("claude: a month's limit", UsageLimit, "You've hit your monthly spend limit."),
    ("claude: extra usage", UsageLimit, "You're out of extra usage · resets 3pm (Europe/Rome)"),
    ("claude: credits", UsageLimit, "You're out of usage credits. Run /usage-credits to keep using Opus"),
    ("claude: prepaid credits", UsageLimit, "Credit balance is too low"),
    ("anthropic: prepaid credits", UsageLimit, "Your credit balance is too low to access the Anthropic API."),
    ("claude: five hours", UsageLimit, "5-hour limit reached ∙ resets 10pm"),
    (
        "claude: an API key's rate",
        RateLimit,
        "API Error: Request rejected (429) · This request would exceed your account's rate limit. Please try again later.",
    ),
    ("claude: token", Auth, "Failed to authenticate. API Error: 401 invalid x-api-key"),
    (
        "claude: no access",
        Auth,
        "Failed to authenticate. API Error: 403 Your account does not have access to Claude Code.",
    ),
    ("claude: login", Auth, "Not logged in · Please run /login"),
    ("claude: key", Auth, "Invalid API key · Fix external API key"),
    ("claude: oauth", Auth, "OAuth token has expired. Please obtain a new token"),
    ("claude: context", ContextTooLong, "Prompt is too long · the request is ~208310 tokens (limit 200000)"),
    ("anthropic: context", ContextTooLong, "prompt is too long: 208310 tokens > 200000 maximum"),
    (
        "claude: model",
        Usage,
        "There's an issue with the selected model (claude-x). It may not exist or you may not have access to it.",
    ),
    ("claude: session", Usage, "No conversation found with session ID: 1111"),
    (
        "claude: root",
        Sandbox,
        "--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons",
    ),
    (
        "claude: overloaded",
        Overloaded,
        "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
    ),
    (
        "claude: server",
        Overloaded,
        "API Error: 500 {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"Internal server error\"}}",
    ),
    ("claude: network", Network, "API Error: Unable to connect to API (ECONNREFUSED)"),
    ("opencode: closed", Network, "The socket connection was closed unexpectedly"),
    ("opencode: no connection", Network, "Cannot connect to API: Unable to connect"),
    ("claude: flag", Usage, "error: unknown option '--no-such-flag'"),
    ("claude: older words for a window", UsageLimit, "Session limit reached ∙ resets 3pm (Europe/Berlin)"),
    ("claude: a week's limit, older", UsageLimit, "Weekly limit reached ∙ resets Oct 9 at 5pm"),
    ("claude: limit reached", UsageLimit, "You've reached your Fable limit. Run /usage-credits to continue"),
    ("claude: a model for credits", UsageLimit, "Opus requires usage credits. /model to switch models."),
    // codex
    (
        "codex: limit",
        UsageLimit,
        "You’ve hit your usage limit. Visit https://chatgpt.com/settings/usage to purchase more credits or try again at 9:58 PM.",
    ),
    (
        "codex: limit, older",
        UsageLimit,
        "You've hit your usage limit. Upgrade to Pro (https://openai.com/chatgpt/pricing) or try again in 2 days 17 hours 14 minutes.",
    ),
    ("codex: limit, no time", UsageLimit, "You’ve hit your usage limit. Try again later."),
    ("codex: quota", UsageLimit, "Quota exceeded. Check your plan and billing details."),
    ("codex: workspace", UsageLimit, "Your workspace is out of credits. Add credits to continue."),
    ("codex: cap", UsageLimit, "You hit your spend cap set by the owner of your workspace."),
    (
        "openai: quota",
        UsageLimit,
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    ("openai: limit's type", UsageLimit, "usage_limit_reached"),
    ("codex: 429", RateLimit, "exceeded retry limit, last status: 429 Too Many Requests"),
    (
        "openai: tokens a minute",
        RateLimit,
        "Rate limit reached for gpt-5 in organization org-1 on tokens per min (TPM): Limit 30000. Please try again in 1.2s.",
    ),
    ("openai: requests a minute", RateLimit, "Limit 3 requests per min. Please try again in 20s."),
    ("codex: 401", Auth, "unexpected status 401 Unauthorized: bad key, url: http://127.0.0.1:1/v1/responses"),
    ("codex: no key", Auth, "Missing environment variable: `OPENAI_API_KEY`."),
    (
        "codex: context",
        ContextTooLong,
        "Codex ran out of room in the model's context window. Start a new thread or clear earlier history before retrying.",
    ),
    ("codex: prompt", ContextTooLong, "Input exceeds the maximum length of 1048576 characters."),
    ("codex: model", Usage, "The model `gpt-x` does not exist or you do not have access to it."),
    ("codex: capacity", Overloaded, "Selected model is at capacity. Please try a different model."),
    (
        "codex: demand",
        Overloaded,
        "We're currently experiencing high demand, which may cause temporary errors.",
    ),
    (
        "codex: cut",
        Network,
        "stream disconnected before completion: Transport error: network error: error decoding response body",
    ),
    ("codex: refused", Network, "stream disconnected before completion: Connection refused (os error 111)"),
    ("codex: waits", Network, "Connection failed: error sending request"),
    ("codex: trust", Sandbox, "Not inside a trusted directory and --skip-git-repo-check was not specified."),
    ("codex: sandbox", Sandbox, "sandbox denied exec error, exit code: 1, stdout: , stderr: "),
    ("codex: flag", Usage, "error: unexpected argument '--no-such-flag' found"),
    // gemini
    ("gemini: a day's quota", UsageLimit, "You have exhausted your daily quota on this model."),
    (
        "gemini: long reset",
        UsageLimit,
        "You have exhausted your capacity on this model. Your quota will reset after 3h49m0s.",
    ),
    (
        "gemini: short reset",
        RateLimit,
        "You have exhausted your capacity on this model. Your quota will reset after 5s.",
    ),
    (
        "gemini: a minute's quota",
        RateLimit,
        "You exceeded your current quota. \n* Quota exceeded for metric: x, limit: 2\nPlease retry in 2.5s.",
    ),
    (
        "gemini: a day's quota id",
        UsageLimit,
        "\"quotaId\":\"GenerateRequestsPerDayPerProjectPerModel-FreeTier\"",
    ),
    ("gemini: exhausted", RateLimit, "Resource has been exhausted (e.g. check quota)."),
    (
        "gemini: any 429",
        RateLimit,
        "[API Error: no]\nPlease wait and try again later. To increase your limits, request a quota increase through AI Studio, or switch to another /auth method",
    ),
    ("gemini: key", Auth, "API key not valid. Please pass a valid API key."),
    (
        "gemini: no key",
        Auth,
        "When using Gemini API, you must specify the GEMINI_API_KEY environment variable.",
    ),
    (
        "gemini: method",
        Auth,
        "Please set an Auth method in your settings.json or specify one of the following environment variables",
    ),
    (
        "gemini: context",
        ContextTooLong,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    ("gemini: model", Usage, "models/gemini-x is not found for API version v1beta"),
    ("gemini: overloaded", Overloaded, "The model is overloaded. Please try again later."),
    ("gemini: network", Network, "exception TypeError: fetch failed sending request"),
    ("gemini: cut", Network, "[API Error: terminated]"),
    ("gemini: trust", Sandbox, "Gemini CLI is not running in a trusted directory."),
    ("gemini: flag", Usage, "Unknown arguments: such-flag, suchFlag"),
    // opencode, xAI, Perplexity
    ("opencode: context", ContextTooLong, "ContextOverflowError"),
    ("opencode: auth", Auth, "ProviderAuthError"),
    ("opencode: model", Usage, "ProviderModelNotFoundError"),
    (
        "xai: prompt",
        ContextTooLong,
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
    ),
    ("xai: key", Auth, "Client specified an invalid argument: Incorrect API key provided: xa***."),
    (
        "xai: no credits",
        UsageLimit,
        "Your newly created team doesn't have any credits yet. You can purchase credits on https://console.x.ai.",
    ),
    (
        "openrouter: credits",
        UsageLimit,
        "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
    ),
    ("any: 402", UsageLimit, "HTTP 402: Payment Required"),
    ("openai: context", ContextTooLong, "This model's maximum context length is 128000 tokens."),
    ("bedrock: context", ContextTooLong, "Input is too long for requested model."),
    ("any: option", Usage, "node: unrecognized option '--x'"),
    ("any: key", Auth, "AI_LoadAPIKeyError: xAI API key is missing. Pass it using the 'apiKey' parameter"),
    ("any: no key", Auth, "Missing API key."),
    (
        "codex: refresh",
        Auth,
        "Your access token could not be refreshed because your refresh token was already used. Please log out and sign in again.",
    ),
    ("any: 502", Overloaded, "502 Bad Gateway"),
    ("any: 503", Overloaded, "503 Service Unavailable"),
    ("any: 504", Overloaded, "504 Gateway Timeout"),
    ("gemini: capacity", Overloaded, "Capacity exceeded for this model"),
    ("any: reset", Network, "read: Connection reset by peer (os error 104)"),
    ("claude: connection", Network, "API Error: Connection error."),
    ("any: closed", Network, "connection closed before message completed"),
    ("codex: waits for it", Network, "waiting for network"),
    ("any: time", Network, "Request timed out."),
    ("any: name", Network, "dns error: failed to lookup address information"),
    ("node: hang up", Network, "Error: socket hang up"),
    ("node: closed", Network, "SocketError: other side closed"),
    ("node: certificate", Network, "Error: self signed certificate in certificate chain"),
    ("node: certificate, newer", Network, "Error: self-signed certificate in certificate chain"),
    ("gemini: folder", Sandbox, "Cannot enable privileged approval modes in an untrusted folder."),
    ("any: value", Usage, "error: invalid value 'x' for '--color <COLOR>'"),
    ("opencode: flag", Usage, "opencode run [message..]\n\nrun opencode with a message\n\nOptions:"),
    ("opencode: no such model", Usage, "Model not found: xai/grok-9. Did you mean: grok-4?"),
    ("opencode: session", Usage, "Error: Session not found"),
    ("codex: config", Usage, "Error loading config.toml: unknown variant `x`"),
    ("deepseek: balance", UsageLimit, "Insufficient Balance"),
    (
        "xai: credits",
        UsageLimit,
        "Your team has either used all available credits or reached its monthly spending limit.",
    ),
    ("xai: too many", RateLimit, "Some resource has been exhausted: Too many requests for team."),
];

#[test]
fn each_text_is_of_its_class() {
    let wrong: Vec<String> = SAID
        .iter()
        .filter(|(_, class, text)| of_text(text) != Some(*class))
        .map(|(name, class, text)| format!("{name}: {:?}, not {class:?}: {text}", of_text(text)))
        .collect();
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn each_row_has_a_case() {
    let without: Vec<&&[&str]> = WORDS
        .iter()
        .flat_map(|(_, rows)| rows.iter())
        .filter(|words| {
            let said = SAID.iter().map(|(_, _, text)| text.to_lowercase().replace('’', "'"));
            let codes = words.iter().all(|word| word.contains(['_', '-']) || !word.contains(' '));
            !codes && !said.into_iter().any(|text| words.iter().all(|word| text.contains(word)))
        })
        .collect();
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn what_an_agent_may_say_in_passing_is_of_no_class() {
    for text in [
        "",
        "the tests fail",
        "see the 401 pages",
        "limit: 3",
        "killed the old process",
        "a permission denied",
    ] {
        assert_eq!(of_text(text), None, "{text}");
    }
}

#[test]
fn a_status_has_a_class_where_the_words_have_none() {
    let classes =
        [400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 529].map(|status| of_status(status).unwrap());
    assert_eq!(
        classes,
        [
            Usage,
            Auth,
            UsageLimit,
            Auth,
            Usage,
            Network,
            ContextTooLong,
            RateLimit,
            Overloaded,
            Overloaded,
            Overloaded,
            Overloaded
        ]
    );
    assert_eq!([200, 301, 0, 600].map(of_status), [None; 4]);
}

#[test]
fn a_status_is_read_where_it_is_named_as_one() {
    let cases = [
        ("unexpected status 401 Unauthorized", Some(401)),
        ("last status: 429 Too Many", Some(429)),
        ("API Error: 529 {", Some(529)),
        ("Request rejected (429) · no", Some(429)),
        ("{\"error\":{\"code\":503,", Some(503)),
        ("HTTP 502", Some(502)),
        ("it ended with error 429", Some(429)),
        ("errors 429", None),
        ("status 4290", None),
        ("status 200", None),
        ("a list of 429 files", None),
        ("status", None),
        ("status 42", None),
    ];
    for (text, status) in cases {
        assert_eq!(status_in(text), status, "{text}");
    }
}

#[test]
fn an_error_within_an_error_is_unpacked() {
    let text = r#"[API Error: {"error":{"message":"{\n \"error\": {\n \"code\": 429,\n \"message\": \"Resource has been exhausted (e.g. check quota).\",\n \"status\": \"RESOURCE_EXHAUSTED\"\n }\n}\n","code":429,"status":"Too Many Requests"}}]"#;
    let message = Some("Resource has been exhausted (e.g. check quota).".to_owned());
    assert_eq!(inner(text), Inner { status: Some(429), message });
    let text = r#"failed: {"code":"The caller may not","error":"No credits"}"#;
    assert_eq!(inner(text), Inner { status: None, message: Some("No credits".to_owned()) });
    assert_eq!(inner("{}"), Inner::default());
    assert_eq!(inner("} {"), Inner::default());
}

#[test]
fn without_a_word_of_the_stream_stderr_and_the_exit_decide() {
    let heap = "<--- Last few GCs --->\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory";
    let panic = "2026-11-21 ERROR failed to connect\nthread 'main' panicked at src/main.rs:1:1:\nboom";
    let cases = [
        (Exit::Code(0), "error: unknown option '--x'", None),
        (Exit::Code(1), "error: unknown option '--x'", Some(Usage)),
        (Exit::Code(2), "", Some(Crash)),
        (Exit::Code(127), "sh: 1: claude: not found", Some(NotFound)),
        (Exit::Code(127), "env: 'node': No such file or directory", Some(NotFound)),
        (Exit::Code(134), heap, Some(Oom)),
        (Exit::Signal(6), heap, Some(Oom)),
        (Exit::Signal(6), "", Some(Crash)),
        (Exit::Signal(11), "", Some(Crash)),
        (Exit::Signal(9), "Error: 429 rate limit", Some(Killed)),
        (Exit::Code(143), "", Some(Killed)),
        (Exit::Code(137), "Cannot allocate memory", Some(Oom)),
        (Exit::Code(101), panic, Some(Crash)),
        (Exit::Code(1), "you hit your head\nno limit", Some(Crash)),
        (Exit::Code(1), "Attempt 1 failed with status 429: rate limit\nError: Invalid API key", Some(Auth)),
        (Exit::Unknown, "", Some(Killed)),
        (Exit::Code(1), "Please set an Auth method in your settings.json", Some(Auth)),
    ];
    for (exit, stderr, class) in cases {
        assert_eq!(of(Evidence { exit, stderr, worked: false }), class, "{exit:?} {stderr}");
    }
}

#[test]
fn the_line_for_people_is_the_one_that_tells_why() {
    let stderr = "starting\n\u{1b}[31mError: Invalid API key\u{1b}[0m\nmore help\n\n";
    let evidence = Evidence { exit: Exit::Code(1), stderr, worked: false };
    assert_eq!(message(evidence, Auth), "Error: Invalid API key");
    assert_eq!(message(evidence, Crash), "more help");
    assert_eq!(
        message(Evidence { exit: Exit::Signal(9), stderr: "\n", worked: true }, Killed),
        "ended by signal 9"
    );
}

#[test]
fn of_an_agent_that_worked_only_the_last_words_say_why_it_ended() {
    let hook = "hook: /bin/sh: 1: prettier: command not found\n";
    let limit = "[warn] 92% of your weekly usage limit used\n";
    let trace = "    at main (file:///x.js:1:1) {\n  status: 1\n}\n\nNode.js v22.1.0\n";
    let cases = [
        (hook.to_owned(), Crash, "hook: /bin/sh: 1: prettier: command not found"),
        (format!("{hook}TypeError: x is undefined\n{trace}"), Crash, "TypeError: x is undefined"),
        (format!("401 Unauthorized fetching plugin list\n{limit}TypeError: x\n"), Crash, "TypeError: x"),
        (format!("{limit}file.js:3\nError: Invalid API key\n{trace}"), Auth, "Error: Invalid API key"),
        (
            format!(
                "{limit}FATAL ERROR: JavaScript heap out of memory\n----- Native stack trace -----\n 1: 0xb8\n"
            ),
            Oom,
            "FATAL ERROR: JavaScript heap out of memory",
        ),
        (String::new(), Crash, "exit code 127"),
    ];
    for (stderr, class, line) in cases {
        for code in [1, 127] {
            let evidence = Evidence { exit: Exit::Code(code), stderr: &stderr, worked: true };
            assert_eq!(of(evidence), Some(class), "{stderr}");
            assert!(stderr.is_empty() || message(evidence, class) == line, "{stderr}");
        }
    }
}

#[test]
fn a_rate_that_is_refused_for_hours_is_an_accounts_limit() {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let at = |class, said: &str| {
        let failure = Failure { class, reset: Reset::read(said), message: String::new(), said: true };
        let (class, over) = failure.at(now, |_| Some(TimeZone::UTC));
        (class, over.map(|over| over.duration_since(now).as_mins()))
    };
    assert_eq!(at(RateLimit, "rate limit. Please try again in 2 hours."), (UsageLimit, Some(120)));
    assert_eq!(at(RateLimit, "rate limit, try again at 3pm"), (UsageLimit, Some(180)));
    assert_eq!(at(RateLimit, "try again in 5 minutes"), (RateLimit, Some(5)));
    assert_eq!(at(RateLimit, "slow down"), (RateLimit, None));
    assert_eq!(at(Overloaded, "try again in 2 hours"), (Overloaded, Some(120)));
    assert_eq!(at(UsageLimit, "try again at 12:01"), (UsageLimit, Some(1)));
}

#[test]
fn of_a_line_of_a_log_the_error_is_told_without_what_stands_around_it() {
    let logged =
        |error: &str| format!("timestamp=2026-11-21T21:07:43Z level=ERROR run=6 message=failed {error}");
    let lines = [
        logged("cause=\"ProviderModelNotFoundError: Model not found: xai/nonesuch\" stack=\"at x\""),
        logged(
            "error=\"ProviderModelNotFoundError: Model not found: xai/nonesuch\\n    at get (provider.ts:9)\"",
        ),
    ];
    for line in lines {
        let evidence = Evidence { exit: Exit::Code(1), stderr: &line, worked: false };
        assert_eq!(
            message(evidence, Usage),
            "ProviderModelNotFoundError: Model not found: xai/nonesuch",
            "{line}"
        );
    }
    assert_eq!(
        said_in(&logged("error.error=\"AI_APICallError: it says \\\"no\\\"\"")),
        "AI_APICallError: it says \"no\""
    );
    assert_eq!(said_in("Error: Invalid \"key\""), "Error: Invalid \"key\"", "no log");
}
