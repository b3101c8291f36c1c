//! Which agent is started next: round-robin or by weight over those that are not passed over. What was picked before
//! is read from the runs, so that there is no state of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::spread;
use crate::error_class::ErrorClass;
use crate::world::Degraded;

/// The agents that a loop may start, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pool {
    pub names: Vec<String>,
    pub selection: Selection,
    /// How long an agent that failed for reasons of its own is passed over.
    pub cooldown_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    #[default]
    RoundRobin,
    /// Agents without a weight have the weight 1; the weight 0 takes one out.
    Weighted { weights: BTreeMap<String, u64>, seed: u64 },
}

impl Pool {
    /// How long an agent is passed over that failed, and had failed in the same way so often in a row before: twice as
    /// long each time, so that agents which come back in turns do not fail for ever. Never for no time, since what failed
    /// at once would be tried again at once.
    fn pass_over_ms(&self, times: u32) -> u64 {
        let first_ms = self.cooldown_ms.max(PASS_OVER_MIN_MS);
        first_ms.saturating_mul(1 << times.min(10)).min(first_ms.max(PROBE_MAX_MS))
    }

    /// Until when an agent is passed over that failed with this class. An account's limit tells it itself (`retry_at`), or
    /// is probed. `known` is what the agent was passed over for before.
    #[must_use]
    pub fn passed_over_until(
        &self,
        known: Option<&Degraded>,
        class: &str,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Timestamp {
        let after = |ms| now.checked_add(Duration::from_millis(ms)).unwrap_or(now);
        let limit = is_usage_limit(class);
        let same =
            |known: &&Degraded| known.error_class == class || (limit && is_usage_limit(&known.error_class));
        let times = known.filter(same).map_or(0, |known| known.times);
        match (limit, retry_at) {
            (false, _) => after(self.pass_over_ms(times)),
            (true, Some(at)) if at > now && times == 0 => at,
            // Not said, over already, or said before and not true: to ask at once, again and again, helps nobody.
            (true, said) => {
                said.map_or(after(probe_after_ms(times)), |at| at.max(after(probe_after_ms(times))))
            }
        }
    }
}

/// What was picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    Agent(&'a str),
    /// All are passed over; the first comes back then.
    Later {
        until: Timestamp,
        class: String,
    },
    /// All are passed over, and none for a reason that passes by itself. The class is that of the newest.
    Never {
        class: String,
    },
}

/// Errors of the agent itself or of its account: to start it again changes nothing, and it is no attempt at the work.
#[must_use]
pub fn is_own_fault(class: &str) -> bool {
    ErrorClass::read(class).is_some_and(ErrorClass::is_own_fault)
}

/// The account's limit is reached. It passes by itself, unlike the agent's other faults.
#[must_use]
pub fn is_usage_limit(class: &str) -> bool {
    ErrorClass::read(class) == Some(ErrorClass::UsageLimit)
}

/// Errors of the service that the agent calls: to start it again at once meets them again, another agent may not.
#[must_use]
pub fn is_of_the_service(class: &str) -> bool {
    matches!(ErrorClass::read(class), Some(ErrorClass::RateLimit | ErrorClass::Overloaded))
}

/// How long an agent is passed over whose account's limit is reached, where it did not say until when: it is tried again
/// at growing pauses.
#[must_use]
pub fn probe_after_ms(times: u32) -> u64 {
    (PROBE_FIRST_MS << times.min(10)).min(PROBE_MAX_MS)
}

const PASS_OVER_MIN_MS: u64 = 1000;
const PROBE_FIRST_MS: u64 = 60_000;
const PROBE_MAX_MS: u64 = 30 * 60_000;

/// The agent for the next start. `last` is the one before, `picks` how many were started so far.
#[must_use]
pub fn choose<'a>(
    pool: &'a Pool,
    degraded: &BTreeMap<String, Degraded>,
    last: Option<&str>,
    picks: u32,
    now: Timestamp,
) -> Choice<'a> {
    let weight = |name: &str| match &pool.selection {
        Selection::RoundRobin => 1u64,
        Selection::Weighted { weights, .. } => weights.get(name).copied().unwrap_or(1),
    };
    let passed_over = |name: &str| degraded.get(name).filter(|degraded| degraded.until > now);
    let after_last =
        last.and_then(|last| pool.names.iter().position(|name| name == last)).map_or(0, |at| at + 1);
    let ready: Vec<&str> = (0..pool.names.len())
        .map(|n| pool.names[(after_last + n) % pool.names.len()].as_str())
        .filter(|name| weight(name) > 0 && passed_over(name).is_none())
        .collect();
    match (&pool.selection, ready.first()) {
        (_, None) => none_ready(pool, degraded, now),
        (Selection::RoundRobin, Some(first)) => Choice::Agent(first),
        (Selection::Weighted { seed, .. }, Some(first)) => {
            // In the pool's order, whoever came before: the same seed and number pick the same agent.
            let mut ready = ready.clone();
            ready.sort_by_key(|name| pool.names.iter().position(|other| other == name));
            let total: u64 = ready.iter().map(|name| weight(name)).sum();
            let mut at = spread(&format!("{seed}/{picks}")) % total.max(1);
            for name in ready {
                match at.checked_sub(weight(name)) {
                    Some(rest) => at = rest,
                    None => return Choice::Agent(name),
                }
            }
            Choice::Agent(first)
        }
    }
}

fn none_ready<'a>(pool: &Pool, degraded: &BTreeMap<String, Degraded>, now: Timestamp) -> Choice<'a> {
    let over = || pool.names.iter().filter_map(|name| degraded.get(name)).filter(|d| d.until > now);
    let passes =
        |degraded: &&Degraded| is_usage_limit(&degraded.error_class) || !is_own_fault(&degraded.error_class);
    match over().filter(passes).min_by_key(|degraded| degraded.until) {
        Some(first) => Choice::Later { until: first.until, class: first.error_class.clone() },
        None => Choice::Never {
            class: over().max_by_key(|d| d.until).map_or("no agent", |d| d.error_class.as_str()).to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pool(names: &[&str]) -> Pool {
        Pool { names: names.iter().map(|n| (*n).to_owned()).collect(), ..Pool::default() }
    }

    fn degraded(list: &[(&str, &str, i64)]) -> BTreeMap<String, Degraded> {
        list.iter()
            .map(|(name, class, until)| {
                (
                    (*name).to_owned(),
                    Degraded { error_class: (*class).to_owned(), until: at(*until), run: None, times: 1 },
                )
            })
            .collect()
    }

    #[test]
    fn round_robin_goes_on_after_the_last_and_passes_over_the_degraded() {
        let pool = pool(&["a", "b", "c"]);
        let none = BTreeMap::new();
        assert_eq!(choose(&pool, &none, None, 0, at(0)), Choice::Agent("a"));
        assert_eq!(choose(&pool, &none, Some("a"), 1, at(0)), Choice::Agent("b"));
        assert_eq!(choose(&pool, &none, Some("c"), 2, at(0)), Choice::Agent("a"));
        assert_eq!(choose(&pool, &none, Some("unknown"), 2, at(0)), Choice::Agent("a"));
        let b = degraded(&[("b", "auth", 10)]);
        assert_eq!(choose(&pool, &b, Some("a"), 1, at(0)), Choice::Agent("c"));
        assert_eq!(choose(&pool, &b, Some("a"), 1, at(10)), Choice::Agent("b"), "its time is over");
    }

    #[test]
    fn with_none_left_it_waits_for_what_passes_and_never_for_what_does_not() {
        let pool = pool(&["a", "b"]);
        let some = degraded(&[("a", "auth", 50), ("b", "crash", 30)]);
        assert_eq!(
            choose(&pool, &some, Some("a"), 1, at(0)),
            Choice::Later { until: at(30), class: "crash".to_owned() }
        );
        let all = degraded(&[("a", "auth", 50), ("b", "not_found", 60)]);
        assert_eq!(choose(&pool, &all, Some("a"), 1, at(0)), Choice::Never { class: "not_found".to_owned() });
    }

    #[test]
    fn an_agent_that_fails_again_is_passed_over_for_longer_and_never_for_no_time() {
        let pauses = |cooldown_ms, class: &str| {
            let pool = Pool { cooldown_ms, ..pool(&["a"]) };
            let known = |times| Degraded { error_class: "auth".to_owned(), until: at(0), run: None, times };
            let until = |times| pool.passed_over_until(Some(&known(times)), class, None, at(0)).as_second();
            [0, 1, 2, 3, 30].map(until)
        };
        assert_eq!(pauses(0, "auth"), [1, 2, 4, 8, 1024]);
        assert_eq!(pauses(300_000, "auth"), [300, 600, 1200, 1800, 1800]);
        assert_eq!(pauses(7_200_000, "auth"), [7200; 5]);
        assert_eq!(pauses(300_000, "crash"), [300; 5], "another trouble");
    }

    #[test]
    fn weights_are_kept_over_many_picks_and_a_seed_picks_the_same_again() {
        let weights = [("a", 3), ("b", 1), ("c", 0)].map(|(n, w)| (n.to_owned(), w)).into();
        let pool = Pool { selection: Selection::Weighted { weights, seed: 7 }, ..pool(&["a", "b", "c"]) };
        let none = BTreeMap::new();
        let mut counts = BTreeMap::<&str, u32>::new();
        for picks in 0..4000 {
            let Choice::Agent(name) = choose(&pool, &none, Some("a"), picks, at(0)) else { panic!() };
            assert_eq!(choose(&pool, &none, Some("b"), picks, at(0)), Choice::Agent(name));
            *counts.entry(name).or_default() += 1;
        }
        assert!((2700..3300).contains(&counts["a"]) && counts["a"] + counts["b"] == 4000, "{counts:?}");
    }
}
