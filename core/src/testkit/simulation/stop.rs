//! `stop`, as `runner/src/stop.rs` does it: says on the stream what is asked for, wakes who does it, does it where nobody
//! is left to, and goes on with what was started in other tasks.

use std::collections::BTreeSet;

use super::Rule;
use super::close::{self, Life};
use super::sim::{HERE, Pid, Sim, TaskNo, Turn};
use crate::decide::{self, Refusal};
use crate::event::{Event, RunEnd, RunOutcome, Stopping};
use crate::id::RunId;
use crate::world::{Link, Run, Task};

/// What a stop may take beyond its grace period before it reports what is left.
const MARGIN_MS: u64 = 30_000;
const DRIVER_MS: u64 = 10_000;

/// A task with its loop, or a run of it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub task: TaskNo,
    pub run: Option<RunId>,
}

#[derive(Debug)]
enum At {
    Ask,
    See { until_ms: u64 },
    Driver { until_ms: u64 },
}

#[derive(Debug)]
pub(super) struct Stop {
    target: Target,
    further: Vec<Target>,
    seen: BTreeSet<String>,
    how: Stopping,
    at: At,
}

impl Stop {
    pub(super) fn new(target: Target, grace_ms: u64, keep_children: bool) -> Self {
        let how = Stopping { by: "person".to_owned(), grace_ms, keep_children };
        Self { target, further: Vec::new(), seen: BTreeSet::new(), how, at: At::Ask }
    }

    pub(super) fn turn(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        match self.at {
            At::Ask => self.ask(sim, own),
            At::See { until_ms } => self.see(sim, own, until_ms),
            At::Driver { until_ms } => {
                let task = self.target.task;
                let driven = sim.tasks[task].driver.is_some() || sim.is_on_its_way(task);
                let driven = driven && sim.task(task).ralph.stopping.is_some();
                if driven && sim.clock.mono_ms < until_ms {
                    return Turn::Sleeps(1000);
                }
                close::close_dead(sim, own, task, HERE);
                self.next(sim, own)
            }
        }
    }

    fn ask(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        let Target { task: no, run } = self.target.clone();
        close::close_dead(sim, own, no, HERE);
        if let (Some(run), Rule::TheEndedAreAsked) = (&run, sim.rule) {
            sim.tell(own, no, Some(run.clone()), Event::RunStopping(self.how.clone()));
        }
        let links = match &run {
            None => {
                let event = Event::LoopStopping(self.how.clone());
                note_told(sim, no);
                let starts = sim.is_on_its_way(no);
                let due = |task: &Task| if starts || goes_on(task) { Ok(()) } else { Err(Refusal::Moot) };
                if sim.propose(own, no, vec![(None, event)], due).is_err() {
                    return self.next(sim, own);
                }
                of_task(sim.task(no))
            }
            Some(_) if self.how.keep_children => Vec::new(),
            Some(run) => of_runs(sim.task(no), &sim.task(no).with_descendants(run)),
        };
        ask_links(sim, own, &links, &self.how, &mut self.seen.clone());
        for link in links {
            if self.seen.insert(link.child.key())
                && let Some(task) = close::child_of(sim, &link)
            {
                self.further.push(Target { task, run: link.child.child_run_id.clone() });
            }
        }
        self.at = At::See { until_ms: sim.clock.mono_ms + self.how.grace_ms + MARGIN_MS };
        Turn::Goes
    }

    fn see(&mut self, sim: &mut Sim, own: Pid, until_ms: u64) -> Turn {
        let no = self.target.task;
        close::close_dead(sim, own, no, HERE);
        let left = self.wanted(sim.task(no));
        if left.is_empty() || sim.clock.mono_ms > until_ms {
            if self.target.run.is_some() || !left.is_empty() {
                return self.next(sim, own);
            }
            self.at = At::Driver { until_ms: sim.clock.mono_ms + DRIVER_MS };
            return Turn::Goes;
        }
        for id in left {
            let Some(run) = sim.task(no).runs.get(&id).cloned() else { continue };
            if run.stopping.is_none() {
                ask_run(sim, own, no, &id, &self.how);
            }
            match close::life(sim, &id, &run, HERE) {
                Life::Supervised => sim.ring(&id),
                Life::AgentAlone => self.end_alone(sim, own, &id),
                Life::Dead | Life::Foreign => {}
            }
        }
        Turn::Sleeps(1000)
    }

    fn wanted(&self, task: &Task) -> Vec<RunId> {
        let all = match &self.target.run {
            None => task.active().map(|(id, _)| id.clone()).collect(),
            Some(run) if self.how.keep_children => vec![run.clone()],
            Some(run) => task.with_descendants(run),
        };
        all.into_iter().filter(|id| task.runs.get(id).is_some_and(Run::is_active)).collect()
    }

    /// An agent outlived its supervisor: the caller does what that would.
    fn end_alone(&self, sim: &mut Sim, own: Pid, id: &RunId) {
        if close::agent_of(sim, id).is_some() {
            close::end_set(sim, id);
        }
        let reason = "stopped on request after its supervisor was lost".to_owned();
        let end = RunEnd { status: RunOutcome::Stopped, reason, ..RunEnd::default() };
        close::end_run(sim, own, self.target.task, id, end);
    }

    fn next(&mut self, sim: &mut Sim, own: Pid) -> Turn {
        close::reconcile_links(sim, own, self.target.task);
        let Some(target) = self.further.pop() else { return Turn::Exits };
        self.target = target;
        self.at = At::Ask;
        Turn::Goes
    }
}

/// Whoever has not started the task's loop by now comes behind this stop.
fn note_told(sim: &mut Sim, no: TaskNo) {
    let new: Vec<Pid> = sim.new_drivers(no).map(|(pid, _)| pid).collect();
    sim.ledger.told_to_stop.extend(new);
}

fn ask_run(sim: &mut Sim, own: Pid, no: TaskNo, id: &RunId, how: &Stopping) {
    let batch = vec![(Some(id.clone()), Event::RunStopping(how.clone()))];
    // A run that ended in the meantime needs no asking.
    let _ = sim.propose(own, no, batch, |task| decide::may_end_run(task, id));
}

/// Is there anything that a stop of the task would end?
fn goes_on(task: &Task) -> bool {
    task.ralph.is_open()
        || task.ralph.stopping.is_some()
        || task.active().next().is_some()
        || task.open_links().next().is_some()
}

fn of_task(task: &Task) -> Vec<Link> {
    task.open_links().map(|(_, link)| link.clone()).collect()
}

fn of_runs(task: &Task, runs: &[RunId]) -> Vec<Link> {
    let by = |link: &Link| link.parent.as_ref().is_some_and(|parent| runs.contains(parent));
    task.open_links().filter(|(_, link)| by(link)).map(|(_, link)| link.clone()).collect()
}

/// Says on the streams of other tasks that what is linked there is to stop, and wakes its supervisors.
pub(super) fn ask_links(
    sim: &mut Sim,
    own: Pid,
    links: &[Link],
    how: &Stopping,
    seen: &mut BTreeSet<String>,
) {
    for link in links {
        if !seen.insert(link.child.key()) {
            continue;
        }
        let Some(no) = close::child_of(sim, link) else { continue };
        let (active, deeper) = match &link.child.child_run_id {
            Some(run) => {
                let runs = sim.task(no).with_descendants(run);
                let deeper = of_runs(sim.task(no), &runs);
                (runs, deeper)
            }
            None => {
                note_told(sim, no);
                let starts = sim.is_on_its_way(no);
                let due = |task: &Task| (starts || goes_on(task)) && task.ralph.stopping.is_none();
                let event = Event::LoopStopping(how.clone());
                let _ = sim.propose(own, no, vec![(None, event)], |task| {
                    if due(task) { Ok(()) } else { Err(Refusal::Moot) }
                });
                (sim.task(no).active().map(|(id, _)| id.clone()).collect(), of_task(sim.task(no)))
            }
        };
        for id in &active {
            let task = sim.task(no);
            if task.runs.get(id).is_some_and(|run| run.is_active() && run.stopping.is_none()) {
                ask_run(sim, own, no, id, how);
            }
            sim.ring(id);
        }
        ask_links(sim, own, &deeper, how, seen);
    }
}
