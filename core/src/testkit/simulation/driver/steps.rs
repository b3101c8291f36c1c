//! What the driver does about each step of the plan. Between the look and the append anything may happen: what counts is
//! decided under the append lock.

use super::{At, Driver, LOOK_AGAIN_MS, is_parked};
use crate::decide::{self, Refusal};
use crate::event::{DoneRejected, Event, LoopEnd, LoopOutcome, Stopping};
use crate::id::RunId;
use crate::message::{Draft, Kind};
use crate::plan::{Step, reason};
use crate::store::StreamKey;
use crate::testkit::simulation::sim::{Pid, Sim, Turn};
use crate::testkit::simulation::starter::{Request, Starter, Step as Started};
use crate::testkit::simulation::{Rule, stop};
use crate::world::Task;

/// The field by which the FACT of one DONE is found again.
pub(in crate::testkit::simulation) const KEY: &str = "propagation_key";

impl Driver {
    pub(super) fn wait_begins(&mut self, sim: &Sim, step: &Step) {
        let reason = match step {
            Step::WaitRuns { reason, .. } => *reason,
            Step::Hold { reason, .. } => Some(*reason),
            Step::StartRoot { .. }
            | Step::StopRuns { .. }
            | Step::Pause { .. }
            | Step::Degrade { .. }
            | Step::TellBudget(_)
            | Step::StopForBudget { .. }
            | Step::Verify { .. }
            | Step::Reject { .. }
            | Step::End(_) => None,
        };
        self.waiting = match (reason, self.waiting) {
            (Some(reason), Some((before, since))) if before == reason => Some((reason, since)),
            (Some(reason), _) => Some((reason, self.counted_at_ms)),
            (None, _) => None,
        };
        self.counts = reason.is_none() && !is_parked(sim.task(self.task));
    }

    pub(super) fn follow(&mut self, sim: &mut Sim, own: Pid, step: Step) -> Turn {
        let mut naps = |event: Option<Event>, ms: Option<u64>| match event {
            Some(event) => {
                self.at = At::Post(event, None);
                Turn::Goes
            }
            None => Turn::Sleeps(ms.unwrap_or(u64::MAX).min(LOOK_AGAIN_MS)),
        };
        match step {
            Step::WaitRuns { reason: Some(reason::WAIT_CHILDREN), .. }
                if sim.rule == Rule::ChildrenAreForgotten =>
            {
                let end = LoopEnd {
                    outcome: LoopOutcome::Completed,
                    reason: reason::DONE.to_owned(),
                    ..LoopEnd::default()
                };
                self.at = At::Facts(LoopEnd { restarts: sim.task(self.task).ralph.restarts, ..end });
            }
            Step::WaitRuns { reason: None, .. } if sim.rule == Rule::RootsAreDoubled => {
                let attempt = sim.task(self.task).ralph.attempts + 1;
                let root = Some((attempt, None, None));
                let request = Request { agent: "a".to_owned(), root, ..self.request() };
                self.at = At::Start { starter: Starter::new(request), verify: false };
            }
            Step::WaitRuns { event, look_again_ms, .. } => return naps(event, look_again_ms),
            Step::Pause { ms, event } => return naps(event, Some(ms)),
            Step::Hold { ms, event, .. } => return naps(event, ms),
            Step::StartRoot { attempt, agent, event, previous, .. } => {
                let request = Request {
                    agent,
                    root: Some((attempt, previous, event)),
                    parent: self.how.origin.as_ref().map(|(_, run)| run.clone()),
                    max_depth: sim.max_depth,
                    ..self.request()
                };
                self.at = At::Start { starter: Starter::new(request), verify: false };
            }
            Step::Verify { command, key, previous } => {
                let request = Request {
                    agent: "verify".to_owned(),
                    parent: previous,
                    key: Some(key),
                    verify: Some(command),
                    ..self.request()
                };
                self.at = At::Start { starter: Starter::new(request), verify: true };
            }
            Step::StopRuns { runs, elsewhere } => {
                for run in runs {
                    sim.ring(&run);
                }
                if let Some(request) = sim.task(self.task).ralph.stopping.clone() {
                    stop::ask_links(sim, own, &elsewhere, &request.how, &mut Default::default());
                }
                return Turn::Sleeps(1000);
            }
            Step::Degrade { run, event } => self.at = At::Post(Event::AgentDegraded(event), Some(run)),
            Step::TellBudget(budget) => self.at = At::Post(Event::LoopBudget(budget), None),
            Step::StopForBudget { limit } => {
                let stopping = Stopping { by: limit.to_owned(), ..Stopping::default() };
                self.at = At::Post(Event::LoopStopping(stopping), None);
            }
            Step::Reject { run, command, exit_code } => self.at = At::Reject { run, command, exit_code },
            Step::End(end) if end.outcome == LoopOutcome::Completed => self.at = At::Facts(end),
            // Who is about to start something here has to find the stop standing.
            Step::End(end) if end.reason == reason::STOPPED && sim.is_on_its_way(self.task) => {
                return Turn::Sleeps(1000);
            }
            Step::End(end) => self.at = At::End(end),
        }
        Turn::Goes
    }

    fn request(&self) -> Request {
        Request {
            task: self.task,
            agent: String::new(),
            root: None,
            parent: None,
            origin: None,
            key: None,
            verify: None,
            depth: self.how.depth,
            max_depth: 0,
        }
    }

    pub(super) fn post_while_open(
        &mut self,
        sim: &mut Sim,
        own: Pid,
        event: Event,
        run: Option<RunId>,
    ) -> Turn {
        let posted = sim.propose(own, self.task, vec![(run, event)], |task| match &task.ralph.stopping {
            Some(_) => Err(Refusal::Moot),
            None if task.ralph.is_open() => Ok(()),
            None => Err(Refusal::LoopNotOpen),
        });
        if posted == Err(Refusal::LoopNotOpen) { Turn::Exits } else { Turn::Goes }
    }

    pub(super) fn go_on_starting(
        &mut self,
        sim: &mut Sim,
        own: Pid,
        mut starter: Starter,
        verify: bool,
    ) -> Turn {
        match starter.turn(sim, own) {
            Started::On(turn) => {
                self.at = At::Start { starter, verify };
                turn
            }
            Started::Started(run) if !verify => {
                let task = sim.task(self.task);
                if task.runs.get(&run).is_some_and(crate::world::Run::is_active) {
                    self.had_root = true;
                } else {
                    self.root_has_ended();
                }
                Turn::Goes
            }
            Started::Started(_) => Turn::Goes,
            Started::Refused(Refusal::Stopping { .. }) => Turn::Goes,
            Started::Refused(Refusal::RootActive(_)) if !verify => Turn::Goes,
            Started::Refused(Refusal::KeyTaken(_) | Refusal::ParentStopping(_)) if verify => Turn::Goes,
            // What stays refused however often it is tried ends the driver.
            Started::Refused(_) => Turn::Exits,
        }
    }

    pub(super) fn reject(
        &mut self,
        sim: &mut Sim,
        own: Pid,
        run: &RunId,
        command: String,
        exit_code: i32,
    ) -> Turn {
        let event = Event::DoneRejected(DoneRejected { command, exit_code, output: String::new() });
        let posted =
            sim.propose(own, self.task, vec![(None, event)], |task| decide::may_reject_done(task, run));
        if posted.is_ok() {
            self.at = At::Rename;
        }
        Turn::Goes
    }

    /// The task's facts on its project's stream: once for each DONE.
    pub(super) fn propagate(&self, sim: &mut Sim, own: Pid) {
        let key = &sim.tasks[self.task].key;
        let (Some(done), Some(id)) = (&sim.task(self.task).done, &key.task) else { return };
        let (fact, project) = (format!("{id}:{}", done.id), StreamKey::project(key.project.clone()));
        let told = sim.streams.get(&project).is_some_and(|entries| {
            entries.iter().any(|entry| entry.message.content.meta.get(KEY) == Some(&fact))
        });
        if !told || sim.rule == Rule::FactsAreToldAgain {
            let mut draft = Draft::new(Kind::FACT, project.project.clone(), None, "completed");
            draft.meta.insert(KEY.to_owned(), fact);
            sim.append(own, &project, draft);
        }
    }

    pub(super) fn end(&mut self, sim: &mut Sim, own: Pid, mut end: LoopEnd) -> Turn {
        if sim.rule == Rule::RestartsAreMiscounted {
            end.restarts += 1;
        }
        let over = end.reason != reason::INTERRUPTED;
        let (boot, why) = (sim.clock.boot_id(), end.reason.clone());
        let driver = Some((own, boot.as_str()));
        let careless = sim.rule == Rule::ChildrenAreForgotten;
        let completes = end.outcome == LoopOutcome::Completed && !careless;
        let stays = end.reason == reason::STOPPED && sim.is_on_its_way(self.task);
        let may = |task: &Task| {
            if stays {
                Err(Refusal::Moot)
            } else if completes {
                decide::may_complete_loop(task, driver)
            } else {
                decide::may_end_loop(task, driver, &why)
            }
        };
        match sim.propose(own, self.task, vec![(None, Event::LoopEnd(end))], may) {
            Err(Refusal::LoopTaken) => Turn::Exits,
            // It looks again.
            Err(Refusal::Moot) => Turn::Goes,
            Ok(_) | Err(_) if over && self.how.origin.is_some() => {
                self.at = At::Unlink;
                Turn::Goes
            }
            Ok(_) | Err(_) => Turn::Exits,
        }
    }
}
