//! A loop's driver: looks, asks the plan, and does its one step, a part a turn, as `runner/src/drive.rs` does it.

mod outside;
mod steps;

pub(super) use self::outside::unmet;
pub(super) use self::steps::KEY;
use super::Rule;
use super::close;
use super::sim::{HERE, Pid, Sim, TaskNo, Turn};
use super::starter::Starter;
use crate::decide::{self, Refusal};
use crate::event::{DoneCleared, Event, LoopEnd, LoopOutcome, LoopStart, SupervisorRestart};
use crate::id::RunId;
use crate::plan::{Clock, Look, Waiting, reason};
use crate::policy::budget::Spent;
use crate::policy::counted::Counted;
use crate::world::{Marker, RunState, Task};

/// Every sleep is bounded: a hint may be lost.
const LOOK_AGAIN_MS: u64 = 10_000;

/// What the loop is taken up with.
#[derive(Debug, Clone, Default)]
pub(super) struct How {
    /// `resume`: DONE is removed, the counters are set back.
    pub fresh: bool,
    /// Only a loop that is open.
    pub adopt: bool,
    /// The run of another task that started it.
    pub origin: Option<(TaskNo, RunId)>,
    pub depth: u32,
}

#[derive(Debug)]
enum At {
    Lock,
    Link,
    Open,
    Look,
    Post(Event, Option<RunId>),
    /// A root run, or a verify command.
    Start {
        starter: Starter,
        verify: bool,
    },
    Reject {
        run: RunId,
        command: String,
        exit_code: i32,
    },
    Rename,
    Facts(LoopEnd),
    End(LoopEnd),
    Unlink,
}

#[derive(Debug)]
pub(super) struct Driver {
    task: TaskNo,
    how: How,
    /// SIGTERM or Ctrl-C came.
    pub interrupted: bool,
    at: At,
    time: Counted,
    active_ms: u64,
    counted_at_ms: u64,
    counts: bool,
    waiting: Option<(&'static str, u64)>,
    ended_before_ms: u64,
    root_ended_ms: u64,
    had_root: bool,
}

impl Driver {
    pub(super) fn new(task: TaskNo, how: How) -> Self {
        Self {
            task,
            how,
            interrupted: false,
            at: At::Lock,
            time: Counted::new(0),
            active_ms: 0,
            counted_at_ms: 0,
            counts: true,
            waiting: None,
            ended_before_ms: 0,
            root_ended_ms: 0,
            had_root: false,
        }
    }

    /// It has not taken its loop yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.at, At::Lock | At::Link | At::Open)
    }

    /// It is about to start a loop: a stop finds that. Of one that is adopted the stream tells already.
    pub(super) fn is_starting(&self) -> bool {
        self.is_new() && !self.how.adopt
    }

    pub(super) fn task(&self) -> TaskNo {
        self.task
    }

    pub(super) fn turn(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let turn = self.act(sim, own);
        if let Turn::Sleeps(ms) = turn {
            self.time.plan(sim.clock.mono_ms, ms);
        }
        turn
    }

    fn act(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        match std::mem::replace(&mut self.at, At::Look) {
            At::Lock => self.lock(sim, own),
            At::Link => self.link(sim, own),
            At::Open => self.open(sim, own),
            At::Look => self.look(sim, own),
            At::Post(event, run) => self.post_while_open(sim, own, event, run),
            At::Start { starter, verify } => self.go_on_starting(sim, own, starter, verify),
            At::Reject { run, command, exit_code } => self.reject(sim, own, &run, command, exit_code),
            At::Rename => {
                if sim.tasks[self.task].marker != Marker::NotAFile {
                    sim.tasks[self.task].marker = Marker::Absent;
                }
                Turn::Goes
            }
            At::Facts(end) => {
                self.propagate(sim, own);
                self.at = At::End(end);
                Turn::Goes
            }
            At::End(end) => self.end(sim, own, end),
            At::Unlink => {
                if let Some((parent, _)) = self.how.origin {
                    close::close_link(sim, own, parent, self.task, None);
                }
                Turn::Exits
            }
        }
    }

    fn lock(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        if sim.tasks[self.task].driver.is_some() {
            if sim.rule != Rule::DriversNeedNoLock {
                return Turn::Exits;
            }
        } else {
            sim.tasks[self.task].driver = Some(own);
        }
        if self.how.fresh && !self.clear_done(sim, own) {
            return Turn::Exits;
        }
        close::close_dead(sim, own, self.task, HERE);
        // Asked before the link is opened again; it counts when the loop is taken.
        if self.how.adopt && decide::may_adopt_loop(sim.task(self.task)).is_err() {
            return Turn::Exits;
        }
        self.at = if self.how.origin.is_some() { At::Link } else { At::Open };
        Turn::Goes
    }

    /// `resume` removes the marker; a folder of that name it leaves to the person.
    fn clear_done(&mut self, sim: &mut Sim, own: Pid) -> bool {
        if sim.tasks[self.task].marker == Marker::NotAFile {
            return false;
        }
        let cleared = Event::DoneCleared(DoneCleared { by: "person".to_owned(), resume: true });
        let told = sim.propose(own, self.task, vec![(None, cleared)], decide::may_start_loop);
        if told.is_ok() {
            sim.set_marker(self.task, false);
        }
        told.is_ok()
    }

    fn link(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let Some((parent, run)) = self.how.origin.clone() else { return Turn::Exits };
        if close::open_link(sim, own, parent, &run, self.task, None).is_err() {
            return Turn::Exits;
        }
        self.at = At::Open;
        Turn::Goes
    }

    fn open(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let ralph = &sim.task(self.task).ralph;
        let active_ms = if self.how.fresh { 0 } else { ralph.active_ms };
        let mut batch = Vec::new();
        if ralph.is_open() {
            let previous_pid = ralph.driver.as_ref().map(|driver| driver.driver_pid);
            let restart = SupervisorRestart {
                reason: "driver lost".to_owned(),
                previous_pid,
                ..SupervisorRestart::default()
            };
            batch.push((None, Event::SupervisorRestart(restart)));
        }
        let origin = self.how.origin.as_ref().map(|(no, _)| sim.tasks[*no].key.clone());
        let start = LoopStart {
            driver_pid: own,
            driver_start_ticks: 1,
            machine_id: HERE.to_owned(),
            boot_id: sim.clock.boot_id(),
            fresh: self.how.fresh,
            active_ms,
            parent_run_id: self.how.origin.as_ref().map(|(_, run)| run.clone()),
            parent_project_id: origin.as_ref().map(|key| key.project.clone()),
            parent_task_id: origin.and_then(|key| key.task),
            depth: self.how.depth,
            ..LoopStart::default()
        };
        batch.push((None, Event::LoopStart(start)));
        let adopt = self.how.adopt;
        let may =
            |task: &Task| if adopt { decide::may_adopt_loop(task) } else { decide::may_start_loop(task) };
        if sim.propose(own, self.task, batch, may).is_err() {
            return Turn::Exits;
        }
        self.time = Counted::new(sim.clock.mono_ms);
        self.active_ms = active_ms;
        (self.counted_at_ms, self.root_ended_ms) = (0, 0);
        self.ended_before_ms = since_last_root(sim, self.task);
        self.had_root = sim.task(self.task).active_root().is_some();
        Turn::Goes
    }

    /// One look: what died is closed, what disagrees is told, the plan is asked.
    fn look(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        if self.interrupted {
            let restarts = sim.task(self.task).ralph.restarts;
            let active_ms = self.clock(sim).active_ms;
            let reason = reason::INTERRUPTED.to_owned();
            self.at = At::End(LoopEnd { outcome: LoopOutcome::Stopped, reason, restarts, active_ms });
            return Turn::Goes;
        }
        close::close_dead(sim, own, self.task, HERE);
        close::take_over(sim, self.task, |_| true);
        close::reconcile_links(sim, own, self.task);
        let marker = sim.tasks[self.task].marker;
        if let Some(event) = decide::marker_event(sim.task(self.task), marker, "file") {
            let due = |task: &Task| decide::marker_event(task, marker, "file").map(drop).ok_or(Refusal::Moot);
            let _ = sim.propose(own, self.task, vec![(None, event)], due);
        }
        let clock = self.clock(sim);
        let unmet = unmet(sim, self.task);
        let tasks = &sim.tasks[self.task];
        let look = Look {
            task: sim.task(self.task),
            marker,
            policy: &tasks.policy,
            pool: &tasks.pool,
            unmet: &unmet,
            spent: Spent::default(),
            clock,
            now: sim.clock.now(),
        };
        let step = crate::plan::next(look);
        self.wait_begins(sim, &step);
        self.follow(sim, own, step)
    }

    fn clock(&mut self, sim: &Sim) -> Clock {
        let now_ms = self.time.look(sim.clock.mono_ms);
        if self.counts {
            self.active_ms += now_ms - self.counted_at_ms;
        }
        self.counted_at_ms = now_ms;
        let has_root = sim.task(self.task).active_root().is_some();
        if self.had_root && !has_root {
            self.root_has_ended();
        }
        self.had_root = has_root;
        Clock {
            active_ms: self.active_ms,
            since_root_ms: now_ms - self.root_ended_ms + self.ended_before_ms,
            waiting: self.waiting.map(|(reason, since_ms)| Waiting { reason, ms: now_ms - since_ms }),
        }
    }

    fn root_has_ended(&mut self) {
        (self.root_ended_ms, self.ended_before_ms) = (self.counted_at_ms, 0);
    }
}

/// By the wall clock: no driver was there to count.
fn since_last_root(sim: &Sim, no: TaskNo) -> u64 {
    let task = sim.task(no);
    let last = task.ralph.last_root.as_ref().and_then(|id| task.runs.get(id)).and_then(|run| run.end());
    last.map_or(0, |(_, at)| u64::try_from(sim.clock.now().duration_since(at).as_millis()).unwrap_or(0))
}

/// The root run waits for a slot: that is no time of the loop's own.
fn is_parked(task: &Task) -> bool {
    let root = task.active_root().and_then(|id| task.runs.get(id)).map(|run| &run.state);
    matches!(root, Some(RunState::Queued { ahead: Some(_), .. }))
}
