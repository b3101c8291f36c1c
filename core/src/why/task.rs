//! Why a task stands as it does, as far as its loop does not tell.

use super::story::{Story, by, cause_of, count, quoted};
use super::{Act, Driver};
use crate::event::Event;
use crate::id::RunId;
use crate::plan::reason;
use crate::world::{RalphState, RunStatus, StopRequest, Told};

impl Story<'_> {
    pub(super) fn task(&mut self) {
        let task = self.look.task;
        if task.deleted {
            return self.deleted();
        }
        if let Some(stop) = &task.ralph.stopping {
            return self.stopping(stop);
        }
        if self.is_of_jobs() {
            return self.jobs();
        }
        if task.ralph.is_open() {
            self.driver();
        }
        match &task.ralph.state {
            RalphState::Never => self.jobs(),
            RalphState::Driven { .. } => self.driven(),
            RalphState::BackingOff { delay_ms, .. } => self.backing_off(*delay_ms),
            RalphState::Waiting { reason, until, .. } => self.waiting(reason, *until),
            RalphState::Blocked { reason, tasks, .. } => self.blocked(reason, tasks),
            RalphState::Cooling { cooldown_ms, .. } => self.cooling(*cooldown_ms),
            RalphState::Ended { outcome, reason, .. } => self.ended(*outcome, reason),
        }
        // Of one that waits for its budget's end, and of one that ended with it, it is said where it belongs.
        if task.ralph.is_open() && task.reason() != reason::BUDGET {
            self.budget();
        }
    }

    /// No loop gives the task its status: its jobs do. A stop of jobs ends a loop that never was.
    fn is_of_jobs(&self) -> bool {
        let task = self.look.task;
        let newer = |at| task.runs.values().next_back().is_some_and(|run| run.made > at);
        match &task.ralph.state {
            RalphState::Never => true,
            RalphState::Ended { at, .. } => task.ralph.driver.is_none() && newer(*at),
            RalphState::Driven { .. }
            | RalphState::BackingOff { .. }
            | RalphState::Waiting { .. }
            | RalphState::Blocked { .. }
            | RalphState::Cooling { .. } => false,
        }
    }

    fn deleted(&mut self) {
        let told = self.of_task(Told::Deleted);
        let text = match &told {
            Some((_, Event::TaskDeleted(deletion))) if deletion.reason.is_empty() => {
                format!("the task was deleted by {}", deletion.by)
            }
            Some((_, Event::TaskDeleted(deletion))) => {
                format!("the task was deleted by {}: {}", deletion.by, deletion.reason)
            }
            Some(_) | None => "the task was deleted".to_owned(),
        };
        self.because(text, told.as_ref());
    }

    fn stopping(&mut self, stop: &StopRequest) {
        let active: Vec<_> = self.look.task.active().map(|(id, _)| id.clone()).collect();
        let told = self.of_task(Told::LoopStopping);
        let left = match active.len() {
            0 => "nothing runs any more, and the loop's end is due".to_owned(),
            n => format!("{} not ended yet", have(n as u64, "run")),
        };
        let for_budget = self.look.task.ralph.is_stop_of_budget(&stop.how);
        let text = if for_budget {
            format!("the budget is used up, and what runs is stopped; {left}")
        } else {
            format!("a stop of the whole task was asked for by {}; {left}", stop.how.by)
        };
        self.because(text, told.as_ref());
        if for_budget {
            self.budget();
        }
        self.named_runs(&active);
        self.change_by_itself(format!(
            "processes get {} s after SIGTERM before they are killed",
            stop.how.grace_ms / 1000
        ));
        self.change("skip what is left of the grace period", Act::StopForce);
    }

    /// Said first where it is so: without a driver the rest does not move.
    fn driver(&mut self) {
        match self.look.seen.driver {
            Driver::NotLookedAt | Driver::Alive => {}
            Driver::Gone => {
                let told = self.of_task(Told::LoopStart);
                let pid = self.look.task.ralph.driver.as_ref().map(|driver| driver.driver_pid);
                let pid = pid.filter(|pid| *pid > 0).map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                self.because(
                    format!("nobody drives the loop: its driver{pid} ended without saying so"),
                    told.as_ref(),
                );
                self.change("go on with the loop where it stands", Act::Task);
                self.change("go on with every loop whose driver died", Act::Adopt);
                if self.look.task.active().next().is_none() {
                    self.change("end the loop", Act::Stop);
                }
            }
            Driver::Foreign => {
                let told = self.of_task(Told::LoopStart);
                self.because("the loop is driven on another machine or in another container", told.as_ref());
                self.change_by_itself("look from there: from here nobody can tell whether it lives");
            }
        }
    }

    fn jobs(&mut self) {
        let task = self.look.task;
        // What is at work gives the task its status, whatever waits beside it.
        let at_work = task.active().filter(|(_, run)| run.status() == RunStatus::Running).last();
        let newest = at_work.or_else(|| task.active().last()).or_else(|| task.runs.iter().next_back());
        if let Some((id, run)) = newest {
            self.run(id, run);
            let others = task.active().filter(|(other, _)| *other != id && run.is_active());
            let others: Vec<RunId> = others.map(|(id, _)| id.clone()).collect();
            return self.named_runs(&others);
        }
        let told = self.of_task(Told::Created);
        match &told {
            Some((message, _)) => {
                let who = cause_of(message).map(|cause| format!(" {}", by(&cause))).unwrap_or_default();
                self.because(
                    format!("the task was made{who}, and nothing was started for it"),
                    told.as_ref(),
                );
            }
            None if task.thread.messages() == 0 => {
                self.because("nothing was ever told about the task: its stream is empty", None);
            }
            None => self.because("nothing was ever started for the task", None),
        }
        self.change("start its loop", Act::Task);
    }

    /// Who said DONE.
    pub(super) fn done(&mut self) {
        let Some(mark) = &self.look.task.done else { return };
        let told = self.of_task(Told::Done);
        let who = match &told {
            Some((_, Event::Done(done))) if done.by == "file" => {
                "a DONE file was found that was not made by `run-agent done`".to_owned()
            }
            Some((message, Event::Done(done))) => match &message.content.run {
                Some(run) => format!("run {run} said DONE"),
                None => format!("user {} said DONE", done.by),
            },
            Some(_) | None => "DONE was said".to_owned(),
        };
        let Some(told) = told else { return self.because_known(who, &mark.id, mark.at) };
        let text = if mark.late_results && !mark.root_started {
            format!("{who}; a child ended or posted after it")
        } else {
            who
        };
        self.because(text, Some(&told));
    }

    /// The newest rejection of DONE.
    pub(super) fn rejected(&mut self) {
        let told = self.of_task(Told::DoneRejected);
        if let Some((_, Event::DoneRejected(rejected))) = &told {
            let output = rejected.output.trim_end().lines().next_back().map(quoted).unwrap_or_default();
            let output = if output.is_empty() { output } else { format!(": {output}") };
            let text = format!(
                "DONE was rejected: `{}` ended with {}{output}",
                quoted(&rejected.command),
                rejected.exit_code
            );
            self.because(text, told.as_ref());
        }
    }
}

/// `1 run has`, `2 runs have`.
pub(super) fn have(n: u64, what: &str) -> String {
    format!("{} {}", count(n, what), if n == 1 { "has" } else { "have" })
}
