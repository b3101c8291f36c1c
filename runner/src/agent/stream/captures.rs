//! The readers on what the real CLIs printed, where the recordings are beside this repository.

use std::path::Path;

use run_agent_core::event::Usd;

use super::testing::{told_in_pieces, written};
use super::{Before, Exit, Reader, Tokens, Used};
use crate::agent::claude::ClaudeReader;
use crate::agent::codex::CodexReader;
use crate::agent::gemini::GeminiReader;
use crate::agent::opencode::OpencodeReader;
use crate::agent::perplexity::PerplexityReader;
use crate::agent::xai::XaiReader;

/// A recording, or none with a word about it.
fn capture(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/rig/captures").join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("skipped: there is no {}", path.display());
    }
    bytes
}

fn check<R: Reader + 'static>(name: &str, reader: impl Fn() -> R, exit: Exit, wanted: &str) {
    let Some(bytes) = capture(name) else { return };
    for size in [1, 7, 4096, bytes.len()] {
        let (heard, told) = told_in_pieces(reader(), (&bytes, b""), exit, size);
        assert_eq!(written(&heard, &told), wanted, "in pieces of {size}");
    }
}

/// What the session of the recorded run had used before.
fn before() -> Before {
    let tokens = Tokens { input: 1200, output: 34, cached: 200, reasoning: 0 };
    Before { session: None, used: Used { model: None, tokens, cost: Some(Usd { micros: 5520 }) } }
}

macro_rules! captures {
    ($($name:ident: $file:literal, $reader:expr, $exit:literal => $wanted:literal;)*) => {$(
        #[test]
        fn $name() {
            check($file, || $reader, Exit::Code($exit), $wanted);
        }
    )*};
}

captures! {
    claude_e401_closed: "claude-e401-closed.stdout", ClaudeReader::new(None), 1 => "\
        session 8510dd34-760f-4c2e-9009-405635743898\n\
        model claude-opus-5-5\n\
        retrying (401, auth), retry 1 of 10 wait 566ms: authentication_failed\n\
        retrying (401, auth), retry 2 of 10 wait 1.043s: authentication_failed\n\
        retrying (401, auth), retry 3 of 10 wait 2.116s: authentication_failed\n\
        retrying (401, auth), retry 4 of 10 wait 4.906s: authentication_failed\n\
        retrying (401, auth), retry 5 of 10 wait 9.33s: authentication_failed\n\
        retrying (401, auth), retry 6 of 10 wait 17.665s: authentication_failed\n\
        retrying (401, auth), retry 7 of 10 wait 32.1s: authentication_failed\n\
        retrying (401, auth), retry 8 of 10 wait 35.344s: authentication_failed\n\
        retrying (401, auth), retry 9 of 10 wait 37.473s: authentication_failed\n\
        retrying (401, auth), retry 10 of 10 wait 35.08s: authentication_failed\n\
        problem auth: Failed to authenticate. API Error: 401 fake-llm scripted error 401\n\
        = session \"8510dd34-760f-4c2e-9009-405635743898\"\n\
        = model \"claude-opus-5-5\"\n\
        = failed auth: Failed to authenticate. API Error: 401 fake-llm scripted error 401\n\
        ";
    claude_e429_closed: "claude-e429-closed.stdout", ClaudeReader::new(None), 1 => "\
        session fb977ac5-11a6-4dfa-acfb-6a064781ef78\n\
        model claude-opus-5-5\n\
        retrying (429, rate_limit), retry 1 of 10 wait 591ms: rate_limit\n\
        retrying (429, rate_limit), retry 2 of 10 wait 1.126s: rate_limit\n\
        retrying (429, rate_limit), retry 3 of 10 wait 2.412s: rate_limit\n\
        retrying (429, rate_limit), retry 4 of 10 wait 4.253s: rate_limit\n\
        retrying (429, rate_limit), retry 5 of 10 wait 9.318s: rate_limit\n\
        retrying (429, rate_limit), retry 6 of 10 wait 19.784s: rate_limit\n\
        retrying (429, rate_limit), retry 7 of 10 wait 39.228s: rate_limit\n\
        retrying (429, rate_limit), retry 8 of 10 wait 36.437s: rate_limit\n\
        retrying (429, rate_limit), retry 9 of 10 wait 39.32s: rate_limit\n\
        retrying (429, rate_limit), retry 10 of 10 wait 32.331s: rate_limit\n\
        problem rate_limit: API Error: Request rejected (429) · fake-llm scripted error 429\n\
        = session \"fb977ac5-11a6-4dfa-acfb-6a064781ef78\"\n\
        = model \"claude-opus-5-5\"\n\
        = failed rate_limit: API Error: Request rejected (429) · fake-llm scripted error 429\n\
        ";
    claude_e500x2_closed: "claude-e500x2-closed.stdout", ClaudeReader::new(None), 0 => "\
        session b63f372c-f821-498d-a749-8f84bf48cebd\n\
        model claude-opus-5-5\n\
        retrying (500, overloaded), retry 1 of 10 wait 527ms: server_error\n\
        retrying (500, overloaded), retry 2 of 10 wait 1.022s: server_error\n\
        recovered\n\
        text \"Recovered after two 500.\"\n\
        usage claude-opus-5-5 in 1400 (200 cached) out 34 (0 reasoning) cost 0.005520\n\
        = text \"Recovered after two 500.\"\n\
        = session \"b63f372c-f821-498d-a749-8f84bf48cebd\"\n\
        = model \"claude-opus-5-5\"\n\
        = used - in 1400 (200 cached) out 34 (0 reasoning) cost 0.005520\n\
        ";
    claude_hello_closed: "claude-hello-closed.stdout", ClaudeReader::new(None), 0 => "\
        session bdf0922d-fb2c-4821-903b-d0d6c811fc3d\n\
        model claude-opus-5-5\n\
        text \"Hello from the fake model.\"\n\
        usage claude-opus-5-5 in 1400 (200 cached) out 34 (0 reasoning) cost 0.005520\n\
        = text \"Hello from the fake model.\"\n\
        = session \"bdf0922d-fb2c-4821-903b-d0d6c811fc3d\"\n\
        = model \"claude-opus-5-5\"\n\
        = used - in 1400 (200 cached) out 34 (0 reasoning) cost 0.005520\n\
        ";
    claude_hello_resume: "claude-hello-resume.stdout", ClaudeReader::new(Some(&before())), 0 => "\
        session 11111111-2222-4333-8444-555555555555\n\
        model claude-opus-5-5\n\
        text \"second\"\n\
        usage claude-opus-5-5 in 1400 (200 cached) out 34 (0 reasoning) cost 0.005520\n\
        = text \"second\"\n\
        = session \"11111111-2222-4333-8444-555555555555\"\n\
        = model \"claude-opus-5-5\"\n\
        = used - in 1400 (200 cached) out 34 (0 reasoning) cost 0.005520\n\
        ";
    claude_tool_closed: "claude-tool-closed.stdout", ClaudeReader::new(None), 0 => "\
        session 1bea6655-d78a-4bb7-ba4f-3cbe6b9d3014\n\
        model claude-opus-5-5\n\
        tool toolu_fake_2f524660c206 Bash: touch \"$DONE\" && env | sort > \"$DONE.env\" && pwd\n\
        ended toolu_fake_2f524660c206 failed Some(false)\n\
        text \"Finished: the file is there.\"\n\
        usage claude-opus-5-5 in 2800 (400 cached) out 68 (0 reasoning) cost 0.011040\n\
        = text \"Finished: the file is there.\"\n\
        = session \"1bea6655-d78a-4bb7-ba4f-3cbe6b9d3014\"\n\
        = model \"claude-opus-5-5\"\n\
        = used - in 2800 (400 cached) out 68 (0 reasoning) cost 0.011040\n\
        ";
    claude_tool_text: "claude-tool-text.stdout", ClaudeReader::new(None), 0 => "";
    claude_tool2_closed: "claude-tool2-closed.stdout", ClaudeReader::new(None), 0 => "\
        session e01634af-0c42-4e2d-8c92-c87c2a10fa46\n\
        model claude-opus-5-5\n\
        tool toolu_fake_acf247b9fbc4 Bash: touch \"$DONE\"\n\
        ended toolu_fake_acf247b9fbc4 failed Some(false)\n\
        tool toolu_fake_825a83357741 Bash: echo second; echo on-stderr >&2; exit 3\n\
        ended toolu_fake_825a83357741 failed Some(true)\n\
        text \"Two tools ran.\"\n\
        usage claude-opus-5-5 in 4200 (600 cached) out 102 (0 reasoning) cost 0.016560\n\
        = text \"Two tools ran.\"\n\
        = session \"e01634af-0c42-4e2d-8c92-c87c2a10fa46\"\n\
        = model \"claude-opus-5-5\"\n\
        = used - in 4200 (600 cached) out 102 (0 reasoning) cost 0.016560\n\
        ";
    codex_e401_closed: "codex-e401-closed.stdout", CodexReader::new(None), 1 => "\
        session 01a1fbe0-c6b8-70a0-ac43-2b1cc059c5a3\n\
        retrying (401, auth), retry 1 of 5: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        retrying (401, auth), retry 2 of 5: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        retrying (401, auth), retry 3 of 5: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        retrying (401, auth), retry 4 of 5: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        retrying (401, auth), retry 5 of 5: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        problem auth: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        = session \"01a1fbe0-c6b8-70a0-ac43-2b1cc059c5a3\"\n\
        = failed auth: unexpected status 401 Unauthorized: fake-llm scripted error 401, url: http://127.0.0.1:44907/v1/responses\n\
        ";
    codex_e429_closed: "codex-e429-closed.stdout", CodexReader::new(None), 1 => "\
        session 01a1fbdd-2d9f-7102-9df2-e2262a260564\n\
        problem rate_limit: exceeded retry limit, last status: 429 Too Many Requests\n\
        = session \"01a1fbdd-2d9f-7102-9df2-e2262a260564\"\n\
        = failed rate_limit: exceeded retry limit, last status: 429 Too Many Requests\n\
        ";
    codex_e500x2_closed: "codex-e500x2-closed.stdout", CodexReader::new(None), 0 => "\
        session 01a1fbe1-5881-7721-b016-ff51560b1671\n\
        text \"Recovered after two 500.\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"Recovered after two 500.\"\n\
        = session \"01a1fbe1-5881-7721-b016-ff51560b1671\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        ";
    codex_hello_closed: "codex-hello-closed.stdout", CodexReader::new(None), 0 => "\
        session 01a1fbe0-218e-7eb0-9d20-4f87c89472ce\n\
        text \"Hello from the fake model.\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"Hello from the fake model.\"\n\
        = session \"01a1fbe0-218e-7eb0-9d20-4f87c89472ce\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        ";
    codex_hello_resume: "codex-hello-resume.stdout", CodexReader::new(Some(&before())), 0 => "\
        session 01a1fbe4-e6ae-7051-9e50-189bb12c816e\n\
        text \"second\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"second\"\n\
        = session \"01a1fbe4-e6ae-7051-9e50-189bb12c816e\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        ";
    codex_tool_closed: "codex-tool-closed.stdout", CodexReader::new(None), 0 => "\
        session 01a1fbe0-3fc8-7052-8ebf-58878a3adcd0\n\
        tool item_0 shell: touch \"$DONE\" && env | sort > \"$DONE.env\" && pwd\n\
        ended item_0 failed Some(false)\n\
        text \"Finished: the file is there.\"\n\
        usage - in 2400 (400 cached) out 68 (0 reasoning) cost ?\n\
        = text \"Finished: the file is there.\"\n\
        = session \"01a1fbe0-3fc8-7052-8ebf-58878a3adcd0\"\n\
        = used - in 2400 (400 cached) out 68 (0 reasoning) cost ?\n\
        ";
    codex_tool_text: "codex-tool-text.stdout", CodexReader::new(None), 0 => "";
    codex_tool2_closed: "codex-tool2-closed.stdout", CodexReader::new(None), 0 => "\
        session 01a1fbe0-6054-7330-a9fb-d12ce234171d\n\
        tool item_0 shell: touch \"$DONE\"\n\
        ended item_0 failed Some(false)\n\
        tool item_1 shell: echo second; echo on-stderr >&2; exit 3\n\
        ended item_1 failed Some(true)\n\
        text \"Two tools ran.\"\n\
        usage - in 3600 (600 cached) out 102 (0 reasoning) cost ?\n\
        = text \"Two tools ran.\"\n\
        = session \"01a1fbe0-6054-7330-a9fb-d12ce234171d\"\n\
        = used - in 3600 (600 cached) out 102 (0 reasoning) cost ?\n\
        ";
    gemini_e401_closed: "gemini-e401-closed.stdout", GeminiReader::new(), 145 => "\
        session 3407ee2e-ad1a-4df9-b2d4-2c681acb4643\n\
        problem auth: fake-llm scripted error 401\n\
        = session \"3407ee2e-ad1a-4df9-b2d4-2c681acb4643\"\n\
        = failed auth: fake-llm scripted error 401\n\
        ";
    gemini_e429_closed: "gemini-e429-closed.stdout", GeminiReader::new(), 173 => "\
        session f320194e-fcc1-4501-92b8-3f827b3f162e\n\
        problem rate_limit: fake-llm scripted error 429\n\
        = session \"f320194e-fcc1-4501-92b8-3f827b3f162e\"\n\
        = failed rate_limit: fake-llm scripted error 429\n\
        ";
    gemini_e500x2_closed: "gemini-e500x2-closed.stdout", GeminiReader::new(), 0 => "\
        session 5916d648-5a23-4860-951a-73d06a76341c\n\
        piece \"Recove\"\n\
        piece \"red af\"\n\
        piece \"ter tw\"\n\
        piece \"o 500.\"\n\
        model gemini-3.8-flash\n\
        usage gemini-3.5-flash-lite in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        usage gemini-3.8-flash in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"Recovered after two 500.\"\n\
        = session \"5916d648-5a23-4860-951a-73d06a76341c\"\n\
        = model \"gemini-3.8-flash\"\n\
        = used - in 2400 (400 cached) out 68 (0 reasoning) cost ?\n\
        ";
    gemini_hello_closed: "gemini-hello-closed.stdout", GeminiReader::new(), 0 => "\
        session 88f6d327-8950-407b-a0e4-09b3d63ca134\n\
        piece \"Hello f\"\n\
        piece \"rom the\"\n\
        piece \" fake m\"\n\
        piece \"odel.\"\n\
        model gemini-3.8-flash\n\
        usage gemini-3.5-flash-lite in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        usage gemini-3.8-flash in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"Hello from the fake model.\"\n\
        = session \"88f6d327-8950-407b-a0e4-09b3d63ca134\"\n\
        = model \"gemini-3.8-flash\"\n\
        = used - in 2400 (400 cached) out 68 (0 reasoning) cost ?\n\
        ";
    gemini_hello_resume: "gemini-hello-resume.stdout", GeminiReader::new(), 0 => "\
        session 11111111-2222-4333-8444-777777777777\n\
        piece \"se\"\n\
        piece \"co\"\n\
        piece \"nd\"\n\
        model gemini-3.8-flash\n\
        usage gemini-3.5-flash-lite in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        usage gemini-3.8-flash in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"second\"\n\
        = session \"11111111-2222-4333-8444-777777777777\"\n\
        = model \"gemini-3.8-flash\"\n\
        = used - in 2400 (400 cached) out 68 (0 reasoning) cost ?\n\
        ";
    gemini_tool_closed: "gemini-tool-closed.stdout", GeminiReader::new(), 1 => "\
        session 44113a06-2699-4a9e-bbf0-d1b8f21d83c4\n\
        problem network: exception TypeError: fetch failed sending request\n\
        = session \"44113a06-2699-4a9e-bbf0-d1b8f21d83c4\"\n\
        = failed network: exception TypeError: fetch failed sending request\n\
        ";
    gemini_tool_text: "gemini-tool-text.stdout", GeminiReader::new(), 0 => "";
    gemini_tool2_closed: "gemini-tool2-closed.stdout", GeminiReader::new(), 0 => "\
        session 483a84b7-4e86-4ab9-b19c-9bea5a8c6300\n\
        tool run_shell_command__fc13dcb7bc run_shell_command: touch \"$DONE\"\n\
        ended run_shell_command__fc13dcb7bc failed None\n\
        tool run_shell_command__fc8fb0838f run_shell_command: echo second; echo on-stderr >&2; exit 3\n\
        ended run_shell_command__fc8fb0838f failed None\n\
        piece \"Two \"\n\
        piece \"tool\"\n\
        piece \"s ra\"\n\
        piece \"n.\"\n\
        model gemini-3.8-flash\n\
        usage gemini-3.5-flash-lite in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        usage gemini-3.8-flash in 3600 (600 cached) out 102 (0 reasoning) cost ?\n\
        = text \"Two tools ran.\"\n\
        = session \"483a84b7-4e86-4ab9-b19c-9bea5a8c6300\"\n\
        = model \"gemini-3.8-flash\"\n\
        = used - in 4800 (800 cached) out 136 (0 reasoning) cost ?\n\
        ";
    opencode_e401_closed: "opencode-e401-closed.stdout", OpencodeReader::new(), 1 => "\
        session ses_e041a9104ffe3KOIdGzc7vzEa5\n\
        problem auth: fake-llm scripted error 401\n\
        = session \"ses_e041a9104ffe3KOIdGzc7vzEa5\"\n\
        = failed auth: fake-llm scripted error 401\n\
        ";
    opencode_e429_closed: "opencode-e429-closed.stdout", OpencodeReader::new(), 1 => "\
        session ses_e040ce563ffeV3v8hTJIi5HSn4\n\
        problem rate_limit: fake-llm scripted error 429\n\
        = session \"ses_e040ce563ffeV3v8hTJIi5HSn4\"\n\
        = failed rate_limit: fake-llm scripted error 429\n\
        ";
    opencode_e500x2_closed: "opencode-e500x2-closed.stdout", OpencodeReader::new(), 0 => "\
        session ses_e041892f1ffeXrbOyAsR7Yc5L8\n\
        text \"Recovered after two 500.\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        = text \"Recovered after two 500.\"\n\
        = session \"ses_e041892f1ffeXrbOyAsR7Yc5L8\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        ";
    opencode_hello_closed: "opencode-hello-closed.stdout", OpencodeReader::new(), 0 => "\
        session ses_e041d2000ffeZaUDot2NHmn56h\n\
        text \"Hello from the fake model.\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        = text \"Hello from the fake model.\"\n\
        = session \"ses_e041d2000ffeZaUDot2NHmn56h\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        ";
    opencode_hello_resume: "opencode-hello-resume.stdout", OpencodeReader::new(), 0 => "\
        session ses_e041215d8ffenWnadJ100XJaXy\n\
        text \"second\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        = text \"second\"\n\
        = session \"ses_e041215d8ffenWnadJ100XJaXy\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        ";
    opencode_tool_closed: "opencode-tool-closed.stdout", OpencodeReader::new(), 0 => "\
        session ses_e041c9d6effedD46v18CmolFp5\n\
        tool call_fake_c7e697bc88c4 bash: touch \"$DONE\" && env | sort > \"$DONE.env\" && pwd\n\
        ended call_fake_c7e697bc88c4 failed Some(false)\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        text \"Finished: the file is there.\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        = text \"Finished: the file is there.\"\n\
        = session \"ses_e041c9d6effedD46v18CmolFp5\"\n\
        = used - in 2400 (400 cached) out 68 (0 reasoning) cost 0.004608\n\
        ";
    opencode_tool_text: "opencode-tool-text.stdout", OpencodeReader::new(), 0 => "";
    opencode_tool2_closed: "opencode-tool2-closed.stdout", OpencodeReader::new(), 0 => "\
        session ses_e041c18b5ffe70K4jA8ND9EUCn\n\
        tool call_fake_f09cc521653b bash: touch \"$DONE\"\n\
        ended call_fake_f09cc521653b failed Some(false)\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        tool call_fake_a785458e1bd6 bash: echo second; echo on-stderr >&2; exit 3\n\
        ended call_fake_a785458e1bd6 failed Some(true)\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        text \"Two tools ran.\"\n\
        usage - in 1200 (200 cached) out 34 (0 reasoning) cost 0.002304\n\
        = text \"Two tools ran.\"\n\
        = session \"ses_e041c18b5ffe70K4jA8ND9EUCn\"\n\
        = used - in 3600 (600 cached) out 102 (0 reasoning) cost 0.006912\n\
        ";
    perplexity_stream: "perplexity-stream.sse", PerplexityReader::default(), 0 => "\
        model sonar-pro\n\
        piece \"Perplexi\"\n\
        piece \"ty answe\"\n\
        piece \"r with s\"\n\
        piece \"ources.\"\n\
        usage sonar-pro in 1200 (0 cached) out 34 (0 reasoning) cost 0.007700\n\
        piece \"\\n\\n## References\\n\\n1. A: <https://example.org/a>\\n2. B: <https://example.org/b>\\n\"\n\
        = text \"Perplexity answer with sources.\\n\\n## References\\n\\n1. A: <https://example.org/a>\\n2. B: <https://example.org/b>\\n\"\n\
        = model \"sonar-pro\"\n\
        = used - in 1200 (0 cached) out 34 (0 reasoning) cost 0.007700\n\
        ";
    xai_chat_stream: "xai-chat-stream.sse", XaiReader::default(), 0 => "\
        model grok-4.7\n\
        piece \"xAI\"\n\
        piece \" an\"\n\
        piece \"swe\"\n\
        piece \"r.\"\n\
        usage grok-4.7 in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        = text \"xAI answer.\"\n\
        = model \"grok-4.7\"\n\
        = used - in 1200 (200 cached) out 34 (0 reasoning) cost ?\n\
        ";
}
