//! Who may be at work: the queue for slots, and when a run gives its own back (`docs/slots.md`). No I/O: the runner
//! knows the queue from a folder, a simulation from a list.

use std::collections::BTreeMap;

/// Those who come back go before those who have not begun: what they wait to go on with holds up others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A run that comes back from a blocking command.
    Returning,
    New,
}

/// A place in the queue. Tickets sort in the order in which they may enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub class: Class,
    pub number: u64,
}

/// How many may enter now. Fewer than nobody cannot: where the maximum was made smaller, more may hold one for a while.
#[must_use]
pub fn free(held: usize, max: u32) -> usize {
    usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(held)
}

/// The ticket of one who comes to this queue now. Returning ones overtake, so each class is first come first served.
#[must_use]
pub fn next(queue: &[Ticket], class: Class) -> Ticket {
    let number = queue.iter().map(|ticket| ticket.number).max().unwrap_or(0).saturating_add(1);
    Ticket { class, number }
}

/// How many enter before this ticket.
#[must_use]
pub fn ahead(queue: &[Ticket], ticket: Ticket) -> usize {
    queue.iter().filter(|other| **other < ticket).count()
}

/// How long each ticket could have entered and did not, as one sees it who looks again and again. What does not enter for
/// so long is asleep: a process that was halted keeps its ticket, and would hold up everybody behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vigil {
    looked_ms: Option<u64>,
    waited_ms: BTreeMap<Ticket, u64>,
}

impl Vigil {
    /// A look, at this reading of the caller's clock: `entering` are those that could enter before the caller. Returns
    /// those of them that are asleep.
    pub fn look(&mut self, entering: &[Ticket], clock_ms: u64) -> Vec<Ticket> {
        // Who did not look cannot tell what happened meanwhile: it may have been halted itself.
        let passed_ms = self.looked_ms.map_or(0, |before| clock_ms.saturating_sub(before)).min(COUNTS_MAX_MS);
        self.looked_ms = Some(clock_ms);
        let before = std::mem::take(&mut self.waited_ms);
        for ticket in entering {
            let waited_ms = before.get(ticket).map_or(0, |ms| ms.saturating_add(passed_ms));
            self.waited_ms.insert(*ticket, waited_ms);
        }
        self.waited_ms.iter().filter(|(_, ms)| **ms >= ASLEEP_MS).map(|(ticket, _)| *ticket).collect()
    }
}

/// Several looks: who is awake looks each second when it may enter, and at once when it is rung.
const ASLEEP_MS: u64 = 5000;
/// What one look adds at the most.
const COUNTS_MAX_MS: u64 = 2 * LOOK_AGAIN_MS;

/// Whether so many ahead leave a place.
#[must_use]
pub fn may_enter(ahead: usize, free: usize) -> bool {
    ahead < free
}

/// When one who waits looks again unasked: a slot that a crash freed rings nobody. Far back in the queue nothing can be
/// missed before several others have had their turn.
#[must_use]
pub fn look_again_ms(ahead: usize, max: u32) -> u64 {
    let turns = ahead as u64 / u64::from(max.max(1));
    turns.saturating_add(1).saturating_mul(LOOK_AGAIN_MS).min(LOOK_AGAIN_MAX_MS)
}

const LOOK_AGAIN_MS: u64 = 1000;
const LOOK_AGAIN_MAX_MS: u64 = 30_000;

/// What a run has of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Slot,
    /// It has a ticket.
    Queued,
    Nothing,
}

/// What a run's supervisor is to do about its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    GiveBack,
    LeaveQueue,
    /// Look whether the run may have a slot, and queue for one.
    Take,
    /// Let the commands return that ask to.
    LetGo,
}

/// The next thing that is due, given how many commands of the run block and how many wait to return. Asked again until
/// nothing is.
#[must_use]
pub fn due(blocked: usize, returning: usize, place: Place) -> Due {
    match (blocked, place) {
        (0, Place::Queued | Place::Nothing) => Due::Take,
        (0, Place::Slot) if returning > 0 => Due::LetGo,
        (0, Place::Slot) => Due::Nothing,
        (_, Place::Slot) => Due::GiveBack,
        (_, Place::Queued) => Due::LeaveQueue,
        // Others still block: the run counts as waiting, whoever returns.
        (_, Place::Nothing) if returning > 0 => Due::LetGo,
        (_, Place::Nothing) => Due::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(class: Class, number: u64) -> Ticket {
        Ticket { class, number }
    }

    #[test]
    fn it_is_first_come_first_served_but_for_those_who_come_back() {
        let mut queue = Vec::new();
        for class in [Class::New, Class::New, Class::Returning, Class::New, Class::Returning] {
            queue.push(next(&queue, class));
        }
        queue.sort_unstable();
        let order: Vec<_> = queue.iter().map(|ticket| (ticket.class, ticket.number)).collect();
        let (returning, new) = (Class::Returning, Class::New);
        assert_eq!(order, [(returning, 3), (returning, 5), (new, 1), (new, 2), (new, 4)]);
        assert_eq!(ahead(&queue, ticket(new, 2)), 3);
        let entering = queue.iter().filter(|t| may_enter(ahead(&queue, **t), free(6, 8)));
        assert_eq!(entering.map(|t| t.number).collect::<Vec<_>>(), [3, 5]);
    }

    #[test]
    fn one_who_comes_to_an_empty_queue_enters_while_a_slot_is_free() {
        for (held, max, enters) in [(0, 1, true), (1, 1, false), (7, 8, true), (9, 8, false), (3, 2, false)] {
            assert_eq!(may_enter(0, free(held, max)), enters, "{held} of {max}");
        }
    }

    #[test]
    fn who_could_enter_for_long_and_does_not_is_asleep() {
        let (halted, awake) = (ticket(Class::New, 1), ticket(Class::New, 2));
        let mut vigil = Vigil::default();
        for second in 0..5 {
            assert_eq!(vigil.look(&[halted, awake], second * 1000), []);
        }
        assert_eq!(vigil.look(&[halted], 5000), [halted], "the other one has entered");
        assert_eq!(vigil.look(&[], 6000), []);
        assert_eq!(vigil.look(&[halted], 7000), [], "no slot was free in between: it is counted anew");
    }

    #[test]
    fn time_in_which_nobody_looked_puts_nobody_to_sleep() {
        let other = ticket(Class::New, 1);
        let mut vigil = Vigil::default();
        assert_eq!(vigil.look(&[other], 1000), []);
        assert_eq!(vigil.look(&[other], 9_000_000), []);
        assert_eq!(vigil.look(&[other], 100), [], "a clock that goes back");
        assert_eq!(vigil.look(&[other], 2000), []);
        assert_eq!(vigil.look(&[other], 4000), [other]);
    }

    #[test]
    fn the_head_looks_each_second_and_the_end_of_a_long_queue_rarely() {
        assert_eq!([0, 7, 8, 24, 400].map(|ahead| look_again_ms(ahead, 8)), [1000, 1000, 2000, 4000, 30_000]);
        assert_eq!(look_again_ms(usize::MAX, 0), 30_000);
    }

    #[test]
    fn a_run_holds_nothing_while_a_command_blocks_and_the_last_returns_with_a_slot() {
        assert_eq!(due(1, 0, Place::Slot), Due::GiveBack);
        assert_eq!(due(1, 0, Place::Nothing), Due::Nothing);
        assert_eq!(due(1, 1, Place::Nothing), Due::LetGo, "another one still blocks");
        assert_eq!(due(0, 1, Place::Nothing), Due::Take);
        assert_eq!(due(0, 1, Place::Queued), Due::Take);
        assert_eq!(due(1, 1, Place::Queued), Due::LeaveQueue, "it blocks again before it had its slot");
        assert_eq!(due(0, 1, Place::Slot), Due::LetGo);
        assert_eq!(due(0, 0, Place::Nothing), Due::Take, "the last blocked command was killed");
        assert_eq!(due(0, 0, Place::Slot), Due::Nothing);
    }
}
