//! The time in which this process ran, as thresholds and limits count it (`run_agent_core::policy::counted`): what a
//! machine slept or a halted process missed is not in it.

use std::time::{Duration, Instant};

use run_agent_core::policy::counted::Counted;

#[derive(Debug)]
pub struct OwnTime {
    began: Instant,
    counted: Counted,
}

impl OwnTime {
    /// Begins to count.
    #[must_use]
    pub fn begin() -> Self {
        Self { began: Instant::now(), counted: Counted::new(0) }
    }

    fn clock_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// To be called right before a sleep of so long.
    pub fn before_sleep(&mut self, nap: Duration) {
        let clock_ms = self.clock_ms();
        self.counted.plan(clock_ms, u64::try_from(nap.as_millis()).unwrap_or(u64::MAX));
    }

    /// The time so far in ms. To be called right after a sleep, and at least now and then in long work.
    pub fn passed_ms(&mut self) -> u64 {
        let clock_ms = self.clock_ms();
        self.counted.look(clock_ms)
    }
}
