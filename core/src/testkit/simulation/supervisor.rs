//! A run's supervisor (steps 6 to 10 of starting, and all of ending), a step a turn.

mod end;

use super::agent::Agent;
use super::command::Connection;
use super::silence::Silence;
use super::sim::{HERE, Kind, Pid, Sim, TaskNo, Turn};
use super::slots::{self, Entry};
use super::starter::Request;
use super::{Rule, close, invariants};
use crate::decide::{self, Refusal};
use crate::event::{Event, Parked, RunEnd, RunOutcome, RunStart, Stopping, SupervisorRestart};
use crate::id::RunId;
use crate::policy::ladder::Rung;
use crate::policy::slots::{Class, Due, Place, due, look_again_ms};
use crate::world::{Run, RunState, Task};

/// A lost ring of the doorbell is made good after so long.
const LOOK_AGAIN_MS: u64 = 10_000;

#[derive(Debug, Clone)]
pub(super) struct Supervisor {
    run: RunId,
    task: TaskNo,
    agent_name: String,
    attempt: Option<u32>,
    parent: Option<RunId>,
    verify: bool,
    depth: u32,
    /// The order came whole.
    pub ordered: bool,
    at: At,
    place: Place,
    parked: bool,
    agent: Option<Pid>,
    began_ms: u64,
    silence: Silence,
}

#[derive(Debug, Clone)]
enum At {
    Order,
    Slot,
    Shim,
    Start,
    LetGo,
    /// The agent lives, and its supervisor was lost: this one follows it.
    TakeOver,
    Watch,
    /// The ladder, why, and what it makes of the run.
    Stopping {
        began_ms: u64,
        rung: Rung,
        grace_ms: u64,
        reason: String,
        outcome: RunOutcome,
    },
    Note(RunEnd),
    End(RunEnd),
    Leave,
}

impl Supervisor {
    pub(super) fn new(run: RunId, request: &Request) -> Self {
        Self {
            run,
            task: request.task,
            agent_name: request.agent.clone(),
            attempt: request.root.as_ref().map(|(attempt, ..)| *attempt),
            parent: request.parent.clone(),
            verify: request.verify.is_some(),
            depth: request.depth,
            ordered: false,
            at: At::Order,
            place: Place::Nothing,
            parked: false,
            agent: None,
            began_ms: 0,
            silence: Silence::new(),
        }
    }

    /// One that follows a lost supervisor. What stands in the stream and in the lock tells it of the run.
    pub(super) fn successor(id: RunId, task: TaskNo, run: &Run, agent: Pid, let_go_ms: u64) -> Self {
        Self {
            agent_name: run.agent.clone(),
            attempt: run.attempt,
            parent: run.parent.clone(),
            verify: run.verify.is_some(),
            depth: run.depth,
            run: id,
            task,
            ordered: true,
            at: At::TakeOver,
            place: Place::Nothing,
            parked: false,
            agent: Some(agent),
            began_ms: let_go_ms,
            silence: Silence::new(),
        }
    }

    pub(super) fn turn(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        match self.at.clone() {
            At::Order => self.order(sim, own),
            At::Slot => self.slot(sim, own),
            At::Shim => {
                let agent = Agent::new(
                    self.run.clone(),
                    self.task,
                    own,
                    self.depth,
                    self.attempt.is_some(),
                    self.verify,
                );
                let pid = sim.spawn(Kind::Agent(Box::new(agent)), Some(self.run.clone()), None);
                self.agent = Some(pid);
                if let Some(files) = sim.runs.get_mut(&self.run) {
                    files.agent = Some(pid);
                }
                self.at = At::Start;
                Turn::Goes
            }
            At::Start => self.start(sim, own),
            At::LetGo => self.let_go(sim),
            At::TakeOver => self.take_over(sim, own),
            At::Watch => self.watch(sim, own),
            At::Stopping { .. } => self.climb(sim),
            At::Note(end) => {
                if let Some(files) = sim.runs.get_mut(&self.run) {
                    files.exit_note = Some(end.clone());
                }
                self.at = At::End(end);
                Turn::Goes
            }
            At::End(end) => {
                close::end_run(sim, own, self.task, &self.run, end);
                sim.ledger.reported.insert(self.run.clone());
                self.at = At::Leave;
                Turn::Goes
            }
            At::Leave => {
                slots::leave(sim, own);
                Turn::Exits
            }
        }
    }

    fn order(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        if self.ordered {
            self.at = At::Slot;
            return Turn::Goes;
        }
        let starter = sim.task(self.task).runs.get(&self.run).and_then(|run| match &run.state {
            RunState::Queued { intent, .. } => intent.as_ref().map(|intent| intent.starter_pid),
            RunState::Running { .. } | RunState::Ended { .. } => None,
        });
        if starter.is_some_and(|pid| sim.is_alive(pid)) {
            return Turn::Sleeps(1000);
        }
        // Its starter was killed before the order was whole: it lets go of the lock and closes the run.
        if let Some(files) = sim.runs.get_mut(&self.run) {
            files.holders.retain(|pid| *pid != own);
        }
        close::close_dead(sim, own, self.task, HERE);
        Turn::Exits
    }

    fn stop_asked_for(&self, sim: &Sim) -> Option<Stopping> {
        if sim.rule == Rule::SupervisorsIgnoreStops {
            return None;
        }
        let task = sim.task(self.task);
        let own = task.runs.get(&self.run).and_then(|run| run.stopping.as_deref().cloned());
        own.or_else(|| task.ralph.stopping.as_ref().map(|request| request.how.clone()))
    }

    fn ends(&mut self, status: RunOutcome, reason: String, class: Option<&str>) -> Turn {
        let error_class = class.map(str::to_owned);
        self.at = At::Note(RunEnd { status, reason, error_class, ..RunEnd::default() });
        Turn::Goes
    }

    fn slot(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        if let Some(stop) = self.stop_asked_for(sim) {
            slots::leave(sim, own);
            return self.ends(RunOutcome::Stopped, format!("stopped on request of {}", stop.by), None);
        }
        match slots::enter(sim, own, Class::New) {
            Entry::Holds => {
                self.place = Place::Slot;
                self.at = At::Shim;
                Turn::Goes
            }
            Entry::Waits { ahead } => {
                self.place = Place::Queued;
                if !std::mem::replace(&mut self.parked, true) {
                    let parked = Parked { ahead: u32::try_from(ahead).ok() };
                    sim.tell(own, self.task, Some(self.run.clone()), Event::RunParked(parked));
                    sim.ledger.reported.insert(self.run.clone());
                }
                Turn::Sleeps(look_again_ms(ahead, sim.slots.max))
            }
        }
    }

    fn start(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let start = RunStart {
            agent: self.agent_name.clone(),
            attempt: self.attempt,
            parent_run_id: self.parent.clone(),
            process_ownership: "managed".to_owned(),
            pid: self.agent.unwrap_or(0),
            pid_start_ticks: 1,
            supervisor_pid: own,
            supervisor_start_ticks: 1,
            machine_id: HERE.to_owned(),
            boot_id: sim.clock.boot_id(),
            ..RunStart::default()
        };
        let id = self.run.clone();
        let careless = sim.rule == Rule::RunsAreStartedTwice;
        let may = |task: &Task| match decide::may_start_run(task, &id) {
            Err(Refusal::RunStarted(_)) if careless => Ok(()),
            may => may,
        };
        let mut batch = Vec::new();
        if self.parked {
            batch.push((Some(id.clone()), Event::RunParked(Parked { ahead: None })));
        }
        batch.push((Some(id.clone()), Event::RunStart(Box::new(start))));
        match sim.propose(own, self.task, batch, may) {
            Ok(_) => {
                self.at = At::LetGo;
                self.began_ms = sim.clock.mono_ms;
                Turn::Goes
            }
            Err(refusal) => {
                close::end_set(sim, &id);
                self.ends(RunOutcome::Stopped, refusal.to_string(), None)
            }
        }
    }

    fn let_go(&mut self, sim: &mut Sim) -> Turn {
        invariants::before_let_go(sim, self.task, &self.run);
        let agent = self.agent.and_then(|pid| sim.processes.get_mut(&pid));
        if let Some(Kind::Agent(agent)) = agent.map(|process| &mut process.kind) {
            agent.let_go = true;
        }
        if let Some(pid) = self.agent {
            sim.wake(pid);
        }
        sim.ledger.reported.insert(self.run.clone());
        self.silence.begin(sim);
        self.at = At::Watch;
        Turn::Goes
    }

    fn take_over(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let restart = SupervisorRestart {
            reason: "supervisor lost".to_owned(),
            previous_pid: None,
            supervisor_pid: own,
            supervisor_start_ticks: 1,
        };
        let id = self.run.clone();
        let batch = vec![(Some(id.clone()), Event::SupervisorRestart(restart))];
        if sim.propose(own, self.task, batch, |task| decide::may_take_over(task, &id)).is_err() {
            return Turn::Exits;
        }
        self.silence.follow(sim, self.began_ms);
        self.at = At::Watch;
        Turn::Goes
    }

    fn watch(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let status = sim.runs.get(&self.run).and_then(|files| files.status);
        if let Some((code, class)) = status.filter(|_| self.agent.is_none_or(|pid| !sim.is_alive(pid))) {
            return self.after_exit(sim, code, class);
        }
        if let Some(stop) = self.stop_asked_for(sim) {
            let reason = format!("stopped on request of {}", stop.by);
            return self.stop(sim, stop.grace_ms, reason, RunOutcome::Stopped);
        }
        let run = self.run.clone();
        if let Some(reason) = self.silence.overdue(sim, own, self.task, &run) {
            return self.stop(sim, 1000, reason, RunOutcome::Failed);
        }
        if let Some(turn) = self.see_to_slot(sim, own) {
            return turn;
        }
        Turn::Sleeps(self.silence.nap_ms(sim, LOOK_AGAIN_MS))
    }

    /// What is due about the run's slot. None: nothing, until something happens.
    fn see_to_slot(&mut self, sim: &mut Sim, own: Pid) -> Option<Turn> {
        let of = |connection| sim.commands_of(&self.run).filter(|it| it.connection == connection).count();
        let (blocked, returning) = (of(Connection::Blocked), of(Connection::Back));
        let action = match due(blocked, returning, self.place) {
            Due::GiveBack if sim.rule == Rule::WaitersKeepTheirSlots => Due::Nothing,
            due => due,
        };
        match action {
            Due::Nothing => {
                if self.place == Place::Slot && blocked == 0 {
                    sim.ledger.robbed.remove(&self.run);
                }
                return None;
            }
            Due::GiveBack | Due::LeaveQueue => {
                slots::leave(sim, own);
                self.place = Place::Nothing;
            }
            Due::Take => match slots::enter(sim, own, Class::Returning) {
                Entry::Holds => {
                    self.place = Place::Slot;
                    sim.ledger.robbed.remove(&self.run);
                }
                Entry::Waits { ahead } => {
                    self.place = Place::Queued;
                    let nap_ms = look_again_ms(ahead, sim.slots.max);
                    return Some(Turn::Sleeps(self.silence.nap_ms(sim, nap_ms)));
                }
            },
            Due::LetGo => sim.let_commands_go(&self.run),
        }
        Some(Turn::Goes)
    }
}
