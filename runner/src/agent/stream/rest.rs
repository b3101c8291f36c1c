//! What the answers of REST agents have in common: a head, then a body of server-sent events, or of one JSON value when
//! the request was refused. Which request is made, and again, is not known here.

use run_agent_core::ErrorClass;
use run_agent_core::event::Usd;

use super::{
    Account, Exit, Heard, Json, MESSAGE_MAX, Reader, Reset, Sse, Tokens, Told, Trouble, Used, class,
    one_line, usd,
};

/// How much of a body that is no stream of events is kept.
const BODY_MAX: usize = 64 << 10;

/// The head of an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    pub status: u16,
    /// The value of `retry-after`.
    pub retry_after: Option<String>,
}

/// What one provider's events mean.
pub(crate) trait Answer: Send + std::fmt::Debug {
    /// One event's data. `[DONE]` does not come here.
    fn event(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>);

    /// The stream has come to its end: what is said last.
    fn finish(&mut self, _: &mut Account, _: &mut Vec<Heard>) {}
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct RestReader<A> {
    answer: A,
    account: Account,
    sse: Sse,
    head: Head,
    /// What is no event: an error, or an answer that is not streamed.
    body: Vec<u8>,
}

impl<A: Answer> RestReader<A> {
    pub(crate) fn new(head: Head, answer: A) -> Self {
        Self { answer, account: Account::default(), sse: Sse::default(), head, body: Vec::new() }
    }

    fn is_refused(&self) -> bool {
        !(200..300).contains(&self.head.status)
    }

    fn event(&mut self, data: &[u8], heard: &mut Vec<Heard>) {
        if data == b"[DONE]" {
            self.account.finished(true);
        } else if let Some(event) = Json::object(data) {
            let error = event.at(&["error"]);
            if !error.is_null() && event.at(&["type"]).is_null() {
                self.account.problem(Self::trouble(&event, &Head::default()), heard);
            }
            self.answer.event(&event, &mut self.account, heard);
        }
    }

    /// `{"error": {"message": …}}`, `{"error": "…", "code": "…"}`, or whatever a proxy between says.
    fn trouble(body: &Json, head: &Head) -> Trouble {
        let said = [&["error", "message"][..], &["error"], &["message"], &["detail"]];
        let said = said.iter().find_map(|path| body.at(path).words()).unwrap_or("the request was refused");
        let mut trouble = Trouble::said(said);
        trouble.status = Some(head.status).filter(|status| *status >= 400).or(trouble.status);
        let words = [&["error", "code"][..], &["error", "type"], &["code"]];
        let by_word = words.iter().find_map(|path| class::of_text(body.at(path).text()?));
        trouble.reset = head.retry_after.as_deref().and_then(Reset::read_retry_after).or(trouble.reset);
        trouble.or_class(by_word)
    }

    fn refused(&mut self, heard: &mut Vec<Heard>) {
        let body = std::mem::take(&mut self.body);
        let mut trouble = match Json::object(&body) {
            Some(json) => Self::trouble(&json, &self.head),
            None => Self::trouble(&Json::Null, &self.head),
        };
        let text = String::from_utf8_lossy(&body);
        if Json::object(&body).is_none() && !text.trim().is_empty() {
            trouble.message = one_line(&text, MESSAGE_MAX);
        }
        trouble.message = one_line(&format!("HTTP {}: {}", self.head.status, trouble.message), MESSAGE_MAX);
        self.account.problem(trouble, heard);
    }
}

impl<A: Answer> Reader for RestReader<A> {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        self.account.known();
        if self.is_refused() {
            let room = BODY_MAX.saturating_sub(self.body.len());
            self.body.extend_from_slice(&line[..line.len().min(room)]);
            self.body.push(b'\n');
        } else if let Some(data) = self.sse.line(line) {
            self.event(&data, heard);
        }
    }

    fn end(&mut self, exit: Exit, stderr: &str, heard: &mut Vec<Heard>) -> Told {
        if let Some(data) = self.sse.end() {
            self.event(&data, heard);
        }
        if self.is_refused() {
            self.refused(heard);
        }
        self.answer.finish(&mut self.account, heard);
        let mut told = self.account.end(exit, stderr);
        if let Some(failure) = told.failure.as_mut().filter(|failure| !failure.said) {
            // There is no process that could have broken down.
            if matches!(failure.class, ErrorClass::Unknown | ErrorClass::Crash) {
                failure.class = ErrorClass::Network;
                failure.message = "the answer was cut off".to_owned();
            }
        }
        told
    }
}

/// Usage as OpenAI and those who follow it write it, in either of its two forms.
fn tokens(usage: &Json) -> Tokens {
    let count = |paths: &[&[&str]]| paths.iter().find_map(|path| usage.at(path).whole()).unwrap_or(0);
    let input = count(&[&["prompt_tokens"], &["input_tokens"]]);
    let said = count(&[&["completion_tokens"], &["output_tokens"]]);
    let reasoning = count(&[
        &["completion_tokens_details", "reasoning_tokens"],
        &["output_tokens_details", "reasoning_tokens"],
        &["reasoning_tokens"],
    ]);
    // Some count reasoning beside the answer's tokens, and have it in the total alone.
    let output = count(&[&["total_tokens"]]).saturating_sub(input).max(said);
    let cached =
        count(&[&["prompt_tokens_details", "cached_tokens"], &["input_tokens_details", "cached_tokens"]]);
    Tokens { input, output, cached: cached.min(input), reasoning: reasoning.min(output) }
}

/// Reads `chat.completion.chunk` objects. Some providers report the usage so far with each of them.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    so_far: Tokens,
    cost: Usd,
}

impl Chunks {
    pub(crate) fn chunk(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        account.model(event.at(&["model"]), heard);
        for choice in event.at(&["choices"]).list() {
            let delta = choice.at(&["delta"]);
            account.thinking(delta.at(&["reasoning_content"]).text().unwrap_or_default(), heard);
            account.piece(delta.at(&["content"]).text().unwrap_or_default(), heard);
            if choice.at(&["finish_reason"]).words().is_some() {
                account.finished(true);
            }
        }
        self.usage(event.at(&["usage"]), account, heard);
    }

    /// Usage of the answer so far, or of the whole of it.
    pub(crate) fn usage(&mut self, usage: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        if usage.fields().is_empty() {
            return;
        }
        let tokens = tokens(usage);
        // xAI counts in ten-thousandths of a millionth.
        let ticks = usage.at(&["cost_in_usd_ticks"]).whole().map(|ticks| Usd { micros: ticks / 10_000 });
        let cost = usd(usage.at(&["cost", "total_cost"])).or(ticks);
        let new = tokens.since(std::mem::replace(&mut self.so_far, tokens));
        let cost = cost.map(|cost| {
            let before = std::mem::replace(&mut self.cost, cost);
            Usd { micros: cost.micros.checked_sub(before.micros).unwrap_or(cost.micros) }
        });
        let model = account.model_name().map(str::to_owned);
        account.used(Used { model, tokens: new, cost }, heard);
    }
}
