//! May this be done? The only place that refuses. Each question is asked under the append lock, of a world that has
//! seen every entry, so that the answer still holds when the event is appended.

use crate::event::{Done, DoneCleared, Event};
use crate::id::{MsgId, RunId};
use crate::message::Kind;
use crate::plan::reason;
use crate::policy::budget::{Budget, Spent};
use crate::store::{Condition, Entry};
use crate::world::{Marker, Run, RunState, StopRequest, Task, answers};

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the task is being stopped since {since} (asked by {by}); wait until it has stopped, or ask again with `run-agent stop`"
    )]
    Stopping { since: String, by: String },
    #[error("root run {0} is still active")]
    RootActive(RunId),
    #[error("run {0} with this key exists already")]
    KeyTaken(RunId),
    #[error("run {0} has ended already")]
    RunEnded(RunId),
    #[error("run {0} has started already")]
    RunStarted(RunId),
    #[error("a stop of run {0} was asked for before it started")]
    RunStopping(RunId),
    #[error("run {0} is not known in this task")]
    UnknownRun(RunId),
    #[error("run {0}, for which it would be started, is being stopped")]
    ParentStopping(RunId),
    #[error(
        "delegation depth {depth} is above the limit of {max}; do the work in this run, or give it back to the parent"
    )]
    TooDeep { depth: u32, max: u32 },
    #[error(
        "{0} is a type that only run-agent itself posts; post a type of your own, such as FACT or PROGRESS"
    )]
    ToolKind(Kind),
    #[error("the task was deleted")]
    Deleted,
    #[error(
        "the budget of the task is used up ({limit}); raise it in the configuration, or start it anew with `run-agent resume`"
    )]
    BudgetUsedUp { limit: String },
    #[error("the loop is not open")]
    LoopNotOpen,
    /// What was to be posted is so already, or no longer matters.
    #[error("there is nothing left to do")]
    Moot,
    #[error("another driver took the loop")]
    LoopTaken,
    #[error("run {0} is active")]
    RunActive(RunId),
    #[error("its loop is open")]
    LoopOpen,
    #[error("run {0} is the newest one, which tells how the task stands")]
    NewestRun(RunId),
    #[error("{0} elsewhere, which it started, has not ended")]
    LinkActive(String),
}

/// What a new run is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewRun<'a> {
    /// A root run of the loop's.
    pub root: bool,
    pub key: Option<&'a str>,
    /// The run that starts it.
    pub parent: Option<&'a RunId>,
    pub depth: u32,
    pub max_depth: u32,
    /// What the task may use; none for a command that uses no tokens.
    pub budget: Option<Budget>,
}

/// May this run be intended?
///
/// # Errors
/// Says why not; [`Refusal::KeyTaken`] names the run to use instead.
pub fn may_make_run(task: &Task, new: NewRun<'_>) -> Result<(), Refusal> {
    if task.deleted {
        return Err(Refusal::Deleted);
    }
    if let Some(run) = new.key.and_then(|key| task.run_with_key(key)) {
        return Err(Refusal::KeyTaken(run.clone()));
    }
    if let Some(stop) = &task.ralph.stopping {
        return Err(Refusal::Stopping { since: stop.at.to_string(), by: stop.how.by.clone() });
    }
    if let Some(stopping) = new.parent.and_then(|parent| stopping_ancestor(task, parent)) {
        return Err(Refusal::ParentStopping(stopping.clone()));
    }
    may_spend(task, new.budget)?;
    if new.max_depth > 0 && new.depth > new.max_depth {
        return Err(Refusal::TooDeep { depth: new.depth, max: new.max_depth });
    }
    if new.root {
        if let Some(active) = task.active_root() {
            return Err(Refusal::RootActive(active.clone()));
        }
        if !task.ralph.is_open() {
            return Err(Refusal::LoopNotOpen);
        }
    }
    Ok(())
}

/// Is anything left of what the task may use? Asked also of the tasks above one in which something is to start.
///
/// # Errors
/// When a limit is used up.
pub fn may_spend(task: &Task, budget: Option<Budget>) -> Result<(), Refusal> {
    match budget.and_then(|budget| used_up(task, budget)) {
        Some(limit) => Err(Refusal::BudgetUsedUp { limit: limit.to_owned() }),
        None => Ok(()),
    }
}

/// The limit that is used up: by the task's own runs, or as its loop said of the whole tree. A limit that was raised since is
/// none.
fn used_up(task: &Task, budget: Budget) -> Option<&'static str> {
    let own = Spent::of(&task.usage).since(task.ralph.own_before);
    let told = task
        .ralph
        .budget
        .as_ref()
        .filter(|_| task.ralph.is_open())
        .map(|told| Spent { tokens: told.tokens, cost: told.cost_usd.unwrap_or_default() });
    let reached = |spent| budget.reached(spent).filter(|reached| reached.percent >= 100);
    reached(own).or_else(|| told.and_then(reached)).map(|reached| reached.limit)
}

/// May this run start something in another task?
///
/// # Errors
/// While the task, or the run with what hangs below it, is being stopped, and when its budget is used up.
pub fn may_link(task: &Task, run: &RunId, budget: Option<Budget>) -> Result<(), Refusal> {
    if let Some(stop) = &task.ralph.stopping {
        return Err(Refusal::Stopping { since: stop.at.to_string(), by: stop.how.by.clone() });
    }
    match stopping_ancestor(task, run) {
        Some(stopping) => Err(Refusal::ParentStopping(stopping.clone())),
        None => may_spend(task, budget),
    }
}

/// The nearest run from `run` upwards that is being stopped together with what hangs below it.
fn stopping_ancestor<'a>(task: &'a Task, run: &'a RunId) -> Option<&'a RunId> {
    let mut at = run;
    // Bounded: parents that a hand wrote may name each other in a circle.
    for _ in 0..=task.runs.len() {
        let known = task.runs.get(at)?;
        if known.stopping.as_ref().is_some_and(|stopping| !stopping.keep_children) {
            return Some(at);
        }
        at = known.parent.as_ref()?;
    }
    None
}

/// May the agent of this run be let go?
///
/// # Errors
/// When the run has started or ended already, or a stop was asked for in the meantime.
pub fn may_start_run(task: &Task, id: &RunId) -> Result<(), Refusal> {
    let run = task.runs.get(id).ok_or_else(|| Refusal::UnknownRun(id.clone()))?;
    match &run.state {
        RunState::Ended { .. } => Err(Refusal::RunEnded(id.clone())),
        RunState::Running { .. } => Err(Refusal::RunStarted(id.clone())),
        RunState::Queued { .. } if run.stopping.is_some() || task.ralph.stopping.is_some() => {
            Err(Refusal::RunStopping(id.clone()))
        }
        RunState::Queued { .. } => Ok(()),
    }
}

/// May people be warned of the version that an agent's run is about to start with?
///
/// # Errors
/// When a run of the task has started with it before: they were.
pub fn may_warn_of_version(task: &Task, agent: &str, version: &str) -> Result<(), Refusal> {
    let known = |run: &Run| run.agent == agent && run.agent_version() == Some(version);
    if task.runs.values().any(known) { Err(Refusal::Moot) } else { Ok(()) }
}

/// May this run be called idle, active or stuck?
///
/// # Errors
/// When it does not run, or a stop was asked for: the stop wins.
pub fn may_call_silent(task: &Task, id: &RunId) -> Result<(), Refusal> {
    let run = task.runs.get(id).ok_or_else(|| Refusal::UnknownRun(id.clone()))?;
    match &run.state {
        RunState::Ended { .. } => Err(Refusal::RunEnded(id.clone())),
        RunState::Queued { .. } => Err(Refusal::Moot),
        RunState::Running { .. } if run.stopping.is_some() || task.ralph.stopping.is_some() => {
            Err(Refusal::RunStopping(id.clone()))
        }
        RunState::Running { .. } => Ok(()),
    }
}

/// May this run's end be posted? Exactly one is.
///
/// # Errors
/// When it has ended already.
pub fn may_end_run(task: &Task, id: &RunId) -> Result<(), Refusal> {
    match task.runs.get(id) {
        None => Err(Refusal::UnknownRun(id.clone())),
        Some(run) if run.is_active() => Ok(()),
        Some(_) => Err(Refusal::RunEnded(id.clone())),
    }
}

/// May a new supervisor take over this run?
///
/// # Errors
/// When its agent was never let go, or the run has ended.
pub fn may_take_over(task: &Task, id: &RunId) -> Result<(), Refusal> {
    match task.runs.get(id).map(|run| &run.state) {
        None => Err(Refusal::UnknownRun(id.clone())),
        Some(RunState::Running { .. }) => Ok(()),
        Some(RunState::Ended { .. }) => Err(Refusal::RunEnded(id.clone())),
        Some(RunState::Queued { .. }) => Err(Refusal::Moot),
    }
}

/// May a driver take the loop?
///
/// # Errors
/// While a stop of the task has not come to its end: nothing may start in a tree that is being stopped. One that nothing
/// is left to do for is ended before anybody asks ([`is_lone_stop_over`]).
pub fn may_start_loop(task: &Task) -> Result<(), Refusal> {
    match &task.ralph.stopping {
        _ if task.deleted => Err(Refusal::Deleted),
        Some(stop) => Err(Refusal::Stopping { since: stop.at.to_string(), by: stop.how.by.clone() }),
        None => Ok(()),
    }
}

/// Has a stop that no driver looks after come to its end, or a loop whose root run was stopped? When nothing of the whole
/// tree is active any more, here or in the tasks that it reaches.
#[must_use]
pub fn is_lone_stop_over(task: &Task) -> bool {
    let ralph = &task.ralph;
    let ends = ralph.stopping.is_some() || (ralph.is_open() && ralph.stopped_root.is_some());
    ends && is_at_rest(task)
}

/// Nothing of the task is active, and nothing that it started in other tasks, as far as its stream tells.
#[must_use]
pub fn is_at_rest(task: &Task) -> bool {
    task.active().next().is_none() && task.open_links().next().is_none()
}

/// May DONE be rejected because of this run's end? Once for each DONE.
///
/// # Errors
/// When the run was no verify run of the DONE that stands.
pub fn may_reject_done(task: &Task, verify: &RunId) -> Result<(), Refusal> {
    let done = task.done.as_ref().ok_or(Refusal::Moot)?;
    let run = task.runs.get(verify).ok_or_else(|| Refusal::UnknownRun(verify.clone()))?;
    let of_this = run.key.as_ref().is_some_and(|key| key.starts_with(&format!("verify:{}:", done.id)));
    if of_this && task.ralph.is_open() && task.ralph.stopping.is_none() { Ok(()) } else { Err(Refusal::Moot) }
}

/// May a driver take up a loop that lost its driver, without a person's asking for this very task?
///
/// # Errors
/// Unless the loop is open. One that was stopped, or whose root run was, starts nothing any more.
pub fn may_adopt_loop(task: &Task) -> Result<(), Refusal> {
    may_start_loop(task)?;
    let ralph = &task.ralph;
    if ralph.is_open() && ralph.stopping.is_none() && ralph.stopped_root.is_none() {
        Ok(())
    } else {
        Err(Refusal::LoopNotOpen)
    }
}

/// May the loop's end be posted, for this reason, by the driver with this pid?
///
/// # Errors
/// When the loop has ended, or another driver took it; [`Refusal::Moot`] where a stop was asked for since the driver looked:
/// the loop ends with that one, when the whole tree has ended. An interrupted driver leaves the stop standing.
pub fn may_end_loop(task: &Task, driver: Option<(u32, &str)>, why: &str) -> Result<(), Refusal> {
    if !task.ralph.is_open() && task.ralph.stopping.is_none() {
        return Err(Refusal::LoopNotOpen);
    }
    let ends_a_stop = |stop: &StopRequest| match why {
        reason::STOPPED | reason::INTERRUPTED => true,
        reason::BUDGET => task.ralph.is_stop_of_budget(&stop.how),
        _ => false,
    };
    if task.ralph.stopping.as_ref().is_some_and(|stop| !ends_a_stop(stop)) {
        return Err(Refusal::Moot);
    }
    match (driver, &task.ralph.driver) {
        (Some((pid, boot)), Some(now))
            if task.ralph.is_open() && (now.driver_pid, now.boot_id.as_str()) != (pid, boot) =>
        {
            Err(Refusal::LoopTaken)
        }
        _ => Ok(()),
    }
}

/// May this driver say that the loop is completed?
///
/// # Errors
/// As [`may_end_loop`]; [`Refusal::Moot`] where DONE is gone, a stop was asked for, or something was started since the
/// driver looked: then it looks again.
pub fn may_complete_loop(task: &Task, driver: Option<(u32, &str)>) -> Result<(), Refusal> {
    may_end_loop(task, driver, reason::DONE)?;
    if task.done.is_some() && task.ralph.stopping.is_none() && is_at_rest(task) {
        Ok(())
    } else {
        Err(Refusal::Moot)
    }
}

/// May this run be deleted? What is active is not, nor what something active hangs on, nor the run that tells how the task
/// stands.
///
/// # Errors
/// Says why not; [`Refusal::UnknownRun`] when it was deleted already.
pub fn may_delete_run(task: &Task, id: &RunId) -> Result<(), Refusal> {
    if task.deleted {
        return Err(Refusal::Deleted);
    }
    let run = task.runs.get(id).ok_or_else(|| Refusal::UnknownRun(id.clone()))?;
    if run.is_active() {
        return Err(Refusal::RunActive(id.clone()));
    }
    if task.ralph.is_open() || task.ralph.stopping.is_some() {
        return Err(Refusal::LoopOpen);
    }
    if task.runs.newest().is_some_and(|(newest, _)| newest == id) {
        return Err(Refusal::NewestRun(id.clone()));
    }
    if let Some((name, _)) = task.open_links().find(|(_, link)| link.parent.as_ref() == Some(id)) {
        return Err(Refusal::LinkActive(name.to_owned()));
    }
    let hangs_on_it = |active: &RunId| task.runs.get(active).is_some_and(|run| is_above(task, id, run));
    match task.active().find(|(active, _)| hangs_on_it(active)) {
        Some((below, _)) => Err(Refusal::RunActive(below.clone())),
        None => Ok(()),
    }
}

/// Is `run` the parent of `below`, or a parent's parent?
fn is_above(task: &Task, run: &RunId, below: &Run) -> bool {
    let mut at = below.parent.as_ref();
    // Bounded: parents that a hand wrote may name each other in a circle.
    for _ in 0..=task.runs.len() {
        match at {
            Some(parent) if parent == run => return true,
            Some(parent) => at = task.runs.get(parent).and_then(|run| run.parent.as_ref()),
            None => return false,
        }
    }
    false
}

/// May this task be deleted, with its whole history?
///
/// # Errors
/// Says what of it is active; [`Refusal::Deleted`] when it says of itself that it is deleted.
pub fn may_delete_task(task: &Task) -> Result<(), Refusal> {
    if task.deleted {
        return Err(Refusal::Deleted);
    }
    if let Some((run, _)) = task.active().next() {
        return Err(Refusal::RunActive(run.clone()));
    }
    if task.ralph.is_open() || task.ralph.stopping.is_some() {
        return Err(Refusal::LoopOpen);
    }
    match task.open_links().next() {
        Some((name, _)) => Err(Refusal::LinkActive(name.to_owned())),
        None => Ok(()),
    }
}

/// May somebody outside post this type?
///
/// # Errors
/// For the tool's own types: nobody forges a lifecycle.
pub fn may_post(kind: &Kind) -> Result<(), Refusal> {
    if kind.is_tool_own() { Err(Refusal::ToolKind(kind.clone())) } else { Ok(()) }
}

/// May this question be answered by somebody who found it open? Only as long as nobody else did: it is shown what stands
/// behind the question.
#[derive(Debug)]
pub struct MayAnswer<'a> {
    question: &'a MsgId,
    open: bool,
}

impl<'a> MayAnswer<'a> {
    #[must_use]
    pub fn new(question: &'a MsgId) -> Self {
        Self { question, open: true }
    }
}

impl Condition for MayAnswer<'_> {
    fn see(&mut self, entry: &Entry) {
        self.open &= !answers(&entry.message, self.question);
    }

    fn agrees(&mut self) -> bool {
        self.open
    }
}

/// The event that is due when marker and stream disagree: the marker wins.
#[must_use]
pub fn marker_event(task: &Task, marker: Marker, by: &str) -> Option<Event> {
    match (marker, task.done.is_some()) {
        (Marker::Present { written }, false) => Some(Event::Done(Done { by: by.to_owned(), written })),
        (Marker::Absent, true) => Some(Event::DoneCleared(DoneCleared { by: by.to_owned(), resume: false })),
        (Marker::Present { .. }, true)
        | (Marker::Absent | Marker::NotAFile, false)
        | (Marker::NotAFile, true) => None,
    }
}
