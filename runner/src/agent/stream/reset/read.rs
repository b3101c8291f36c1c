//! The words by which a text names the end of a limit, and the forms of time behind them.

use std::time::Duration;

use jiff::civil::Time;

use super::{Day, Reset};
use crate::agent::stream::telling;

/// What stands before the time, in lower case, and what may follow it. More telling ones first.
pub(super) const BEFORE: [(&str, Form); 25] = [
    ("limit reached|", Form::Moment),
    ("resets_in_seconds", Form::Seconds),
    ("reset_after_seconds", Form::Seconds),
    ("resets_at", Form::Moment),
    ("resetsat", Form::Moment),
    ("unified-reset", Form::Moment),
    ("requests-reset", Form::Moment),
    ("tokens-reset", Form::Moment),
    ("retrydelay", Form::Span),
    ("try again in", Form::Span),
    ("try again at", Form::Clock),
    ("try again after", Form::Clock),
    ("retry in", Form::Span),
    ("reset after", Form::Span),
    ("resets after", Form::Span),
    ("resets in", Form::Span),
    ("reset in", Form::Span),
    ("resets at", Form::Clock),
    ("reset at", Form::Clock),
    ("resets on", Form::Clock),
    ("resuming at", Form::Clock),
    ("resets", Form::Clock),
    ("suggested retry after", Form::Span),
    ("retry-after", Form::Seconds),
    ("retry_after", Form::Seconds),
];

/// No number and no word of a time is longer; what goes on is none.
const WORD_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Seconds since 1970, or RFC 3339.
    Moment,
    /// A span with units.
    Span,
    /// A span with units, or a bare number of seconds.
    Seconds,
    /// A time of day with or without a date, or a moment.
    Clock,
}

/// The first time that the text names as the end of a limit.
pub(super) fn first(text: &str) -> Option<Reset> {
    let text = &*telling(text);
    let lower = text.to_ascii_lowercase();
    BEFORE.iter().find_map(|(word, form)| {
        lower.match_indices(word).find_map(|(at, _)| {
            let from = at + word.len();
            read_as(*form, Words { lower: &lower[from..], text: &text[from..] })
        })
    })
}

/// A number of seconds by itself.
pub(super) fn seconds(value: &str) -> Option<Reset> {
    read_as(Form::Seconds, Words { lower: value, text: value })
}

fn read_as(form: Form, mut words: Words<'_>) -> Option<Reset> {
    words.skip(br#" \"':=|*`"#);
    match form {
        Form::Moment => words.moment(),
        Form::Span => words.span().map(Reset::In),
        Form::Seconds => words.clone().span().or_else(|| words.seconds()).map(Reset::In),
        Form::Clock => words.clone().moment().or_else(|| words.clock()),
    }
}

/// What is left to read, and the same in lower case. Both have the same bytes but for letters, since only ASCII is
/// lowered.
#[derive(Debug, Clone)]
struct Words<'a> {
    lower: &'a str,
    text: &'a str,
}

impl<'a> Words<'a> {
    fn advance(&mut self, bytes: usize) {
        (self.lower, self.text) = (&self.lower[bytes..], &self.text[bytes..]);
    }

    fn skip(&mut self, what: &[u8]) {
        self.advance(self.lower.bytes().take_while(|b| what.contains(b)).count());
    }

    fn take_while(&mut self, is: impl Fn(u8) -> bool) -> &'a str {
        let taken = self.lower.bytes().take(WORD_MAX).take_while(|b| b.is_ascii() && is(*b)).count();
        let (taken, _) = self.lower.split_at(taken);
        self.advance(taken.len());
        taken
    }

    fn digits(&mut self) -> &'a str {
        self.take_while(|b| b.is_ascii_digit())
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.lower.starts_with(word);
        if found {
            self.advance(word.len());
        }
        found
    }

    /// `1763500000`, or `2026-11-22T03:00:00Z`.
    fn moment(&mut self) -> Option<Reset> {
        let digits = self.clone().digits();
        if digits.len() >= 10 {
            return Reset::at_second(digits.parse().ok()?);
        }
        let word = self
            .take_while(|b| b.is_ascii_alphanumeric() || b"-:.+".contains(&b))
            .trim_end_matches(['.', ':']);
        word.to_ascii_uppercase().parse().ok().map(Reset::At)
    }

    /// `2 days 3 hours 5 minutes`, `3h49m`, `12.3s`, `1500ms`, `6m0s`.
    fn span(&mut self) -> Option<Duration> {
        let (mut sum, mut any) = (0.0f64, false);
        loop {
            let mut ahead = self.clone();
            ahead.skip(b" ,");
            if any && ahead.eat("and ") {
                ahead.skip(b" ");
            }
            let number = ahead.take_while(|b| b.is_ascii_digit() || b == b'.');
            ahead.skip(b" ");
            let unit = ahead.take_while(|b| b.is_ascii_alphabetic());
            let (Ok(number), Some(seconds)) = (number.parse::<f64>(), seconds_of(unit)) else { break };
            (sum, any) = (sum + number * seconds, true);
            *self = ahead;
        }
        any.then(|| Duration::try_from_secs_f64(sum).ok()).flatten()
    }

    fn seconds(&mut self) -> Option<Duration> {
        let number = self.take_while(|b| b.is_ascii_digit() || b == b'.').trim_end_matches('.');
        Duration::try_from_secs_f64(number.parse().ok()?).ok()
    }

    /// `3pm (Europe/Berlin)`, `9:58 PM`, `14:30`, `Jan 30, 11:30am (Asia/Calcutta)`, `Nov 24th, 2026 5:31 AM`.
    fn clock(&mut self) -> Option<Reset> {
        let date = self.date();
        self.skip(b" ,");
        if self.eat("at ") {
            self.skip(b" ");
        }
        let time = self.time()?;
        self.skip(b" .");
        let zone = self.zone();
        Some(Reset::Clock { date, time, zone })
    }

    fn date(&mut self) -> Option<Day> {
        let mut ahead = self.clone();
        let month = ahead.take_while(|b| b.is_ascii_alphabetic());
        let month = 1 + MONTHS.iter().position(|name| month.starts_with(name))?;
        ahead.skip(b" .");
        let day = ahead.digits().parse().ok()?;
        ahead.take_while(|b| b.is_ascii_alphabetic());
        ahead.skip(b" ,");
        let mut year = None;
        if ahead.clone().digits().len() == 4 {
            year = ahead.digits().parse().ok();
        }
        *self = ahead;
        Some(Day { year, month: i8::try_from(month).ok()?, day })
    }

    fn time(&mut self) -> Option<Time> {
        let hour: i8 = self.digits().parse().ok()?;
        let mut minute = None;
        if self.eat(":") {
            minute = Some(self.digits().parse::<i8>().ok()?);
        }
        self.skip(b" ");
        let half = if self.eat("am") || self.eat("a.m") {
            Some(0)
        } else if self.eat("pm") || self.eat("p.m") {
            Some(12)
        } else {
            None
        };
        let hour = match half {
            Some(half) if (1..=12).contains(&hour) => hour % 12 + half,
            Some(_) => return None,
            // A number alone is no time of day.
            None => minute.and(Some(hour))?,
        };
        Time::new(hour, minute.unwrap_or(0), 0, 0).ok()
    }

    /// `(Europe/Berlin)`
    fn zone(&mut self) -> Option<String> {
        let inner = self.text.strip_prefix('(')?;
        let (name, _) = inner.split_once(')')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
        (!name.is_empty() && name.len() <= 64 && name.bytes().all(plain)).then(|| name.to_owned())
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}
