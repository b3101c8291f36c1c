//! Who is at work, and who waits: what `docs/slots.md` keeps in files and locks, in a list. The rules are those of
//! [`crate::policy::slots`].

use std::collections::{BTreeMap, BTreeSet};

use super::Rule;
use super::sim::{Pid, Sim};
use crate::policy::slots::{self, Class, Ticket, Vigil};

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// 0 = no limit.
    pub max: u32,
    held: Vec<Pid>,
    queue: Vec<(Ticket, Pid)>,
    /// Those that are passed by.
    asleep: BTreeSet<Ticket>,
    vigils: BTreeMap<Pid, Vigil>,
}

/// What came of a look for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Holds,
    Waits { ahead: usize },
}

/// Looks whether a supervisor may have a slot; one that may not is in the queue afterwards.
pub(super) fn enter(sim: &mut Sim, own: Pid, class: Class) -> Entry {
    purge(sim);
    if sim.slots.max == 0 || sim.slots.held.contains(&own) {
        return Entry::Holds;
    }
    let mut queue: Vec<Ticket> = sim.slots.queue.iter().map(|(ticket, _)| *ticket).collect();
    let known = sim.slots.queue.iter().find(|(_, pid)| *pid == own).map(|(ticket, _)| *ticket);
    let ticket = known.unwrap_or_else(|| slots::next(&queue, class));
    let max = if sim.rule == Rule::SlotsHaveNoLimit { u32::MAX } else { sim.slots.max };
    let free = slots::free(sim.slots.held.len(), max);
    sim.slots.asleep.remove(&ticket);
    queue.retain(|other| !sim.slots.asleep.contains(other));
    let before = |other: &&Ticket| **other < ticket && slots::may_enter(slots::ahead(&queue, **other), free);
    let entering: Vec<Ticket> = queue.iter().filter(before).copied().collect();
    let asleep = sim.slots.vigils.entry(own).or_default().look(&entering, sim.clock.mono_ms);
    queue.retain(|other| !asleep.contains(other));
    sim.slots.asleep.extend(asleep);
    let ahead = slots::ahead(&queue, ticket);
    if slots::may_enter(ahead, free) {
        sim.slots.queue.retain(|(_, pid)| *pid != own);
        sim.slots.held.push(own);
        return Entry::Holds;
    }
    if known.is_none() {
        sim.slots.queue.push((ticket, own));
    }
    Entry::Waits { ahead }
}

/// Gives a slot or a place in the queue back, and rings who may enter.
pub(super) fn leave(sim: &mut Sim, own: Pid) {
    sim.slots.held.retain(|pid| *pid != own);
    sim.slots.queue.retain(|(_, pid)| *pid != own);
    purge(sim);
    let awake = |ticket: &Ticket| !sim.slots.asleep.contains(ticket);
    let queue: Vec<Ticket> = sim.slots.queue.iter().map(|(ticket, _)| *ticket).filter(awake).collect();
    let free = slots::free(sim.slots.held.len(), sim.slots.max);
    let next: Vec<Pid> = sim
        .slots
        .queue
        .iter()
        .filter(|(ticket, _)| awake(ticket) && slots::may_enter(slots::ahead(&queue, *ticket), free))
        .map(|(_, pid)| *pid)
        .collect();
    for pid in next {
        sim.wake(pid);
    }
}

/// Somebody waits for a slot.
pub(super) fn somebody_waits(sim: &Sim) -> bool {
    sim.slots.queue.iter().any(|(_, pid)| sim.is_alive(*pid))
}

/// The kernel frees the locks of the dead.
fn purge(sim: &mut Sim) {
    let (slots, processes) = (&mut sim.slots, &sim.processes);
    slots.held.retain(|pid| processes.contains_key(pid));
    slots.queue.retain(|(_, pid)| processes.contains_key(pid));
    slots.vigils.retain(|pid, _| processes.contains_key(pid));
    let known: BTreeSet<Ticket> = slots.queue.iter().map(|(ticket, _)| *ticket).collect();
    slots.asleep.retain(|ticket| known.contains(ticket));
}
