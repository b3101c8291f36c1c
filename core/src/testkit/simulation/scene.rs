//! How a story begins: projects, tasks, what they depend on and how patient they are, drawn from the tape; and now and
//! then a run of another machine.

use super::driver::{Driver, How};
use super::sim::{ELSEWHERE, Kind, Sim, SimTask};
use super::{Choices, Rule};
use crate::event::{Event, RunIntent, RunStart, TaskText};
use crate::id::{ProjectId, RunId, TaskId};
use crate::policy::agents::{Pool, Selection};
use crate::policy::{AfterChildren, Breaker, LoopPolicy, OnDependencyFailure, RestartWithChildren};
use crate::store::StreamKey;
use crate::world::Marker;

/// 2026-11-21T09:30:00Z.
const BEGIN_MS: i64 = 1_795_253_400_000;

pub(super) fn set_up(choices: &mut Choices, rule: Rule) -> Option<Sim> {
    let mut sim = Sim::new(rule, BEGIN_MS);
    let count = 1 + choices.index(3);
    sim.slots.max = choices.one_of(&[0, 1, 1, 2, 3]);
    sim.hints = !choices.one_in(8);
    for n in 0..count {
        let project = ProjectId::parse(choices.one_of(&["p", "p", "q"])).ok()?;
        let task = TaskId::parse(&format!("task-20261121-093000-t{n}")).ok()?;
        let key = StreamKey::task(project, task);
        let policy = policy(choices);
        let verify_fails = choices.pick(3);
        let pool = pool(choices);
        sim.tasks.push(SimTask { key, marker: Marker::Absent, driver: None, policy, pool, verify_fails });
    }
    for no in 0..count {
        let depends_on = depends_on(&sim, choices, no);
        let text =
            TaskText { title: String::new(), source: "test".to_owned(), depends_on, thread_parent: None };
        sim.tell(0, no, None, Event::TaskCreated(text));
    }
    if choices.one_in(10) {
        foreign(&mut sim, count - 1);
    }
    for no in 0..count {
        if !choices.one_in(4) {
            sim.spawn(Kind::Driver(Box::new(Driver::new(no, How::default()))), None, Some(no));
        }
    }
    Some(sim)
}

fn policy(choices: &mut Choices) -> LoopPolicy {
    let verify = choices.one_of(&[0, 0, 0, 1, 2]);
    LoopPolicy {
        max_restarts: choices.one_of(&[3, 1, 2]),
        max_wall_time_ms: choices.one_of(&[0, 0, 120_000]),
        restart_delay_ms: 1000,
        child_wait_timeout_ms: choices.one_of(&[0, 0, 40_000]),
        after_children: choices.one_of(&[AfterChildren::CatchUp, AfterChildren::Complete]),
        restart_with_children: choices.one_of(&[RestartWithChildren::Wait, RestartWithChildren::Overlap]),
        on_dependency_failure: choices.one_of(&[OnDependencyFailure::Wait, OnDependencyFailure::Fail]),
        question_timeout_ms: choices.one_of(&[30_000, 30_000, 0]),
        verify: (0..verify).map(|n| format!("check {n}")).collect(),
        verify_attempts: choices.one_of(&[5, 2, 0]),
        breaker: Breaker {
            failures: choices.one_of(&[5, 2, 0]),
            cooldown_ms: 20_000,
            trips: 2,
            ..Breaker::default()
        },
        ..LoopPolicy::default()
    }
}

fn pool(choices: &mut Choices) -> Pool {
    let names = ["a", "b", "c"][..1 + choices.index(3)].iter().map(|name| (*name).to_owned()).collect();
    let weights = [("a".to_owned(), 3), ("b".to_owned(), 0)].into();
    let selection =
        if choices.one_in(4) { Selection::Weighted { weights, seed: 7 } } else { Selection::RoundRobin };
    Pool { names, selection, cooldown_ms: choices.one_of(&[30_000, 30_000, 0]) }
}

fn depends_on(sim: &Sim, choices: &mut Choices, no: usize) -> Vec<TaskId> {
    if !choices.one_in(4) {
        return Vec::new();
    }
    // Any task of the project, later ones too: there may be circles.
    let own = &sim.tasks[no].key;
    let others =
        sim.tasks.iter().map(|task| &task.key).filter(|key| *key != own && key.project == own.project);
    let others: Vec<TaskId> = others.filter_map(|key| key.task.clone()).collect();
    others.get(choices.index(others.len().max(1))).cloned().into_iter().collect()
}

/// A run that another machine started, and that goes on there for ever.
fn foreign(sim: &mut Sim, no: usize) {
    let run = RunId::new(sim.clock.now(), 1, 1);
    let machine_id = ELSEWHERE.to_owned();
    let intent = RunIntent { agent: "a".to_owned(), machine_id: machine_id.clone(), ..RunIntent::default() };
    let start = RunStart { agent: "a".to_owned(), machine_id, ..RunStart::default() };
    sim.tell(0, no, Some(run.clone()), Event::RunIntent(intent));
    sim.tell(0, no, Some(run), Event::RunStart(Box::new(start)));
}
