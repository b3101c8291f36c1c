//! A moment of a story, as people name it: a message or a time.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use run_agent_core::store::{ReadError, Stream};
use run_agent_core::{Cursor, Entry, MsgId, Timestamp, text};

use crate::error::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bound {
    Message {
        id: MsgId,
        /// The gap after it.
        next: Cursor,
    },
    Time(Timestamp),
}

impl Bound {
    /// A message that the stream does not hold is an error.
    pub(super) fn find(text: &str, stream: &dyn Stream) -> Result<Self, Failure> {
        if let Some(time) = full_time(text) {
            return Ok(Self::Time(time));
        }
        if let Ok(clock) = text.parse::<Time>() {
            return first_at(clock, stream)?.map(Self::Time).ok_or_else(|| {
                Failure::not_found(format!("no story to look for {text} in: the stream is empty"))
            });
        }
        let no_moment = || {
            Failure::usage(format!(
                "`{}` is no moment: write a message id, 2026-11-21T09:30:15Z, `2026-11-21 09:30` or 09:30:15",
                text::head(text, 100).escape_debug()
            ))
        };
        let id = MsgId::parse(text).map_err(|_| no_moment())?;
        match stream.find(&id) {
            Ok(next) => Ok(Self::Message { id, next }),
            // Almost any word could be an id; one that is none and does not look like one was meant as a time.
            Err(ReadError::UnknownId { .. }) if !looks_like_an_id(text) => Err(no_moment()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Message { .. } => None,
            Self::Time(time) => Some(*time),
        }
    }

    /// This very message.
    pub(super) fn is(&self, entry: &Entry) -> bool {
        matches!(self, Self::Message { id, .. } if *id == entry.message.id)
    }

    /// The entry comes after this moment.
    pub(super) fn is_past(&self, entry: &Entry) -> bool {
        match self {
            Self::Message { next, .. } => entry.at >= *next,
            Self::Time(time) => entry.message.ts > *time,
        }
    }

    /// The entry comes before this moment.
    pub(super) fn is_before(&self, entry: &Entry) -> bool {
        match self {
            Self::Message { next, .. } => entry.next < *next,
            Self::Time(time) => entry.message.ts < *time,
        }
    }
}

/// How ids begin: this program's own, those of messages by hand and of other writers.
fn looks_like_an_id(text: &str) -> bool {
    ["MSG-", "HAND-", "LEGACY-"].iter().any(|start| text.starts_with(start))
}

/// A time with its date. Without an offset it is UTC, as all times are shown.
fn full_time(text: &str) -> Option<Timestamp> {
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if !text.contains('-') {
        return None;
    }
    if text.len() == 10 {
        return utc(text.parse::<Date>().ok()?.to_datetime(Time::midnight()));
    }
    utc(text.parse::<DateTime>().ok()?)
}

/// The first moment of the story at which clocks showed this.
fn first_at(clock: Time, stream: &dyn Stream) -> Result<Option<Timestamp>, ReadError> {
    let first = stream.read(Cursor::START, 1)?.entries.into_iter().next();
    let Some(first) = first.map(|entry| entry.message.ts) else { return Ok(None) };
    let begins = first.to_zoned(TimeZone::UTC);
    let on = |date: Date| date.to_datetime(clock).to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp());
    // The story shows milliseconds: a clock time that is the first message's own is no day later.
    let same_day = on(begins.date()).filter(|at| at.as_millisecond() >= first.as_millisecond());
    Ok(same_day.or_else(|| begins.date().tomorrow().ok().and_then(on)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_an_offset_are_utc() {
        let wanted: Timestamp = "2026-11-21T09:30:00Z".parse().unwrap();
        for text in
            ["2026-11-21T09:30:00Z", "2026-11-21T10:30:00+01:00", "2026-11-21 09:30", "2026-11-21T09:30:00"]
        {
            assert_eq!(full_time(text), Some(wanted), "{text}");
        }
        assert_eq!(full_time("2026-11-21"), Some("2026-11-21T00:00:00Z".parse().unwrap()));
        for no in ["09:30", "MSG-20261121-093015-184887000-PID67946-0001", "yesterday", ""] {
            assert_eq!(full_time(no), None, "{no}");
        }
    }
}
