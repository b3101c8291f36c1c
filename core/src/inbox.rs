//! What needs a person, as far as a task's or project's own stream tells. What only a look at processes can tell, such as
//! a loop without a driver, is added by whoever looks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error_class::ErrorClass;
use crate::event::LoopOutcome;
use crate::id::{MsgId, RunId};
use crate::plan::reason;
use crate::text;
use crate::world::{Question, RalphState, Run, Task, Told};

/// How many questions of one stream are told: blocking ones first, the newest of them first.
pub const QUESTIONS_MAX: usize = 20;
/// The most of a question's text, in bytes.
const TEXT_MAX: usize = 160;

/// One thing that needs a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Need {
    /// An open question.
    Question {
        msg_id: MsgId,
        since: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run_id: Option<RunId>,
        blocking: bool,
        asker: Asker,
        text: String,
    },
    /// The loop ended without success, and goes on only when somebody says so.
    GaveUp {
        msg_id: MsgId,
        since: Timestamp,
        reason: String,
        /// What the reason is about: the agents that cannot be started, how much of which limit was used.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// An open loop does without this agent, whose account is refused until somebody sees to it.
    Agent {
        agent: String,
        error_class: String,
        since: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run_id: Option<RunId>,
    },
    /// The loop waits for tasks, one of which cannot be completed unless somebody sees to it.
    Blocked { msg_id: MsgId, since: Timestamp, reason: String },
    /// A run that lives gives no sign of life; a stuck one is being ended.
    Silent { run_id: RunId, since: Timestamp, stuck: bool },
}

/// What became of the run that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// A person, or a run of another task.
    Unknown,
    /// It is active, and reads an answer.
    Active,
    /// It was a root run that asked and ended: its loop hands the answer to the next one.
    Loop,
    /// Nobody reads an answer: the run has ended.
    Ended,
}

/// What a task needs a person for.
#[must_use]
pub fn of_task(task: &Task) -> Vec<Need> {
    if task.deleted {
        return Vec::new();
    }
    let mut needs = questions(&task.thread.open_questions, |question| asker(task, question));
    needs.extend(gave_up(task));
    needs.extend(blocked(task));
    needs.extend(refused(task));
    needs.extend(task.active().filter_map(|(id, run)| {
        let stuck = run.evidence.is_after(Told::RunStuck, Told::RunActive);
        run.idle_since.map(|since| Need::Silent { run_id: id.clone(), since, stuck })
    }));
    needs
}

/// The questions of a project's own stream.
#[must_use]
pub fn of_project(open: &BTreeMap<MsgId, Question>) -> Vec<Need> {
    questions(open, |_| Asker::Unknown)
}

fn questions(open: &BTreeMap<MsgId, Question>, asker: impl Fn(&Question) -> Asker) -> Vec<Need> {
    let mut newest: Vec<_> = open.iter().collect();
    newest.sort_by_key(|(id, question)| std::cmp::Reverse((question.blocking, question.asked, *id)));
    let need = |(id, question): (&MsgId, &Question)| Need::Question {
        msg_id: id.clone(),
        since: question.asked,
        run_id: question.run.clone(),
        blocking: question.blocking,
        asker: asker(question),
        text: text::head(question.text.trim(), TEXT_MAX).to_owned(),
    };
    newest.into_iter().take(QUESTIONS_MAX).map(need).collect()
}

fn asker(task: &Task, question: &Question) -> Asker {
    match question.run.as_ref().and_then(|run| task.runs.get(run)) {
        None => Asker::Unknown,
        Some(run) if run.is_active() => Asker::Active,
        Some(run) if run.is_root() && question.blocking && task.ralph.is_open() => Asker::Loop,
        Some(_) => Asker::Ended,
    }
}

/// A loop that failed, until it is taken up again or somebody says that the task is done.
fn gave_up(task: &Task) -> Option<Need> {
    let RalphState::Ended { at, outcome: LoopOutcome::Failed, reason } = &task.ralph.state else {
        return None;
    };
    let settled = task.done.is_some() && reason != reason::CHILDREN;
    let again = task.runs.values().next_back().is_some_and(|run: &Run| run.made > *at);
    if settled || again {
        return None;
    }
    let (msg_id, _) = task.since.clone()?;
    let detail = text::head(&detail(task, reason), TEXT_MAX).to_owned();
    Some(Need::GaveUp { msg_id, since: *at, reason: reason.clone(), detail })
}

fn detail(task: &Task, reason: &str) -> String {
    match (reason, &task.ralph.budget) {
        (reason::BUDGET, Some(told)) => told.to_string(),
        (reason::NO_AGENT, _) => {
            let degraded = task.ralph.degraded.iter();
            let each = degraded.map(|(agent, how)| format!("{agent}: {}", how.error_class));
            each.collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    }
}

/// A limit of an account passes by itself, and a refused account does not.
fn refused(task: &Task) -> impl Iterator<Item = Need> {
    let degraded = task.ralph.degraded.iter().filter(|_| task.ralph.is_open());
    let refused = degraded.filter(|(_, how)| ErrorClass::read(&how.error_class) == Some(ErrorClass::Auth));
    refused.map(|(agent, how)| {
        let run = how.run.as_ref().and_then(|id| task.runs.get(id)).and_then(Run::end);
        Need::Agent {
            agent: agent.clone(),
            error_class: how.error_class.clone(),
            since: run.map_or(how.until, |(_, at)| at),
            run_id: how.run.clone(),
        }
    })
}

fn blocked(task: &Task) -> Option<Need> {
    let RalphState::Blocked { since, reason, hopeless: true, .. } = &task.ralph.state else { return None };
    let (msg_id, _) = task.since.clone()?;
    Some(Need::Blocked { msg_id, since: *since, reason: text::head(reason, TEXT_MAX).to_owned() })
}

#[cfg(test)]
mod tests;
