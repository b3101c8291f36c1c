//! What `opencode run --format json` prints.
//!
//! Its traps: there is no last line, so that the steps are added up; a tool is told when it has ended; that a request
//! failed and is tried again stands in its log alone, which it prints on stderr; a command that failed is a tool that
//! `completed`; and its counts leave out what was cached of the input, and what was thought of the output. It names no
//! model.

use crate::agent::stream::{
    Account, Exit, Heard, Json, Reader, Reset, Retry, Tokens, Told, Trouble, Used, class, usd,
};

/// Reads one run.
#[derive(Debug, Default)]
pub struct OpencodeReader {
    account: Account,
    /// The message that the final text is of, since it may have several parts.
    message: String,
    /// Requests that failed since the last one that was answered.
    failed: u32,
}

impl OpencodeReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn text(&mut self, part: &Json, heard: &mut Vec<Heard>) {
        let text = part.at(&["text"]).text().unwrap_or_default();
        let message = part.at(&["messageID"]).text().unwrap_or_default();
        if text.is_empty() {
            return;
        }
        if !message.is_empty() && message == self.message {
            self.account.another_part(text, heard);
        } else {
            self.account.message(text, heard);
        }
        self.message = message.to_owned();
    }

    fn tool(&mut self, part: &Json, heard: &mut Vec<Heard>) {
        let (id, state) = (part.at(&["callID"]), part.at(&["state"]));
        let name = part.at(&["tool"]).text().unwrap_or("tool");
        self.message.clear();
        self.account.tool(id, name, state.at(&["input"]), heard);
        let failed = match (state.at(&["metadata", "exit"]).number(), state.at(&["status"]).text()) {
            (_, Some("error")) => Some(true),
            (Some(code), _) => Some(code != 0.0),
            (None, Some("completed")) => Some(false),
            (None, Some(_) | None) => None,
        };
        self.account.tool_end(id, failed, heard);
    }

    fn step_end(&mut self, part: &Json, heard: &mut Vec<Heard>) {
        let count = |path: &[&str]| part.at(&["tokens"]).at(path).whole().unwrap_or(0);
        let (cached, reasoning) = (count(&["cache", "read"]), count(&["reasoning"]));
        let tokens = Tokens {
            input: count(&["input"]).saturating_add(cached).saturating_add(count(&["cache", "write"])),
            output: count(&["output"]).saturating_add(reasoning),
            cached,
            reasoning,
        };
        self.account.used(Used { model: None, tokens, cost: usd(part.at(&["cost"])) }, heard);
        // After the call of a tool there is another step.
        self.account.finished(part.at(&["reason"]).text() != Some("tool-calls"));
        self.account.forgive();
    }

    fn error(&mut self, error: &Json, heard: &mut Vec<Heard>) {
        let data = error.at(&["data"]);
        let name = error.at(&["name"]).text().unwrap_or("error");
        let body = data.at(&["responseBody"]).text().unwrap_or_default();
        let mut trouble = Trouble::said(data.at(&["message"]).words().unwrap_or(name));
        let status = data.at(&["statusCode"]).whole().and_then(|status| u16::try_from(status).ok());
        trouble.status = status.or(trouble.status);
        let after = data.at(&["responseHeaders", "retry-after"]).text();
        trouble.reset =
            after.and_then(Reset::read_retry_after).or(trouble.reset).or_else(|| Reset::read(body));
        let trouble = trouble.or_class(class::of_text(name)).or_class(class::of_text(body));
        self.account.problem(trouble, heard);
        self.account.finished(true);
    }
}

impl Reader for OpencodeReader {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        let Some(line) = Json::object(line) else { return };
        let Some(kind) = line.at(&["type"]).text() else { return };
        let part = line.at(&["part"]);
        match kind {
            "step_start" | "text" | "reasoning" | "tool_use" | "step_finish" | "error" => {
                self.account.known();
            }
            _ => return,
        }
        self.account.session(line.at(&["sessionID"]), heard);
        self.failed = 0;
        match kind {
            "step_start" => self.account.finished(false),
            "text" => self.text(part, heard),
            "reasoning" => self.account.thinking(part.at(&["text"]).text().unwrap_or_default(), heard),
            "tool_use" => self.tool(part, heard),
            "step_finish" => self.step_end(part, heard),
            _ => self.error(line.at(&["error"]), heard),
        }
    }

    fn stderr_line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        let line = String::from_utf8_lossy(line);
        let Some(said) = failed_request(&line) else { return };
        let trouble = Trouble::said(said.split_once("Error: ").map_or(said.as_str(), |(_, said)| said));
        self.failed = self.failed.saturating_add(1);
        let retry = Retry {
            class: trouble.word(),
            status: trouble.status,
            attempt: self.failed,
            of: None,
            wait: None,
            message: trouble.message,
        };
        self.account.retry(retry, heard);
    }

    fn end(&mut self, exit: Exit, stderr: &str, _: &mut Vec<Heard>) -> Told {
        self.account.end(exit, stderr)
    }
}

/// What a line of its log says of a request of the agent's own that failed; one for a title is tried once, and no matter.
fn failed_request(line: &str) -> Option<String> {
    let has = |word: &str| line.contains(word);
    if !(has(" level=ERROR ") && has(" message=\"stream error\" ") && has(" small=false ")) {
        return None;
    }
    let (_, error) = line.split_once(" error.error=")?;
    match Json::object(format!("{{\"error\":{error}}}").as_bytes()) {
        Some(json) => json.at(&["error"]).words().map(str::to_owned),
        // A single word has no quotes.
        None => Some(error.to_owned()),
    }
}

#[cfg(test)]
mod tests;
