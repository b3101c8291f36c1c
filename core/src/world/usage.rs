//! What agents reported that they used: the sums, and the rows in which lists show it. A cost that an agent does not
//! report is unknown, and never guessed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{LoopBudget, Retrying, Usage, Usd};

/// Sums over what agents reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    /// The sum of the costs that were reported.
    pub cost_usd: Usd,
    /// True when some report had no cost: then the sum is a lower bound.
    pub cost_incomplete: bool,
    /// True when some agent was ended before it could report: then all of it is a lower bound.
    pub incomplete: bool,
}

/// What is known of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// No report named one.
    Unknown,
    /// Some reports named one.
    AtLeast(Usd),
    Known(Usd),
}

impl Totals {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cost_usd: Usd { micros: self.cost_usd.micros.saturating_add(other.cost_usd.micros) },
            cost_incomplete: self.cost_incomplete || other.cost_incomplete,
            incomplete: self.incomplete || other.incomplete,
        }
    }

    pub(super) fn add(&mut self, usage: &Usage) {
        *self = self.plus(&Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_tokens: usage.cached_tokens,
            cost_usd: usage.cost_usd.unwrap_or_default(),
            // A report of the session alone used nothing.
            cost_incomplete: usage.incomplete
                || usage.cost_usd.is_none() && (usage.input_tokens > 0 || usage.output_tokens > 0),
            incomplete: usage.incomplete,
        });
    }

    /// True where nothing was reported, which is not the same as nothing used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    #[must_use]
    pub fn cost(&self) -> Cost {
        match (self.cost_incomplete, self.cost_usd) {
            (true, Usd { micros: 0 }) => Cost::Unknown,
            (true, at_least) => Cost::AtLeast(at_least),
            (false, known) => Cost::Known(known),
        }
    }

    /// As lists show it; none where nothing was reported.
    #[must_use]
    pub fn row(&self) -> Option<UsageRow> {
        let cost_usd = match self.cost() {
            Cost::Unknown => None,
            Cost::AtLeast(cost) | Cost::Known(cost) => Some(cost),
        };
        let Self { input_tokens, output_tokens, cached_tokens, cost_incomplete, incomplete, .. } = *self;
        let row =
            UsageRow { input_tokens, output_tokens, cached_tokens, cost_usd, cost_incomplete, incomplete };
        (!self.is_empty()).then_some(row)
    }
}

/// What a run, a task or a project used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRow {
    /// With those that were cached.
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    /// In US dollars; null where it is unknown.
    #[serde(with = "dollars")]
    pub cost_usd: Option<Usd>,
    /// The cost is a lower bound: some report named none.
    pub cost_incomplete: bool,
    /// All of it is a lower bound: some agent was ended before it could report.
    pub incomplete: bool,
}

impl UsageRow {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        self.totals().plus(&other.totals()).row().unwrap_or_default()
    }

    fn totals(&self) -> Totals {
        let Self { input_tokens, output_tokens, cached_tokens, cost_usd, cost_incomplete, incomplete } =
            *self;
        let cost_usd = cost_usd.unwrap_or_default();
        Totals { input_tokens, output_tokens, cached_tokens, cost_usd, cost_incomplete, incomplete }
    }
}

/// How far a task's budget is used up, as it was last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// 80 or 100.
    pub percent: u32,
    /// The setting's name.
    pub limit: String,
    /// What the task's whole tree had used then, since its counters were set back.
    pub tokens: u64,
    #[serde(with = "dollars", default)]
    pub cost_usd: Option<Usd>,
}

impl From<&LoopBudget> for BudgetRow {
    fn from(told: &LoopBudget) -> Self {
        let LoopBudget { percent, limit, tokens, cost_usd } = told.clone();
        Self { percent, limit, tokens, cost_usd }
    }
}

/// A run's calls to its API that fail and are tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRow {
    pub error_class: String,
    /// The status of the answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u32>,
    /// Which retry it was when it was last told, and of how many.
    pub attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// When the first of them was told.
    pub since: Timestamp,
}

impl RetryRow {
    pub(super) fn of(retrying: &Retrying, since: Timestamp) -> Self {
        Self {
            error_class: retrying.error_class.clone().unwrap_or_default(),
            http_status: retrying.http_status,
            attempt: retrying.attempt,
            of: retrying.of,
            since,
        }
    }
}

/// `429 rate_limit, retry 3 of 10`.
impl std::fmt::Display for RetryRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(status) = self.http_status {
            write!(f, "{status} ")?;
        }
        write!(f, "{}, retry {}", self.error_class, self.attempt)?;
        self.of.map_or(Ok(()), |of| write!(f, " of {of}"))
    }
}

/// An amount as a number of dollars, for programs.
pub mod dollars {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::event::Usd;

    /// # Errors
    /// Those of the serializer.
    #[allow(clippy::cast_precision_loss, clippy::ref_option)]
    pub fn serialize<S: Serializer>(cost: &Option<Usd>, serializer: S) -> Result<S::Ok, S::Error> {
        // Exact up to some billions of dollars.
        cost.map(|cost| cost.micros as f64 / 1e6).serialize(serializer)
    }

    /// # Errors
    /// Those of the deserializer.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usd>, D::Error> {
        let cost = Option::<f64>::deserialize(deserializer)?;
        // A cast of what is no amount saturates.
        Ok(cost.map(|cost| Usd { micros: (cost * 1e6).round() as u64 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tokens: u64, micros: Option<u64>) -> Usage {
        let cost_usd = micros.map(|micros| Usd { micros });
        Usage { input_tokens: tokens, cost_usd, ..Usage::default() }
    }

    #[test]
    fn a_cost_that_some_report_leaves_out_is_a_lower_bound_and_one_that_all_do_is_unknown() {
        let cost = |reports: &[Usage]| {
            let mut totals = Totals::default();
            reports.iter().for_each(|usage| totals.add(usage));
            totals.cost()
        };
        assert_eq!(cost(&[told(1, Some(5)), told(1, Some(6))]), Cost::Known(Usd { micros: 11 }));
        assert_eq!(cost(&[told(1, Some(5)), told(1, None)]), Cost::AtLeast(Usd { micros: 5 }));
        assert_eq!(cost(&[told(1, None), told(0, None)]), Cost::Unknown);
        assert_eq!(cost(&[told(1, Some(5)), told(0, None)]), Cost::Known(Usd { micros: 5 }));
        assert_eq!(Totals::default().row(), None);
    }

    #[test]
    fn what_an_agent_could_not_report_makes_every_sum_a_lower_bound() {
        let mut totals = Totals::default();
        totals.add(&Usage { incomplete: true, ..Usage::default() });
        let row = totals.row().unwrap();
        assert_eq!(
            (row.incomplete, row.cost_usd, totals.cost()),
            (true, None, Cost::Unknown),
            "and no nothing"
        );
        let mut other = Totals::default();
        other.add(&told(12, Some(5)));
        let sum = row.plus(&other.row().unwrap());
        assert_eq!((sum.incomplete, sum.input_tokens, sum.cost_usd), (true, 12, Some(Usd { micros: 5 })));
        assert!(sum.cost_incomplete);
    }

    #[test]
    fn programs_read_dollars_and_null_where_a_cost_is_unknown() {
        let mut totals = Totals::default();
        totals.add(&told(12, Some(12_345)));
        let text = serde_json::to_string(&totals.row()).unwrap();
        assert_eq!(
            text,
            r#"{"input_tokens":12,"output_tokens":0,"cached_tokens":0,"cost_usd":0.012345,"cost_incomplete":false,"incomplete":false}"#
        );
        assert_eq!(serde_json::from_str::<Option<UsageRow>>(&text).unwrap(), totals.row());
        let mut unknown = Totals::default();
        unknown.add(&told(12, None));
        let text = serde_json::to_string(&unknown.row()).unwrap();
        assert!(text.ends_with(r#""cost_usd":null,"cost_incomplete":true,"incomplete":false}"#), "{text}");
    }

    #[test]
    fn a_retry_is_told_in_few_words() {
        let retrying = |http_status, of| Retrying {
            error_class: Some("rate_limit".to_owned()),
            http_status,
            attempt: 3,
            of,
            detail: String::new(),
        };
        let words = |retrying: Retrying| RetryRow::of(&retrying, Timestamp::UNIX_EPOCH).to_string();
        assert_eq!(words(retrying(Some(429), Some(10))), "429 rate_limit, retry 3 of 10");
        assert_eq!(words(retrying(None, None)), "rate_limit, retry 3");
    }
}
