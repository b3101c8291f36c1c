//! Who is at work, and who waits: what `docs/slots.md` keeps in files and locks, in a list. The rules are those of
//! [`crate::policy::slots`].

use super::Rule;
use super::sim::{Pid, Sim};
use crate::policy::slots::{self, Class, Ticket};

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// 0 = no limit.
    pub max: u32,
    held: Vec<Pid>,
    queue: Vec<(Ticket, Pid)>,
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
    let queue: Vec<Ticket> = sim.slots.queue.iter().map(|(ticket, _)| *ticket).collect();
    let known = sim.slots.queue.iter().find(|(_, pid)| *pid == own).map(|(ticket, _)| *ticket);
    let ticket = known.unwrap_or_else(|| slots::next(&queue, class));
    let max = if sim.rule == Rule::SlotsHaveNoLimit { u32::MAX } else { sim.slots.max };
    let ahead = slots::ahead(&queue, ticket);
    if slots::may_enter(ahead, slots::free(sim.slots.held.len(), max)) {
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
    let queue: Vec<Ticket> = sim.slots.queue.iter().map(|(ticket, _)| *ticket).collect();
    let free = slots::free(sim.slots.held.len(), sim.slots.max);
    let next: Vec<Pid> = sim
        .slots
        .queue
        .iter()
        .filter(|(ticket, _)| slots::may_enter(slots::ahead(&queue, *ticket), free))
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
}
