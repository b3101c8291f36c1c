//! A clock that counts only the time in which this very process ran. A machine that slept, a process that was halted
//! (`SIGSTOP`, a debugger, a frozen container) and a clock that was set must make nothing idle, stuck or too late: who
//! did not look cannot tell what happened meanwhile.
//!
//! Nothing tells a process that it did not run. But it knows for how long it meant to sleep: what passed beyond that,
//! but for a little slack, was not its own time.

/// What waking up may cost on a busy machine, beside a quarter of the sleep that was planned.
const SLACK_MS: u64 = 250;

/// The time that was counted so far. The caller reads a clock of its own and says before each sleep how long it is to
/// be; times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// What the caller's clock said at the last look.
    last_ms: u64,
    /// How long the sleep was to be that followed it.
    planned_ms: u64,
    counted_ms: u64,
}

impl Counted {
    /// Begins to count at this reading of the caller's clock.
    #[must_use]
    pub fn new(clock_ms: u64) -> Self {
        Self { last_ms: clock_ms, planned_ms: 0, counted_ms: 0 }
    }

    /// Counts what passed since the last look: at most the sleep that was planned and a little slack, and nothing where
    /// the clock went back. Returns the time counted so far.
    pub fn look(&mut self, clock_ms: u64) -> u64 {
        let passed_ms = clock_ms.saturating_sub(self.last_ms);
        self.counted_ms = self.counted_ms.saturating_add(passed_ms.min(longest_ms(self.planned_ms)));
        (self.last_ms, self.planned_ms) = (clock_ms, 0);
        self.counted_ms
    }

    /// Looks, and says how long the sleep is to be that now follows.
    pub fn plan(&mut self, clock_ms: u64, sleep_ms: u64) -> u64 {
        let counted_ms = self.look(clock_ms);
        self.planned_ms = sleep_ms;
        counted_ms
    }

    /// The time counted so far, without a look.
    #[must_use]
    pub fn counted_ms(&self) -> u64 {
        self.counted_ms
    }
}

/// The longest time that counts for a sleep of so long.
#[must_use]
pub fn longest_ms(planned_ms: u64) -> u64 {
    planned_ms.saturating_add(planned_ms / 4).saturating_add(SLACK_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn time_that_goes_by_as_planned_is_counted_whole() {
        let mut clock = Counted::new(1000);
        for n in 1..=10u64 {
            clock.plan(1000 + (n - 1) * 500, 500);
            assert_eq!(clock.look(1000 + n * 500), n * 500);
        }
    }

    #[test]
    fn being_woken_early_counts_what_passed() {
        let mut clock = Counted::new(0);
        clock.plan(0, 30_000);
        assert_eq!(clock.look(7), 7);
    }

    #[test]
    fn an_hour_between_two_looks_counts_as_one_look() {
        let mut clock = Counted::new(0);
        clock.plan(0, 1000);
        assert_eq!(clock.look(HOUR), longest_ms(1000));
        clock.plan(HOUR, 1000);
        assert_eq!(clock.look(HOUR + 1000), longest_ms(1000) + 1000);
    }

    #[test]
    fn a_clock_that_goes_back_counts_nothing_and_goes_on_from_there() {
        let mut clock = Counted::new(HOUR);
        clock.plan(HOUR, 1000);
        assert_eq!(clock.look(5), 0);
        clock.plan(5, 1000);
        assert_eq!(clock.look(905), 900);
    }

    proptest! {
        #[test]
        fn no_jump_adds_more_than_the_sleeps_that_were_planned(
            looks in prop::collection::vec((any::<u64>(), 0..60_000u64), 1..50),
        ) {
            let mut clock = Counted::new(0);
            let (mut before, mut most) = (0, longest_ms(0));
            for (reading, sleep) in looks {
                let counted = clock.plan(reading, sleep);
                prop_assert!(counted >= before && counted <= most, "{before} {counted} {most}");
                (before, most) = (counted, counted + longest_ms(sleep));
            }
        }
    }
}
