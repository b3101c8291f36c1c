//! What `gemini --output-format stream-json` prints.
//!
//! Its traps: text comes in pieces whose blanks matter; the result of a tool says `success` whatever happened; that a
//! request is tried again stands in stderr alone; the exit code of an API error is its HTTP status modulo 256, and that
//! of a SIGTERM is 0. The `init` line may name the model `auto`;
//! which models did the work stands in the `result` line.

use std::time::Duration;

use run_agent_core::ErrorClass;

use crate::agent::stream::{Account, Exit, Heard, Json, Reader, Retry, Tokens, Told, Trouble, Used, class};

/// A retry's words may go over several lines of stderr; no more of them than this.
const RETRY_MAX: usize = 4096;

/// Reads one run.
#[derive(Debug, Default)]
pub struct GeminiReader {
    account: Account,
    /// A retry whose words are not complete.
    retry: Option<(u32, String)>,
}

impl GeminiReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn result(&mut self, line: &Json, heard: &mut Vec<Heard>) {
        self.usage(line.at(&["stats"]), heard);
        self.account.finished(true);
        if line.at(&["status"]).text() != Some("error") {
            self.account.forgive();
            return;
        }
        let said = line.at(&["error", "message"]).text().unwrap_or("the request failed");
        let kind = line.at(&["error", "type"]).text().and_then(class::of_text);
        let mut trouble = Trouble::said(said).or_class(kind);
        // The second line is advice, the brackets are its own.
        if let Some(inner) = trouble.message.strip_prefix("[API Error: ") {
            trouble.message = inner.split(']').next().unwrap_or(inner).to_owned();
        }
        self.account.problem(trouble, heard);
    }

    /// Several models share the work of a run.
    fn usage(&mut self, stats: &Json, heard: &mut Vec<Heard>) {
        let whole = [(String::new(), stats.clone())];
        let models = stats.at(&["models"]).fields();
        let models = if models.is_empty() { &whole[..] } else { models };
        let most = models.iter().max_by_key(|(_, of)| of.at(&["output_tokens"]).whole());
        if let Some((name, _)) = most.filter(|(_, of)| of.at(&["total_tokens"]).whole().unwrap_or(0) > 0) {
            self.account.model(&Json::Text(name.clone()), heard);
        }
        for (name, of) in models {
            let count = |key| of.at(&[key]).whole().unwrap_or(0);
            let (input, said) = (count("input_tokens"), count("output_tokens"));
            // What it thought is in the total alone.
            let output = count("total_tokens").saturating_sub(input).max(said);
            let tokens = Tokens { input, output, cached: count("cached"), reasoning: output - said };
            let model = Some(name.clone()).filter(|name| !name.is_empty());
            self.account.used(Used { model, tokens, cost: None }, heard);
        }
    }

    /// `Attempt 2 failed with status 429. Retrying with backoff... <error>`, or
    /// `Attempt 2 failed: <error>. Retrying after 5468ms...`, the error of which has lines of its own.
    fn end_of_retry(&mut self, heard: &mut Vec<Heard>) {
        let Some((attempt, words)) = &self.retry else { return };
        let Some((why, how)) = words.split_once("Retrying ") else { return };
        let after = how.strip_prefix("after ").and_then(|how| how.split("ms").next()?.trim().parse().ok());
        let error = how.strip_prefix("with backoff...").filter(|error| !error.trim().is_empty());
        let trouble =
            Trouble::said(error.unwrap_or(why).trim_start_matches([':', ' ']).trim_end_matches(['.', ' ']));
        let status = trouble.status.or_else(|| class::status_in(why));
        let class = trouble.class.or_else(|| status.and_then(class::of_status));
        let retry = Retry {
            class: class.unwrap_or(ErrorClass::Network),
            status,
            attempt: *attempt,
            of: None,
            wait: after.map(Duration::from_millis),
            message: trouble.message,
        };
        self.retry = None;
        self.account.retry(retry, heard);
    }
}

impl Reader for GeminiReader {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        let Some(line) = Json::object(line) else { return };
        let Some(kind) = line.at(&["type"]).text() else { return };
        match kind {
            "init" => {
                self.account.known();
                self.account.session(line.at(&["session_id"]), heard);
                let model = line.at(&["model"]);
                if model.text() != Some("auto") {
                    self.account.model(model, heard);
                }
            }
            "message" if line.at(&["role"]).text() == Some("assistant") => {
                let text = line.at(&["content"]).text().unwrap_or_default();
                self.account.forgive();
                if line.at(&["delta"]).is(true) {
                    self.account.piece(text, heard);
                } else {
                    self.account.message(text, heard);
                }
            }
            "tool_use" => {
                let name = line.at(&["tool_name"]).text().unwrap_or("tool");
                self.account.tool(line.at(&["tool_id"]), name, line.at(&["parameters"]), heard);
            }
            "tool_result" => {
                let failed = (line.at(&["status"]).text() == Some("error")).then_some(true);
                self.account.tool_end(line.at(&["tool_id"]), failed, heard);
            }
            "error" => {
                let said = line.at(&["message"]).text().unwrap_or_default();
                if line.at(&["severity"]).text() == Some("warning") {
                    self.account.notice(said, heard);
                } else {
                    self.account.problem(Trouble::said(said), heard);
                }
            }
            "result" => {
                self.account.known();
                self.result(&line, heard);
            }
            _ => {}
        }
    }

    fn stderr_line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        let line = String::from_utf8_lossy(line);
        let begins = line.strip_prefix("Attempt ").and_then(|rest| {
            let (number, rest) = rest.split_once(" failed")?;
            Some((number.parse().ok()?, rest.to_owned()))
        });
        match (begins, &mut self.retry) {
            (Some(new), _) => self.retry = Some(new),
            (None, Some((_, words))) if words.len() + line.len() <= RETRY_MAX => {
                words.push('\n');
                words.push_str(&line);
            }
            (None, _) => self.retry = None,
        }
        self.end_of_retry(heard);
    }

    fn end(&mut self, exit: Exit, stderr: &str, _: &mut Vec<Heard>) -> Told {
        let mut told = self.account.end(exit, stderr);
        let status = match exit {
            // Of what is left of the status.
            Exit::Code(code @ 144..) => u16::try_from(code + 256).ok(),
            Exit::Code(41) => Some(401),
            Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => None,
        };
        if let (Some(failure), Some(class)) = (&mut told.failure, status.and_then(class::of_status))
            && matches!(failure.class, ErrorClass::Crash | ErrorClass::Unknown)
        {
            failure.class = class;
        }
        told
    }
}

#[cfg(test)]
mod tests;
