//! How long is waited for an answer, and when a request is made once more. Pure but for the chance that spreads the waits.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use run_agent_core::ErrorClass::{self, Network, Overloaded, RateLimit};

/// The bounds of one run's requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a connection, with TLS.
    pub(crate) connect: Duration,
    /// Without a byte, before the answer and within it.
    pub(crate) silence: Duration,
    /// With bytes that say nothing: what only keeps a connection open.
    pub(crate) without_event: Duration,
    /// For the body of a refusal, whose head has said the most already.
    pub(crate) refusal: Duration,
    /// How often a line says that there is silence.
    pub(crate) progress: Duration,
    /// So many tries after the first.
    pub(crate) retries: u32,
    /// Before the second try; it doubles with each.
    pub(crate) first_wait: Duration,
    /// What is asked to wait longer than this ends: its run holds a slot.
    pub(crate) longest_wait: Duration,
}

impl Patience {
    pub(crate) const USUAL: Self = Self {
        connect: Duration::from_secs(20),
        silence: Duration::from_secs(600),
        without_event: Duration::from_secs(1800),
        refusal: Duration::from_secs(5),
        progress: Duration::from_secs(15),
        retries: 6,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(120),
    };

    /// One try, for somebody who waits no longer than this for all of it.
    pub(crate) fn once(limit: Duration) -> Self {
        // Silence is none of its bounds: whoever waits says when it is late.
        Self {
            connect: Self::USUAL.connect.min(limit),
            silence: limit * 2,
            progress: limit,
            retries: 0,
            ..Self::USUAL
        }
    }

    /// How long to wait before try number `retry` after the first, which is made because of an error of this class. `asked`:
    /// the answer said to wait so long. None: it is the end.
    pub(crate) fn wait(&self, retry: u32, class: ErrorClass, asked: Option<Duration>) -> Option<Duration> {
        if retry > self.retries || !matches!(class, RateLimit | Overloaded | Network) {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1_u32.checked_shl(retry - 1).unwrap_or(u32::MAX));
        let own = spread(doubled.min(self.longest_wait));
        Some(asked.map_or(own, |asked| asked.max(own))).filter(|wait| *wait <= self.longest_wait)
    }
}

/// Between half of it and the whole: many runs that were refused together do not come back together.
fn spread(wait: Duration) -> Duration {
    // Each of these states is seeded anew by the system.
    let chance = u32::try_from(RandomState::new().hash_one(()) % 1024).unwrap_or(0);
    wait / 2 + (wait / 2) * chance / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_spread_and_come_to_an_end() {
        let patience = Patience::USUAL;
        for (retry, most) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32)] {
            let most = Duration::from_secs(most);
            let wait = patience.wait(retry, Overloaded, None).unwrap();
            assert!(wait >= most / 2 && wait <= most, "{retry}: {wait:?}");
        }
        assert_eq!(patience.wait(7, Overloaded, None), None);
    }

    #[test]
    fn what_is_asked_for_is_waited_for_within_bounds() {
        let asked = |secs| Patience::USUAL.wait(1, RateLimit, Some(Duration::from_secs(secs)));
        assert_eq!(asked(12), Some(Duration::from_secs(12)));
        assert_eq!(asked(120), Some(Duration::from_secs(120)));
        assert_eq!(asked(121), None);
        assert!(asked(0).unwrap() >= Duration::from_millis(500), "never at once");
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        for class in [ErrorClass::Auth, ErrorClass::UsageLimit, ErrorClass::Usage, ErrorClass::ContextTooLong]
        {
            assert_eq!(Patience::USUAL.wait(1, class, None), None, "{class}");
        }
    }
}
