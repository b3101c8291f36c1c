//! What `codex exec --json` prints.
//!
//! Its traps: an `error` line is not the end, `turn.failed` is; a request that is tried again is an `error` line whose
//! text begins with `Reconnecting...`; its usage goes on where the session before it ended; without a network it waits
//! for ever and says so in such lines. It names no model.

use run_agent_core::ErrorClass;

use crate::agent::stream::{Account, Before, Exit, Heard, Json, Reader, Retry, Tokens, Told, Trouble, Used};

/// Reads one run.
#[derive(Debug, Default)]
pub struct CodexReader {
    account: Account,
    /// What the session had used before.
    before: Tokens,
    /// The session of which that is, until the agent names its own.
    asked: Option<String>,
    attempt: u32,
}

impl CodexReader {
    /// `before` is what earlier runs of the session that this run continues reported together.
    #[must_use]
    pub fn new(before: Option<&Before>) -> Self {
        let before = before.cloned().unwrap_or_default();
        Self { before: before.used.tokens, asked: before.session, ..Self::default() }
    }

    fn item(&mut self, item: &Json, ended: bool, heard: &mut Vec<Heard>) {
        let text = item.at(&["text"]).text().unwrap_or_default();
        match item.at(&["type"]).text() {
            Some("agent_message") if ended => {
                self.account.forgive();
                self.account.message(text, heard);
            }
            Some("reasoning") if ended => self.account.thinking(text, heard),
            Some("error") if ended => {
                self.account.notice(item.at(&["message"]).text().unwrap_or_default(), heard);
            }
            Some("agent_message" | "reasoning" | "error" | "todo_list" | "plan") | None => {}
            Some(kind) => self.tool(kind, item, ended, heard),
        }
    }

    fn tool(&mut self, kind: &str, item: &Json, ended: bool, heard: &mut Vec<Heard>) {
        let id = item.at(&["id"]);
        let name = match kind {
            "command_execution" => "shell",
            "file_change" => "edit",
            "mcp_tool_call" | "collab_tool_call" => item.at(&["tool"]).text().unwrap_or(kind),
            other => other,
        };
        self.account.forgive();
        self.account.tool(id, name, &shown(kind, item), heard);
        if ended {
            let failed = match (item.at(&["exit_code"]).number(), item.at(&["status"]).text()) {
                (Some(code), _) => Some(code != 0.0),
                (None, Some(status)) => Some(matches!(status, "failed" | "declined")),
                (None, None) => None,
            };
            self.account.tool_end(id, failed, heard);
        }
    }

    fn error(&mut self, said: &str, heard: &mut Vec<Heard>) {
        let Some(rest) = said.strip_prefix("Reconnecting...") else {
            self.account.problem(Trouble::said(said), heard);
            return;
        };
        // `2/5 (why)`, or `waiting for network (why)`.
        let (which, why) = rest.split_once('(').unwrap_or((rest, rest));
        let numbers =
            which.trim().split_once('/').and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
        self.attempt = numbers.map_or(self.attempt.saturating_add(1), |(attempt, _)| attempt);
        let why = Trouble::said(why.strip_suffix(')').unwrap_or(why));
        let retry = Retry {
            class: why.class.unwrap_or(ErrorClass::Network),
            status: why.status,
            attempt: self.attempt,
            of: numbers.map(|(_, of)| of),
            wait: None,
            message: why.message,
        };
        self.account.retry(retry, heard);
    }

    fn usage(&mut self, usage: &Json, heard: &mut Vec<Heard>) {
        if usage.fields().is_empty() {
            return;
        }
        let count = |key| usage.at(&[key]).whole().unwrap_or(0);
        let tokens = Tokens {
            input: count("input_tokens"),
            output: count("output_tokens"),
            cached: count("cached_input_tokens"),
            reasoning: count("reasoning_output_tokens"),
        };
        let new = self.before.count_on(tokens);
        self.account.used(Used { tokens: new, ..Used::default() }, heard);
    }
}

impl Reader for CodexReader {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        let Some(line) = Json::object(line) else { return };
        let Some(kind) = line.at(&["type"]).text() else { return };
        if kind == "error" || ["thread.", "turn.", "item."].iter().any(|own| kind.starts_with(own)) {
            self.account.known();
        }
        match kind {
            "thread.started" => {
                self.account.session(line.at(&["thread_id"]), heard);
                if self.account.is_another_than(&mut self.asked) {
                    self.before = Tokens::default();
                }
            }
            "turn.started" => self.account.finished(false),
            "turn.completed" => {
                self.usage(line.at(&["usage"]), heard);
                self.account.forgive();
                self.account.finished(true);
            }
            "turn.failed" => {
                let said = line.at(&["error", "message"]).text().unwrap_or("the turn failed");
                self.account.problem(Trouble::said(said), heard);
                self.account.finished(true);
            }
            "item.started" | "item.updated" => self.item(line.at(&["item"]), false, heard),
            "item.completed" => self.item(line.at(&["item"]), true, heard),
            "error" => self.error(line.at(&["message"]).text().unwrap_or_default(), heard),
            _ => {}
        }
    }

    fn end(&mut self, exit: Exit, stderr: &str, _: &mut Vec<Heard>) -> Told {
        self.account.end(exit, stderr)
    }
}

/// What of an item is shown as the tool's argument.
fn shown(kind: &str, item: &Json) -> Json {
    match kind {
        "command_execution" => {
            let command = item.at(&["command"]).text().unwrap_or_default();
            Json::Text(without_shell(command).to_owned())
        }
        "file_change" => {
            let paths = item.at(&["changes"]).list().iter().filter_map(|change| change.at(&["path"]).text());
            Json::Text(paths.collect::<Vec<_>>().join(" "))
        }
        "mcp_tool_call" => item.at(&["arguments"]).clone(),
        _ => item
            .at(&["query"])
            .words()
            .or_else(|| item.at(&["prompt"]).words())
            .map_or(Json::Null, |text| Json::Text(text.to_owned())),
    }
}

/// Every command comes wrapped in the same shell call.
fn without_shell(command: &str) -> &str {
    let inner = ["/bin/bash -lc ", "bash -lc ", "/bin/sh -c ", "/bin/zsh -lc "]
        .iter()
        .find_map(|shell| command.strip_prefix(shell))
        .unwrap_or(command);
    let quoted = inner.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\''));
    quoted.filter(|inner| !inner.contains('\'')).unwrap_or(inner)
}

#[cfg(test)]
mod tests;
