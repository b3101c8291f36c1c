//! Why a loop that is open does what it does: at work, waiting, blocked, pausing.

use jiff::Timestamp;

use super::story::{NAMED_MAX, Story, count, quoted};
use super::{Act, Other};
use crate::error_class::ErrorClass;
use crate::event::Event;
use crate::id::{RunId, TaskId};
use crate::plan::reason;
use crate::text;
use crate::world::{Question, Run, TaskStatus, Told};

impl Story<'_> {
    pub(super) fn driven(&mut self) {
        let task = self.look.task;
        let active: Vec<RunId> = task.active().map(|(id, _)| id.clone()).collect();
        if let Some(stopped) = &task.ralph.stopped_root {
            self.because_of_run("the loop's root run was stopped, and the loop ends with it", stopped, None);
            return self.run_named(stopped);
        }
        if let Some((id, run)) = task.active_root().and_then(|id| task.runs.get_key_value(id)) {
            self.run(id, run);
            return self.taken_up_since(run);
        }
        if task.evidence.is_after(Told::VerifyStart, Told::VerifyStop) {
            let told = self.of_task(Told::VerifyStart);
            if let Some((_, Event::VerifyStart(verify))) = &told {
                let text = format!("a verify command is at work: `{}`", quoted(&verify.command));
                self.because(text, told.as_ref());
                if let Some(run) = told.as_ref().and_then(|(message, _)| message.content.run.clone()) {
                    self.change("see what it says", Act::Output(run));
                }
                self.change("stop the loop", Act::Stop);
                return self.done();
            }
        }
        if !active.is_empty() {
            self.because(
                format!(
                    "no root run is active, and {} of it goes on",
                    count(active.len() as u64, "child run")
                ),
                None,
            );
            return self.named_runs(&active);
        }
        if task.done.is_some() {
            self.because("DONE is set, and the loop is about to end", None);
            return self.done();
        }
        match &task.ralph.last_root {
            Some(last) if !task.ralph.fresh => {
                self.because("the last root run ended without DONE, and the next one is due", None);
                self.rejected_since(last);
                self.run_named(last);
            }
            Some(_) | None => {
                let told = self.of_task(Told::LoopStart);
                self.because("the loop was started, and its root run is due", told.as_ref());
            }
        }
    }

    /// Another driver went on with a loop whose driver was lost, and found this run at work.
    fn taken_up_since(&mut self, run: &Run) {
        let task = self.look.task;
        if task.evidence.of(Told::SupervisorRestart) < run.evidence.of(Told::RunIntent) {
            return;
        }
        let told = self.of_task(Told::SupervisorRestart);
        if let Some((message, Event::SupervisorRestart(taken))) = &told
            && message.content.run.is_none()
        {
            self.because(
                format!("another driver took the loop up: {}", quoted(&taken.reason)),
                told.as_ref(),
            );
            // Newer than what started the run, and no cause of its start.
            if let Some(taken) = self.causes.pop() {
                self.causes.insert(self.causes.len().min(1), taken);
            }
        }
    }

    pub(super) fn backing_off(&mut self, delay_ms: u64) {
        let ralph = &self.look.task.ralph;
        let told = self.of_task(Told::LoopBackoff);
        let text = format!(
            "the loop pauses {}.{} s after {} in a row",
            delay_ms / 1000,
            delay_ms % 1000 / 100,
            count(u64::from(ralph.failures.max(1)), "failed run")
        );
        self.because(text, told.as_ref());
        if let Some(last) = &ralph.last_root {
            self.run_named(last);
        }
        self.change_by_itself("the next attempt starts after the pause");
        self.change("stop the loop", Act::Stop);
    }

    pub(super) fn cooling(&mut self, cooldown_ms: u64) {
        let told = self.of_task(Told::LoopBreaker);
        let trips = match &told {
            Some((_, Event::LoopBreaker(breaker))) => format!(" (opening {})", breaker.trips),
            Some(_) | None => String::new(),
        };
        let text = format!(
            "the breaker opened{trips} after quick failures in a row: the loop pauses {}",
            text::span(cooldown_ms / 1000)
        );
        self.because(text, told.as_ref());
        if let Some(last) = &self.look.task.ralph.last_root {
            self.run_named(last);
        }
        self.change_by_itself(
            "one trial is started after the pause; what the agent fails of is to be mended before",
        );
        self.change("stop the loop", Act::Stop);
    }

    pub(super) fn waiting(&mut self, why: &str, until: Option<Timestamp>) {
        let told = self.of_task(Told::LoopWaiting);
        let active: Vec<RunId> = self.look.task.active().map(|(id, _)| id.clone()).collect();
        let until = until.map(|until| format!(" until {}", whole_seconds(until))).unwrap_or_default();
        match why {
            reason::WAIT_CHILDREN => {
                self.because(format!("the loop waits for {}", self.children(active.len())), told.as_ref());
                self.named_runs(&active);
                self.linked();
                self.done();
                self.change_by_itself("the loop ends when they have ended");
                self.stop_of(&active);
            }
            reason::WAIT_RESTART => {
                let text = format!(
                    "before the root is started again the loop waits for {} of the run before",
                    self.children(active.len())
                );
                self.because(text, told.as_ref());
                self.named_runs(&active);
                self.linked();
                if let Some(last) = &self.look.task.ralph.last_root {
                    self.run_named(last);
                }
                self.change_by_itself("the next root run starts when they have ended");
                self.stop_of(&active);
            }
            reason::WAIT_QUESTION => {
                self.because(format!("the loop waits for the answer to a question{until}"), told.as_ref());
                self.questions();
            }
            reason::WAIT_AGENTS => {
                self.because(format!("every agent is passed over{until}"), told.as_ref());
                self.degraded();
                self.change_by_itself(format!("the loop goes on by itself{until}"));
            }
            reason::WAIT_USAGE_LIMIT => {
                let text =
                    format!("the usage limit of every agent's account that may be started is reached{until}");
                self.because(text, told.as_ref());
                self.degraded();
                self.change_by_itself(format!(
                    "the loop goes on by itself{until}; no restart is spent on it"
                ));
                self.change("stop the loop", Act::Stop);
            }
            reason::BUDGET => {
                self.because(
                    "the budget is used up: nothing new is started, and what runs works on to its end",
                    told.as_ref(),
                );
                self.budget();
                self.named_runs(&active);
                self.linked();
                self.change_by_itself("the loop ends when they have ended");
                self.stop_of(&active);
            }
            reason::WAIT_LOOPS => {
                self.because("as many loops are driven as the root allows (limits.max_tasks)", told.as_ref());
                self.change_by_itself("the loop goes on when another one ends");
            }
            other => {
                self.because(format!("the loop waits: {}{until}", quoted(other)), told.as_ref());
                self.named_runs(&active);
                self.change_by_itself(format!("the loop goes on by itself{until}"));
            }
        }
    }

    pub(super) fn blocked(&mut self, why: &str, tasks: &[TaskId]) {
        let told = self.of_task(Told::LoopBlocked);
        // The next links say how each of them stands by now, but not what leads in a circle.
        let seen = |id| matches!(self.look.seen.tasks.get(id), Some(Other::There { .. } | Other::Missing));
        let said = tasks.iter().take(NAMED_MAX).all(seen) && !why.contains(" depends on this task");
        let why = if why.is_empty() || said { String::new() } else { format!(": {}", quoted(why)) };
        let text =
            format!("the loop waits for {} that it depends on{why}", count(tasks.len() as u64, "task"));
        self.because(text, told.as_ref());
        self.dependencies(tasks);
    }

    /// What the tasks that this one depends on are at.
    pub(super) fn dependencies(&mut self, tasks: &[TaskId]) {
        for id in tasks.iter().take(NAMED_MAX) {
            match self.look.seen.tasks.get(id) {
                Some(Other::Missing) => {
                    self.because_of_task(format!("task {id} is not there"), id);
                    self.change_by_itself(format!("make task {id}, or start this task without it"));
                }
                Some(Other::Unreadable(error)) => {
                    self.because_of_task(format!("task {id} cannot be read: {error}"), id);
                }
                Some(Other::There { status, reason }) => {
                    self.because_of_task(format!("task {}", words_of_task(id, *status, reason)), id);
                    let text = match status {
                        TaskStatus::Failed | TaskStatus::Stopped => {
                            "mend what it waits for: it goes on when that is completed"
                        }
                        TaskStatus::Created => "start what it waits for",
                        TaskStatus::Blocked
                        | TaskStatus::Queued
                        | TaskStatus::Running
                        | TaskStatus::Waiting
                        | TaskStatus::BackingOff
                        | TaskStatus::Completed => "see what it waits for",
                    };
                    self.change(text, Act::WhyTask(id.clone()));
                }
                None => self.because_of_task(format!("it depends on task {id}"), id),
            }
        }
        self.more(tasks.len());
    }

    /// The agents that are passed over, for what, and the run that showed it.
    pub(super) fn degraded(&mut self) {
        let newest = self.of_task(Told::AgentDegraded);
        let is_newest =
            |agent: &str| matches!(&newest, Some((_, Event::AgentDegraded(told))) if told.agent == agent);
        let agents = self.look.task.ralph.degraded.iter().take(NAMED_MAX);
        let agents: Vec<_> = agents.map(|(agent, how)| (agent.clone(), how.clone())).collect();
        for (agent, how) in agents {
            let told = newest.as_ref().filter(|_| is_newest(&agent));
            let what = match &how.run {
                Some(_) => format!("its run failed ({})", how.error_class),
                // There is no run that says more: the event does.
                None => told
                    .and_then(|(message, _)| message.content.body.lines().next()?.split_once(" until "))
                    .and_then(|(_, said)| Some(said.split_once(": ")?.1.to_owned()))
                    .unwrap_or_else(|| how.error_class.clone()),
            };
            let text =
                format!("agent {agent} is passed over until {}: {}", whole_seconds(how.until), quoted(&what));
            self.because(text, told);
            if let (Some(because), Some(run)) = (self.causes.last_mut(), how.run) {
                because.run_id = Some(run);
            }
        }
        if let Some(last) = &self.look.task.ralph.last_root {
            self.run_named(last);
        }
        self.see_to_agents();
    }

    /// What a person can do for agents that are passed over; a limit passes by itself.
    pub(super) fn see_to_agents(&mut self) {
        let agents = self.look.task.ralph.degraded.iter().take(NAMED_MAX);
        let ways: Vec<_> = agents.filter_map(|(agent, how)| way_out(agent, &how.error_class)).collect();
        for way in ways {
            self.change_by_itself(way);
        }
    }

    /// What was last said of the budget.
    pub(super) fn budget(&mut self) {
        let told = self.of_task(Told::LoopBudget);
        let Some(budget) = &self.look.task.ralph.budget else { return };
        let used = match budget.percent {
            100 => "all of the budget is used".to_owned(),
            percent => format!("{percent} % of the budget are used"),
        };
        self.because(format!("{used} ({budget})"), told.as_ref());
    }

    /// The open questions that hold the loop, else all blocking ones.
    pub(super) fn questions(&mut self) {
        let task = self.look.task;
        let blocking = task.thread.open_questions.iter().filter(|(_, question)| question.blocking);
        let of_root = |question: &Question| question.run.is_some() && question.run == task.ralph.last_root;
        let (own, others): (Vec<_>, Vec<_>) = blocking.partition(|(_, question)| of_root(question));
        let asked = if own.is_empty() { others } else { own };
        for (id, question) in asked.iter().rev().take(NAMED_MAX) {
            let who = question.run.as_ref().map_or("somebody".to_owned(), |run| format!("run {run}"));
            self.because_asked(format!("{who} asks: {}", quoted(&question.text)), id, question);
            self.change("answer it", Act::Answer((*id).clone()));
        }
    }

    /// How many runs of the task, and runs and loops of other tasks, are waited for.
    fn children(&self, runs: usize) -> String {
        let own = count(runs as u64, "active child run");
        let elsewhere = match self.look.task.open_links().count() {
            0 => return own,
            1 => "1 child in another task".to_owned(),
            links => format!("{links} children in other tasks"),
        };
        if runs == 0 { elsewhere } else { format!("{own} and {elsewhere}") }
    }

    /// Runs and loops of other tasks that this task waits for too.
    fn linked(&mut self) {
        self.linked_from(|_| true);
    }

    /// Those that the runs started of which this is true.
    pub(super) fn linked_from(&mut self, parent: impl Fn(Option<&RunId>) -> bool) {
        let links = self.look.task.open_links().filter(|(_, link)| parent(link.parent.as_ref()));
        let open: Vec<_> = links.map(|(_, link)| link.child.clone()).collect();
        for child in open.iter().take(NAMED_MAX) {
            let run = child.child_run_id.as_ref().map(|run| format!("run {run} of ")).unwrap_or_default();
            let state = match self.look.seen.tasks.get(&child.child_task_id) {
                Some(Other::There { status, .. }) => format!(", and is {status}"),
                Some(Other::Missing) => ", and is not there any more".to_owned(),
                Some(Other::Unreadable(_)) | None => String::new(),
            };
            let task = &child.child_task_id;
            let text = format!("{run}task {}/{task} was started from here{state}", child.child_project_id);
            self.because_of_task(text, task);
            self.change("see what it is at", Act::WhyTask(task.clone()));
        }
        self.more(open.len());
    }

    /// One link for each run: what it is and how it stands.
    pub(super) fn named_runs(&mut self, runs: &[RunId]) {
        for id in runs.iter().take(NAMED_MAX) {
            let Some(run) = self.look.task.runs.get(id) else { continue };
            let told = self.of_run(run, Told::RunStart).or_else(|| self.of_run(run, Told::RunIntent));
            let text = self.words_of_active(id, run);
            self.because_of_run(text, id, told.as_ref());
        }
        self.more(runs.len());
    }

    fn stop_of(&mut self, runs: &[RunId]) {
        for id in runs.iter().take(NAMED_MAX) {
            self.change("see what it is at", Act::WhyRun(id.clone()));
        }
        if let [only] = runs {
            self.change("stop it", Act::StopRun(only.clone()));
        }
    }

    fn more(&mut self, named: usize) {
        if let Some(more @ 1..) = named.checked_sub(NAMED_MAX) {
            self.because(format!("… and {more} more"), None);
        }
    }

    /// A rejection of DONE that this root run was told of, or led to.
    pub(super) fn rejected_since(&mut self, last: &RunId) {
        if self.was_rejected_since(last) {
            self.rejected();
        }
    }

    pub(super) fn was_rejected_since(&self, last: &RunId) -> bool {
        let rejected = self.look.task.evidence.of(Told::DoneRejected);
        let begun = self.look.task.runs.get(last).and_then(|run| run.evidence.of(Told::RunIntent));
        rejected > begun
    }
}

/// A task as its dependants' events tell of it.
fn words_of_task(id: &TaskId, status: TaskStatus, reason: &str) -> String {
    let reason =
        if reason.is_empty() || reason == status.as_str() { String::new() } else { format!(" ({reason})") };
    format!("{id} is {status}{reason}")
}

/// What a person can do for an agent that fails for reasons of its own.
pub(super) fn way_out(agent: &str, class: &str) -> Option<String> {
    match ErrorClass::read(class)? {
        ErrorClass::Auth => Some(format!(
            "give agent {agent} a token that is accepted (token or token_file in the config), or sign in with its own program, if it has one"
        )),
        ErrorClass::NotFound => Some(format!("install agent {agent}, or put its program on PATH")),
        ErrorClass::Usage => Some(format!("mend the args or the model of agent {agent} in the config")),
        ErrorClass::UsageLimit
        | ErrorClass::RateLimit
        | ErrorClass::Overloaded
        | ErrorClass::Network
        | ErrorClass::ContextTooLong
        | ErrorClass::Sandbox
        | ErrorClass::Killed
        | ErrorClass::Oom
        | ErrorClass::Crash
        | ErrorClass::Unknown => None,
    }
}

/// A moment as it is told: nobody waits for nanoseconds.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
