//! Who acts next. First a stretch in which everything may go wrong: processes are killed and halted between any two of
//! their steps, the machine sleeps or boots again, clocks are set, people stop, resume and answer. Then a calm one, in
//! which everything that can come to its end has to.

use super::driver::How;
use super::sim::{ELSEWHERE, HERE, Kind, Pid, Sim, TaskNo};
use super::stop::{Stop, Target};
use super::{Choices, Rule, close, invariants, scene};
use crate::id::RunId;
use crate::store::StreamKey;
use crate::world::World;

/// So many actions, and so much simulated time, a story may take in its calm part.
const CALM_ACTIONS: u64 = 20_000;
const CALM_MS: u64 = 8 * 60 * 60 * 1000;
/// How often what lost its driver is adopted in the calm part.
const ADOPTIONS: u32 = 4;
/// How often somebody looks at every task in it: what has no loop, nobody else would close.
const LOOK_MS: u64 = 60_000;

/// Reads the streams with a lag of its own.
#[derive(Debug, Default)]
struct Observer {
    world: World,
    read: std::collections::BTreeMap<StreamKey, usize>,
}

impl Observer {
    fn read(&mut self, sim: &Sim, key: &StreamKey, most: usize) {
        let Some(entries) = sim.streams.get(key) else { return };
        let from = self.read.entry(key.clone()).or_insert(0);
        for entry in entries.iter().skip(*from).take(most) {
            *from += 1;
            let skipped = sim.rule == Rule::ObserversMissEntries && *from == 4;
            if !skipped {
                self.world.apply(key, entry.at, &entry.message);
            }
        }
    }

    fn read_some(&mut self, sim: &Sim, choices: &mut Choices) {
        let at = choices.index(sim.streams.len().max(1));
        if let Some(key) = sim.streams.keys().nth(at).cloned() {
            self.read(sim, &key, 1 + choices.index(8));
        }
    }

    fn read_all(&mut self, sim: &Sim) {
        for key in sim.streams.keys() {
            self.read(sim, key, usize::MAX);
        }
    }
}

/// Plays a story to its end, or to the first invariant that is broken.
pub(super) fn play(choices: &mut Choices, rule: Rule) -> Option<Sim> {
    let mut sim = scene::set_up(choices, rule)?;
    let mut observer = Observer::default();
    for _ in 0..choices.pick(220) {
        match choices.pick(32) {
            0..=25 => act(&mut sim, choices),
            26 => sim.advance(choices.one_of(&[10, 1000, 20_000])),
            27 | 28 => fault(&mut sim, choices),
            29 | 30 => person(&mut sim, choices),
            _ => look(&mut sim, &mut observer, choices),
        }
        if sim.broken.is_some() {
            return Some(sim);
        }
    }
    calm(&mut sim, choices);
    observer.read_all(&sim);
    if sim.broken.is_none() {
        invariants::at_end(&mut sim, &observer.world);
    }
    Some(sim)
}

fn ready(sim: &Sim) -> Vec<Pid> {
    let now = sim.clock.mono_ms;
    sim.processes.iter().filter(|(_, p)| !p.frozen && p.asleep_until_ms <= now).map(|(pid, _)| *pid).collect()
}

/// In the calm part everybody gets a turn: the one whose last is the longest ago, or one of the next.
fn act_in_turn(sim: &mut Sim, choices: &mut Choices) {
    let mut ready = ready(sim);
    ready.sort_by_key(|pid| sim.processes.get(pid).map(|process| process.acted));
    ready.truncate(3);
    act_of(sim, &ready, choices);
}

/// One process does one thing; where all sleep, time goes on to the first that wakes.
fn act(sim: &mut Sim, choices: &mut Choices) {
    let ready = ready(sim);
    act_of(sim, &ready, choices);
}

fn act_of(sim: &mut Sim, ready: &[Pid], choices: &mut Choices) {
    if let Some(pid) = ready.get(choices.index(ready.len().max(1))) {
        sim.turn(*pid, choices);
        return;
    }
    let next = sim.processes.values().filter(|p| !p.frozen).map(|p| p.asleep_until_ms).min();
    if let Some(next) = next {
        sim.advance(next.saturating_sub(sim.clock.mono_ms).min(60_000));
    }
}

fn any(sim: &Sim, choices: &mut Choices) -> Option<Pid> {
    let pids: Vec<Pid> = sim.processes.keys().copied().collect();
    pids.get(choices.index(pids.len().max(1))).copied()
}

fn fault(sim: &mut Sim, choices: &mut Choices) {
    match choices.pick(16) {
        0..=5 => {
            if let Some(pid) = any(sim, choices) {
                sim.kill(pid);
            }
        }
        6..=8 => {
            if let Some(process) = any(sim, choices).and_then(|pid| sim.processes.get_mut(&pid)) {
                process.frozen = true;
            }
        }
        9..=11 => thaw(sim),
        // The machine sleeps: only the wall clock goes on.
        12 | 13 => sim.clock.wall_ms += 3_600_000,
        14 => sim.clock.wall_ms -= i64::from(choices.one_of(&[5_000, 60_000, 3_600_000])),
        _ if choices.one_in(2) => reboot(sim),
        _ => {}
    }
}

fn thaw(sim: &mut Sim) {
    for process in sim.processes.values_mut() {
        process.frozen = false;
    }
}

fn reboot(sim: &mut Sim) {
    sim.processes.clear();
    for task in &mut sim.tasks {
        task.driver = None;
    }
    sim.clock.boot += 1;
    sim.clock.wall_ms += 60_000;
}

fn person(sim: &mut Sim, choices: &mut Choices) {
    let no = choices.index(sim.tasks.len());
    let drive = |sim: &mut Sim, how: How| {
        sim.spawn_driver(no, how);
    };
    match choices.pick(10) {
        0 => drive(sim, How::default()),
        1 => drive(sim, How { fresh: true, ..How::default() }),
        2 => adopt(sim),
        3 | 4 => stop(sim, choices, no, None),
        5 => {
            let active: Vec<RunId> = sim.task(no).active().map(|(id, _)| id.clone()).collect();
            if let Some(run) = active.get(choices.index(active.len().max(1))).cloned() {
                stop(sim, choices, no, Some(run));
            }
        }
        6 => sim.answer(0, no),
        7 => sim.set_marker(no, false),
        8 => {
            if let Some(pid) = sim.tasks[no].driver {
                sim.terminate(pid);
            }
        }
        _ => sim.set_marker(no, true),
    }
}

fn stop(sim: &mut Sim, choices: &mut Choices, task: usize, run: Option<RunId>) {
    let grace_ms = choices.one_of(&[5000, 0, 100]);
    let keep_children = run.is_some() && choices.one_in(3);
    let stop = Stop::new(Target { task, run }, grace_ms, keep_children);
    sim.spawn(Kind::Stop(Box::new(stop)), None, Some(task));
}

/// Somebody looks, here or on another machine that has the same root.
fn look(sim: &mut Sim, observer: &mut Observer, choices: &mut Choices) {
    match choices.pick(4) {
        0 | 1 => observer.read_some(sim, choices),
        2 => {
            let no = choices.index(sim.tasks.len());
            let found = close::dead(sim, no, HERE);
            // Two who look at the same moment both find it.
            for id in found.iter().chain(&found) {
                close::close(sim, 1, no, id);
            }
            close::close_dead(sim, 1, no, HERE);
        }
        _ => {
            let no = choices.index(sim.tasks.len());
            close::close_dead(sim, 2, no, ELSEWHERE);
        }
    }
}

fn adopt(sim: &mut Sim) {
    for no in 0..sim.tasks.len() {
        let ralph = &sim.task(no).ralph;
        let lost = ralph.is_open() && sim.tasks[no].driver.is_none();
        if !lost {
            continue;
        }
        let parent = origin_of(sim, no);
        let depth = ralph.driver.as_ref().map_or(0, |start| start.depth);
        let how = How { adopt: true, origin: parent, depth, ..How::default() };
        sim.spawn_driver(no, how);
    }
}

/// The run of another task that started the newest loop of this one.
pub(super) fn origin_of(sim: &Sim, no: TaskNo) -> Option<(TaskNo, RunId)> {
    let start = sim.task(no).ralph.driver.as_ref()?;
    let key = StreamKey::task(start.parent_project_id.clone()?, start.parent_task_id.clone()?);
    Some((sim.task_no(&key)?, start.parent_run_id.clone()?))
}

/// No more faults, nobody who acts but `adopt` and somebody who looks.
fn calm(sim: &mut Sim, choices: &mut Choices) {
    sim.calm = true;
    thaw(sim);
    let (actions, until_ms) = (sim.actions + CALM_ACTIONS, sim.clock.mono_ms + CALM_MS);
    let (mut next_look_ms, calm_since_ms) = (0, sim.clock.mono_ms);
    for _ in 0..ADOPTIONS {
        look_at_all(sim);
        adopt(sim);
        while sim.broken.is_none() && !is_quiet(sim) {
            if sim.clock.mono_ms >= next_look_ms {
                look_at_all(sim);
                adopt(sim);
                invariants::stops_are_heeded(sim, calm_since_ms);
                next_look_ms = sim.clock.mono_ms + LOOK_MS;
            }
            if sim.actions > actions || sim.clock.mono_ms > until_ms {
                let left: Vec<&Kind> = sim.processes.values().map(|process| &process.kind).collect();
                let left = format!("after {} actions there is still {left:?}", sim.actions);
                sim.violate(invariants::PROGRESS, left);
                return;
            }
            act_in_turn(sim, choices);
        }
    }
}

fn look_at_all(sim: &mut Sim) {
    for no in 0..sim.tasks.len() {
        close::close_dead(sim, 1, no, HERE);
    }
}

/// Nothing is left but drivers of loops that wait for a person.
fn is_quiet(sim: &Sim) -> bool {
    let now = sim.clock.mono_ms;
    sim.processes.values().all(|process| match &process.kind {
        Kind::Driver(driver) => process.asleep_until_ms > now && !invariants::has_work(sim, driver),
        Kind::Supervisor(_) | Kind::Agent(_) | Kind::Command(_) | Kind::Stop(_) | Kind::AtWork => false,
    })
}
