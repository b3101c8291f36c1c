//! What a supervisor looks for between two naps: signs of life, and its run's time limit. The rules are those of
//! [`crate::policy::watch`] and [`crate::policy::counted`].

use super::Rule;
use super::sim::{Kind, Pid, Process, Sim, TaskNo};
use crate::decide;
use crate::event::{self, Event};
use crate::id::RunId;
use crate::plan::reason::TIME_LIMIT;
use crate::policy::counted::Counted;
use crate::policy::watch::{Cpu, Due, STUCK, Signs, Watch, WatchPolicy};

/// The time limit of every simulated run.
pub(super) const TIMEOUT_MS: u64 = 180_000;
pub(super) const POLICY: WatchPolicy = WatchPolicy { idle_after_ms: 30_000, stuck_after_ms: 80_000 };

#[derive(Debug, Clone)]
pub(super) struct Silence {
    time: Counted,
    watch: Watch,
    began_wall_ms: i64,
}

impl Silence {
    pub(super) fn new() -> Self {
        let watch = Watch::new(POLICY, Some(TIMEOUT_MS));
        Self { time: Counted::new(0), watch, began_wall_ms: 0 }
    }

    /// The agent is let go.
    pub(super) fn begin(&mut self, sim: &Sim) {
        self.time = Counted::new(sim.clock.mono_ms);
        self.began_wall_ms = sim.clock.wall_ms;
        self.watch.begin(0);
    }

    /// The agent was let go at this time, and its supervisor lost: its own time goes on, and its silence begins anew.
    pub(super) fn follow(&mut self, sim: &Sim, let_go_ms: u64) {
        self.time = Counted::new(let_go_ms);
        self.time.plan(let_go_ms, sim.clock.mono_ms - let_go_ms);
        self.began_wall_ms = sim.clock.wall_ms;
        let passed_ms = self.passed_ms(sim);
        self.watch.begin(passed_ms);
    }

    fn passed_ms(&mut self, sim: &Sim) -> u64 {
        let counted_ms = self.time.look(sim.clock.mono_ms);
        if sim.rule == Rule::SleepCounts {
            return u64::try_from(sim.clock.wall_ms - self.began_wall_ms).unwrap_or(0);
        }
        counted_ms
    }

    /// How long nothing is due, at most so long; the sleep is to follow.
    pub(super) fn nap_ms(&mut self, sim: &Sim, most_ms: u64) -> u64 {
        let passed_ms = self.passed_ms(sim);
        let nap_ms = self.watch.nap_ms(passed_ms).clamp(1, most_ms);
        self.time.plan(sim.clock.mono_ms, nap_ms);
        nap_ms
    }

    /// Why the run is to be stopped, if its time is up or it hangs.
    pub(super) fn overdue(&mut self, sim: &mut Sim, own: Pid, no: TaskNo, run: &RunId) -> Option<String> {
        let now_ms = self.passed_ms(sim);
        if self.watch.is_over(now_ms) {
            return Some(format!("{TIME_LIMIT} reached"));
        }
        if !self.watch.look_is_due(now_ms) {
            return None;
        }
        let mut signs = signs(sim, no, run);
        if !self.watch.is_plain(&signs) && sim.rule != Rule::CpuIsNotSeen {
            let used_ms = sim.runs.get(run).map_or(0, |files| files.cpu_ms);
            signs.cpu = Some(Cpu { used_ms, load_percent: 100 });
        } else if sim.rule == Rule::CpuIsNotSeen {
            signs.cpu = Some(Cpu { used_ms: 0, load_percent: 100 });
        }
        let (event, stuck) = match self.watch.look(now_ms, &signs) {
            Due::Nothing => return None,
            Due::Idle { silent_s } => (Event::RunIdle(event::Silence { silent_s }), None),
            Due::Active { silent_s, .. } => (Event::RunActive(event::Silence { silent_s }), None),
            Due::Stuck { silent_s } => {
                let reason = format!("{STUCK}: no sign of life for {silent_s} s");
                (Event::RunStuck(event::Silence { silent_s }), Some(reason))
            }
        };
        let may = |task: &crate::world::Task| decide::may_call_silent(task, run);
        let told = sim.propose(own, no, vec![(Some(run.clone()), event)], may);
        stuck.filter(|_| told.is_ok())
    }
}

fn signs(sim: &Sim, no: TaskNo, run: &RunId) -> Signs {
    let task = sim.task(no);
    let asked = task.thread.open_questions.values();
    Signs {
        stdout_bytes: sim.runs.get(run).map_or(0, |files| files.stdout_bytes),
        stderr_bytes: 0,
        blocked_commands: sim.commands_of(run).filter(|command| command.is_connected()).count(),
        active_children: task.active().filter(|(_, child)| child.parent.as_ref() == Some(run)).count(),
        open_questions: asked
            .filter(|question| question.blocking && question.run.as_ref() == Some(run))
            .count(),
        cpu: None,
    }
}

impl Sim {
    /// Time goes by: who works uses CPU time, which is a sign of life.
    pub(super) fn advance(&mut self, ms: u64) {
        self.clock.advance(ms);
        let at_work = |process: &Process| match &process.kind {
            Kind::Agent(agent) if agent.busy && !process.frozen => Some(agent.run.clone()),
            Kind::Agent(_) | Kind::Command(_) | Kind::Driver(_) | Kind::Supervisor(_) | Kind::Stop(_) => None,
            Kind::AtWork => None,
        };
        for run in self.processes.values().filter_map(at_work).collect::<Vec<_>>() {
            if let Some(files) = self.runs.get_mut(&run) {
                files.cpu_ms += ms;
            }
            self.ledger.alive_ms.insert(run, self.clock.mono_ms);
        }
    }

    /// An agent prints something.
    pub(super) fn print(&mut self, run: &RunId) {
        if let Some(files) = self.runs.get_mut(run) {
            files.stdout_bytes += 10;
        }
        self.ledger.alive_ms.insert(run.clone(), self.clock.mono_ms);
    }
}
