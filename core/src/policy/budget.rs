//! What a task may use, its whole tree: tokens first, and what agents report as cost. A cost that an agent does not
//! report is unknown, and never guessed.

use serde::{Deserialize, Serialize};

use crate::event::Usd;
use crate::world::Totals;

/// At this part of a limit people are warned.
const WARN_PERCENT: u32 = 80;

/// The limits of one task; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    pub max_tokens: u64,
    pub max_cost: Usd,
    pub on_budget: OnBudget,
}

/// What the end of a budget does to agents that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBudget {
    #[default]
    Stop,
    /// They work on to their own ends.
    Finish,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spent {
    pub tokens: u64,
    pub cost: Usd,
}

/// How far the budget is used up, where that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// 80 or 100.
    pub percent: u32,
    /// The setting's name.
    pub limit: &'static str,
}

impl Spent {
    #[must_use]
    pub fn of(totals: &Totals) -> Self {
        let tokens = totals.input_tokens.saturating_add(totals.output_tokens);
        Self { tokens, cost: totals.cost_usd }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let micros = self.cost.micros.saturating_add(other.cost.micros);
        Self { tokens: self.tokens.saturating_add(other.tokens), cost: Usd { micros } }
    }

    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let micros = self.cost.micros.saturating_sub(before.cost.micros);
        Self { tokens: self.tokens.saturating_sub(before.tokens), cost: Usd { micros } }
    }
}

impl Budget {
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.max_tokens > 0 || self.max_cost.micros > 0
    }

    /// The limit that is nearest to its end, from the warning on.
    #[must_use]
    pub fn reached(&self, spent: Spent) -> Option<Reached> {
        let tokens = (spent.tokens, self.max_tokens, "limits.max_tokens");
        let cost = (spent.cost.micros, self.max_cost.micros, "limits.max_cost_usd");
        let share = |(used, max, limit): (u64, u64, &'static str)| {
            let percent = u128::from(used) * 100 / u128::from(max.max(1));
            (max > 0 && percent >= u128::from(WARN_PERCENT))
                .then_some(Reached { percent: if used >= max { 100 } else { WARN_PERCENT }, limit })
        };
        let (tokens, cost) = (share(tokens), share(cost));
        // Of two that are as far, tokens are the surer.
        match (tokens, cost) {
            (Some(tokens), Some(cost)) if cost.percent > tokens.percent => Some(cost),
            (tokens, cost) => tokens.or(cost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_further_used_is_told() {
        let budget = Budget { max_tokens: 1000, max_cost: Usd { micros: 10 }, ..Budget::default() };
        let reached = |tokens, micros| {
            budget.reached(Spent { tokens, cost: Usd { micros } }).map(|r| (r.percent, r.limit))
        };
        assert_eq!(reached(799, 7), None);
        assert_eq!(reached(800, 7), Some((80, "limits.max_tokens")));
        assert_eq!(reached(999, 8), Some((80, "limits.max_tokens")));
        assert_eq!(reached(800, 10), Some((100, "limits.max_cost_usd")));
        assert_eq!(reached(u64::MAX, u64::MAX), Some((100, "limits.max_tokens")));
        assert_eq!(Budget::default().reached(Spent { tokens: u64::MAX, cost: Usd { micros: 1 } }), None);
    }
}
