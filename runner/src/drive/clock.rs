//! The driver's clock: the loop's own time, the time since the newest root run ended, and the time of a wait. It counts
//! only what this process saw pass, so that a machine that slept makes no loop late.

use std::time::{Duration, Instant};

use run_agent_core::Timestamp;
use run_agent_core::plan::{Clock, Waiting};
use run_agent_core::world::Run;

use crate::own_time::OwnTime;
use crate::view::TaskView;
use crate::wake::Wake;

/// What [`Wake::sleep`] sleeps at the most, where all is quiet. Were it less than that, long waits would count in part.
const LONGEST_SLEEP: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct LoopClock {
    time: OwnTime,
    /// The loop's own time up to `counted_at_ms`.
    active_ms: u64,
    counted_at_ms: u64,
    /// What passes is the loop's own time.
    counts: bool,
    waiting: Option<(&'static str, u64)>,
    /// How long ago the newest root run had ended at `root_ended_ms`.
    ended_before_ms: u64,
    root_ended_ms: u64,
    had_root: bool,
}

impl LoopClock {
    pub(super) fn begin(view: &TaskView, active_ms: u64) -> Self {
        Self {
            time: OwnTime::begin(),
            active_ms,
            counted_at_ms: 0,
            counts: true,
            waiting: None,
            ended_before_ms: since_last_root_ms(view),
            root_ended_ms: 0,
            had_root: view.task().active_root().is_some(),
        }
    }

    pub(super) fn look(&mut self, has_root: bool) -> Clock {
        let now_ms = self.time.passed_ms();
        if self.counts {
            self.active_ms = self.active_ms.saturating_add(now_ms - self.counted_at_ms);
        }
        self.counted_at_ms = now_ms;
        if self.had_root && !has_root {
            self.root_has_ended();
        }
        self.had_root = has_root;
        Clock {
            active_ms: self.active_ms,
            since_root_ms: (now_ms - self.root_ended_ms).saturating_add(self.ended_before_ms),
            waiting: self.waiting.map(|(reason, since_ms)| Waiting { reason, ms: now_ms - since_ms }),
        }
    }

    /// A root run was started: its end is waited for.
    pub(super) fn root_has_started(&mut self) {
        self.had_root = true;
    }

    pub(super) fn root_has_ended(&mut self) {
        (self.root_ended_ms, self.ended_before_ms) = (self.counted_at_ms, 0);
    }

    /// Notes what is waited for from here on, and whether that is the loop's own time.
    pub(super) fn waits_for(&mut self, reason: Option<&'static str>, counts: bool) {
        self.waiting = match (reason, self.waiting) {
            (Some(reason), Some((before, since_ms))) if before == reason => Some((reason, since_ms)),
            (Some(reason), _) => Some((reason, self.counted_at_ms)),
            (None, _) => None,
        };
        self.counts = counts;
    }

    /// Sleeps so long whatever happens, but for a signal.
    pub(super) fn sleep_long(&mut self, wake: &Wake, pause: Duration) {
        let began = Instant::now();
        while let Some(left) = pause.checked_sub(began.elapsed()).filter(|_| !wake.interrupted()) {
            self.sleep(wake, left.max(Duration::from_millis(1)));
        }
    }

    /// Sleeps until a hint, at most so long.
    pub(super) fn sleep(&mut self, wake: &Wake, limit: Duration) {
        self.time.before_sleep(limit.min(LONGEST_SLEEP));
        wake.sleep(limit);
    }
}

/// How long ago the newest root run ended, by the wall clock: no driver was there to count.
fn since_last_root_ms(view: &TaskView) -> u64 {
    let last = view.task().ralph.last_root.as_ref().and_then(|id| view.run(id)).and_then(Run::end);
    let passed = last.map(|(_, at)| Timestamp::now().duration_since(at).as_millis());
    passed.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_quiet_loop_sleeps_counts_whole() {
        let mut clock = LoopClock {
            time: OwnTime::begin(),
            active_ms: 0,
            counted_at_ms: 0,
            counts: true,
            waiting: None,
            ended_before_ms: 0,
            root_ended_ms: 0,
            had_root: false,
        };
        let (wake, mut slept) = (Wake::new(), Duration::ZERO);
        // Each sleep is as long as the one before or longer.
        for _ in 0..5 {
            let began = Instant::now();
            clock.sleep(&wake, Duration::MAX);
            slept += began.elapsed();
            clock.look(false);
        }
        let counted = clock.look(false).active_ms;
        assert!(u128::from(counted) + 100 >= slept.as_millis(), "{counted} ms of {slept:?}");
    }
}
