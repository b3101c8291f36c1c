//! What the loop starts: root runs and verify commands; and what it says of agents and pauses.

use std::time::Duration;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{AgentDegraded, DoneRejected, Event};
use run_agent_core::layout::DONE;
use run_agent_core::plan::{Dependency, Start, reason};
use run_agent_core::{Kind, RunId, Timestamp, text};

use super::{DriveError, Driver, Talk};
use crate::agent::Verify;
use crate::failpoint;
use crate::output::tail_of;
use crate::supervise::Streams;
use crate::supervise::start::{Request, RootStart, StartError, StartOutcome, start};
use crate::view::Proposed;

/// The time limit of a verify command.
const VERIFY_MAX: Duration = Duration::from_secs(600);
/// What of a failed verify command's output the root agent is told.
const TAIL_LINES: usize = 40;
const TAIL_BYTES: u64 = 4096;

impl Driver<'_> {
    pub(super) fn start_root(
        &mut self,
        agent: &str,
        root: RootStart<'_>,
        talk: &mut dyn FnMut(Talk<'_>),
    ) -> Result<(), DriveError> {
        let cause = match root.why {
            Start::First | Start::Resumed => self.what.cause.clone(),
            Start::Again { .. } => root
                .previous
                .clone()
                .map_or(Cause::Timer("restart".to_owned()), |id| Cause::Process(format!("end of {id}"))),
            Start::Rejected { command, .. } => Cause::Process(format!("verify: {command}")),
            Start::CatchUp => Cause::Process("late results of children".to_owned()),
        };
        let backend = match self.what.agents.backend(agent) {
            Ok(backend) => backend,
            Err(why) => return self.not_found(agent, &why),
        };
        let request = Request {
            backend: backend.as_ref(),
            prompt: self.what.prompt,
            streams: Streams::Prompt,
            cwd: self.what.cwd,
            parent: self.what.origin.map(|origin| origin.run.clone()),
            // The loop itself is linked to that task.
            origin: None,
            root: Some(root),
            key: None,
            verify: None,
            depth: self.what.depth,
            max_depth: self.what.max_depth,
            grace: self.what.grace,
            timeout: self.what.agents.timeout(agent),
            watch: self.what.watch,
            max_agents: self.what.max_agents,
            budget: Some(self.what.policy.budget),
            cause: &cause,
            starting: None,
        };
        match start(self.tree, self.view, request) {
            Ok(started) => {
                talk(Talk::Started(&started));
                if let StartOutcome::Running { .. } | StartOutcome::Parked { .. } = started.outcome {
                    self.clock.root_has_started();
                } else {
                    self.clock.root_has_ended();
                }
                Ok(())
            }
            // Something came first: a stop, or a root run of another driver. The next look sees it.
            Err(StartError::Refused(Refusal::LoopNotOpen)) => Err(DriveError::Taken(self.view.name.clone())),
            Err(StartError::Refused(
                Refusal::Stopping { .. } | Refusal::RootActive(_) | Refusal::BudgetUsedUp { .. },
            )) => Ok(()),
            Err(StartError::Agent(error)) => self.not_found(agent, &error.to_string()),
            // What stays refused however often it is tried ends the driver.
            Err(error) => Err(DriveError::Start(error)),
        }
    }

    /// The agent cannot be started on this machine.
    fn not_found(&mut self, agent: &str, why: &str) -> Result<(), DriveError> {
        let error_class = "not_found".to_owned();
        let known = self.view.task().ralph.degraded.get(agent);
        let until = self.what.pool.passed_over_until(known, &error_class, None, Timestamp::now());
        let degraded = AgentDegraded { agent: agent.to_owned(), error_class, until };
        self.pass_over(None, degraded, why)
    }

    /// The agent of this run failed for reasons of its own.
    pub(super) fn degrade(&mut self, run: &RunId, degraded: AgentDegraded) -> Result<(), DriveError> {
        let why = self.view.run(run).and_then(|run| run.end()).map(|(end, _)| end.reason.clone());
        self.pass_over(Some(run), degraded, &why.unwrap_or_default())
    }

    /// Says that an agent is passed over for a while, to people as well.
    fn pass_over(
        &mut self,
        run: Option<&RunId>,
        degraded: AgentDegraded,
        why: &str,
    ) -> Result<(), DriveError> {
        let line = format!(
            "{} is passed over until {:.0}: {} ({why})",
            degraded.agent, degraded.until, degraded.error_class
        );
        let cause = match run {
            Some(run) => Cause::Process(format!("end of {run}")),
            None => Cause::Process("start".to_owned()),
        };
        let draft =
            Event::AgentDegraded(degraded).draft(&self.view.name.scope(run.cloned()), &cause, line.as_str());
        if let Some(entry) = self.append_while_open(draft)? {
            self.tell(Kind::WARNING, &entry.message, line)?;
        }
        Ok(())
    }

    /// The breaker's opening is a trouble; a backoff is told by its event alone.
    pub(super) fn tell_pause(&mut self, event: Event, ms: u64) -> Result<(), DriveError> {
        let pause = format!("pausing {}.{} s before the next attempt", ms / 1000, ms % 1000 / 100);
        let Event::LoopBreaker(_) = &event else {
            return self.post_while_open(event, &Cause::Timer("backoff".to_owned()), &pause).map(drop);
        };
        let line =
            format!("the agent failed at once {} times in a row; {pause}", self.view.task().ralph.failures);
        let posted = self.post_while_open(event, &Cause::Limit("breaker.failures".to_owned()), &line)?;
        if let Some(entry) = posted {
            self.tell(Kind::WARNING, &entry.message, line)?;
        }
        Ok(())
    }

    pub(super) fn tell_hold(
        &mut self,
        why: &str,
        event: Event,
        unmet: &[Dependency],
    ) -> Result<(), DriveError> {
        let (cause, line) = words_of_hold(why, &event);
        let posted = self.post_while_open(event, &cause, &line)?;
        if let Some(entry) = posted.filter(|_| unmet.iter().any(Dependency::is_hopeless)) {
            self.tell(Kind::WARNING, &entry.message, line)?;
        }
        Ok(())
    }

    /// Starts a verify command as a run of the task.
    pub(super) fn verify(
        &mut self,
        command: &str,
        key: &str,
        previous: Option<RunId>,
        talk: &mut dyn FnMut(Talk<'_>),
    ) -> Result<(), DriveError> {
        let request = Request {
            backend: &Verify { command },
            prompt: command,
            streams: Streams::Nothing,
            cwd: self.what.cwd,
            parent: previous,
            origin: None,
            root: None,
            key: Some(key),
            verify: Some(command),
            depth: self.what.depth,
            max_depth: 0,
            grace: self.what.grace,
            timeout: Some(VERIFY_MAX),
            watch: self.what.watch,
            // A command of the user's is no agent.
            max_agents: 0,
            budget: None,
            cause: &Cause::File(DONE.to_owned()),
            starting: None,
        };
        match start(self.tree, self.view, request) {
            Ok(started) => talk(Talk::Started(&started)),
            // Something came first. The next look sees it.
            Err(StartError::Refused(
                Refusal::KeyTaken(_) | Refusal::Stopping { .. } | Refusal::ParentStopping(_),
            )) => {}
            Err(error) => return Err(DriveError::Start(error)),
        }
        Ok(())
    }

    /// A verify command failed: first the event, then the marker is renamed. A crash in between leaves a marker that
    /// counts as a new DONE and is verified again.
    pub(super) fn reject(&mut self, run: &RunId, command: String, exit_code: i32) -> Result<(), DriveError> {
        let paths = self.tree.run(&self.view.name, run);
        let tail =
            |path: std::path::PathBuf| tail_of(self.tree, &path, TAIL_LINES, TAIL_BYTES).unwrap_or_default();
        let output = format!("{}{}", tail(paths.stdout()), tail(paths.stderr()));
        let output = text::head(output.trim_end(), TAIL_BYTES as usize).to_owned();
        let line = format!("DONE was rejected: `{command}` ended with {exit_code}");
        let n = self.view.task().ralph.rejections + 1;
        let body = if output.is_empty() { line.clone() } else { format!("{line}\n\n{output}") };
        let event = Event::DoneRejected(DoneRejected { command, exit_code, output });
        let cause = Cause::Process(format!("end of {run}"));
        let draft = event.draft(&self.scope(), &cause, body);
        let posted = self.view.propose(vec![draft], |task| decide::may_reject_done(task, run))?;
        let Proposed::Appended(entries) = posted else { return Ok(()) };
        failpoint::here("driver.rejected");
        let done = self.tree.task(&self.view.name).done();
        let aside = |n| done.with_file_name(format!("{DONE}.rejected-{n}"));
        let mut n = n;
        while aside(n).symlink_metadata().is_ok() {
            n += 1;
        }
        match std::fs::rename(&done, aside(n)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DriveError::Marker { path: done.display().to_string(), source: error });
            }
            Ok(()) | Err(_) => {}
        }
        if let Some(entry) = entries.first() {
            self.tell(Kind::WARNING, &entry.message, line)?;
        }
        Ok(())
    }
}

/// What a hold is told with.
fn words_of_hold(why: &str, event: &Event) -> (Cause, String) {
    if let Event::LoopBlocked(blocked) = event {
        return (Cause::Process("dependencies".to_owned()), format!("blocked: {}", blocked.reason));
    }
    match why {
        reason::WAIT_QUESTION => {
            (Cause::Process("an open question".to_owned()), "waiting for the answer to a question".to_owned())
        }
        reason::WAIT_LOOPS => (
            Cause::Limit("limits.max_tasks".to_owned()),
            "waiting until fewer loops are driven (limits.max_tasks)".to_owned(),
        ),
        agents => {
            let until = if let Event::LoopWaiting(waiting) = event { waiting.until } else { None };
            let until = until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
            if agents == reason::WAIT_USAGE_LIMIT {
                let line = format!("waiting{until}: the limit of every agent's account is reached");
                return (Cause::Limit(agents.to_owned()), line);
            }
            (Cause::Timer("agents.cooldown".to_owned()), format!("waiting for {agents}{until}"))
        }
    }
}
