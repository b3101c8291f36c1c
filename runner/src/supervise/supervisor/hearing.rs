//! What an agent's stream says, while it says it: read as it grows, told in the stream of events, summed up at the end.
//! One who takes a run over reads it from its beginning, and tells only what was not told before.

use std::time::{Duration, Instant};

use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, Retrying, RunEnd, RunOutcome, Usage};
use run_agent_core::world::Totals;
use run_agent_core::{Timestamp, decide, text};

use super::end::{ANSWERED, NO_ANSWER};
use super::{Exit, Supervisor};
use crate::agent::stream::{self, Heard, Listener, Retry, Told, Used};
use crate::agent::zone::zone;
use crate::hear::{Tail, used_of};

/// How often the same trouble is told again while it lasts: the longer it does, the more seldom.
const TELL_AGAIN_FIRST: Duration = Duration::from_secs(2);
const TELL_AGAIN: Duration = Duration::from_secs(30);
/// No agent begins more conversations in one run; what else names others is noise.
const SESSIONS_MAX: u32 = 16;
/// How much of a stream is read before it is told and something else is looked at. All that is heard of a piece lies in
/// memory.
const PIECE_MAX: u64 = 64 << 10;

pub(super) struct Hearing {
    listener: Listener,
    stdout: Tail,
    stderr: Tail,
    heard: Vec<Heard>,
    model: Option<String>,
    /// The conversation that was told of.
    session: Option<String>,
    /// How often it changed.
    sessions: u32,
    /// What earlier supervisors of this run told of its usage, and is heard once more.
    told_before: Totals,
    /// What was told of a retry, since when there is that trouble, and when it was told last.
    retrying: Option<(Retry, Instant, Instant)>,
}

impl Hearing {
    /// `None`: what this agent prints is for people alone.
    pub(super) fn of(supervisor: &Supervisor<'_>) -> Option<Self> {
        let launch = &supervisor.launch;
        let before = launch.before.as_ref().map(used_of);
        let run = supervisor.view.run(&launch.run);
        Some(Self {
            listener: launch.stream?.listener(before.as_ref()),
            stdout: Tail::new(supervisor.run.stdout()),
            stderr: Tail::new(supervisor.run.stderr()),
            heard: Vec::new(),
            model: None,
            session: run.and_then(|run| run.session_id.clone()),
            sessions: 0,
            told_before: run.map(|run| run.usage).unwrap_or_default(),
            retrying: None,
        })
    }

    /// Reads what is new. True: there is more.
    fn read(&mut self) -> bool {
        let Self { listener, stdout, stderr, heard, .. } = self;
        // That a request is tried again may stand in stderr, its answer is in stdout: what came in one moment is heard in
        // this order.
        let more = stderr.read(PIECE_MAX, |bytes| listener.stderr(bytes, heard));
        stdout.read(PIECE_MAX, |bytes| listener.stdout(bytes, heard)) || more
    }

    /// The events of what was heard since the last look.
    fn news(&mut self) -> Vec<(Event, String)> {
        let mut news = Vec::new();
        for heard in std::mem::take(&mut self.heard) {
            match heard {
                Heard::Model(model) => self.model = Some(model),
                Heard::Session(id) if self.session.as_ref() != Some(&id) && self.sessions < SESSIONS_MAX => {
                    self.session = Some(id.clone());
                    self.sessions += 1;
                    let line = format!("session {id}");
                    let usage = Usage { model: self.model.clone(), session_id: Some(id), ..Usage::default() };
                    news.push((Event::RunUsage(usage), line));
                }
                Heard::Usage(used) => news.extend(self.usage(&used)),
                Heard::Retrying(retry) => news.extend(self.retries(retry)),
                Heard::Recovered => {
                    if self.retrying.take().is_some() {
                        let event = Event::RunRetrying(Retrying::default());
                        news.push((event, "its calls are answered again".to_owned()));
                    }
                }
                Heard::Session(_)
                | Heard::Text { .. }
                | Heard::Thinking(_)
                | Heard::Tool { .. }
                | Heard::ToolEnd { .. }
                | Heard::Notice(_)
                | Heard::Problem { .. } => {}
            }
        }
        news
    }

    fn usage(&mut self, used: &Used) -> Option<(Event, String)> {
        let new = not_told(used, &mut self.told_before)?;
        let model = new.model.clone().or_else(|| self.model.clone());
        let usage = Usage {
            model,
            input_tokens: new.tokens.input,
            output_tokens: new.tokens.output,
            cached_tokens: new.tokens.cached,
            cost_usd: new.cost,
            session_id: None,
        };
        let cost = new.cost.map(|cost| format!(", {cost} USD")).unwrap_or_default();
        let line = format!("{} tokens in, {} out{cost}", new.tokens.input, new.tokens.output);
        Some((Event::RunUsage(usage), line))
    }

    /// Told once for each kind of trouble, and now and then while it lasts.
    fn retries(&mut self, retry: Retry) -> Option<(Event, String)> {
        let same = |known: &Retry| (known.class, known.status) == (retry.class, retry.status);
        let known =
            self.retrying.as_ref().filter(|(known, ..)| same(known)).map(|(_, since, at)| (*since, *at));
        let pause = |since: Instant| (since.elapsed() / 4).clamp(TELL_AGAIN_FIRST, TELL_AGAIN);
        if known.is_some_and(|(since, at)| at.elapsed() < pause(since)) {
            return None;
        }
        let line = stream::show::retrying(&retry);
        let event = Event::RunRetrying(Retrying {
            error_class: Some(retry.class.to_string()),
            http_status: retry.status.map(u32::from),
            attempt: retry.attempt,
            of: retry.of,
            detail: text::head(&line, stream::MESSAGE_MAX).to_owned(),
        });
        let now = Instant::now();
        self.retrying = Some((retry, known.map_or(now, |(since, _)| since), now));
        Some((event, line))
    }
}

/// What of a report was not told before; each report was told whole or not at all.
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
    let nothing = new.tokens == stream::Tokens { reasoning: new.tokens.reasoning, ..Default::default() };
    let free = new.cost.is_none_or(|cost| cost.micros == 0);
    (!(nothing && free)).then_some(new)
}

impl Supervisor<'_> {
    /// Tells what the agent's stream says that is new. True: there is more to read.
    pub(super) fn hear(&mut self) -> bool {
        let Some(hearing) = &mut self.hearing else { return false };
        let more = hearing.read();
        let news = hearing.news();
        self.tell_news(news);
        more
    }

    fn tell_news(&mut self, news: Vec<(Event, String)>) {
        if news.is_empty() {
            return;
        }
        let id = self.launch.run.clone();
        let scope = self.view.name.scope(Some(id.clone()));
        let cause = Cause::Process("output of the agent".to_owned());
        let drafts = news.iter().map(|(event, line)| event.draft(&scope, &cause, line.as_str())).collect();
        // Also of one that is being stopped: what was used was used.
        if let Err(error) = self.view.propose(drafts, |task| decide::may_end_run(task, &id)) {
            tracing::warn!(run = %id, %error, "cannot tell what the agent's output says");
        }
    }

    /// The agent has ended: what its output says in the end, for the run's end and for `output.md`.
    pub(super) fn hear_out(&mut self, exit: Exit, end: &mut RunEnd) {
        let Some(hearing) = &mut self.hearing else { return };
        hearing.stdout.end_here();
        hearing.stderr.end_here();
        while self.hear() {}
        let Some(hearing) = &mut self.hearing else { return };
        let told = hearing.listener.end(exit.heard(), &mut hearing.heard);
        let news = hearing.news();
        self.tell_news(news);
        if let Some(text) = told.output() {
            crate::output::write_final(self.tree, &self.run, text);
        }
        take_in(&told, end);
    }
}

/// What the agent said of its failure counts for more than how it exited.
pub(crate) fn take_in(told: &Told, end: &mut RunEnd) {
    let Some(failure) = told.failure.as_ref().filter(|_| end.status != RunOutcome::Stopped) else { return };
    let exit = std::mem::take(&mut end.reason);
    end.reason = match (failure.message.as_str(), exit.as_str()) {
        ("", _) => exit,
        (said, ANSWERED | NO_ANSWER) => said.to_owned(),
        (said, exit) if said == exit => said.to_owned(),
        (said, exit) => format!("{exit}: {said}"),
    };
    end.status = RunOutcome::Failed;
    let (class, retry_at) = failure.at(Timestamp::now(), zone);
    end.error_class = Some(class.to_string());
    end.retry_at = retry_at;
}

impl Exit {
    fn heard(self) -> stream::Exit {
        match self {
            Self::Code(code) => stream::Exit::Code(code),
            Self::Signal(signal) => stream::Exit::Signal(signal),
            Self::Unknown => stream::Exit::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stream::Tokens;
    use run_agent_core::event::Usd;

    #[test]
    fn who_takes_over_tells_only_what_was_not_told() {
        let used = |input, output, micros| Used {
            model: None,
            tokens: Tokens { input, output, ..Tokens::default() },
            cost: Some(Usd { micros }),
        };
        let mut told =
            Totals { input_tokens: 10, output_tokens: 5, cost_usd: Usd { micros: 7 }, ..Totals::default() };
        assert_eq!(not_told(&used(10, 5, 7), &mut told), None);
        assert_eq!(not_told(&used(3, 4, 0), &mut told), Some(used(3, 4, 0)));
        assert_eq!(told, Totals::default());
    }
}
