//! What agents used, in few words: tokens, and the cost as far as it was reported.

use std::time::Duration;

use run_agent_core::Timestamp;
use run_agent_core::world::{BudgetRow, Run, Task, UsageRow};

use super::{span, when};

/// `12.3k in, 1.2k out, $0.05`; `at least` where more was used.
pub(crate) fn usage(row: &UsageRow) -> String {
    let cost = match (row.cost_usd, row.cost_incomplete) {
        (None, _) => "cost unknown".to_owned(),
        (Some(cost), true) => format!("at least {}", cost.short_at_least()),
        (Some(cost), false) => cost.short(),
    };
    let bound = if row.incomplete { "at least " } else { "" };
    format!("{bound}{} in, {} out, {cost}", tokens(row.input_tokens), tokens(row.output_tokens))
}

/// `13.5k $0.05`, for a column.
pub(crate) fn usage_cell(row: &UsageRow) -> String {
    let cost = match (row.cost_usd, row.cost_incomplete) {
        (None, _) => " $?".to_owned(),
        (Some(cost), true) => format!(" ≥{}", cost.short_at_least()),
        (Some(cost), false) => format!(" {}", cost.short()),
    };
    let bound = if row.incomplete { "≥" } else { "" };
    format!("{bound}{}{cost}", tokens(row.input_tokens.saturating_add(row.output_tokens)))
}

/// `80 % of limits.max_tokens used: 812k tokens, $1.20`.
pub(crate) fn budget(row: &BudgetRow) -> String {
    let cost = row.cost_usd.filter(|cost| cost.micros > 0);
    let cost = cost.map(|cost| format!(", {}", cost.short())).unwrap_or_default();
    format!("{} % of {} used: {} tokens{cost}", row.percent, row.limit, tokens(row.tokens))
}

/// `retrying 429 rate_limit, retry 3 of 10`, of a run that does.
pub(crate) fn retrying(run: &Run) -> Option<String> {
    run.retries().map(|retry| format!("retrying {retry}"))
}

/// Why a task stands so, with what its rows tell apart: which retry, until when.
pub(crate) fn reason_of(task: &Task, now: Timestamp) -> String {
    use run_agent_core::plan::reason;
    let reason = task.reason();
    if reason == reason::RETRYING
        && let Some(words) = task.active().filter_map(|(_, run)| retrying(run)).last()
    {
        return words;
    }
    with_until(reason, task.until(), now)
}

/// `usage_limit, 2h05m left` on a terminal, `usage_limit, until 2026-…` elsewhere.
pub(crate) fn with_until(reason: String, until: Option<Timestamp>, now: Timestamp) -> String {
    use std::io::IsTerminal;
    match until {
        None => reason,
        Some(until) if std::io::stdout().is_terminal() => format!("{reason}, {}", left(until, now)),
        Some(until) => format!("{reason}, until {}", when(until, now)),
    }
}

fn left(until: Timestamp, now: Timestamp) -> String {
    let seconds = u64::try_from(until.as_second().saturating_sub(now.as_second())).unwrap_or(0);
    match seconds {
        0 => "about to go on".to_owned(),
        s @ 1..60 => format!("{s}s left"),
        s => format!("{} left", span(Duration::from_secs(s))),
    }
}

/// `999`, `1.2k`, `12.3k`, `123k`, `1.2M`: never more than it is.
fn tokens(n: u64) -> String {
    let unit = |one: u64, name: &str| match n / one {
        whole @ 0..100 => format!("{whole}.{}{name}", n % one * 10 / one),
        whole => format!("{whole}{name}"),
    };
    match n {
        0..1000 => n.to_string(),
        1000..1_000_000 => unit(1000, "k"),
        1_000_000..1_000_000_000 => unit(1_000_000, "M"),
        _ => unit(1_000_000_000, "G"),
    }
}

#[cfg(test)]
mod tests {
    use run_agent_core::event::Usd;

    use super::*;

    fn row(input: u64, output: u64, micros: Option<u64>, cost_incomplete: bool) -> UsageRow {
        let cost_usd = micros.map(|micros| Usd { micros });
        UsageRow {
            input_tokens: input,
            output_tokens: output,
            cost_usd,
            cost_incomplete,
            ..UsageRow::default()
        }
    }

    #[test]
    fn usage_is_short_and_a_cost_is_never_guessed() {
        assert_eq!(usage(&row(12_345, 1_299, Some(50_000), false)), "12.3k in, 1.2k out, $0.05");
        assert_eq!(usage(&row(999, 0, Some(50_000), true)), "999 in, 0 out, at least $0.05");
        assert_eq!(usage(&row(1_000_000, 5, None, true)), "1.0M in, 5 out, cost unknown");
        assert_eq!(usage_cell(&row(12_345, 1_299, Some(50_000), true)), "13.6k ≥$0.05");
        assert_eq!(usage_cell(&row(120_000, 3_456, None, true)), "123k $?");
        let incomplete = UsageRow { incomplete: true, ..row(999, 0, Some(50_000), true) };
        assert_eq!(usage(&incomplete), "at least 999 in, 0 out, at least $0.05");
        assert_eq!(usage_cell(&incomplete), "≥999 ≥$0.05");
    }

    #[test]
    fn what_is_left_of_a_wait_is_relative() {
        let at = |s| Timestamp::from_second(s).unwrap_or_default();
        assert_eq!(
            [9, 10, 40, 8000].map(|until| left(at(until), at(10))),
            ["about to go on", "about to go on", "30s left", "2h13m left"]
        );
    }
}
