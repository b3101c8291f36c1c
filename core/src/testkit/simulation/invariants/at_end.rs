//! What must hold when a story is over, and what may keep it from its end.

use super::{FACTS, PROGRESS, REPLAY, STOP_WINS, told};
use crate::decide;
use crate::plan::reason;
use crate::store::StreamKey;
use crate::testkit::simulation::driver::{self, Driver, KEY};
use crate::testkit::simulation::sim::{Sim, TaskNo};
use crate::testkit::simulation::{close, schedule};
use crate::world::{RalphState, TaskStatus, World};

/// When the story is over.
pub(in crate::testkit::simulation) fn at_end(sim: &mut Sim, observer: &World) {
    every_run_has_ended(sim);
    every_loop_has_ended(sim);
    replay(sim, observer);
    facts(sim);
}

fn every_run_has_ended(sim: &mut Sim) {
    let open: Vec<String> = sim
        .ledger
        .tasks
        .values()
        .flat_map(|told| told.active().filter(|(_, run)| !run.foreign).map(|(id, _)| id.to_string()))
        .collect();
    if !open.is_empty() {
        sim.violate(PROGRESS, format!("runs that never ended: {open:?}"));
    }
}

fn every_loop_has_ended(sim: &mut Sim) {
    for no in 0..sim.tasks.len() {
        if waits_for_a_person(sim, no, &mut Vec::new()) {
            continue;
        }
        let task = sim.task(no);
        if task.ralph.stopping.is_some() {
            sim.violate(STOP_WINS, format!("the stop of {} never ends", sim.tasks[no].key));
        } else if task.ralph.is_open() && task.status() != TaskStatus::Stopped {
            // One whose root run was stopped counts as stopped, also where its driver died before it could say so.
            let state = format!("{:?}", task.ralph.state);
            sim.violate(PROGRESS, format!("{} is {state}", sim.tasks[no].key));
        }
    }
}

/// Nothing but a person, or another machine, can bring it further.
pub(in crate::testkit::simulation) fn waits_for_a_person(
    sim: &Sim,
    no: TaskNo,
    seen: &mut Vec<TaskNo>,
) -> bool {
    // Loops that were started by each other's runs wait for each other, until a person stops one of them.
    if seen.contains(&no) {
        return true;
    }
    seen.push(no);
    let task = sim.task(no);
    let foreign = told(sim, no).is_some_and(|told| told.active().any(|(_, run)| run.foreign));
    let elsewhere: Vec<TaskNo> =
        task.open_links().filter_map(|(_, link)| close::child_of(sim, link)).collect();
    foreign
        || cannot_be_adopted(sim, no)
        || elsewhere.into_iter().any(|other| waits_for_a_person(sim, other, seen))
        || match &task.ralph.state {
            RalphState::Blocked { .. } => driver::unmet(sim, no).iter().any(|unmet| {
                let key = StreamKey::task(sim.tasks[no].key.project.clone(), unmet.task.clone());
                let goes_on =
                    |other: TaskNo| sim.task(other).ralph.is_open() && !waits_for_a_person(sim, other, seen);
                unmet.is_hopeless() || !sim.task_no(&key).is_some_and(goes_on)
            }),
            RalphState::Waiting { reason, .. } => {
                reason == reason::WAIT_QUESTION && sim.tasks[no].policy.question_timeout_ms == 0
            }
            RalphState::Never | RalphState::Ended { .. } => false,
            RalphState::Driven { .. } | RalphState::BackingOff { .. } | RalphState::Cooling { .. } => false,
        }
}

/// A loop that lost its driver, and that was started by a run of another task which was stopped since: nothing may be
/// started for that one any more, so `adopt` leaves it to a person.
fn cannot_be_adopted(sim: &Sim, no: TaskNo) -> bool {
    let ralph = &sim.task(no).ralph;
    let Some((parent, run)) = schedule::origin_of(sim, no) else { return false };
    let is_lost = ralph.is_open() && sim.tasks[no].driver.is_none();
    is_lost && decide::may_link(sim.task(parent), &run, None).is_err()
}

fn replay(sim: &mut Sim, observer: &World) {
    let mut again = World::new();
    for (key, entries) in sim.streams.iter().rev() {
        for entry in entries {
            again.apply(key, entry.at, &entry.message);
        }
    }
    if again != sim.world || *observer != sim.world {
        let who = if again == sim.world { "an observer" } else { "the machine" };
        sim.violate(REPLAY, format!("{who} knows another world"));
    }
}

fn facts(sim: &mut Sim) {
    for (no, done) in sim.ledger.completed.clone() {
        let key = &sim.tasks[no].key;
        let (Some(done), Some(id)) = (done, &key.task) else { continue };
        let fact = format!("{id}:{done}");
        let project = sim.streams.get(&StreamKey::project(key.project.clone()));
        let told = project.map_or(0, |entries| {
            entries.iter().filter(|entry| entry.message.content.meta.get(KEY) == Some(&fact)).count()
        });
        if told != 1 {
            sim.violate(FACTS, format!("those of {fact} are told {told} times"));
        }
    }
}

/// Drivers whose loops do not wait for a person.
pub(in crate::testkit::simulation) fn has_work(sim: &Sim, driver: &Driver) -> bool {
    !waits_for_a_person(sim, driver.task(), &mut Vec::new())
}
