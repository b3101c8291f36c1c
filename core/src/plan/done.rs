//! What comes between DONE and the loop's end: children, a catch-up, the verify commands.

use super::{
    Choice, Look, RunId, Start, Step, budget, end, exhausted, pick, reason, start_root, wait_for_agents,
    wait_runs,
};
use crate::event::{LoopOutcome, RunOutcome};
use crate::id::MsgId;
use crate::policy::AfterChildren;
use crate::world::{DoneMark, Link};

pub(super) fn after(look: Look<'_>, done: &DoneMark, active: Vec<RunId>, elsewhere: Vec<Link>) -> Step {
    let is_verify = |id: &RunId| look.task.runs.get(id).is_some_and(|run| run.verify.is_some());
    if elsewhere.is_empty() && !active.is_empty() && active.iter().all(is_verify) {
        return Step::WaitRuns { runs: active, elsewhere, reason: None, event: None, look_again_ms: None };
    }
    if !(active.is_empty() && elsewhere.is_empty()) {
        return wait_for_children(look, active, elsewhere);
    }
    let late =
        look.policy.after_children == AfterChildren::CatchUp && done.late_results && !done.root_started;
    late.then(|| catch_up(look))
        .flatten()
        .or_else(|| verify(look, &done.id))
        .unwrap_or_else(|| end(look, LoopOutcome::Completed, reason::DONE))
}

/// The root is started once more to take late results in, unless a limit or the lack of an agent stands against it.
fn catch_up(look: Look<'_>) -> Option<Step> {
    if exhausted(&look.task.ralph, look.policy, look.clock).is_some() || budget::is_used_up(look) {
        return None;
    }
    match pick(look) {
        Choice::Agent(agent) => Some(start_root(look, agent, Start::CatchUp)),
        Choice::Later { until, class } => Some(wait_for_agents(look, until, &class)),
        Choice::Never { .. } => None,
    }
}

/// So often a verify command is started that was lost with its supervisor: it says nothing of DONE.
const VERIFY_TRIES: u32 = 3;

/// The first verify command that did not succeed for this DONE. Each is a run, found again by its key: a driver that
/// follows another one takes up what that one started.
fn verify(look: Look<'_>, done: &MsgId) -> Option<Step> {
    look.policy.verify.iter().enumerate().find_map(|(n, command)| {
        let mut lost = None;
        for tries in 0..VERIFY_TRIES {
            let (key, command) = (format!("verify:{done}:{n}:{tries}"), command.clone());
            let Some(id) = look.task.run_with_key(&key) else {
                return Some(Step::Verify { command, key, previous: root_to_verify(look) });
            };
            let (ended, _) = look.task.runs.get(id)?.end()?;
            let exit_code = ended.exit_code.unwrap_or(-1);
            let reject = Step::Reject { run: id.clone(), command, exit_code };
            match ended.status {
                RunOutcome::Completed => return None,
                RunOutcome::Failed if ended.exit_code.is_none() => lost = Some(reject),
                RunOutcome::Failed | RunOutcome::Stopped => return Some(reject),
            }
        }
        lost
    })
}

/// The root run below which verify commands are shown. Below one that was stopped nothing may be started any more, also
/// when the loop was taken up again since.
fn root_to_verify(look: Look<'_>) -> Option<RunId> {
    let root = look.task.ralph.last_root.as_ref()?;
    let stopped = look.task.runs.get(root).is_none_or(|run| run.stopping.is_some());
    (!stopped).then(|| root.clone())
}

fn wait_for_children(look: Look<'_>, active: Vec<RunId>, elsewhere: Vec<Link>) -> Step {
    let limit = look.policy.child_wait_timeout_ms;
    let waited = look.clock.waited_ms(reason::WAIT_CHILDREN);
    if limit > 0 && waited >= limit {
        return end(look, LoopOutcome::Failed, reason::CHILDREN);
    }
    let left = (limit > 0).then(|| limit - waited);
    wait_runs(look, reason::WAIT_CHILDREN, active, elsewhere, left)
}
