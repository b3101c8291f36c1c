//! Why a loop has ended as it did.

use super::story::{Story, by, cause_of, count, quoted};
use super::task::have;
use super::{Act, Other};
use crate::cause::Cause;
use crate::event::{Event, LoopOutcome};
use crate::id::{RunId, TaskId};
use crate::message::Message;
use crate::plan::reason;
use crate::world::{Marker, TaskStatus, Told};

impl Story<'_> {
    pub(super) fn ended(&mut self, outcome: LoopOutcome, why: &str) {
        let active: Vec<RunId> = self.look.task.active().map(|(id, _)| id.clone()).collect();
        if !active.is_empty() && why != reason::CHILDREN {
            self.because(format!("{} on without the loop", goes(active.len() as u64)), None);
            self.named_runs(&active);
        }
        let evidence = &self.look.task.evidence;
        if self.look.task.ralph.fresh && evidence.is_after(Told::DoneCleared, Told::LoopEnd) {
            let told = self.of_task(Told::DoneCleared);
            self.because("the task was taken up again since, and its loop was not started", told.as_ref());
            self.change("start its loop", Act::Task);
        }
        match outcome {
            LoopOutcome::Completed => {
                let told = self.of_task(Told::LoopEnd);
                let text = "the loop completed: DONE is set, and nothing that it waits for runs any more";
                self.because(text, told.as_ref());
                self.done();
                self.change("take the task up again", Act::Resume);
            }
            LoopOutcome::Stopped => self.stopped(why),
            LoopOutcome::Failed => self.failed(why, &active),
        }
    }

    fn stopped(&mut self, why: &str) {
        let told = self.of_task(Told::LoopEnd);
        match why {
            reason::INTERRUPTED => {
                let signal = told.as_ref().and_then(|(message, _)| cause_of(message));
                let signal = match signal {
                    Some(Cause::Signal(name)) => format!(" ({name})"),
                    Some(_) | None => String::new(),
                };
                let text = format!("the loop's driver was interrupted{signal}, which ends no run");
                self.because(text, told.as_ref());
                self.change("go on with the loop where it stands", Act::Task);
                if self.look.task.active().next().is_some() {
                    self.change("stop what goes on", Act::Stop);
                }
                return;
            }
            reason::ROOT_STOPPED => {
                self.because("the loop ended because its root run was stopped", told.as_ref());
                let stopped =
                    self.look.task.ralph.stopped_root.as_ref().or(self.look.task.ralph.last_root.as_ref());
                if let Some(stopped) = stopped {
                    self.run_named(stopped);
                }
            }
            // A stop of jobs alone ends a loop that never was: there is nothing to take up again.
            reason::STOPPED if self.look.task.ralph.driver.is_none() => {
                self.because("what ran in the task was stopped", told.as_ref());
                self.stop_of_task();
                return;
            }
            reason::STOPPED => {
                let stopping = self.of_task(Told::LoopStopping);
                let who = match &stopping {
                    Some((_, Event::LoopStopping(stop))) => format!(" on request of {}", stop.by),
                    Some(_) | None => String::new(),
                };
                self.because(format!("the loop was stopped{who}"), told.as_ref());
                self.stop_of_task();
            }
            other => self.because(format!("the loop was stopped: {}", quoted(other)), told.as_ref()),
        }
        self.change("take the task up again", Act::Resume);
    }

    /// Who asked for the stop of the whole task.
    pub(super) fn stop_of_task(&mut self) {
        let told = self.of_task(Told::LoopStopping);
        if let Some((message, Event::LoopStopping(stop))) = &told {
            let who = cause_of(message).map_or_else(|| format!("by {}", stop.by), |cause| by(&cause));
            self.because(format!("a stop of the whole task was asked for {who}"), told.as_ref());
        }
    }

    fn failed(&mut self, why: &str, active: &[RunId]) {
        let told = self.of_task(Told::LoopEnd);
        let told = told.as_ref();
        match why {
            reason::EXHAUSTED => self.exhausted(told),
            reason::CHILDREN => self.children_outlived(told, active),
            reason::DONE_NOT_A_FILE => self.done_not_a_file(told),
            reason::DEPENDENCY => self.dependency_failed(told),
            reason::BREAKER => self.breaker_gave_up(told),
            reason::VERIFY => {
                self.because("the loop gave up: DONE was rejected once too often", told);
                self.rejected();
                self.see_output();
                self.change("set the counters back and go on", Act::Resume);
            }
            reason::NO_AGENT => {
                self.because("the loop gave up: no agent is left that may be started", told);
                self.degraded();
                self.see_output();
                self.change("mend the agent's installation, token or quota, then go on", Act::Resume);
            }
            reason::BUDGET => {
                self.because("the loop gave up: its budget is used up", told);
                self.budget();
                let asked = self.of_task(Told::LoopStopping);
                if let Some((_, Event::LoopStopping(stop))) = &asked
                    && self.look.task.ralph.is_stop_of_budget(stop)
                {
                    self.because("what ran was stopped for it (loop.on_budget)", asked.as_ref());
                }
                self.last_run();
                self.change("go on with as much again, and with counters set back", Act::Resume);
                self.change_by_itself("or raise the limit in the config before");
            }
            other => {
                self.because(format!("the loop failed: {}", quoted(other)), told);
                self.questions();
                self.last_run();
                self.change("set the counters back and go on", Act::Resume);
            }
        }
    }

    fn exhausted(&mut self, told: Option<&(Message, Event)>) {
        let limit = match told.and_then(|(message, _)| cause_of(message)) {
            Some(Cause::Limit(name)) => name,
            Some(_) | None => "a limit".to_owned(),
        };
        let restarts = match told {
            Some((_, Event::LoopEnd(end))) => end.restarts,
            Some(_) | None => self.look.task.ralph.restarts,
        };
        let restarts = count(u64::from(restarts), "restart");
        self.because(format!("the loop gave up: {limit} was reached after {restarts}"), told);
        self.last_run();
        self.change("set the counters back and go on", Act::Resume);
    }

    fn children_outlived(&mut self, told: Option<&(Message, Event)>, active: &[RunId]) {
        let left = match active.len() {
            0 => "children had not ended".to_owned(),
            n => format!("{} not ended", have(n as u64, "child run")),
        };
        self.because(format!("the loop gave up: DONE is set, but {left} within child_wait_timeout"), told);
        self.named_runs(active);
        self.done();
        self.change("wait for them once more", Act::Resume);
        self.change("stop what still runs", Act::Stop);
    }

    fn done_not_a_file(&mut self, told: Option<&(Message, Event)>) {
        let still = match self.look.seen.marker {
            Some(Marker::NotAFile) => "is",
            Some(Marker::Absent | Marker::Present { .. }) | None => "was",
        };
        let text =
            format!("the loop gave up: DONE {still} a folder or something else that is no regular file");
        self.because(text, told);
        self.change_by_itself("remove it from the task's folder first");
        self.change("then go on", Act::Resume);
    }

    fn dependency_failed(&mut self, told: Option<&(Message, Event)>) {
        self.because("the loop gave up: a task that it depends on cannot be waited for", told);
        let blocked = self.of_task(Told::LoopBlocked);
        let mut tasks = Vec::new();
        if let Some((_, Event::LoopBlocked(said))) = &blocked {
            self.because(format!("it was blocked: {}", quoted(&said.reason)), blocked.as_ref());
            tasks.clone_from(&said.waits_for);
        } else if let Some((text, _)) = &self.look.task.created {
            // It ended without having waited.
            tasks.clone_from(&text.depends_on);
        }
        tasks.retain(|task| !self.is_completed(task));
        self.dependencies(&tasks);
        self.change("go on when that is mended", Act::Resume);
    }

    fn breaker_gave_up(&mut self, told: Option<&(Message, Event)>) {
        self.because("the loop gave up: its breaker opened once too often", told);
        let opened = self.of_task(Told::LoopBreaker);
        if let Some((_, Event::LoopBreaker(breaker))) = &opened {
            let times = count(u64::from(breaker.trips), "time");
            let text = format!("the breaker opened {times}, each after quick failures in a row");
            self.because(text, opened.as_ref());
        }
        self.last_run();
        self.change("mend what the agent fails of, then go on", Act::Resume);
    }

    fn is_completed(&self, task: &TaskId) -> bool {
        let seen = self.look.seen.tasks.get(task);
        matches!(seen, Some(Other::There { status: TaskStatus::Completed, .. }))
    }

    /// The newest root run, as what the loop's end comes from; before it what became of the DONE that it said.
    fn last_run(&mut self) {
        if let Some(last) = self.look.task.ralph.last_root.clone() {
            self.rejected_since(&last);
            self.run_named(&last);
        }
        self.see_output();
    }

    fn see_output(&mut self) {
        if let Some(last) = &self.look.task.ralph.last_root {
            let rejecting = self.of_task(Told::VerifyStop).filter(|_| self.was_rejected_since(last));
            match rejecting.and_then(|(message, _)| message.content.run) {
                Some(verify) => self.change("see what the verify command said", Act::Output(verify)),
                None => self.change("see what the last run said", Act::Output(last.clone())),
            }
        }
    }
}

/// `1 run goes`, `2 runs go`.
fn goes(n: u64) -> String {
    format!("{} {}", count(n, "run"), if n == 1 { "goes" } else { "go" })
}
