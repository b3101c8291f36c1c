//! The simulated machine: a clock, processes, locks, run folders, and streams with a conditional append. What it says
//! on the streams is real: events go through [`Event::draft`] and [`Event::read`], and the world is a fold of them.

mod streams;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Rule;
use super::agent::Agent;
use super::close;
use super::command::Command;
use super::driver::{Driver, How};
use super::invariants;
use super::ledger::Ledger;
use super::slots::Slots;
use super::stop::Stop;
use super::supervisor::Supervisor;
use crate::event::RunEnd;
use crate::id::RunId;
use crate::policy::LoopPolicy;
use crate::policy::agents::Pool;
use crate::store::{Entry, StreamKey};
use crate::world::{Marker, Task, World};

pub(super) const HERE: &str = "here";
pub(super) const ELSEWHERE: &str = "elsewhere";

pub(super) type Pid = u32;
/// A task, by its number in [`Sim::tasks`].
pub(super) type TaskNo = usize;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// What the stream's times are made of: it may be set, and goes on while the machine sleeps.
    pub wall_ms: i64,
    /// Stands still while the machine sleeps.
    pub mono_ms: u64,
    pub boot: u32,
}

impl Clock {
    pub(super) fn now(self) -> Timestamp {
        Timestamp::from_millisecond(self.wall_ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.mono_ms += ms;
        self.wall_ms += i64::try_from(ms).unwrap_or(0);
    }

    pub(super) fn boot_id(self) -> String {
        format!("boot-{}", self.boot)
    }
}

#[derive(Debug)]
pub(super) struct SimTask {
    pub key: StreamKey,
    pub marker: Marker,
    /// Who holds `loop.lock`.
    pub driver: Option<Pid>,
    pub policy: LoopPolicy,
    pub pool: Pool,
    /// So many verify commands still fail.
    pub verify_fails: u32,
}

/// A run's folder: its lock, and what is noted in it.
#[derive(Debug, Clone, Default)]
pub(super) struct RunFiles {
    pub holders: Vec<Pid>,
    pub supervisor: Option<Pid>,
    pub agent: Option<Pid>,
    /// What the kernel keeps of the agent for its supervisor: exit code and class.
    pub status: Option<(i32, Option<&'static str>)>,
    pub exit_note: Option<RunEnd>,
    pub stdout_bytes: u64,
    pub cpu_ms: u64,
}

#[derive(Debug)]
pub(super) enum Kind {
    Driver(Box<Driver>),
    Supervisor(Box<Supervisor>),
    Agent(Box<Agent>),
    Command(Box<Command>),
    Stop(Box<Stop>),
    /// It is just doing something.
    AtWork,
}

#[derive(Debug)]
pub(super) struct Process {
    pub kind: Kind,
    pub frozen: bool,
    /// On the counted clock.
    pub asleep_until_ms: u64,
    /// The run whose process set it belongs to.
    pub set: Option<RunId>,
    /// Woken by what is appended there.
    pub watches: Option<TaskNo>,
    /// The number of its last action.
    pub acted: u64,
}

/// What came of a process's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Goes,
    Sleeps(u64),
    Exits,
}

#[derive(Debug)]
pub(super) struct Sim {
    pub rule: Rule,
    pub clock: Clock,
    pub streams: BTreeMap<StreamKey, Vec<Entry>>,
    pub world: World,
    pub tasks: Vec<SimTask>,
    pub processes: BTreeMap<Pid, Process>,
    pub runs: BTreeMap<RunId, RunFiles>,
    pub slots: Slots,
    pub max_depth: u32,
    /// Whether an append wakes who watches the stream: a wake-up is a hint.
    pub hints: bool,
    /// No more faults, and no person any more.
    pub calm: bool,
    pub ledger: Ledger,
    pub broken: Option<super::Broken>,
    pub actions: u64,
    last_pid: Pid,
    last_run: u32,
    no_task: Task,
}

impl Sim {
    pub(super) fn new(rule: Rule, wall_ms: i64) -> Self {
        Self {
            rule,
            clock: Clock { wall_ms, mono_ms: 0, boot: 1 },
            streams: BTreeMap::new(),
            world: World::new(),
            tasks: Vec::new(),
            processes: BTreeMap::new(),
            runs: BTreeMap::new(),
            slots: Slots::default(),
            max_depth: 4,
            hints: true,
            calm: false,
            ledger: Ledger::default(),
            broken: None,
            actions: 0,
            last_pid: 100,
            last_run: 0,
            no_task: Task::default(),
        }
    }

    pub(super) fn violate(&mut self, invariant: &'static str, what: String) {
        self.broken.get_or_insert(super::Broken { invariant, what });
    }

    pub(super) fn task(&self, no: TaskNo) -> &Task {
        let key = &self.tasks[no].key;
        key.task.as_ref().and_then(|id| self.world.task(&key.project, id)).unwrap_or(&self.no_task)
    }

    pub(super) fn task_no(&self, key: &StreamKey) -> Option<TaskNo> {
        self.tasks.iter().position(|task| task.key == *key)
    }

    // Processes.

    pub(super) fn spawn(&mut self, kind: Kind, set: Option<RunId>, watches: Option<TaskNo>) -> Pid {
        self.last_pid += 1;
        let process = Process { kind, frozen: false, asleep_until_ms: 0, set, watches, acted: self.actions };
        self.processes.insert(self.last_pid, process);
        self.last_pid
    }

    /// A driver comes up, after a stop that nothing is left to do for was ended.
    pub(super) fn spawn_driver(&mut self, no: TaskNo, how: How) -> Pid {
        close::close_dead(self, 1, no, HERE);
        self.spawn(Kind::Driver(Box::new(Driver::new(no, how))), None, Some(no))
    }

    /// The drivers of this task that have not started its loop.
    pub(super) fn new_drivers(&self, no: TaskNo) -> impl Iterator<Item = (Pid, &Driver)> {
        self.processes.iter().filter_map(move |(pid, process)| match &process.kind {
            Kind::Driver(driver) if driver.task() == no && driver.is_new() => Some((*pid, driver.as_ref())),
            Kind::Driver(_) | Kind::Supervisor(_) | Kind::Command(_) | Kind::Agent(_) => None,
            Kind::Stop(_) | Kind::AtWork => None,
        })
    }

    /// Somebody is about to start something in this task.
    pub(super) fn is_on_its_way(&self, no: TaskNo) -> bool {
        self.rule != Rule::StopsMissStarts && self.new_drivers(no).any(|(_, driver)| driver.is_starting())
    }

    pub(super) fn is_alive(&self, pid: Pid) -> bool {
        self.processes.contains_key(&pid)
    }

    /// A signal that cannot be caught.
    pub(super) fn kill(&mut self, pid: Pid) {
        let Some(process) = self.processes.remove(&pid) else { return };
        match process.kind {
            Kind::Agent(agent) => self.reap(&agent.run, 137, Some("killed")),
            Kind::Command(command) => self.command_gone(&command.run, command.is_connected()),
            Kind::Driver(_) | Kind::Supervisor(_) | Kind::Stop(_) | Kind::AtWork => {}
        }
        self.locks_freed(pid);
    }

    /// The agent's status waits for its supervisor.
    pub(super) fn reap(&mut self, run: &RunId, code: i32, class: Option<&'static str>) {
        if let Some(files) = self.runs.get_mut(run) {
            files.status.get_or_insert((code, class));
        }
        self.ring(run);
    }

    /// A command that had said that it blocks is gone without having come back: until its run has its slot again, the
    /// agent works without one.
    pub(super) fn command_gone(&mut self, run: &RunId, connected: bool) {
        if connected {
            self.ledger.robbed.insert(run.clone());
        }
        self.ring(run);
    }

    pub(super) fn locks_freed(&mut self, pid: Pid) {
        for task in &mut self.tasks {
            if task.driver == Some(pid) {
                task.driver = None;
            }
        }
    }

    pub(super) fn is_locked(&self, run: &RunId) -> bool {
        self.runs.get(run).is_some_and(|files| files.holders.iter().any(|pid| self.is_alive(*pid)))
    }

    pub(super) fn wake(&mut self, pid: Pid) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.asleep_until_ms = 0;
        }
    }

    /// The doorbell of a run's supervisor.
    pub(super) fn ring(&mut self, run: &RunId) {
        if let Some(pid) = self.runs.get(run).and_then(|files| files.supervisor) {
            self.wake(pid);
        }
    }

    /// The living processes of a run's set.
    pub(super) fn set_of(&self, run: &RunId) -> Vec<Pid> {
        let own = |process: &Process| process.set.as_ref() == Some(run);
        self.processes.iter().filter(|(_, process)| own(process)).map(|(pid, _)| *pid).collect()
    }

    /// Lets a process do one thing.
    pub(super) fn turn(&mut self, pid: Pid, choices: &mut super::Choices) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        self.actions += 1;
        process.acted = self.actions;
        let mut kind = std::mem::replace(&mut process.kind, Kind::AtWork);
        let turn = match &mut kind {
            Kind::Driver(driver) => driver.turn(self, pid),
            Kind::Supervisor(supervisor) => supervisor.turn(self, pid),
            Kind::Agent(agent) => agent.turn(self, pid, choices),
            Kind::Command(command) => command.turn(self, pid),
            Kind::Stop(stop) => stop.turn(self, pid),
            Kind::AtWork => Turn::Exits,
        };
        let now = self.clock.mono_ms;
        match (turn, self.processes.get_mut(&pid)) {
            (Turn::Exits, _) => {
                self.processes.remove(&pid);
                self.locks_freed(pid);
            }
            (Turn::Goes, Some(process)) => process.kind = kind,
            (Turn::Sleeps(ms), Some(process)) => {
                process.kind = kind;
                process.asleep_until_ms = now.saturating_add(ms.max(1));
            }
            (Turn::Goes | Turn::Sleeps(_), None) => {}
        }
        invariants::after_action(self);
    }

    pub(super) fn new_run(&mut self, by: Pid) -> RunId {
        self.last_run += 1;
        let id = RunId::new(self.clock.now(), by, self.last_run);
        self.runs.insert(id.clone(), RunFiles { holders: vec![by], ..RunFiles::default() });
        id
    }
}
