//! The time in which this process ran, as thresholds and limits count it (`run_agent_core::policy::counted`): what a
//! machine slept or a halted process missed is not in it.

use std::time::{Duration, Instant};

use run_agent_core::policy::counted::Counted;

#[derive(Debug)]
pub struct OwnTime {
    began: Instant,
    counted: Counted,
    before_ms: u64,
}

impl OwnTime {
    /// Begins to count.
    #[must_use]
    pub fn begin() -> Self {
        Self::since(Instant::now())
    }

    /// Begins to count, with what passed since then: another process looked after it.
    #[must_use]
    pub fn since(then: Instant) -> Self {
        Self { began: Instant::now(), counted: Counted::new(0), before_ms: ms(then.elapsed()) }
    }

    fn clock_ms(&self) -> u64 {
        ms(self.began.elapsed())
    }

    /// To be called right before a sleep of so long.
    pub fn before_sleep(&mut self, nap: Duration) {
        let clock_ms = self.clock_ms();
        self.counted.plan(clock_ms, ms(nap));
    }

    /// The time so far in ms. To be called right after a sleep, and at least now and then in long work.
    pub fn passed_ms(&mut self) -> u64 {
        let clock_ms = self.clock_ms();
        self.before_ms.saturating_add(self.counted.look(clock_ms))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
