//! The starter's part of a run (steps 1 to 5 of `docs/supervision.md`): folder and lock, link, intent, supervisor, order,
//! report. Each step is a turn of the process that does it, so that it can be killed between any two.

use super::Rule;
use super::close;
use super::sim::{HERE, Kind, Pid, Sim, TaskNo, Turn};
use super::supervisor::Supervisor;
use crate::decide::{self, NewRun, Refusal};
use crate::event::{Event, LoopRestart, RunIntent, VerifyStart};
use crate::id::RunId;

/// What is to be started.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub task: TaskNo,
    pub agent: String,
    /// Of a root run: its attempt, the run before it, and what goes into the same append.
    pub root: Option<(u32, Option<RunId>, Option<LoopRestart>)>,
    pub parent: Option<RunId>,
    /// The task of the parent, when it is another one and a link is to tell of this run.
    pub origin: Option<TaskNo>,
    pub key: Option<String>,
    pub verify: Option<String>,
    pub depth: u32,
    pub max_depth: u32,
}

#[derive(Debug)]
enum At {
    Folder,
    Link,
    Intent,
    Spawn,
    Order(Pid),
    Report(Pid),
}

#[derive(Debug)]
pub(super) struct Starter {
    request: Request,
    at: At,
    run: Option<RunId>,
}

#[derive(Debug)]
pub(super) enum Step {
    On(Turn),
    /// The run is known, whatever became of it.
    Started(RunId),
    Refused(Refusal),
}

/// How long a report is waited for between two looks.
const REPORT_MS: u64 = 5_000;

impl Starter {
    pub(super) fn new(request: Request) -> Self {
        Self { request, at: At::Folder, run: None }
    }

    pub(super) fn turn(&mut self, sim: &mut Sim, own: Pid) -> Step {
        match (&self.at, self.run.clone()) {
            (At::Folder, _) => self.folder(sim, own),
            (At::Link, Some(run)) => self.link(sim, own, &run),
            (At::Intent, Some(run)) => self.intent(sim, own, &run),
            (At::Spawn, Some(run)) => self.spawn(sim, &run),
            (At::Order(supervisor), _) => {
                let supervisor = *supervisor;
                if let Some(Kind::Supervisor(it)) = sim.processes.get_mut(&supervisor).map(|p| &mut p.kind) {
                    it.ordered = true;
                }
                sim.wake(supervisor);
                self.at = At::Report(supervisor);
                Step::On(Turn::Goes)
            }
            (At::Report(supervisor), Some(run)) => {
                let reported = sim.ledger.reported.contains(&run);
                if reported || !sim.is_alive(*supervisor) {
                    return Step::Started(run);
                }
                Step::On(Turn::Sleeps(REPORT_MS))
            }
            (At::Link | At::Intent | At::Spawn | At::Report(_), None) => Step::On(Turn::Exits),
        }
    }

    fn new_run(&self) -> NewRun<'_> {
        NewRun {
            root: self.request.root.is_some(),
            key: self.request.key.as_deref(),
            parent: self.request.parent.as_ref(),
            depth: self.request.depth,
            max_depth: self.request.max_depth,
            budget: None,
        }
    }

    fn folder(&mut self, sim: &mut Sim, own: Pid) -> Step {
        if let Err(refusal) = self.may_make(sim) {
            return Step::Refused(refusal);
        }
        self.run = Some(sim.new_run(own));
        self.at = if self.request.origin.is_some() { At::Link } else { At::Intent };
        Step::On(Turn::Goes)
    }

    fn may_make(&self, sim: &Sim) -> Result<(), Refusal> {
        match (sim.rule, decide::may_make_run(sim.task(self.request.task), self.new_run())) {
            (Rule::StarterIgnoresStops, Err(Refusal::Stopping { .. } | Refusal::ParentStopping(_))) => Ok(()),
            (Rule::RootsAreDoubled, Err(Refusal::RootActive(_))) => Ok(()),
            (_, may) => may,
        }
    }

    fn link(&mut self, sim: &mut Sim, own: Pid, run: &RunId) -> Step {
        self.at = At::Intent;
        let (Some(origin), Some(parent)) = (self.request.origin, self.request.parent.clone()) else {
            return Step::On(Turn::Goes);
        };
        match close::open_link(sim, own, origin, &parent, self.request.task, Some(run)) {
            Ok(()) => Step::On(Turn::Goes),
            Err(refusal) => self.undo(sim, run, refusal),
        }
    }

    fn undo(&mut self, sim: &mut Sim, run: &RunId, refusal: Refusal) -> Step {
        sim.runs.remove(run);
        Step::Refused(refusal)
    }

    fn intent(&mut self, sim: &mut Sim, own: Pid, run: &RunId) -> Step {
        let request = &self.request;
        let origin = request.origin.map(|no| sim.tasks[no].key.clone());
        let (attempt, previous, restart) = match request.root.clone() {
            Some((attempt, previous, restart)) => (Some(attempt), previous, restart),
            None => (None, None, None),
        };
        let intent = RunIntent {
            agent: request.agent.clone(),
            attempt,
            parent_run_id: request.parent.clone(),
            parent_project_id: origin.as_ref().map(|key| key.project.clone()),
            parent_task_id: origin.and_then(|key| key.task),
            previous_run_id: previous,
            key: request.key.clone(),
            verify: request.verify.clone(),
            depth: request.depth,
            starter_pid: own,
            starter_start_ticks: 1,
            machine_id: HERE.to_owned(),
            boot_id: sim.clock.boot_id(),
            ..RunIntent::default()
        };
        let mut batch: Vec<(Option<RunId>, Event)> =
            restart.map(|event| (None, Event::LoopRestart(event))).into_iter().collect();
        batch.push((Some(run.clone()), Event::RunIntent(intent)));
        if let Some(command) = request.verify.clone() {
            batch.push((Some(run.clone()), Event::VerifyStart(VerifyStart { command })));
        }
        let posted = match self.may_make(sim) {
            Ok(()) => sim.propose(own, request.task, batch, |_| Ok(())),
            Err(refusal) => Err(refusal),
        };
        match posted {
            Ok(_) => {
                self.at = At::Spawn;
                Step::On(Turn::Goes)
            }
            Err(refusal) => {
                if let Some(origin) = self.request.origin {
                    close::close_link(sim, own, origin, self.request.task, Some(run));
                }
                self.undo(sim, run, refusal)
            }
        }
    }

    fn spawn(&mut self, sim: &mut Sim, run: &RunId) -> Step {
        let supervisor = Supervisor::new(run.clone(), &self.request);
        let starts = if sim.rule == Rule::RunsAreStartedTwice { 2 } else { 1 };
        for _ in 0..starts {
            let kind = Kind::Supervisor(Box::new(supervisor.clone()));
            let pid = sim.spawn(kind, None, None);
            if let Some(files) = sim.runs.get_mut(run) {
                files.holders.push(pid);
                files.supervisor = Some(pid);
            }
            if let (Some(Kind::Supervisor(it)), 2..) =
                (sim.processes.get_mut(&pid).map(|p| &mut p.kind), starts)
            {
                it.ordered = true;
            }
            self.at = At::Order(pid);
        }
        // From here on the lock is the supervisor's alone.
        if let Some(files) = sim.runs.get_mut(run) {
            files.holders.remove(0);
        }
        Step::On(Turn::Goes)
    }
}
