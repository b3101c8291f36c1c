//! Commands that an agent calls and waits for: `job`, `task`, `wait`, `ask`. While one blocks it is connected to the
//! supervisor of the run that called it (`docs/slots.md`, "While a command blocks").

use super::close;
use super::sim::{HERE, Kind, Pid, Sim, TaskNo, Turn};
use super::starter::{Request, Starter, Step};
use crate::id::{MsgId, RunId};

const LOOK_AGAIN_MS: u64 = 10_000;

/// What a command is about.
#[derive(Debug)]
pub(super) enum Errand {
    Start {
        task: TaskNo,
        starter: Box<Starter>,
    },
    Run {
        task: TaskNo,
        run: RunId,
    },
    Loop {
        task: TaskNo,
        driver: Pid,
    },
    /// The driver's report that it has taken the loop.
    Begun {
        task: TaskNo,
        driver: Pid,
    },
    Answer(MsgId),
}

impl Errand {
    pub(super) fn start(request: Request) -> Self {
        Self::Start { task: request.task, starter: Box::new(Starter::new(request)) }
    }

    /// The stream that tells of its end.
    pub(super) fn watches(&self, own: TaskNo) -> TaskNo {
        match self {
            Self::Start { task, .. } | Self::Run { task, .. } => *task,
            Self::Loop { task, .. } | Self::Begun { task, .. } => *task,
            Self::Answer(_) => own,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    None,
    Blocked,
    /// It asks whether it may return.
    Back,
    /// It may.
    Go,
}

#[derive(Debug)]
pub(super) struct Command {
    /// Whose agent called it.
    pub run: RunId,
    agent: Pid,
    errand: Errand,
    blocks: bool,
    pub connection: Connection,
}

impl Command {
    pub(super) fn new(run: RunId, agent: Pid, errand: Errand, blocks: bool) -> Self {
        Self { run, agent, errand, blocks, connection: Connection::None }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Blocked | Connection::Back)
    }

    pub(super) fn turn(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        match self.connection {
            // Said before anything is started: at a limit of 1 the child takes over the slot that its parent gives back.
            Connection::None if self.blocks => {
                self.connection = Connection::Blocked;
                sim.ring(&self.run);
                Turn::Goes
            }
            Connection::None | Connection::Blocked => self.see_to_errand(sim, own),
            Connection::Back if sim.has_supervisor(&self.run) => Turn::Sleeps(LOOK_AGAIN_MS),
            Connection::Back | Connection::Go => self.returns(sim),
        }
    }

    fn see_to_errand(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        match &mut self.errand {
            Errand::Start { task, starter } => match starter.turn(sim, own) {
                Step::On(turn) => turn,
                Step::Started(run) if self.blocks => {
                    self.errand = Errand::Run { task: *task, run };
                    Turn::Goes
                }
                Step::Started(_) | Step::Refused(_) => self.is_over(sim),
            },
            Errand::Run { task, run } => {
                let (task, run) = (*task, run.clone());
                close::close_dead(sim, own, task, HERE);
                close::take_over(sim, task, |id| *id == run);
                let active = sim.task(task).runs.get(&run).is_some_and(crate::world::Run::is_active);
                if active { Turn::Sleeps(LOOK_AGAIN_MS) } else { self.is_over(sim) }
            }
            Errand::Loop { task, driver } => {
                let goes_on = sim.tasks[*task].driver == Some(*driver) || sim.is_new(*driver);
                if goes_on { Turn::Sleeps(LOOK_AGAIN_MS) } else { self.is_over(sim) }
            }
            Errand::Begun { driver, .. } => {
                if sim.is_new(*driver) {
                    Turn::Sleeps(LOOK_AGAIN_MS)
                } else {
                    self.is_over(sim)
                }
            }
            Errand::Answer(question) => {
                let open = sim.is_open(question);
                if open { Turn::Sleeps(LOOK_AGAIN_MS) } else { self.is_over(sim) }
            }
        }
    }

    fn is_over(&mut self, sim: &mut Sim) -> Turn {
        if self.connection == Connection::Blocked {
            self.connection = Connection::Back;
            sim.ring(&self.run);
            return Turn::Goes;
        }
        self.returns(sim)
    }

    fn returns(&mut self, sim: &mut Sim) -> Turn {
        sim.wake(self.agent);
        Turn::Exits
    }
}

impl Sim {
    pub(super) fn commands_of<'a>(&'a self, run: &'a RunId) -> impl Iterator<Item = &'a Command> {
        self.processes.values().filter_map(move |process| match &process.kind {
            Kind::Command(command) if command.run == *run => Some(command.as_ref()),
            Kind::Command(_) | Kind::Driver(_) | Kind::Supervisor(_) | Kind::Agent(_) | Kind::Stop(_) => None,
            Kind::AtWork => None,
        })
    }

    pub(super) fn let_commands_go(&mut self, run: &RunId) {
        for process in self.processes.values_mut() {
            if let Kind::Command(command) = &mut process.kind
                && command.run == *run
                && command.connection == Connection::Back
            {
                command.connection = Connection::Go;
                process.asleep_until_ms = 0;
            }
        }
    }

    pub(super) fn has_supervisor(&self, run: &RunId) -> bool {
        self.runs.get(run).and_then(|files| files.supervisor).is_some_and(|pid| self.is_alive(pid))
    }

    fn is_new(&self, driver: Pid) -> bool {
        self.processes.get(&driver).is_some_and(|process| match &process.kind {
            Kind::Driver(driver) => driver.is_new(),
            Kind::Command(_) | Kind::Supervisor(_) | Kind::Agent(_) | Kind::Stop(_) | Kind::AtWork => false,
        })
    }

    fn is_open(&self, question: &MsgId) -> bool {
        let tasks = self.world.projects.values().flat_map(|project| project.tasks.values());
        tasks.into_iter().any(|task| task.thread.open_questions.contains_key(question))
    }
}
