//! What of an agent's output the stream of events is to tell, and how often: an agent may report after every word and try
//! again a thousand times a minute, and each event is one that everybody reads for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use run_agent_core::event::{Event, Retrying, Usage, Usd};
use run_agent_core::text;
use run_agent_core::world::Totals;

use crate::agent::stream::{self, Heard, Retry, Tokens, Used};

/// How often something that goes on is told: the longer it does, the more seldom.
const TELL_AGAIN_FIRST: Duration = Duration::from_secs(2);
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// No agent begins more conversations in one run; what else names others is noise.
const SESSIONS_MAX: u32 = 16;

/// An event, and its line for people.
pub(super) type New = (Event, String);

#[derive(Debug, Default)]
pub(super) struct News {
    /// Told with what is told next.
    ready: Vec<New>,
    model: Option<String>,
    /// The conversation that was told of.
    session: Option<String>,
    /// How often it changed.
    sessions: u32,
    /// What earlier supervisors of this run told of its usage, and is heard once more.
    told_before: Totals,
    /// What was used since it was told last, a model each.
    used: BTreeMap<Option<String>, Used>,
    /// Each report is of the whole answer so far: what the last ones say of its cost is all of it.
    one_answer: bool,
    usage: Pace,
    /// The trouble that there is, and the one that was told.
    retrying: Option<Retry>,
    told: Option<Retry>,
    retries: Pace,
}

impl News {
    pub(super) fn new(session: Option<String>, told_before: Totals, one_answer: bool) -> Self {
        Self { session, told_before, one_answer, ..Self::default() }
    }

    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Model(model) => self.model = Some(model),
            Heard::Session(id) if self.session.as_ref() != Some(&id) && self.sessions < SESSIONS_MAX => {
                self.session = Some(id.clone());
                self.sessions += 1;
                let line = format!("session {id}");
                let usage = Usage { model: self.model.clone(), session_id: Some(id), ..Usage::default() };
                self.ready.push((Event::RunUsage(usage), line));
            }
            Heard::Usage(used) => self.add(&used),
            Heard::Retrying(retry) => self.retrying = Some(retry),
            Heard::Recovered => self.retrying = None,
            Heard::Session(_)
            | Heard::Text { .. }
            | Heard::Thinking(_)
            | Heard::Tool { .. }
            | Heard::ToolEnd { .. }
            | Heard::Notice(_)
            | Heard::Problem { .. } => {}
        }
    }

    fn add(&mut self, used: &Used) {
        let Some(new) = not_told(used, &mut self.told_before) else { return };
        let model = new.model.clone().or_else(|| self.model.clone());
        let one_answer = self.one_answer;
        self.used
            .entry(model)
            .and_modify(|sum| {
                sum.tokens = sum.tokens.plus(new.tokens);
                let add = |(a, b): (Usd, Usd)| Usd { micros: a.micros.saturating_add(b.micros) };
                let both = sum.cost.zip(new.cost).map(add);
                sum.cost = both.or_else(|| sum.cost.or(new.cost).filter(|_| one_answer));
            })
            .or_insert(new);
    }

    /// What is due now, or all that is left when the run has ended.
    pub(super) fn take(&mut self, now: Instant, last: bool) -> Vec<New> {
        let mut news = std::mem::take(&mut self.ready);
        if !self.used.is_empty() && (last || self.usage_is_due(now)) {
            self.usage.told(now);
            news.extend(std::mem::take(&mut self.used).into_iter().map(|(model, used)| usage(model, &used)));
        }
        if self.retry_is_due(now) {
            self.told.clone_from(&self.retrying);
            news.push(match &self.retrying {
                Some(retry) => {
                    self.retries.told(now);
                    retries(retry)
                }
                None => {
                    let event = Event::RunRetrying(Retrying::default());
                    (event, "its calls are answered again".to_owned())
                }
            });
        }
        news
    }

    /// When [`Self::take`] has something, if nothing more is heard.
    pub(super) fn due_at(&self, now: Instant) -> Option<Instant> {
        let usage = (!self.used.is_empty() && !self.one_answer).then(|| self.usage.next().unwrap_or(now));
        let retry = (self.retrying != self.told).then(|| {
            let soon = self.retrying.is_none();
            self.retries.next().filter(|_| !soon).unwrap_or(now)
        });
        let ready = (!self.ready.is_empty()).then_some(now);
        [usage, retry, ready].into_iter().flatten().min()
    }

    fn usage_is_due(&self, now: Instant) -> bool {
        !self.one_answer && self.usage.next().is_none_or(|at| at <= now)
    }

    /// That it is over is told at once: it follows a trouble that was told.
    fn retry_is_due(&self, now: Instant) -> bool {
        self.retrying != self.told
            && (self.retrying.is_none() || self.retries.next().is_none_or(|at| at <= now))
    }
}

/// How often something was told.
#[derive(Debug, Default)]
struct Pace {
    /// Since when it goes on, and when it was told last.
    told: Option<(Instant, Instant)>,
}

impl Pace {
    /// `None`: it was never told.
    fn next(&self) -> Option<Instant> {
        self.told.map(|(since, at)| at + ((at - since) / 4).clamp(TELL_AGAIN_FIRST, TELL_AGAIN))
    }

    fn told(&mut self, now: Instant) {
        // After a long rest it begins anew.
        let since = self.told.filter(|(_, at)| *at + 2 * TELL_AGAIN > now).map_or(now, |(since, _)| since);
        self.told = Some((since, now));
    }
}

fn usage(model: Option<String>, used: &Used) -> New {
    let Tokens { input, output, cached, reasoning: _ } = used.tokens;
    let cost = used.cost.map(|cost| format!(", {}", cost.short())).unwrap_or_default();
    // Several models that share the work report one after the other.
    let by = used.model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default();
    let line = format!("{input} tokens in, {output} out{cost}{by}");
    let usage = Usage {
        model,
        input_tokens: input,
        output_tokens: output,
        cached_tokens: cached,
        cost_usd: used.cost,
        session_id: None,
        incomplete: false,
    };
    (Event::RunUsage(usage), line)
}

fn retries(retry: &Retry) -> New {
    let line = stream::show::retrying(retry);
    let event = Event::RunRetrying(Retrying {
        error_class: Some(retry.class.to_string()),
        http_status: retry.status.map(u32::from),
        attempt: retry.attempt,
        of: retry.of,
        detail: text::head(&line, stream::MESSAGE_MAX).to_owned(),
    });
    (event, line)
}

/// What of a report was not told before. Reports come in the same order again, so that what was told is their beginning.
fn not_told(used: &Used, told: &mut Totals) -> Option<Used> {
    let mut new = used.clone();
    let less = |new: &mut u64, told: &mut u64| {
        let both = (*new).min(*told);
        *new -= both;
        *told -= both;
    };
    less(&mut new.tokens.input, &mut told.input_tokens);
    less(&mut new.tokens.output, &mut told.output_tokens);
    less(&mut new.tokens.cached, &mut told.cached_tokens);
    if let Some(cost) = &mut new.cost {
        less(&mut cost.micros, &mut told.cost_usd.micros);
    }
    let nothing = new.tokens == Tokens { reasoning: new.tokens.reasoning, ..Default::default() };
    let free = new.cost.is_none_or(|cost| cost.micros == 0);
    (!(nothing && free)).then_some(new)
}

#[cfg(test)]
mod tests;
