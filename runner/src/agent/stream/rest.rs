//! What the answers of REST agents have in common: a head, then a body of server-sent events, or of one JSON value when
//! the request was refused. The head, and which tries came before, stand in stderr ([`told`]); the body is all of stdout.
//! Which request is made, and again, is not known here.

pub(crate) mod told;

use run_agent_core::ErrorClass;
use run_agent_core::event::Usd;

use self::told::Line;
use super::{
    Account, Exit, Heard, Json, MESSAGE_MAX, Reader, Reset, Sse, Tokens, Told, Trouble, Used, class,
    one_line, usd,
};

/// How much of a body that is no stream of events is kept.
pub(crate) const BODY_MAX: usize = 64 << 10;

/// The head of an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// 0: not known yet. Stdout and stderr are two files, of which either may be read first.
    pub status: u16,
    /// The value of `retry-after`.
    pub retry_after: Option<String>,
}

impl Head {
    /// The request was taken.
    pub(crate) fn is_answer(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What one provider's events mean.
pub(crate) trait Answer: Send + std::fmt::Debug + Default {
    /// One event's data. `[DONE]` does not come here.
    fn event(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>);

    /// The stream has come to its end: what is said last.
    fn finish(&mut self, _: &mut Account, _: &mut Vec<Heard>) {}
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(crate) struct RestReader<A> {
    answer: A,
    account: Account,
    sse: Sse,
    head: Head,
    /// How the body begins, for when it turns out to be no stream of events: a refusal, or an answer in one piece.
    body: Vec<u8>,
    began: bool,
    events: bool,
}

impl<A: Answer> RestReader<A> {
    fn is_refused(&self) -> bool {
        self.head.status != 0 && !self.head.is_answer()
    }

    fn event(&mut self, data: &[u8], heard: &mut Vec<Heard>) {
        self.events = true;
        if data == b"[DONE]" {
            self.account.finished(true);
        } else if let Some(event) = Json::object(data) {
            if is_error(&event) {
                self.account.problem(trouble(&event, &self.head), heard);
            } else {
                self.answer.event(&event, &mut self.account, heard);
            }
        }
    }

    /// An answer that was read to its end, and is no stream of events.
    fn no_events(&self) -> Option<Trouble> {
        if self.events || self.body.trim_ascii().is_empty() {
            return None;
        }
        // Some refuse within an answer.
        let refused = Json::object(&self.body).filter(is_error).map(|_| refusal(&self.head, &self.body));
        Some(refused.unwrap_or_else(|| Trouble {
            class: Some(ErrorClass::Usage),
            message: "the answer is no stream of events; check base_url".to_owned(),
            ..Trouble::default()
        }))
    }
}

impl<A: Answer> Reader for RestReader<A> {
    fn line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        self.account.known();
        let mark: &[u8] = if std::mem::replace(&mut self.began, true) { b"" } else { "\u{feff}".as_bytes() };
        let line = line.strip_prefix(mark).unwrap_or(line);
        let is_comment = line.starts_with(b":");
        let is_read = self.events && self.head.is_answer();
        if !is_comment && !is_read {
            let room = BODY_MAX.saturating_sub(self.body.len());
            self.body.extend_from_slice(&line[..line.len().min(room)]);
            self.body.push(b'\n');
        }
        if !self.is_refused()
            && let Some(data) = self.sse.line(line)
        {
            self.event(&data, heard);
        }
    }

    fn stderr_line(&mut self, line: &[u8], heard: &mut Vec<Heard>) {
        match Line::read(&String::from_utf8_lossy(line)) {
            Some(Line::Head(head)) => {
                self.head = head;
                // An answer without a body is one too, and was cut.
                self.account.known();
                if self.head.is_answer() {
                    self.account.answered(heard);
                }
            }
            Some(Line::Retrying(retry)) => self.account.retry(retry, heard),
            Some(Line::Failed { class, message }) => {
                self.account.problem(Trouble { class: Some(class), message, ..Trouble::default() }, heard);
            }
            Some(Line::Asking { .. } | Line::Waiting { .. }) | None => {}
        }
    }

    fn end(&mut self, exit: Exit, stderr: &str, heard: &mut Vec<Heard>) -> Told {
        if let Some(data) = self.sse.end() {
            self.event(&data, heard);
        }
        if self.is_refused() {
            let trouble = refusal(&self.head, &std::mem::take(&mut self.body));
            self.account.problem(trouble, heard);
            // Nothing was made of it, and nothing is to be paid.
            self.account.finished(true);
        } else if let Some(trouble) = self.no_events().filter(|_| exit == Exit::Code(0)) {
            self.account.problem(trouble, heard);
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

/// An error in the place of an answer, or within one.
fn is_error(json: &Json) -> bool {
    !json.at(&["error"]).is_null() || json.at(&["type"]).text() == Some("error")
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

/// What a body says of why a request was refused.
pub(crate) fn refusal(head: &Head, body: &[u8]) -> Trouble {
    let json = Json::object(body);
    let mut trouble = trouble(json.as_ref().unwrap_or(&Json::Null), head);
    let text = String::from_utf8_lossy(body);
    if json.is_none() && !text.trim().is_empty() {
        trouble.message = one_line(&text, MESSAGE_MAX);
    }
    let said = std::mem::take(&mut trouble.message);
    trouble.message = if (300..400).contains(&head.status) {
        // None is followed.
        trouble.class = Some(ErrorClass::Usage);
        format!("HTTP {}: it leads somewhere else; check base_url", head.status)
    } else {
        one_line(&format!("HTTP {}: {said}", head.status), MESSAGE_MAX)
    };
    trouble
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
    /// It was told that the answer is not complete.
    incomplete: bool,
}

impl Chunks {
    pub(crate) fn chunk(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        account.model(event.at(&["model"]), heard);
        for choice in event.at(&["choices"]).list() {
            let delta = choice.at(&["delta"]);
            account.thinking(delta.at(&["reasoning_content"]).text().unwrap_or_default(), heard);
            account.piece(delta.at(&["content"]).text().unwrap_or_default(), heard);
            if let Some(reason) = choice.at(&["finish_reason"]).words() {
                account.finished(true);
                self.incomplete(reason, account, heard);
            }
        }
        self.usage(event.at(&["usage"]), account, heard);
    }

    /// The provider ended the answer, and not the model: whoever reads it should know.
    fn incomplete(&mut self, reason: &str, account: &mut Account, heard: &mut Vec<Heard>) {
        if matches!(reason, "length" | "content_filter") && !std::mem::replace(&mut self.incomplete, true) {
            let why = format!("the answer is not complete: {reason}");
            account.notice(&why, heard);
            account.add_text(&format!("\n\n[{why}]"));
        }
    }

    /// Usage of the answer so far, or of the whole of it.
    fn usage(&mut self, usage: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        if usage.fields().is_empty() {
            return;
        }
        let tokens = tokens(usage);
        // xAI counts in ten-thousandths of a millionth.
        let ticks = usage.at(&["cost_in_usd_ticks"]).whole().map(|ticks| Usd { micros: ticks / 10_000 });
        let cost = usd(usage.at(&["cost", "total_cost"])).or(ticks);
        let new = self.so_far.count_on(tokens);
        let cost = cost.map(|cost| {
            let before = std::mem::replace(&mut self.cost, cost);
            Usd { micros: cost.micros.checked_sub(before.micros).unwrap_or(cost.micros) }
        });
        let model = account.model_name().map(str::to_owned);
        account.used(Used { model, tokens: new, cost }, heard);
    }
}
