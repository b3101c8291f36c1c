//! The events that the tool itself posts: a closed, typed view of a message (spec, section 3).
//!
//! An [`Event`] becomes a message with its fields as strings in `meta`, beside `cause` and `v`, and one line for
//! people as the body. [`Event::read`] is the way back; it also takes the forms that other tools of the family and
//! older versions write. Messages that people and agents post are [`Event::Posted`].

mod fields;

use std::collections::BTreeMap;

use crate::cause::Cause;
use crate::id::{MsgId, ProjectId, RunId, TaskId};
use crate::message::{Draft, Kind, Message};
pub use fields::{FieldError, Usd};
use fields::{fields, word};
use jiff::Timestamp;

/// The version of the fields below, written as `meta.v`.
pub const FIELDS_VERSION: u32 = 1;

/// The types that are refused from outside. `START` and `STOP` are read as run events when they carry a run id
/// (another tool of the family writes them), so they are refused too.
pub const TOOL_KINDS: [&str; 35] = [
    "PROJECT_CREATED",
    "TASK_CREATED",
    "TASK_UPDATED",
    "TASK_DELETED",
    "RUN_DELETED",
    "RUN_INTENT",
    "RUN_START",
    "RUN_STOP",
    "RUN_CRASH",
    "RUN_STOPPING",
    "LOOP_STOPPING",
    "RUN_PARKED",
    "RUN_IDLE",
    "RUN_STUCK",
    "RUN_ACTIVE",
    "RUN_USAGE",
    "RUN_RETRYING",
    "CHILD_LINK",
    "DONE",
    "DONE_REJECTED",
    "DONE_CLEARED",
    "VERIFY_START",
    "VERIFY_STOP",
    "AGENT_DEGRADED",
    "LOOP_START",
    "LOOP_RESTART",
    "LOOP_BACKOFF",
    "LOOP_BLOCKED",
    "LOOP_WAITING",
    "LOOP_BREAKER",
    "LOOP_BUDGET",
    "LOOP_END",
    "SUPERVISOR_RESTART",
    "START",
    "STOP",
];

fields! {
    /// A project's folder was made.
    ProjectCreated { source: String, project_root: Option<String> }
    /// A task's folder was made, or its prompt changed.
    TaskText { title: String, source: String, depends_on: Vec<TaskId>, thread_parent: Option<MsgId> }
    /// A task or run was deleted.
    Deletion { by: String, reason: String }
    /// A run is about to be made. `attempt` counts a loop's root runs from 1; a run with none is a job.
    /// The parent's project and task are there when it lives in another task: there a `CHILD_LINK` tells of this run. `verify` is
    /// the verify command that the run is.
    #[derive(Default)]
    RunIntent {
        agent: String,
        attempt: Option<u32>,
        parent_run_id: Option<RunId>,
        parent_project_id: Option<ProjectId>,
        parent_task_id: Option<TaskId>,
        previous_run_id: Option<RunId>,
        key: Option<String>,
        verify: Option<String>,
        depth: u32,
        starter_pid: u32,
        starter_start_ticks: u64,
        machine_id: String,
        boot_id: String,
        pid_namespace: String,
    }
    /// The agent's process exists and is about to be let go. `stream` is the form of what it prints, where that is not for
    /// people as it is. The provider, model and endpoint are those that the agent was set up for.
    #[derive(Default)]
    RunStart {
        agent: String,
        agent_version: Option<String>,
        attempt: Option<u32>,
        parent_run_id: Option<RunId>,
        previous_run_id: Option<RunId>,
        process_ownership: String,
        pid: u32,
        pgid: u32,
        pid_start_ticks: u64,
        supervisor_pid: u32,
        supervisor_start_ticks: u64,
        machine_id: String,
        boot_id: String,
        pid_namespace: String,
        cwd: String,
        commandline: String,
        prompt_path: String,
        output_path: String,
        stdout_path: String,
        stderr_path: String,
        stream: Option<String>,
        backend_provider: Option<String>,
        backend_model: Option<String>,
        backend_endpoint: Option<String>,
    }
    /// A run ended. Exactly one a run counts; `status` is `failed` on `RUN_CRASH` and never on `RUN_STOP`. `retry_at` is when
    /// the account's limit that ended it is over, where the agent said so.
    #[derive(Default)]
    RunEnd {
        status: RunOutcome,
        exit_code: Option<i32>,
        signal: Option<i32>,
        duration_ms: Option<u64>,
        reason: String,
        error_class: Option<String>,
        output_path: Option<String>,
        left_overs: Option<String>,
        retry_at: Option<Timestamp>,
    }
    /// The agent's own calls to its API fail and it tries again, for the time that `attempt` says and `of` so many at the
    /// most; without a class they succeed again.
    #[derive(Default)]
    Retrying { error_class: Option<String>, http_status: Option<u32>, attempt: u32, of: Option<u32>, detail: String }
    /// A stop was asked for.
    #[derive(Default)]
    Stopping { by: String, grace_ms: u64, keep_children: bool }
    /// A run waits for a slot; without `ahead` it got one.
    Parked { ahead: Option<u32> }
    /// A run gave no sign of life for so long, or does again.
    Silence { silent_s: u64 }
    /// What an agent's stream reported. Counts are what this report adds. `incomplete`: more was used than is reported.
    #[derive(Default)]
    Usage {
        model: Option<String>,
        input_tokens: u64,
        output_tokens: u64,
        cached_tokens: u64,
        cost_usd: Option<Usd>,
        session_id: Option<String>,
        incomplete: bool,
    }
    /// A run of this task started a run or loop in another task of the project.
    ChildLink { child_project_id: ProjectId, child_task_id: TaskId, child_run_id: Option<RunId>, link: String, ended: bool }
    /// The marker was first seen; `written` is the file's own time.
    Done { by: String, written: Option<Timestamp> }
    /// A verify command failed.
    DoneRejected { command: String, exit_code: i32, output: String }
    /// The marker is gone; with `resume` the loop's counters start afresh.
    DoneCleared { by: String, resume: bool }
    /// A verify command is about to run, as this run.
    VerifyStart { command: String }
    VerifyStop { command: String, exit_code: i32, duration_ms: u64 }
    AgentDegraded { agent: String, error_class: String, until: Timestamp }
    /// A driver took the loop. `fresh` starts the counters anew. `active_ms` is the loop's own time so far: what it
    /// spent waiting is not in it, nor what the machine slept. `settings` is what the loop was asked for, as JSON, for
    /// whoever adopts it; the parent is the run of another task that started it, and `depth` how many stand above. With
    /// `fresh`, the base is what the task's whole tree had used by then: its budget starts anew.
    #[derive(Default)]
    LoopStart {
        driver_pid: u32,
        driver_start_ticks: u64,
        machine_id: String,
        boot_id: String,
        pid_namespace: String,
        fresh: bool,
        active_ms: u64,
        settings: Option<String>,
        parent_run_id: Option<RunId>,
        parent_project_id: Option<ProjectId>,
        parent_task_id: Option<TaskId>,
        depth: u32,
        base_tokens: Option<u64>,
        base_cost_usd: Option<Usd>,
    }
    LoopRestart { attempt: u32, reason: String, previous_run_id: Option<RunId>, active_ms: u64 }
    LoopBackoff { attempt: u32, delay_ms: u64, failures: u32, reason: String, active_ms: u64 }
    /// `hopeless`: one of these tasks cannot be completed unless somebody sees to it.
    #[derive(Default)]
    LoopBlocked { waits_for: Vec<TaskId>, reason: String, hopeless: bool }
    LoopWaiting { reason: String, runs: Vec<RunId>, until: Option<Timestamp>, active_ms: u64 }
    LoopBreaker { trips: u32, cooldown_ms: u64 }
    /// So much of the task's budget is used; `limit` is the setting's name.
    LoopBudget { percent: u32, limit: String, tokens: u64, cost_usd: Option<Usd> }
    #[derive(Default)]
    LoopEnd { outcome: LoopOutcome, reason: String, restarts: u32, active_ms: u64 }
    /// A process took over a run whose supervisor was lost.
    #[derive(Default)]
    SupervisorRestart { reason: String, previous_pid: Option<u32>, supervisor_pid: u32, supervisor_start_ticks: u64 }
}

impl Silence {
    /// When the silence began that is told at this time.
    #[must_use]
    pub fn since(&self, told: Timestamp) -> Timestamp {
        told.saturating_sub(std::time::Duration::from_secs(self.silent_s)).unwrap_or(told)
    }
}

/// `limits.max_tokens: 812000 tokens and 1.200000 USD`.
impl std::fmt::Display for LoopBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} tokens", self.limit, self.tokens)?;
        match self.cost_usd {
            Some(cost) if cost.micros > 0 => write!(f, " and {cost} USD"),
            Some(_) | None => Ok(()),
        }
    }
}

word! {
    /// How a run ended.
    RunOutcome { Completed = "completed", Failed = "failed", Stopped = "stopped" }
}
word! {
    /// How a loop ended.
    LoopOutcome { Completed = "completed", Failed = "failed", Stopped = "stopped" }
}

/// The typed view of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    ProjectCreated(ProjectCreated),
    TaskCreated(TaskText),
    TaskUpdated(TaskText),
    TaskDeleted(Deletion),
    RunDeleted(Deletion),
    RunIntent(RunIntent),
    RunStart(Box<RunStart>),
    RunEnd(RunEnd),
    RunStopping(Stopping),
    LoopStopping(Stopping),
    RunParked(Parked),
    RunIdle(Silence),
    RunStuck(Silence),
    RunActive(Silence),
    RunUsage(Usage),
    RunRetrying(Retrying),
    ChildLink(ChildLink),
    Done(Done),
    DoneRejected(DoneRejected),
    DoneCleared(DoneCleared),
    VerifyStart(VerifyStart),
    VerifyStop(VerifyStop),
    AgentDegraded(AgentDegraded),
    LoopStart(LoopStart),
    LoopRestart(LoopRestart),
    LoopBackoff(LoopBackoff),
    LoopBlocked(LoopBlocked),
    LoopWaiting(LoopWaiting),
    LoopBreaker(LoopBreaker),
    LoopBudget(LoopBudget),
    LoopEnd(LoopEnd),
    SupervisorRestart(SupervisorRestart),
    /// Anything that is not the tool's own: facts, questions, types of somebody's own.
    Posted,
}

/// Which run and which stream an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub project: ProjectId,
    pub task: Option<TaskId>,
    pub run: Option<RunId>,
}

impl Event {
    /// Reads a message. Total: a message of the tool's own types whose fields do not make sense is an error value
    /// that the world keeps as the reason for ignoring it.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn read(message: &Message) -> Result<Self, FieldError> {
        let meta = &message.content.meta;
        let run_event = message.content.run.is_some();
        Ok(match message.content.kind.as_str() {
            "PROJECT_CREATED" => Self::ProjectCreated(ProjectCreated::read(meta)?),
            "TASK_CREATED" => Self::TaskCreated(TaskText::read(meta)?),
            "TASK_UPDATED" => Self::TaskUpdated(TaskText::read(meta)?),
            "TASK_DELETED" => Self::TaskDeleted(Deletion::read(meta)?),
            "RUN_DELETED" => Self::RunDeleted(Deletion::read(meta)?),
            "RUN_INTENT" => Self::RunIntent(RunIntent::read(meta)?),
            "RUN_START" => Self::RunStart(Box::new(RunStart::read(meta)?)),
            "START" if run_event => Self::RunStart(Box::new(RunStart::read(meta)?)),
            "RUN_STOP" => Self::RunEnd(read_end(meta, RunOutcome::Completed)?),
            "STOP" if run_event => Self::RunEnd(read_end(meta, RunOutcome::Completed)?),
            "RUN_CRASH" => Self::RunEnd(read_end(meta, RunOutcome::Failed)?),
            "RUN_STOPPING" => Self::RunStopping(Stopping::read(meta)?),
            "LOOP_STOPPING" => Self::LoopStopping(Stopping::read(meta)?),
            "RUN_PARKED" => Self::RunParked(Parked::read(meta)?),
            "RUN_IDLE" => Self::RunIdle(Silence::read(meta)?),
            "RUN_STUCK" => Self::RunStuck(Silence::read(meta)?),
            "RUN_ACTIVE" => Self::RunActive(Silence::read(meta)?),
            "RUN_USAGE" => Self::RunUsage(Usage::read(meta)?),
            "RUN_RETRYING" => Self::RunRetrying(Retrying::read(meta)?),
            "CHILD_LINK" => Self::ChildLink(ChildLink::read(meta)?),
            "DONE" => Self::Done(Done::read(meta)?),
            "DONE_REJECTED" => Self::DoneRejected(DoneRejected::read(meta)?),
            "DONE_CLEARED" => Self::DoneCleared(DoneCleared::read(meta)?),
            "VERIFY_START" => Self::VerifyStart(VerifyStart::read(meta)?),
            "VERIFY_STOP" => Self::VerifyStop(VerifyStop::read(meta)?),
            "AGENT_DEGRADED" => Self::AgentDegraded(AgentDegraded::read(meta)?),
            "LOOP_START" => Self::LoopStart(LoopStart::read(meta)?),
            "LOOP_RESTART" => Self::LoopRestart(LoopRestart::read(meta)?),
            "LOOP_BACKOFF" => Self::LoopBackoff(LoopBackoff::read(meta)?),
            "LOOP_BLOCKED" => Self::LoopBlocked(LoopBlocked::read(meta)?),
            "LOOP_WAITING" => Self::LoopWaiting(LoopWaiting::read(meta)?),
            "LOOP_BREAKER" => Self::LoopBreaker(LoopBreaker::read(meta)?),
            "LOOP_BUDGET" => Self::LoopBudget(LoopBudget::read(meta)?),
            "LOOP_END" => Self::LoopEnd(LoopEnd::read(meta)?),
            "SUPERVISOR_RESTART" => Self::SupervisorRestart(SupervisorRestart::read(meta)?),
            _ => Self::Posted,
        })
    }

    /// The message that says this. `line` is one line for people.
    ///
    /// # Panics
    /// Never for events of the tool's own; [`Event::Posted`] has no fields and becomes an `INFO`.
    #[must_use]
    pub fn draft(&self, scope: &Scope, cause: &Cause, line: impl Into<String>) -> Draft {
        let (kind, mut meta) = self.kind_and_fields();
        meta.insert("cause".to_owned(), cause.to_string());
        meta.insert("v".to_owned(), FIELDS_VERSION.to_string());
        let mut draft = Draft::new(Kind::known(kind), scope.project.clone(), scope.task.clone(), line);
        draft.run.clone_from(&scope.run);
        draft.meta = meta;
        draft
    }

    fn kind_and_fields(&self) -> (&'static str, BTreeMap<String, String>) {
        match self {
            Self::ProjectCreated(f) => ("PROJECT_CREATED", f.write()),
            Self::TaskCreated(f) => ("TASK_CREATED", f.write()),
            Self::TaskUpdated(f) => ("TASK_UPDATED", f.write()),
            Self::TaskDeleted(f) => ("TASK_DELETED", f.write()),
            Self::RunDeleted(f) => ("RUN_DELETED", f.write()),
            Self::RunIntent(f) => ("RUN_INTENT", f.write()),
            Self::RunStart(f) => ("RUN_START", f.write()),
            Self::RunEnd(f) => {
                let kind = match f.status {
                    RunOutcome::Completed | RunOutcome::Stopped => "RUN_STOP",
                    RunOutcome::Failed => "RUN_CRASH",
                };
                (kind, f.write())
            }
            Self::RunStopping(f) => ("RUN_STOPPING", f.write()),
            Self::LoopStopping(f) => ("LOOP_STOPPING", f.write()),
            Self::RunParked(f) => ("RUN_PARKED", f.write()),
            Self::RunIdle(f) => ("RUN_IDLE", f.write()),
            Self::RunStuck(f) => ("RUN_STUCK", f.write()),
            Self::RunActive(f) => ("RUN_ACTIVE", f.write()),
            Self::RunUsage(f) => ("RUN_USAGE", f.write()),
            Self::RunRetrying(f) => ("RUN_RETRYING", f.write()),
            Self::ChildLink(f) => ("CHILD_LINK", f.write()),
            Self::Done(f) => ("DONE", f.write()),
            Self::DoneRejected(f) => ("DONE_REJECTED", f.write()),
            Self::DoneCleared(f) => ("DONE_CLEARED", f.write()),
            Self::VerifyStart(f) => ("VERIFY_START", f.write()),
            Self::VerifyStop(f) => ("VERIFY_STOP", f.write()),
            Self::AgentDegraded(f) => ("AGENT_DEGRADED", f.write()),
            Self::LoopStart(f) => ("LOOP_START", f.write()),
            Self::LoopRestart(f) => ("LOOP_RESTART", f.write()),
            Self::LoopBackoff(f) => ("LOOP_BACKOFF", f.write()),
            Self::LoopBlocked(f) => ("LOOP_BLOCKED", f.write()),
            Self::LoopWaiting(f) => ("LOOP_WAITING", f.write()),
            Self::LoopBreaker(f) => ("LOOP_BREAKER", f.write()),
            Self::LoopBudget(f) => ("LOOP_BUDGET", f.write()),
            Self::LoopEnd(f) => ("LOOP_END", f.write()),
            Self::SupervisorRestart(f) => ("SUPERVISOR_RESTART", f.write()),
            Self::Posted => ("INFO", BTreeMap::new()),
        }
    }
}

/// A run's end. Other tools of the family write no fields: then the type alone says how it went.
fn read_end(meta: &BTreeMap<String, String>, otherwise: RunOutcome) -> Result<RunEnd, FieldError> {
    let mut end = RunEnd::read(meta)?;
    if !meta.contains_key("status") || (otherwise == RunOutcome::Failed) != (end.status == RunOutcome::Failed)
    {
        end.status = otherwise;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, meta: &[(&str, &str)]) -> Message {
        let project = ProjectId::parse("p").unwrap();
        let mut content = Draft::new(Kind::parse(kind).unwrap(), project, None, "");
        content.run = Some(RunId::parse("20261121-0930001234-1-1").unwrap());
        content.meta = meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Message { id: MsgId::parse("m").unwrap(), ts: Timestamp::UNIX_EPOCH, content }
    }

    #[test]
    fn every_kind_that_is_written_is_refused_from_outside() {
        let kinds = [
            Event::LoopEnd(LoopEnd::default()),
            Event::RunStart(Box::default()),
            Event::RunEnd(RunEnd { status: RunOutcome::Failed, ..RunEnd::default() }),
            Event::ChildLink(ChildLink {
                child_project_id: ProjectId::parse("p").unwrap(),
                child_task_id: TaskId::parse("task-20261121-093000-x").unwrap(),
                child_run_id: None,
                link: "run".to_owned(),
                ended: false,
            }),
        ];
        for event in kinds {
            assert!(Kind::known(event.kind_and_fields().0).is_tool_own());
        }
        for kind in ["START", "STOP", "RUN_START"] {
            assert!(Kind::parse(kind).unwrap().is_tool_own());
        }
        for kind in Kind::COMMON {
            assert!(!Kind::parse(kind).unwrap().is_tool_own());
        }
    }

    #[test]
    fn an_event_comes_back_from_its_message() {
        let end = Event::RunEnd(RunEnd {
            status: RunOutcome::Failed,
            exit_code: None,
            signal: Some(9),
            duration_ms: Some(12),
            reason: "killed".to_owned(),
            error_class: Some("killed".to_owned()),
            output_path: None,
            left_overs: None,
            retry_at: None,
        });
        let scope = Scope { project: ProjectId::parse("p").unwrap(), task: None, run: None };
        let draft = end.draft(&scope, &Cause::Process("exit".to_owned()), "crashed");
        assert_eq!(draft.kind.as_str(), "RUN_CRASH");
        assert_eq!(draft.meta["cause"], "process:exit");
        let back = Message { id: MsgId::parse("m").unwrap(), ts: Timestamp::UNIX_EPOCH, content: draft };
        assert_eq!(Event::read(&back).unwrap(), end);
    }

    #[test]
    fn start_and_stop_of_other_tools_are_run_events() {
        let Ok(Event::RunStart(start)) = Event::read(&message("START", &[])) else { panic!() };
        assert_eq!(*start, RunStart::default(), "what older ones do not say is absent");
        let Ok(Event::RunEnd(end)) = Event::read(&message("STOP", &[("exit_code", "0")])) else { panic!() };
        assert_eq!((end.status, end.exit_code), (RunOutcome::Completed, Some(0)));
        let Ok(Event::RunEnd(end)) = Event::read(&message("RUN_CRASH", &[("status", "completed")])) else {
            panic!()
        };
        assert_eq!(end.status, RunOutcome::Failed, "a crash is never a completion, whatever its fields say");
        let mut without_run = message("STOP", &[]);
        without_run.content.run = None;
        assert!(matches!(Event::read(&without_run), Ok(Event::Posted)));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let error = Event::read(&message("RUN_STOP", &[("exit_code", "zero")])).unwrap_err();
        assert_eq!(error.to_string(), "field `exit_code` is not a whole number: `zero`");
    }
}
