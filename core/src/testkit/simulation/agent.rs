//! What an agent does, drawn a step at a time: it works, is silent, ends well or badly, asks, posts late, says DONE or
//! something like it, starts children here and elsewhere, hangs. Before it is let go it is the shim.

use super::Choices;
use super::command::{Command, Errand};
use super::driver::How;
use super::sim::{Kind, Pid, Sim, TaskNo, Turn};
use super::starter::Request;
use crate::id::RunId;
use crate::message::{Draft, Kind as MessageKind, Parent};
use crate::world::Marker;

/// So many steps an agent does before it comes to its end.
const ACTS_MAX: u32 = 5;
/// More runs than this a story does not need.
const RUNS_MAX: usize = 24;
const LONG_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Agent {
    pub run: RunId,
    task: TaskNo,
    pub supervisor: Pid,
    depth: u32,
    root: bool,
    verify: bool,
    pub let_go: bool,
    /// SIGTERM came.
    pub terminated: bool,
    hangs: bool,
    /// It uses CPU time.
    pub busy: bool,
    acts: u32,
    waits_for: Option<Pid>,
}

impl Agent {
    pub(super) fn new(
        run: RunId,
        task: TaskNo,
        supervisor: Pid,
        depth: u32,
        root: bool,
        verify: bool,
    ) -> Self {
        let (let_go, terminated, hangs, busy, acts, waits_for) = (false, false, false, false, 0, None);
        Self { run, task, supervisor, depth, root, verify, let_go, terminated, hangs, busy, acts, waits_for }
    }

    pub(super) fn turn(&mut self, sim: &mut Sim, own: Pid, choices: &mut Choices) -> Turn {
        if !self.let_go {
            // The shim: with its supervisor gone its socket closes, and it never executes anything.
            return if sim.is_alive(self.supervisor) { Turn::Sleeps(LONG_MS) } else { Turn::Exits };
        }
        // One that heeds no SIGTERM gets SIGKILL.
        if std::mem::take(&mut self.terminated) && !choices.one_in(4) {
            return self.exit(sim, 143, Some("killed"));
        }
        let waits = self.hangs || self.waits_for.is_some_and(|pid| sim.is_alive(pid));
        if waits {
            // With its supervisor lost nothing but a person's stop ends it: in the calm part it loses patience.
            let alone = sim.calm && !sim.has_supervisor(&self.run);
            return if alone { self.exit(sim, 1, Some("crash")) } else { Turn::Sleeps(LONG_MS) };
        }
        self.waits_for = None;
        self.busy = false;
        if self.verify {
            return self.verify(sim, choices);
        }
        self.acts += 1;
        if self.acts > ACTS_MAX || sim.runs.len() > RUNS_MAX {
            return self.finish(sim);
        }
        self.act(sim, own, choices)
    }

    fn verify(&mut self, sim: &mut Sim, choices: &mut Choices) -> Turn {
        self.acts += 1;
        if self.acts == 1 && choices.one_in(2) {
            return Turn::Sleeps(3000);
        }
        let fails = &mut sim.tasks[self.task].verify_fails;
        let failed = *fails > 0;
        *fails = fails.saturating_sub(1);
        self.exit(sim, i32::from(failed), failed.then_some("crash"))
    }

    fn exit(&mut self, sim: &mut Sim, code: i32, class: Option<&'static str>) -> Turn {
        sim.reap(&self.run, code, class);
        Turn::Exits
    }

    /// DONE, and the end that goes with it.
    fn finish(&mut self, sim: &mut Sim) -> Turn {
        if self.root {
            sim.set_marker(self.task, true);
        }
        self.exit(sim, 0, None)
    }

    fn act(&mut self, sim: &mut Sim, own: Pid, choices: &mut Choices) -> Turn {
        match choices.pick(24) {
            0..=2 => self.finish(sim),
            3 => {
                sim.print(&self.run);
                Turn::Sleeps(choices.one_of(&[50, 2000, 20_000]))
            }
            // A build that prints nothing.
            4 => {
                self.busy = true;
                Turn::Sleeps(choices.one_of(&[2000, 40_000, 100_000]))
            }
            5 => self.exit(sim, 1, Some("crash")),
            6 => {
                let class = choices.one_of(&["auth", "quota", "not_found"]);
                self.exit(sim, 1, Some(class))
            }
            7 => {
                self.hangs = true;
                Turn::Goes
            }
            8 | 9 => self.start_run(sim, own, self.task, true),
            10 => self.start_run(sim, own, self.task, false),
            11 => {
                let elsewhere = choices.index(sim.tasks.len());
                self.start_run(sim, own, elsewhere, !choices.one_in(2))
            }
            12 | 13 => {
                let elsewhere = choices.index(sim.tasks.len());
                self.start_loop(sim, own, elsewhere, !choices.one_in(2))
            }
            14 => {
                let question = self.post(sim, own, MessageKind::QUESTION, true);
                self.errand(sim, own, Errand::Answer(question), true)
            }
            15 => {
                self.post(sim, own, MessageKind::QUESTION, true);
                Turn::Goes
            }
            16 => {
                self.post(sim, own, MessageKind::FACT, false);
                Turn::Goes
            }
            17 => {
                sim.tasks[self.task].marker = Marker::NotAFile;
                Turn::Goes
            }
            18 => {
                sim.set_marker(self.task, false);
                Turn::Goes
            }
            19 => {
                sim.set_marker(self.task, true);
                Turn::Goes
            }
            20 => self.wait_for_sibling(sim, own),
            21 => {
                sim.answer(own, self.task);
                Turn::Goes
            }
            _ => self.exit(sim, 0, None),
        }
    }

    fn post(&self, sim: &mut Sim, own: Pid, kind: MessageKind, blocking: bool) -> crate::id::MsgId {
        let key = sim.tasks[self.task].key.clone();
        let mut draft = Draft::new(kind, key.project.clone(), key.task.clone(), "said by an agent");
        draft.run = Some(self.run.clone());
        if blocking {
            draft.meta.insert("blocking".to_owned(), "true".to_owned());
        }
        sim.append(own, &key, draft)
    }

    fn errand(&mut self, sim: &mut Sim, own: Pid, errand: Errand, blocks: bool) -> Turn {
        let watches = errand.watches(self.task);
        let command = Command::new(self.run.clone(), own, errand, blocks);
        let pid = sim.spawn(Kind::Command(Box::new(command)), Some(self.run.clone()), Some(watches));
        self.waits_for = Some(pid);
        Turn::Goes
    }

    /// `job`: a run below this one, here or in another task.
    fn start_run(&mut self, sim: &mut Sim, own: Pid, task: TaskNo, blocks: bool) -> Turn {
        let request = Request {
            task,
            agent: "a".to_owned(),
            root: None,
            parent: Some(self.run.clone()),
            origin: (task != self.task).then_some(self.task),
            key: None,
            verify: None,
            depth: self.depth + 1,
            max_depth: sim.max_depth,
        };
        self.errand(sim, own, Errand::start(request), blocks)
    }

    /// `task`: the loop of another task.
    fn start_loop(&mut self, sim: &mut Sim, own: Pid, task: TaskNo, blocks: bool) -> Turn {
        if task == self.task || self.depth + 1 > sim.max_depth {
            return Turn::Goes;
        }
        let how =
            How { origin: Some((self.task, self.run.clone())), depth: self.depth + 1, ..How::default() };
        let driver = sim.spawn_driver(task, how);
        // Detached, it waits until the driver says that it has taken the loop.
        let errand = if blocks { Errand::Loop { task, driver } } else { Errand::Begun { task, driver } };
        self.errand(sim, own, errand, blocks)
    }

    /// An older run that is neither this one nor above it: such waits come to an end.
    fn wait_for_sibling(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let task = sim.task(self.task);
        let mut above = vec![self.run.clone()];
        while let Some(parent) =
            above.last().and_then(|id| task.runs.get(id)).and_then(|run| run.parent.clone())
        {
            above.push(parent);
        }
        // Not for one of another machine: it may never end.
        let is_one = |id: &&RunId| **id < self.run && !above.contains(id) && sim.runs.contains_key(*id);
        let sibling = task.active().map(|(id, _)| id).find(is_one).cloned();
        match sibling {
            Some(run) => self.errand(sim, own, Errand::Run { task: self.task, run }, true),
            None => Turn::Goes,
        }
    }
}

impl Sim {
    pub(super) fn set_marker(&mut self, task: TaskNo, present: bool) {
        let written = Some(self.clock.now());
        self.tasks[task].marker = if present { Marker::Present { written } } else { Marker::Absent };
    }

    /// Answers the oldest open question of a task.
    pub(super) fn answer(&mut self, by: Pid, task: TaskNo) {
        let Some(question) = self.task(task).thread.open_questions.keys().next().cloned() else { return };
        let key = self.tasks[task].key.clone();
        let mut draft = Draft::new(MessageKind::ANSWER, key.project.clone(), key.task.clone(), "an answer");
        draft.parents = vec![Parent::new(question, None)];
        self.append(by, &key, draft);
    }

    /// SIGTERM.
    pub(super) fn terminate(&mut self, pid: Pid) {
        match self.processes.get_mut(&pid).map(|process| &mut process.kind) {
            Some(Kind::Agent(agent)) => {
                agent.terminated = true;
                self.wake(pid);
            }
            Some(Kind::Driver(driver)) => {
                driver.interrupted = true;
                self.wake(pid);
            }
            Some(Kind::Command(_) | Kind::Stop(_)) => self.kill(pid),
            Some(Kind::Supervisor(_) | Kind::AtWork) | None => {}
        }
    }
}
