//! When a limit is over, as the CLIs and providers write it: as a moment, as a span of time, or as a time of day.
//! What is read here is not yet a moment: a span counts from when it was said, a time of day needs a zone.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// No limit of an account is longer than a month; what lies further ahead is a slip, and is not waited for.
const AHEAD_MAX: Duration = Duration::from_secs(32 * 24 * 3600);
/// A time of day that passed so shortly ago is today's, not tomorrow's.
const JUST_PASSED: Duration = Duration::from_secs(600);

/// When a limit is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reset {
    At(Timestamp),
    /// So long after it was said.
    In(Duration),
    /// A time of day, in the zone of this name, else in the machine's own.
    Clock {
        date: Option<Day>,
        time: Time,
        zone: Option<String>,
    },
}

/// A day of a year, which may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    pub year: Option<i16>,
    pub month: i8,
    pub day: i8,
}

/// What stands before the time, in lower case, and what may follow it. More telling ones first.
const BEFORE: [(&str, Form); 25] = [
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Seconds since 1970, or RFC 3339.
    Moment,
    /// A span with units.
    Span,
    /// A span with units, or a bare number of seconds.
    Seconds,
    /// A time of day with or without a date, or a moment.
    Clock,
}

impl Reset {
    /// Reads the first time that the text names as the end of a limit.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        BEFORE.iter().find_map(|(word, form)| {
            lower.match_indices(word).find_map(|(at, _)| {
                let from = at + word.len();
                read_as(*form, Words { lower: &lower[from..], text: &text[from..] })
            })
        })
    }

    /// The value of a `retry-after` header: seconds. A date is read by nobody's server here.
    #[must_use]
    pub fn read_retry_after(value: &str) -> Option<Self> {
        read_as(Form::Seconds, Words { lower: value, text: value })
    }

    /// Seconds since 1970, as a stream gives them.
    #[must_use]
    pub fn at_second(second: u64) -> Option<Self> {
        // Some give milliseconds.
        let second = if second >= 100_000_000_000 { second / 1000 } else { second };
        let second = i64::try_from(second).ok().filter(|second| *second >= 1_000_000_000)?;
        Timestamp::from_second(second).ok().map(Self::At)
    }

    /// The moment, of what was said at `said`. `zone` finds a time zone by its name, and the machine's own without.
    /// None when the zone is not known, or when it lies too far ahead to be true. A moment that has passed is one.
    #[must_use]
    pub fn moment(
        &self,
        said: Timestamp,
        zone: impl FnOnce(Option<&str>) -> Option<TimeZone>,
    ) -> Option<Timestamp> {
        let moment = match self {
            Self::At(moment) => *moment,
            Self::In(span) => said.checked_add(*span).ok()?,
            Self::Clock { date, time, zone: name } => clock(said, *date, *time, &zone(name.as_deref())?)?,
        };
        (moment <= said.checked_add(AHEAD_MAX).ok()?).then_some(moment)
    }

    /// True when it is certain that it is over so soon.
    pub(super) fn is_within(&self, span: Duration) -> bool {
        match self {
            Self::In(wait) => *wait <= span,
            Self::At(_) | Self::Clock { .. } => false,
        }
    }
}

fn clock(said: Timestamp, date: Option<Day>, time: Time, zone: &TimeZone) -> Option<Timestamp> {
    let today = said.to_zoned(zone.clone()).date();
    let on =
        |date: Date| DateTime::from_parts(date, time).to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    match date {
        Some(Day { year: Some(year), month, day }) => on(Date::new(year, month, day).ok()?),
        Some(Day { year: None, month, day }) => {
            let this_year = on(Date::new(today.year(), month, day).ok()?)?;
            // In December a limit may end in January.
            let half_a_year_ago = said.checked_sub(Duration::from_secs(180 * 24 * 3600)).ok()?;
            if this_year > half_a_year_ago {
                Some(this_year)
            } else {
                on(Date::new(today.year() + 1, month, day).ok()?)
            }
        }
        None => {
            let at = on(today)?;
            if at.checked_add(JUST_PASSED).ok()? >= said { Some(at) } else { on(today.tomorrow().ok()?) }
        }
    }
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
        let (taken, _) =
            self.lower.split_at(self.lower.bytes().take_while(|b| b.is_ascii() && is(*b)).count());
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

#[cfg(test)]
mod tests;
