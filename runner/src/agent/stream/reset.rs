//! When a limit is over, as the CLIs and providers write it: as a moment, as a span of time, or as a time of day.
//! What is read is not yet a moment: a span counts from when it was said, a time of day needs a zone.

mod read;

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

impl Reset {
    /// Reads the first time that the text names as the end of a limit.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        read::first(text)
    }

    /// The value of a `retry-after` header: seconds. A date is read by nobody's server here.
    #[must_use]
    pub fn read_retry_after(value: &str) -> Option<Self> {
        read::seconds(value)
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

#[cfg(test)]
mod tests;
