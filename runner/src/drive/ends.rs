//! The loop's last words, and what a person should know about a loop that failed.

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{Event, LoopEnd, LoopOutcome};
use run_agent_core::layout::DONE;
use run_agent_core::plan::{Dependency, reason};
use run_agent_core::world::Task;
use run_agent_core::{Draft, Kind, Parent};

use super::{DriveError, Driver, Talk, count, facts};
use crate::supervise::os::Machine;
use crate::view::Proposed;
use crate::{failpoint, starting};

impl Driver<'_> {
    /// `None`: something came first that lets the loop go on.
    pub(super) fn end(
        &mut self,
        end: LoopEnd,
        limit: Option<&'static str>,
        unmet: &[Dependency],
        talk: &mut dyn FnMut(Talk<'_>),
    ) -> Result<Option<LoopEnd>, DriveError> {
        let cause = match end.reason.as_str() {
            reason::EXHAUSTED => Cause::Limit(limit.unwrap_or("max_restarts").to_owned()),
            reason::CHILDREN => Cause::Limit("child_wait_timeout".to_owned()),
            reason::DONE | reason::DONE_NOT_A_FILE => Cause::File(DONE.to_owned()),
            reason::BREAKER => Cause::Limit("breaker.trips".to_owned()),
            reason::VERIFY => Cause::Limit("verify_attempts".to_owned()),
            reason::BUDGET => {
                let told = self.view.task().ralph.budget.as_ref();
                Cause::Limit(told.map_or_else(String::new, |told| told.limit.clone()))
            }
            _ => Cause::Process(end.reason.clone()),
        };
        if end.outcome == LoopOutcome::Completed {
            facts::propagate(self.tree, self.view);
            failpoint::here("driver.facts");
        }
        let trouble = self.trouble(&end, limit, unmet);
        let line = match end.reason.as_str() {
            reason::STOPPED => format!("loop {}", end.outcome),
            why => format!("loop {}: {why}", end.outcome),
        };
        let posted = self.post_end(&end, &cause, line, trouble)?;
        let new = self.view.refresh()?;
        talk(Talk::New(&new));
        Ok(posted.then_some(end))
    }

    /// What a person should know about a loop that failed.
    fn trouble(&self, end: &LoopEnd, limit: Option<&'static str>, unmet: &[Dependency]) -> Option<String> {
        if end.outcome != LoopOutcome::Failed {
            return None;
        }
        let flags = self.what.flags;
        Some(match end.reason.as_str() {
            reason::EXHAUSTED => format!(
                "the loop gave up: {} reached after {}; see why with `run-agent why{flags}`, go on with `run-agent resume{flags}`",
                limit.unwrap_or("a limit"),
                count(u64::from(end.restarts), "restart")
            ),
            reason::DONE_NOT_A_FILE => format!(
                "{} is not a regular file; remove it, and go on with `run-agent resume{flags}`",
                self.tree.task(&self.view.name).done().display()
            ),
            reason::CHILDREN => format!(
                "DONE is set, but {} had not ended at the end of child_wait_timeout",
                count(self.view.task().active().count() as u64, "child run")
            ),
            reason::DEPENDENCY => {
                let hopeless = unmet.iter().filter(|dependency| dependency.is_hopeless());
                let all: Vec<String> = hopeless.map(ToString::to_string).collect();
                format!("the loop cannot begin: {}; go on with `run-agent resume{flags}`", all.join("; "))
            }
            reason::BREAKER => format!(
                "the loop gave up: the agent failed at once again and again, {} in a row; see why with `run-agent why{flags}`, go on with `run-agent resume{flags}`",
                count(u64::from(self.view.task().ralph.failures), "time")
            ),
            reason::VERIFY => format!(
                "the loop gave up: DONE was rejected {}; see the verify runs with `run-agent status{flags}`, go on with `run-agent resume{flags}`",
                count(u64::from(self.view.task().ralph.rejections), "time")
            ),
            reason::NO_AGENT => format!(
                "no agent is left that can be started ({}); mend that, and go on with `run-agent resume{flags}`",
                self.passed_over()
            ),
            reason::BUDGET => format!(
                "the loop gave up: the budget is used up ({}); see what used it with `run-agent status{flags}`, raise it or go on with it anew by `run-agent resume{flags}`",
                self.budget_limit()
            ),
            other => format!("the loop failed: {other}"),
        })
    }

    /// `limits.max_tokens: 1200 tokens`.
    fn budget_limit(&self) -> String {
        let told = self.view.task().ralph.budget.as_ref();
        told.map_or("limits".to_owned(), |told| match told.cost_usd.filter(|cost| cost.micros > 0) {
            Some(cost) => format!("{}: {} tokens, {cost} USD", told.limit, told.tokens),
            None => format!("{}: {} tokens", told.limit, told.tokens),
        })
    }

    /// `claude: auth, codex: not_found`.
    fn passed_over(&self) -> String {
        let degraded = &self.view.task().ralph.degraded;
        let names = self.what.pool.names.iter();
        let why = |name: &String| match degraded.get(name) {
            Some(degraded) => format!("{name}: {}", degraded.error_class),
            None => format!("{name}: has no weight"),
        };
        names.map(why).collect::<Vec<_>>().join(", ")
    }

    /// False: it is not over after all.
    fn post_end(
        &mut self,
        end: &LoopEnd,
        cause: &Cause,
        line: String,
        trouble: Option<String>,
    ) -> Result<bool, DriveError> {
        let draft = Event::LoopEnd(end.clone()).draft(&self.scope(), cause, line);
        let boot = Machine::here().boot_id.clone();
        let own = (std::process::id(), boot.as_str());
        let (tree, name) = (self.tree, self.view.name.clone());
        let stays = || end.reason == reason::STOPPED && starting::is_on_its_way(tree, &name);
        let may = |task: &Task| match end.outcome {
            // Looked at under the append lock: a second stop may have come, and with it who is to find it.
            LoopOutcome::Stopped if stays() => Err(Refusal::Moot),
            LoopOutcome::Completed => decide::may_complete_loop(task, Some(own)),
            LoopOutcome::Failed | LoopOutcome::Stopped => decide::may_end_loop(task, Some(own), &end.reason),
        };
        match self.view.propose(vec![draft], may)? {
            Proposed::Appended(entries) => {
                if let (Some(trouble), Some(entry)) = (trouble, entries.first()) {
                    let mut error = Draft::new(
                        Kind::ERROR,
                        self.view.name.project.clone(),
                        Some(self.view.name.task.clone()),
                        trouble,
                    );
                    error.parents = vec![Parent::new(entry.message.id.clone(), Some("about"))];
                    self.view.post(vec![error])?;
                }
                Ok(true)
            }
            Proposed::Refused(Refusal::LoopTaken) => Err(DriveError::Taken(self.view.name.clone())),
            // A child was started, a stop asked for, or DONE taken back, since the look.
            Proposed::Refused(Refusal::Moot) => Ok(false),
            // A stop ended it first.
            Proposed::Refused(_) => Ok(true),
        }
    }

    /// Ctrl-C or SIGTERM: the driver ends, the agent goes on.
    pub(super) fn interrupted(&mut self, talk: &mut dyn FnMut(Talk<'_>)) -> Result<LoopEnd, DriveError> {
        let clock = self.clock.look(self.view.task().active_root().is_some());
        let end = LoopEnd {
            outcome: LoopOutcome::Stopped,
            reason: reason::INTERRUPTED.to_owned(),
            restarts: self.view.task().ralph.restarts,
            active_ms: clock.active_ms,
        };
        let line = "the driver was interrupted; what runs goes on".to_owned();
        self.post_end(&end, &Cause::Signal("SIGINT or SIGTERM".to_owned()), line, None)?;
        let new = self.view.refresh()?;
        talk(Talk::New(&new));
        Ok(end)
    }
}
