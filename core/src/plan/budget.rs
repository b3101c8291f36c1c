//! A budget over a plan that knows none: at its end nothing new is started, and what runs is stopped or waited for.

use super::{Look, RunId, Step, end, reason, wait_runs};
use crate::event::{LoopBudget, LoopOutcome};
use crate::policy::budget::{OnBudget, Reached};
use crate::world::Link;

/// The step that stays within the budget.
pub(super) fn keep_within(look: Look<'_>, step: Step) -> Step {
    let ralph = &look.task.ralph;
    let is_over = matches!(step, Step::End(_)) || ralph.stopping.is_some() || ralph.stopped_root.is_some();
    let Some(reached) = reached(look).filter(|_| !is_over) else { return step };
    if ralph.budget.as_ref().is_none_or(|told| told.percent < reached.percent) {
        return tell(look, reached);
    }
    if reached.percent < 100 {
        return step;
    }
    match step {
        Step::StartRoot { .. } | Step::Pause { .. } | Step::Hold { .. } => nothing_new(look, reached),
        Step::WaitRuns { .. } if stops(look) && !only_verifies(look) => {
            Step::StopForBudget { limit: reached.limit }
        }
        Step::WaitRuns { .. }
        | Step::StopRuns { .. }
        | Step::Degrade { .. }
        | Step::TellBudget(_)
        | Step::StopForBudget { .. }
        | Step::Verify { .. }
        | Step::Reject { .. }
        | Step::End(_) => step,
    }
}

/// Nothing new is started: what runs comes to its own end.
pub(super) fn wait_or_end(look: Look<'_>) -> Step {
    let (active, elsewhere) = at_work(look);
    if active.is_empty() && elsewhere.is_empty() {
        end(look, LoopOutcome::Failed, reason::BUDGET)
    } else {
        wait_runs(look, reason::BUDGET, active, elsewhere, None)
    }
}

/// True when the budget says that no agent may be started any more.
pub(super) fn is_used_up(look: Look<'_>) -> bool {
    reached(look).is_some_and(|reached| reached.percent == 100)
}

fn reached(look: Look<'_>) -> Option<Reached> {
    look.policy.budget.reached(look.spent.since(look.task.ralph.spent_before))
}

fn tell(look: Look<'_>, reached: Reached) -> Step {
    let spent = look.spent.since(look.task.ralph.spent_before);
    Step::TellBudget(LoopBudget {
        percent: reached.percent,
        limit: reached.limit.to_owned(),
        tokens: spent.tokens,
        cost_usd: Some(spent.cost),
    })
}

fn stops(look: Look<'_>) -> bool {
    look.policy.budget.on_budget == OnBudget::Stop
}

/// Commands of the operator's use no tokens.
fn only_verifies(look: Look<'_>) -> bool {
    look.task.open_links().next().is_none() && look.task.active().all(|(_, run)| run.verify.is_some())
}

fn nothing_new(look: Look<'_>, reached: Reached) -> Step {
    let (active, elsewhere) = at_work(look);
    let rests = active.is_empty() && elsewhere.is_empty();
    if stops(look) && !rests { Step::StopForBudget { limit: reached.limit } } else { wait_or_end(look) }
}

fn at_work(look: Look<'_>) -> (Vec<RunId>, Vec<Link>) {
    let active = look.task.active().map(|(id, _)| id.clone()).collect();
    (active, look.task.open_links().map(|(_, link)| link.clone()).collect())
}
