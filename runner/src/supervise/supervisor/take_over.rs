//! The first part of a supervisor that takes over: the one before it was lost, the agent lives. From then on it is as the
//! first one was, but for being no parent of the agent: it watches a handle on that very process.

use std::fs::File;
use std::time::{Duration, Instant};

use run_agent_core::Timestamp;
use run_agent_core::cause::Cause;
use run_agent_core::decide;
use run_agent_core::event::{Event, SupervisorRestart};
use run_agent_core::world::Run;

use super::super::launch::Report;
use super::super::os::{self, ProcessId, Watched};
use super::super::record::{self, Note, Notes};
use super::super::{Launch, close};
use super::{Exit, Starter, SuperviseError, Supervisor, Wake, ears};
use crate::failpoint;
use crate::output::Marker;
use crate::slots::Slots;
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView};

/// Takes the run over and owns it until it has ended. `launch` is what the stream tells of it.
pub(super) fn take_over(
    tree: &Tree,
    name: &TaskName,
    launch: Launch,
    lock: File,
    report: File,
) -> Result<(), SuperviseError> {
    let mut starter = Starter::new(report);
    let view = TaskView::open(tree, name)?;
    let paths = tree.run(name, &launch.run);
    let notes = record::notes(&paths.supervisor_lock()).map_err(SuperviseError::Prepare)?;
    let alone = view.run(&launch.run).cloned().and_then(|run| {
        close::agent_alone(&paths.supervisor_lock(), &run).ok().flatten().map(|agent| (run, agent))
    });
    let Some((run, agent)) = alone else {
        starter.tell(&Report::Refused { why: "its agent does not live any more".to_owned() });
        return Ok(());
    };
    // Before the note: whoever was noted last is the one before.
    let previous = notes.supervisor.map(|id| id.pid).or(run.start().map(|start| start.supervisor_pid));
    record::note(&lock, &Note::Supervisor(ProcessId::own())).map_err(SuperviseError::Prepare)?;
    failpoint::here("successor.noted");
    let began = since(&notes, &run);
    let cgroup = notes.cgroup_of(&launch.run);
    let launch = with_terms(launch, notes);
    // The one before held it, and its death set it free: it is taken again like one that was given back.
    let slots = Slots::of(tree, name, &launch.run, launch.max_agents);
    let marker = Marker::go_on(&paths, began);
    let mut supervisor = Supervisor {
        agent: Some(agent),
        took_over: true,
        cgroup,
        slots,
        began,
        ..Supervisor::new(tree, launch, view, paths, lock, marker)
    }
    .begin_to_hear();
    let ears = ears::listen(&supervisor.run, supervisor.wake.clone()).map_err(SuperviseError::Prepare)?;
    ears.watch_output(&supervisor.run);
    supervisor.watch_agent(agent).map_err(SuperviseError::Prepare)?;
    if !supervisor.post_restart(previous)? {
        starter.tell(&Report::Refused { why: "the run has ended".to_owned() });
        return Ok(());
    }
    failpoint::here("successor.posted");
    starter.tell(&Report::Started { pid: agent.pid });
    supervisor.silence.begin(began);
    supervisor.watch()
}

/// When the agent was let go: by the noted clock, else by the time of the start event.
fn since(notes: &Notes, run: &Run) -> Instant {
    let by_clock = notes.terms.as_ref().map(|terms| os::clock_ms().saturating_sub(terms.began_ms));
    let by_event = run.started().map(|at| Timestamp::now().as_millisecond() - at.as_millisecond());
    let ms = by_clock.or(by_event.and_then(|ms| u64::try_from(ms).ok())).unwrap_or(0);
    let now = Instant::now();
    now.checked_sub(Duration::from_millis(ms)).unwrap_or(now)
}

/// The limits under which the run was started. Which run it is, its own folder does not get to say.
fn with_terms(known: Launch, notes: Notes) -> Launch {
    let Some(terms) = notes.terms else { return known };
    let Launch { root, project, task, run, agent, attempt, parent, depth, previous, streams, .. } = known;
    Launch { root, project, task, run, agent, attempt, parent, depth, previous, streams, ..terms.launch }
}

impl Supervisor<'_> {
    fn watch_agent(&mut self, agent: ProcessId) -> std::io::Result<()> {
        let Some(watched) = Watched::on(agent)? else {
            self.exit = Some(Exit::Unknown);
            return Ok(());
        };
        let send = self.wake.clone();
        std::thread::Builder::new().name("agent".to_owned()).spawn(move || {
            let exit = watched.wait().map_or(Exit::Unknown, Exit::of_raw);
            let _ = send.send(Wake::Ended(agent.pid, exit));
        })?;
        Ok(())
    }

    /// `false`: the run has ended.
    fn post_restart(&mut self, previous: Option<u32>) -> Result<bool, SuperviseError> {
        let own = ProcessId::own();
        let restart = SupervisorRestart {
            reason: close::SUPERVISOR_LOST.to_owned(),
            previous_pid: previous,
            supervisor_pid: own.pid,
            supervisor_start_ticks: own.start_ticks,
        };
        let id = self.launch.run.clone();
        let line = format!("supervisor lost; process {} looks after {} now", own.pid, self.launch.agent);
        let draft = Event::SupervisorRestart(restart).draft(
            &self.view.name.scope(Some(id.clone())),
            &Cause::Process(close::SUPERVISOR_LOST.to_owned()),
            line,
        );
        let posted = self.view.propose(vec![draft], |task| decide::may_take_over(task, &id))?;
        close::project_info(self.tree, &self.view, &id);
        Ok(matches!(posted, Proposed::Appended(_)))
    }
}
