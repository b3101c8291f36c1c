//! Times for people: relative ones, and how long something took.

use run_agent_core::Timestamp;

/// `3 s ago`, `5 min ago`, `2 h ago`, `4 d ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    format!("{} ago", span(u64::try_from(seconds).unwrap_or(0) * 1000))
}

/// `12 ms`, `3.1 s`, `5 min 12 s`.
pub(crate) fn lasted(from: Timestamp, to: Timestamp) -> String {
    let ms = to.as_millisecond().saturating_sub(from.as_millisecond()).max(0);
    span(u64::try_from(ms).unwrap_or(0))
}

fn span(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        assert_eq!(
            [0, 999, 1000, 59_999, 60_000, 3_600_000, 90_000_000].map(span),
            ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 0 s", "1 h 0 min", "1 d 1 h"]
        );
    }
}
