//! What an agent used, in one way to count for all of them.

use run_agent_core::event::Usd;

use super::Json;

/// Tokens of all requests. `input` has what was read from and written to a cache in it, `output` has what was spent on
/// reasoning in it, whatever the agent's own way to count is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    /// Of the input, what was read from a cache.
    pub cached: u64,
    /// Of the output, what was spent on reasoning.
    pub reasoning: u64,
}

/// Tokens, and what they cost if the agent says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used {
    pub model: Option<String>,
    pub tokens: Tokens,
    pub cost: Option<Usd>,
}

/// What earlier runs of a conversation reported together, which a run that takes it up may report once more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// The conversation that was asked for: one that the agent began instead has used nothing yet.
    pub session: Option<String>,
    pub used: Used,
}

/// No report of an agent counts more; what does is a slip, and would use up a budget for good.
const TOKENS_MAX: u64 = 1_000_000_000_000;

impl Tokens {
    /// A report with a count in it that cannot be true says nothing.
    pub(crate) fn or_nothing(self) -> Self {
        let most = self.input.max(self.output).max(self.cached).max(self.reasoning);
        if most > TOKENS_MAX { Self::default() } else { self }
    }

    /// Takes the count so far of one who counts on, and gives what came on top.
    pub(crate) fn count_on(&mut self, now: Self) -> Self {
        if now.or_nothing() != now {
            return Self::default();
        }
        now.since(std::mem::replace(self, now))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached: self.cached.saturating_add(other.cached),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }

    /// What came on top of `before`. A count that went down began afresh, so that all of it is new.
    fn since(self, before: Self) -> Self {
        let went_down = self.input < before.input
            || self.output < before.output
            || self.cached < before.cached
            || self.reasoning < before.reasoning;
        if went_down {
            return self;
        }
        Self {
            input: self.input - before.input,
            output: self.output - before.output,
            cached: self.cached - before.cached,
            reasoning: self.reasoning - before.reasoning,
        }
    }
}

/// A cost as JSON has it; what is no amount is none.
pub(crate) fn usd(value: &Json) -> Option<Usd> {
    let micros = value.number().map(|dollars| (dollars * 1e6).round())?;
    // A billion dollars is a slip.
    (0.0..1e15).contains(&micros).then_some(Usd { micros: micros as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_is_rounded_to_millionths_and_nonsense_is_none() {
        let micros = |text| usd(&Json::read(str::as_bytes(text)).unwrap()).map(|usd| usd.micros);
        assert_eq!(micros("0.01104"), Some(11_040));
        assert_eq!(micros("0"), Some(0));
        assert_eq!(micros("12.3456789"), Some(12_345_679));
        assert_eq!([micros("-1"), micros("1e300"), micros("\"1\""), micros("null")], [None; 4]);
    }

    #[test]
    fn a_count_that_went_down_began_afresh() {
        let tokens = |input, output| Tokens { input, output, ..Tokens::default() };
        assert_eq!(tokens(2400, 68).since(tokens(1200, 34)), tokens(1200, 34));
        assert_eq!(tokens(2400, 30).since(tokens(1200, 34)), tokens(2400, 30));
    }

    #[test]
    fn a_count_that_cannot_be_true_is_none_and_is_not_counted_on_from() {
        let input = |input| Tokens { input, ..Tokens::default() };
        let mut so_far = input(100);
        assert_eq!(so_far.count_on(input(u64::MAX)), Tokens::default());
        assert_eq!(so_far.count_on(input(150)), input(50));
        assert_eq!(input(TOKENS_MAX).or_nothing(), input(TOKENS_MAX));
        assert_eq!(input(TOKENS_MAX + 1).or_nothing(), Tokens::default());
    }

    proptest! {
        #[test]
        fn no_difference_is_larger_than_the_count(now in any::<[u64; 4]>(), before in any::<[u64; 4]>()) {
            let tokens = |[input, output, cached, reasoning]: [u64; 4]| Tokens { input, output, cached, reasoning };
            let (now, new) = (tokens(now), tokens(now).since(tokens(before)));
            prop_assert!(new.input <= now.input && new.output <= now.output && new.cached <= now.cached);
        }
    }
}
