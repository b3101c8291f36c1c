//! Times for people: relative ones, and how long something took.

use std::io::IsTerminal;
use std::time::Duration;

use run_agent_core::Timestamp;

/// When something was: relative on a terminal, whose reader sees it at once; as a time of day and date elsewhere.
pub(crate) fn when(then: Timestamp, now: Timestamp) -> String {
    if std::io::stdout().is_terminal() {
        return ago(then, now);
    }
    // Whole seconds, and UTC as everywhere.
    Timestamp::from_second(then.as_second()).unwrap_or(then).to_string()
}

/// `now`, `12s ago`, `3m ago`, `2h ago`, `4d ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    match u64::try_from(now.as_second().saturating_sub(then.as_second())).unwrap_or(0) {
        0..2 => "now".to_owned(),
        s @ 2..60 => format!("{s}s ago"),
        s @ 60..3600 => format!("{}m ago", s / 60),
        s @ 3600..172_800 => format!("{}h ago", s / 3600),
        s => format!("{}d ago", s / 86_400),
    }
}

/// `12ms`, `3.1s`, `5m12s`.
pub(crate) fn lasted(from: Timestamp, to: Timestamp) -> String {
    let ms = to.as_millisecond().saturating_sub(from.as_millisecond()).max(0);
    span(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// `12ms`, `3.1s`, `5m12s`, `2h05m`, `4d02h`.
pub(crate) fn span(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1000),
        3_600_000..86_400_000 => format!("{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{}d{:02}h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        assert_eq!(
            [0, 999, 1000, 59_999, 60_000, 3_600_000, 90_000_000].map(|ms| span(Duration::from_millis(ms))),
            ["0ms", "999ms", "1.0s", "59.9s", "1m00s", "1h00m", "1d01h"]
        );
    }

    #[test]
    fn relative_times_have_one_unit() {
        let at = |s: i64| Timestamp::from_second(s).unwrap_or_default();
        assert_eq!(
            [-5, 0, 2, 59, 60, 3599, 3600, 172_799, 172_800].map(|s| ago(at(1_000_000), at(1_000_000 + s))),
            ["now", "now", "2s ago", "59s ago", "1m ago", "59m ago", "1h ago", "47h ago", "2d ago"]
        );
    }
}
