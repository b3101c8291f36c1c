//! Why a run stands as it does.

use super::open::{way_out, whole_seconds};
use super::story::{Story, by, cause_of, quoted};
use super::{Act, Life};
use crate::cause::Cause;
use crate::event::{Event, RunEnd, RunOutcome};
use crate::id::RunId;
use crate::message::Message;
use crate::plan::reason::TIME_LIMIT;
use crate::policy::watch::STUCK;
use crate::world::{Run, RunState, Told};

impl Story<'_> {
    /// The whole answer about a run.
    pub(super) fn run(&mut self, id: &RunId, run: &Run) {
        match &run.state {
            RunState::Queued { ahead, .. } => self.queued(id, run, *ahead),
            RunState::Running { .. } => self.running(id, run),
            RunState::Ended(ended) => {
                let end = &ended.end;
                self.run_ended(id, run);
                match end.status {
                    RunOutcome::Completed => {}
                    // One that never started said nothing.
                    RunOutcome::Failed | RunOutcome::Stopped if ended.started.is_none() => {}
                    RunOutcome::Failed | RunOutcome::Stopped => {
                        self.change("see what it said", Act::Output(id.clone()));
                    }
                }
                if let Some(way) = end.error_class.as_deref().and_then(|class| way_out(&run.agent, class)) {
                    self.change_by_itself(way);
                }
                self.origin(run);
            }
        }
    }

    /// A run as a link in the chain of a task: how it ended, and why; or what it is at.
    pub(super) fn run_named(&mut self, id: &RunId) {
        let Some(run) = self.look.task.runs.get(id) else {
            return self.because_of_run(format!("run {id} is not in the stream any more"), id, None);
        };
        if run.is_active() {
            return self.named_runs(std::slice::from_ref(id));
        }
        self.run_ended(id, run);
    }

    fn queued(&mut self, id: &RunId, run: &Run, ahead: Option<u32>) {
        let intent = self.of_run(run, Told::RunIntent);
        if self.asked_to_stop(id, run) {
            self.because_of_run(format!("run {id} of {} has not started", run.agent), id, intent.as_ref());
            return;
        }
        let parked = self.of_run(run, Told::RunParked);
        match (ahead, self.look.seen.runs.get(id)) {
            (Some(ahead), _) => {
                let before = match ahead {
                    0 => "it is the next".to_owned(),
                    n => format!("{n} stood before it when it came"),
                };
                let text = format!("run {id} of {} waits for other agents to complete: {before}", run.agent);
                self.because_of_run(text, id, parked.as_ref());
                self.change_by_itself("it starts when a slot is free (limits.max_agents)");
            }
            (None, Some(Life::Foreign)) => self.foreign(id, intent.as_ref()),
            (None, _) => {
                self.because_of_run(
                    format!("run {id} of {} is about to start", run.agent),
                    id,
                    intent.as_ref(),
                );
                self.change_by_itself("it starts at once, or is closed by whoever looks next");
            }
        }
        self.change("stop it", Act::StopRun(id.clone()));
        self.origin(run);
    }

    fn running(&mut self, id: &RunId, run: &Run) {
        let start = self.of_run(run, Told::RunStart);
        if self.asked_to_stop(id, run) {
            self.because_of_run(self.words_of_active(id, run), id, start.as_ref());
            self.change("skip what is left of the grace period", Act::StopForce);
            return;
        }
        match self.look.seen.runs.get(id) {
            Some(Life::AgentAlone { pid }) => {
                let text =
                    format!("the supervisor of run {id} was lost; its agent (pid {pid}) goes on without one");
                self.because_of_run(text, id, start.as_ref());
                self.change_by_itself(
                    "who drives the loop or waits for the run gives it a new supervisor; else it is closed by whoever looks once the agent has ended",
                );
            }
            Some(Life::Foreign) => self.foreign(id, start.as_ref()),
            Some(Life::Unclear(error)) => {
                let text = format!(
                    "run {id} is at work as far as the stream tells; whether it lives cannot be told: {error}"
                );
                self.because_of_run(text, id, start.as_ref());
            }
            Some(Life::Supervised) | None => {
                let silent = run.evidence.is_after(Told::RunStuck, Told::RunActive);
                let told =
                    if silent { self.of_run(run, Told::RunStuck) } else { self.of_run(run, Told::RunIdle) };
                let told = match (run.idle_since, &run.retrying) {
                    (Some(_), _) => told.or(start),
                    (None, Some(_)) => self.of_run(run, Told::RunRetrying).or(start),
                    (None, None) => start,
                };
                self.because_of_run(self.words_of_active(id, run), id, told.as_ref());
                if run.idle_since.is_some() {
                    self.change("see what it said last", Act::Output(id.clone()));
                }
                self.retries(run);
            }
        }
        self.taken_over(id);
        self.blocking_questions_of(id);
        self.below(id);
        if run.is_root() && self.look.task.ralph.is_open() {
            self.change("stop the loop and all that runs", Act::Stop);
        } else {
            self.change("stop it", Act::StopRun(id.clone()));
        }
        self.origin(run);
    }

    /// What becomes of calls that fail.
    fn retries(&mut self, run: &Run) {
        let Some(retry) = run.retries() else { return };
        self.change_by_itself(format!(
            "it goes on by itself when its calls are answered again; when it gives them up it ends as failed ({})",
            retry.error_class
        ));
    }

    /// What it started and may wait for.
    fn below(&mut self, id: &RunId) {
        let children: Vec<RunId> = self
            .look
            .task
            .active()
            .filter(|(_, run)| run.parent.as_ref() == Some(id))
            .map(|(id, _)| id.clone())
            .collect();
        self.named_runs(&children);
        self.linked_from(|parent| parent == Some(id));
    }

    fn asks(&self, id: &RunId) -> bool {
        let mut open = self.look.task.thread.open_questions.values();
        open.any(|question| question.blocking && question.run.as_ref() == Some(id))
    }

    /// In one sentence, of a run that has not ended.
    pub(super) fn words_of_active(&self, id: &RunId, run: &Run) -> String {
        let what = match (run.attempt, &run.verify) {
            (Some(attempt), _) => format!("root run {id} of {} (attempt {attempt})", run.agent),
            (None, Some(command)) => format!("run {id} of the verify command `{}`", quoted(command)),
            (None, None) => format!("run {id} of {}", run.agent),
        };
        let lost = match self.look.seen.runs.get(id) {
            Some(Life::AgentAlone { .. }) => "; its supervisor was lost",
            Some(Life::Foreign) => "; it was started on another machine or in another container",
            Some(Life::Supervised | Life::Unclear(_)) | None => "",
        };
        let stuck = run.evidence.is_after(Told::RunStuck, Told::RunActive);
        match (&run.state, run.idle_since) {
            (RunState::Queued { ahead: Some(ahead), .. }, _) => {
                format!("{what} waits for a slot; {ahead} stood before it when it came{lost}")
            }
            (RunState::Queued { ahead: None, .. }, _) => format!("{what} is about to start{lost}"),
            (_, Some(since)) if stuck => {
                format!(
                    "{what} is stuck: no sign of life since {}; it is being ended{lost}",
                    whole_seconds(since)
                )
            }
            (_, Some(since)) => {
                format!("{what} is idle: no sign of life since {}{lost}", whole_seconds(since))
            }
            (_, None) if self.asks(id) => format!("{what} waits for an answer{lost}"),
            (_, None) => match run.retries() {
                Some(retry) => format!(
                    "{what} is at work, and its calls fail since {}: {retry}{lost}",
                    whole_seconds(retry.since)
                ),
                None => format!("{what} is at work{lost}"),
            },
        }
    }

    fn foreign(&mut self, id: &RunId, told: Option<&(Message, Event)>) {
        let text = format!(
            "run {id} was started on another machine or in another container; from here it is neither closed nor signalled"
        );
        self.because_of_run(text, id, told);
        self.change_by_itself("look from there");
    }

    /// True when a stop of the run was asked for; says so.
    fn asked_to_stop(&mut self, id: &RunId, run: &Run) -> bool {
        let Some(stopping) = &run.stopping else { return false };
        let told = self.of_run(run, Told::RunStopping);
        let text = format!(
            "a stop of run {id} was asked for by {}; its processes get {} s after SIGTERM",
            stopping.by,
            stopping.grace_ms / 1000
        );
        self.because_of_run(text, id, told.as_ref());
        true
    }

    fn taken_over(&mut self, id: &RunId) {
        let told = self.of_task(Told::SupervisorRestart);
        if let Some((message, Event::SupervisorRestart(taken))) = &told
            && message.content.run.as_ref() == Some(id)
        {
            self.because(format!("it was taken over: {}", quoted(&taken.reason)), told.as_ref());
        }
    }

    fn blocking_questions_of(&mut self, id: &RunId) {
        let open = &self.look.task.thread.open_questions;
        let mut of_run = open.iter().filter(|(_, q)| q.blocking && q.run.as_ref() == Some(id));
        if let Some((question, asked)) = of_run.next_back() {
            self.because_asked(format!("it asks: {}", quoted(&asked.text)), question, asked);
            self.change("answer it", Act::Answer(question.clone()));
        }
    }

    /// How a run ended, and who or what made it.
    fn run_ended(&mut self, id: &RunId, run: &Run) {
        let Some((end, _)) = run.end() else { return };
        let told = self.of_run(run, Told::RunEnd);
        let said_done = self.look.task.evidence.of(Told::Done) > run.evidence.of(Told::RunIntent);
        let text = match end.status {
            RunOutcome::Completed if run.is_root() && !said_done => {
                format!("root run {id} ended with exit code 0 and did not say DONE")
            }
            RunOutcome::Completed | RunOutcome::Failed | RunOutcome::Stopped => {
                words_of_end(id, run, end, told.as_ref().map(|(message, _)| message))
            }
        };
        self.because_of_run(text, id, told.as_ref());
        if end.reason.starts_with(STUCK)
            && let Some(told) = self.of_run(run, Told::RunStuck)
        {
            self.because_of_run("its silence reached watch.stuck_after", id, Some(&told));
        }
        if end.status != RunOutcome::Stopped {
            return;
        }
        let asked = self.of_run(run, Told::RunStopping);
        if let Some((message, Event::RunStopping(stop))) = &asked {
            let who = cause_of(message).map_or_else(|| format!("by {}", stop.by), |cause| by(&cause));
            self.because_of_run(format!("a stop of the run was asked for {who}"), id, asked.as_ref());
        }
        let task_stop = self.look.task.evidence.of(Told::LoopStopping);
        let during =
            task_stop >= run.evidence.of(Told::RunIntent) && task_stop < run.evidence.of(Told::RunEnd);
        if task_stop.is_some() && during {
            self.stop_of_task();
        }
    }

    /// What made the run.
    fn origin(&mut self, run: &Run) {
        let told = self.of_run(run, Told::RunIntent);
        let Some((message, _)) = &told else { return };
        let restart = self.of_task(Told::LoopRestart);
        match (run.attempt, cause_of(message)) {
            (Some(attempt @ 2..), _) => {
                let said = restart
                    .filter(|(_, event)| matches!(event, Event::LoopRestart(r) if r.attempt == attempt));
                let why = match &said {
                    Some((_, Event::LoopRestart(restart))) => format!(": {}", quoted(&restart.reason)),
                    Some(_) | None => String::new(),
                };
                let evidence = said.as_ref().or(told.as_ref());
                self.because(format!("the loop started it as attempt {attempt}{why}"), evidence);
                if let Some(previous) = &run.previous
                    && self.look.task.runs.get(previous).is_some_and(|run| !run.is_active())
                {
                    self.run_named(previous);
                }
            }
            (Some(_), Some(Cause::Person(name))) => {
                self.because(format!("the loop was started by user {name}"), told.as_ref());
            }
            (Some(_), Some(Cause::Run(id))) => {
                self.because(format!("the loop was started by run {id}"), told.as_ref());
            }
            (Some(_), cause) => {
                let who = cause.map(|cause| format!(" {}", by(&cause))).unwrap_or_default();
                self.because(format!("the loop started it{who}"), told.as_ref());
            }
            (None, cause) => {
                let who = cause.map(|cause| format!(" {}", by(&cause))).unwrap_or_default();
                self.because(format!("it was started{who}"), told.as_ref());
            }
        }
    }
}

/// In one sentence, of a run that has ended.
fn words_of_end(id: &RunId, run: &Run, end: &RunEnd, message: Option<&Message>) -> String {
    let what = match (run.attempt, &run.verify) {
        (Some(attempt), _) => format!("root run {id} (attempt {attempt})"),
        (None, Some(command)) => format!("run {id} of the verify command `{}`", quoted(command)),
        (None, None) => format!("run {id}"),
    };
    let left = match &end.left_overs {
        Some(left) => format!("; what it had left running was ended: {}", quoted(left)),
        None => String::new(),
    };
    match end.status {
        RunOutcome::Completed => format!("{what} completed: exit code 0{left}"),
        RunOutcome::Stopped => format!("{what} was stopped{left}"),
        RunOutcome::Failed => format!("{what} {}{left}", words_of_failure(end, message)),
    }
}

fn words_of_failure(end: &RunEnd, message: Option<&Message>) -> String {
    if end.reason.starts_with(TIME_LIMIT) {
        return format!("was ended: {}", quoted(&end.reason));
    }
    if end.reason.starts_with(STUCK) {
        return format!("was ended: {}", quoted(&end.reason));
    }
    match (end.signal, end.reason.as_str()) {
        (Some(_), _) => format!("was {}; nobody asked run-agent for it", quoted(&end.reason)),
        (None, "supervisor lost") => {
            "failed: its supervisor was lost, and with it the agent's exit code".to_owned()
        }
        (None, "starter lost" | "supervisor lost before the start") => {
            format!("failed before its agent was started: {}", end.reason)
        }
        (None, reason) => {
            let class = end.error_class.as_deref().filter(|class| !matches!(*class, "crash" | "killed"));
            let class = class.map(|class| format!(" ({})", quoted(class))).unwrap_or_default();
            format!("failed{class}: {}", quoted(last_words(reason, message)))
        }
    }
}

/// The reason, with the last line of stderr where the message has it.
fn last_words<'a>(reason: &'a str, message: Option<&'a Message>) -> &'a str {
    let line = message.and_then(|message| message.content.body.lines().next()).unwrap_or_default();
    line.find(reason).map_or(reason, |at| &line[at..])
}
