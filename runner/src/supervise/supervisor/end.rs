//! The supervisor's last part: whatever ended the agent, and whoever started it, the same steps end the run (`Ending` in
//! `docs/supervision.md`).

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use run_agent_core::cause::Cause;
use run_agent_core::event::{RunEnd, RunOutcome, Stopping};
use run_agent_core::policy::ladder::Patience;

use super::super::ladder::{self, Climbed, Target};
use super::super::os::{self, Cgroup, ProcessId};
use super::super::record::{self, Note};
use super::super::set::Owner;
use super::super::{Streams, close, left_overs};
use super::begin::StartFailure;
use super::{Ending, Exit, SuperviseError, Supervisor};
use crate::agent::rest::Over;
use crate::failpoint;

/// How long the news of an agent's end may take after it is gone: its new parent may have to reap it first.
const NEWS_WITHIN: Duration = Duration::from_secs(3);

/// How often, and how far apart, it is looked whether anything outlives the agent, before every process of the system
/// is looked at.
const NOTHING_LEFT_LOOKS: u32 = 10;
const NOTHING_LEFT_NAP: Duration = Duration::from_millis(3);

/// Of a request, where its answer says no more.
pub(super) const ANSWERED: &str = "answered";
pub(super) const NO_ANSWER: &str = "no answer";

/// For a shim that is not let go: it ends by itself when its socket closes.
const SHIM: Patience = Patience { alone_ms: 300, grace_ms: 0 };

impl Supervisor<'_> {
    pub(super) fn end_refused(mut self, why: &str) -> Result<(), SuperviseError> {
        self.end_left_overs(SHIM);
        let end = RunEnd {
            status: RunOutcome::Stopped,
            reason: "stopped before it started".to_owned(),
            ..RunEnd::default()
        };
        self.end(end, &Cause::Process(why.to_owned()))
    }

    pub(super) fn end_not_started(mut self, failure: StartFailure) -> Result<(), SuperviseError> {
        self.end_left_overs(SHIM);
        let end = RunEnd {
            status: RunOutcome::Failed,
            reason: failure.why,
            error_class: Some(failure.class.to_owned()),
            ..RunEnd::default()
        };
        self.end(end, &Cause::Process("the agent could not be started".to_owned()))
    }

    /// The agent has ended by itself.
    pub(super) fn after_exit(mut self, exit: Exit) -> Result<(), SuperviseError> {
        failpoint::here("supervisor.reaped");
        self.asking = None;
        self.commands.let_go();
        let climbed = match self.launch.streams {
            // What a person's own command on a terminal leaves running is the person's.
            Streams::Terminal => Climbed::default(),
            Streams::Prompt | Streams::CallerInput | Streams::Nothing => {
                self.end_left_overs(left_overs::PATIENCE)
            }
        };
        self.marker.look(&self.run);
        // A stop that was asked for in the same moment counts as what ended it.
        let _ = self.view.refresh();
        let mut end = self.end_with(exit);
        end.left_overs = left_overs::names(&climbed.asked);
        if let Some(stopping) = self.stop_asked_for() {
            end.status = RunOutcome::Stopped;
            end.reason = format!("stopped on request of {}", stopping.by);
            end.error_class = None;
        }
        self.hear_out(exit, &mut end);
        self.end(end, &exit.cause())
    }

    /// The ladder, then the end.
    pub(super) fn stop(mut self, how: &Stopping, ending: Ending) -> Result<(), SuperviseError> {
        failpoint::here("supervisor.stopping");
        self.asking = None;
        self.commands.let_go();
        let climbed = if let Some(calling) = &self.calling {
            calling.cancel();
            self.wait_for_exit();
            Climbed::default()
        } else {
            self.end_processes(Patience { alone_ms: 0, grace_ms: how.grace_ms }, &[])
        };
        self.marker.look(&self.run);
        let exit = self.exit.unwrap_or(Exit::Unknown);
        let mut end = self.end_with(exit);
        // What it said is kept; why it ended is known better here.
        self.hear_out(exit, &mut RunEnd { status: RunOutcome::Stopped, ..RunEnd::default() });
        (end.status, end.reason) = (ending.outcome, ending.reason);
        end.error_class = (ending.outcome == RunOutcome::Failed).then(|| "killed".to_owned());
        end.left_overs = left_overs::names(&climbed.left).map(|names| format!("could not be ended: {names}"));
        self.end(end, &ending.cause)
    }

    /// Whose processes this supervisor's are.
    pub(super) fn owner<'a>(run: &'a str, agent: Option<ProcessId>) -> Owner<'a> {
        let own = std::process::id();
        Owner { run, agent, supervisor: Some(own), asker: own }
    }

    /// As [`Self::end_processes`], of what may stay in the background, when the agent or its shim is gone.
    fn end_left_overs(&mut self, patience: Patience) -> Climbed {
        // A look at every process of the system costs more than the rest of a run.
        if self.nothing_is_left() {
            self.cgroup.iter().for_each(Cgroup::remove);
            return Climbed::default();
        }
        self.end_processes(patience, &left_overs::KEEP_BACKGROUND)
    }

    /// What ends with the agent gets a moment: supervisors of its children, which it inherits, post their ends first.
    fn nothing_is_left(&mut self) -> bool {
        if self.took_over {
            return false;
        }
        for _ in 0..NOTHING_LEFT_LOOKS {
            let cgroup = self.cgroup.as_ref().and_then(|cgroup| cgroup.members().ok()).unwrap_or_default();
            if !os::has_children() && cgroup.is_empty() {
                return true;
            }
            self.sleep(NOTHING_LEFT_NAP);
        }
        false
    }

    /// Ends the run's processes, and takes in how the agent ended.
    fn end_processes(&mut self, patience: Patience, keep: &[&str]) -> Climbed {
        let run = self.launch.run.to_string();
        let cgroups = self.cgroup.iter().cloned().collect();
        let target = Target { owners: vec![Self::owner(&run, self.agent)], cgroups, keep };
        let climbed = ladder::end(&target, patience, |nap| self.sleep(nap));
        if self.agent.is_some() && climbed.left.is_empty() {
            self.wait_for_exit();
        }
        climbed
    }

    /// The agent is gone or on its way: waits for the news of it.
    fn wait_for_exit(&mut self) {
        let deadline = Instant::now() + NEWS_WITHIN;
        while self.exit.is_none() && Instant::now() < deadline {
            self.sleep(Duration::from_millis(20));
        }
    }

    fn end_with(&self, exit: Exit) -> RunEnd {
        let (status, reason, class) = match exit {
            // What there is to say of a request is what its answer says.
            Exit::Code(0) if self.calling.is_some() => (RunOutcome::Completed, ANSWERED.to_owned(), None),
            Exit::Code(_) if self.calling.is_some() => {
                (RunOutcome::Failed, NO_ANSWER.to_owned(), Some("network"))
            }
            Exit::Code(0) => (RunOutcome::Completed, "exit code 0".to_owned(), None),
            Exit::Code(code) => (RunOutcome::Failed, format!("exit code {code}"), Some("crash")),
            Exit::Signal(signal) => {
                (RunOutcome::Failed, format!("killed by {}", signal_name(signal)), Some("killed"))
            }
            Exit::Unknown => (RunOutcome::Failed, close::SUPERVISOR_LOST.to_owned(), Some("killed")),
        };
        RunEnd {
            status,
            exit_code: exit.code(),
            signal: exit.signal(),
            duration_ms: Some(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            reason,
            error_class: class.map(str::to_owned),
            output_path: Some(self.run.output().display().to_string()),
            left_overs: None,
            retry_at: None,
        }
    }

    fn end(mut self, end: RunEnd, cause: &Cause) -> Result<(), SuperviseError> {
        if let (Some(modes), Some(_)) = (self.modes.take(), end.signal) {
            modes.restore();
        }
        // The next process that looks finishes with this note what is not finished here.
        let _ = record::note(&self.lock, &Note::Exit(Box::new(end.clone())));
        failpoint::here("supervisor.exit_noted");
        let id = self.launch.run.clone();
        let last = close::Last { news: self.last_news(), secrets: self.secrets.clone() };
        let ended = close::end_with(self.tree, &mut self.view, &id, end, cause, last);
        failpoint::here("supervisor.ended");
        // After the end is told: nobody who reads the stream sees more at work than there are slots.
        self.leave_slot();
        ended?;
        Ok(())
    }
}

impl Exit {
    pub(super) fn of(status: WaitStatus) -> Self {
        match status {
            WaitStatus::Exited(_, code) => Self::Code(code),
            WaitStatus::Signaled(_, signal, _) => Self::Signal(signal as i32),
            _ => Self::Unknown,
        }
    }

    /// A request has no code of its own: one that was answered ends with 0, as a program would.
    pub(super) fn of_request(over: Over) -> Self {
        match over {
            Over::Answered => Self::Code(0),
            Over::Failed => Self::Code(1),
            Over::Cancelled => Self::Unknown,
        }
    }

    /// As `waitpid` gives it.
    pub(super) fn of_raw(status: i32) -> Self {
        WaitStatus::from_raw(nix::unistd::Pid::from_raw(0), status).map_or(Self::Unknown, Self::of)
    }

    fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(128 + signal),
            Self::Unknown => None,
        }
    }

    fn signal(self) -> Option<i32> {
        match self {
            Self::Signal(signal) => Some(signal),
            Self::Code(_) | Self::Unknown => None,
        }
    }

    fn cause(self) -> Cause {
        match self {
            Self::Code(code) => Cause::Process(format!("exit:{code}")),
            Self::Signal(signal) => Cause::Signal(signal_name(signal)),
            Self::Unknown => Cause::Process(close::SUPERVISOR_LOST.to_owned()),
        }
    }
}

fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.as_str().to_owned())
}
