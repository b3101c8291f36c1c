//! What `claude -p --output-format stream-json --verbose` prints.
//!
//! Its traps: `subtype` says `success` when the API failed, `is_error` tells; the tokens of its messages are
//! placeholders, the `result` line counts; what that line says of costs goes on where the session before it ended; an
//! API error comes as a message of a model `<synthetic>`.

use std::time::Duration;

use run_agent_core::ErrorClass;
use run_agent_core::event::Usd;

use crate::agent::stream::{
    Account, Before, Exit, Heard, Json, Reader, Reset, Retry, Tokens, Told, Trouble, Used, class, usd,
};

/// Reads one run.
#[derive(Debug, Default)]
pub struct ClaudeReader {
    account: Account,
    /// What the session had cost before, as far as it was told.
    cost: Usd,
    /// The session of which that is, until the agent names its own.
    asked: Option<String>,
    /// The account's limit is reached, until then.
    limit: Option<Option<Reset>>,
}

impl ClaudeReader {
    /// `before` is what earlier runs of the session that this run continues reported together.
    #[must_use]
    pub fn new(before: Option<&Before>) -> Self {
        let before = before.cloned().unwrap_or_default();
        let cost = before.used.cost.unwrap_or_default();
        Self { cost, asked: before.session, ..Self::default() }
    }

    fn system(&mut self, line: &Json, heard: &mut Vec<Heard>) {
        match line.at(&["subtype"]).text() {
            Some("init") => self.account.model(line.at(&["model"]), heard),
            Some("api_retry") => {
                let number = |key| line.at(&[key]).whole().and_then(|n| u32::try_from(n).ok());
                let status = status(line.at(&["error_status"]));
                let word = line.at(&["error"]).text().unwrap_or_default();
                let class = status.and_then(class::of_status).or_else(|| of_word(word));
                let retry = Retry {
                    // Without an answer there is no status: the provider was not reached.
                    class: class.unwrap_or(ErrorClass::Network),
                    status,
                    attempt: number("attempt").unwrap_or(1),
                    of: number("max_retries"),
                    wait: line.at(&["retry_delay_ms"]).whole().map(Duration::from_millis),
                    message: word.to_owned(),
                };
                self.account.retry(retry, heard);
            }
            Some(_) | None => {}
        }
    }

    fn assistant(&mut self, line: &Json, heard: &mut Vec<Heard>) {
        let blocks = line.at(&["message", "content"]).list();
        if line.at(&["is_api_error_message"]).is(true) || line.at(&["error"]).words().is_some() {
            let said: Vec<&str> = blocks.iter().filter_map(|block| block.at(&["text"]).words()).collect();
            let trouble = self.trouble(&said.join(" "), line);
            self.account.problem(trouble, heard);
            return;
        }
        // What a helper of the agent's says is for the agent.
        let own = line.at(&["parent_tool_use_id"]).is_null();
        for block in blocks {
            match block.at(&["type"]).text() {
                Some("text") if own => {
                    self.account.message(block.at(&["text"]).text().unwrap_or_default(), heard);
                }
                Some("thinking") if own => {
                    self.account.thinking(block.at(&["thinking"]).text().unwrap_or_default(), heard);
                }
                Some("tool_use" | "server_tool_use") => {
                    let name = block.at(&["name"]).text().unwrap_or("tool");
                    self.account.tool(block.at(&["id"]), name, block.at(&["input"]), heard);
                }
                Some(_) | None => {}
            }
        }
        self.account.forgive();
    }

    fn user(&mut self, line: &Json, heard: &mut Vec<Heard>) {
        for block in line.at(&["message", "content"]).list() {
            if block.at(&["type"]).text() == Some("tool_result") {
                let failed = block.at(&["is_error"]).is(true);
                self.account.tool_end(block.at(&["tool_use_id"]), Some(failed), heard);
            }
        }
    }

    fn result(&mut self, line: &Json, heard: &mut Vec<Heard>) {
        self.usage(line, heard);
        self.account.finished(true);
        let subtype = line.at(&["subtype"]).text().unwrap_or_default();
        let said = line.at(&["result"]).text().unwrap_or_default();
        if line.at(&["is_error"]).is(true) || subtype.starts_with("error") {
            let errors: Vec<&str> = line.at(&["errors"]).list().iter().filter_map(Json::words).collect();
            let said = if said.is_empty() { errors.join("; ") } else { said.to_owned() };
            let trouble = self.trouble(if said.is_empty() { subtype } else { &said }, line);
            self.account.problem(trouble, heard);
        } else {
            self.account.forgive();
            if !said.is_empty() {
                self.account.set_text(said);
            }
        }
    }

    fn usage(&mut self, line: &Json, heard: &mut Vec<Heard>) {
        let so_far = usd(line.at(&["total_cost_usd"]));
        let before = so_far.map_or(self.cost, |so_far| std::mem::replace(&mut self.cost, so_far));
        // Newer ones say themselves what came on top, for each model.
        let new = line.at(&["model_usage_since_last_result"]).fields();
        for (model, of) in new {
            let count = |key| of.at(&[key]).whole().unwrap_or(0);
            let cached = count("cacheReadInputTokens");
            let tokens = Tokens {
                input: count("inputTokens")
                    .saturating_add(cached)
                    .saturating_add(count("cacheCreationInputTokens")),
                output: count("outputTokens"),
                cached,
                reasoning: count("thinkingTokens"),
            };
            let used = Used { model: Some(model.clone()), tokens, cost: usd(of.at(&["costUSD"])) };
            self.account.used(used, heard);
        }
        if !new.is_empty() {
            return;
        }
        let count = |path: &[&str]| line.at(&["usage"]).at(path).whole().unwrap_or(0);
        let cached = count(&["cache_read_input_tokens"]);
        let tokens = Tokens {
            input: count(&["input_tokens"])
                .saturating_add(cached)
                .saturating_add(count(&["cache_creation_input_tokens"])),
            output: count(&["output_tokens"]),
            cached,
            reasoning: count(&["output_tokens_details", "thinking_tokens"]),
        };
        let cost = so_far
            .map(|so_far| Usd { micros: so_far.micros.checked_sub(before.micros).unwrap_or(so_far.micros) });
        let model = self.account.model_name().map(str::to_owned);
        self.account.used(Used { model, tokens, cost }, heard);
    }

    /// An error in a message or in the result, with what its line and the limit's own line say of it.
    fn trouble(&self, said: &str, line: &Json) -> Trouble {
        let mut trouble = Trouble::said(said);
        trouble.status = status(line.at(&["api_error_status"])).or(trouble.status);
        let word = line.at(&["error"]).text().and_then(of_word);
        let reason = line.at(&["terminal_reason"]).text().and_then(class::of_text);
        let kind = line.at(&["api_error_type"]).text().and_then(class::of_text);
        let limited = matches!(trouble.class, None | Some(ErrorClass::RateLimit | ErrorClass::UsageLimit));
        match &self.limit {
            Some(reset) if limited => {
                trouble.class = Some(ErrorClass::UsageLimit);
                trouble.reset = reset.clone().or(trouble.reset);
                trouble
            }
            Some(_) | None => trouble.or_class(reason).or_class(word).or_class(kind),
        }
    }
}

impl Reader for ClaudeReader {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        let Some(line) = Json::object(line) else { return };
        let Some(kind) = line.at(&["type"]).text() else { return };
        match kind {
            "system" | "assistant" | "user" | "result" => self.account.known(),
            _ => {}
        }
        self.account.session(line.at(&["session_id"]), heard);
        if self.account.is_another_than(&mut self.asked) {
            self.cost = Usd::default();
        }
        match kind {
            "system" => self.system(&line, heard),
            "assistant" => self.assistant(&line, heard),
            "user" => self.user(&line, heard),
            "result" => self.result(&line, heard),
            "rate_limit_event" => {
                let info = line.at(&["rate_limit_info"]);
                // Every other state is news about a limit that is not reached.
                self.limit = (info.at(&["status"]).text() == Some("rejected"))
                    .then(|| info.at(&["resetsAt"]).whole().and_then(Reset::at_second));
            }
            _ => {}
        }
    }

    fn end(&mut self, exit: Exit, stderr: &str, _: &mut Vec<Heard>) -> Told {
        self.account.end(exit, stderr)
    }
}

/// Its own words for an API error. `unknown` is one of them, and none here.
fn of_word(word: &str) -> Option<ErrorClass> {
    match word {
        "authentication_failed" | "oauth_org_not_allowed" => Some(ErrorClass::Auth),
        "billing_error" => Some(ErrorClass::UsageLimit),
        "rate_limit" => Some(ErrorClass::RateLimit),
        "overloaded" | "server_error" => Some(ErrorClass::Overloaded),
        "invalid_request" | "model_not_found" => Some(ErrorClass::Usage),
        _ => class::of_text(word),
    }
}

fn status(value: &Json) -> Option<u16> {
    value.whole().and_then(|status| u16::try_from(status).ok())
}

#[cfg(test)]
mod tests;
