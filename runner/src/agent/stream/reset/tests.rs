use super::*;
use proptest::prelude::*;

use super::read::BEFORE;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> Option<Reset> {
    Some(Reset::In(Duration::from_secs(seconds)))
}

fn millis(millis: u64) -> Option<Reset> {
    Some(Reset::In(Duration::from_millis(millis)))
}

fn clock(date: Option<(Option<i16>, i8, i8)>, hour: i8, minute: i8, zone: Option<&str>) -> Option<Reset> {
    let date = date.map(|(year, month, day)| Day { year, month, day });
    let time = Time::new(hour, minute, 0, 0).unwrap();
    Some(Reset::Clock { date, time, zone: zone.map(str::to_owned) })
}

fn moment(second: i64) -> Option<Reset> {
    Some(Reset::At(Timestamp::from_second(second).unwrap()))
}

#[test]
fn each_form_is_read() {
    let cases = [
        ("claude, epoch", "Claude AI usage limit reached|1763500000", moment(1_763_500_000)),
        (
            "claude, hour",
            "You've hit your limit · resets 2am (Europe/Berlin)",
            clock(None, 2, 0, Some("Europe/Berlin")),
        ),
        (
            "claude, minute",
            "You've hit your session limit · resets 8:30pm (Asia/Tokyo)",
            clock(None, 20, 30, Some("Asia/Tokyo")),
        ),
        (
            "claude, day",
            "You've hit your limit · resets Jan 30, 11:30am (Asia/Calcutta)",
            clock(Some((None, 1, 30)), 11, 30, Some("Asia/Calcutta")),
        ),
        (
            "claude, day at",
            "weekly limit reached ∙ resets Oct 9 at 5pm",
            clock(Some((None, 10, 9)), 17, 0, None),
        ),
        ("claude, no zone", "5-hour limit reached ∙ resets 10pm", clock(None, 22, 0, None)),
        (
            "claude, sentence",
            "Claude usage limit reached. Your limit will reset at 3pm (America/New_York).",
            clock(None, 15, 0, Some("America/New_York")),
        ),
        ("claude, noon", "resets 12pm (UTC)", clock(None, 12, 0, Some("UTC"))),
        ("claude, midnight", "resets 12am (Etc/GMT+3)", clock(None, 0, 0, Some("Etc/GMT+3"))),
        ("claude, web", "Limits will reset at 9:30 AM. View your usage", clock(None, 9, 30, None)),
        ("codex, same day", "more credits or try again at 9:58 PM.", clock(None, 21, 58, None)),
        (
            "codex, other day",
            "or try again at Nov 24th, 2026 5:31 AM.",
            clock(Some((Some(2026), 11, 24)), 5, 31, None),
        ),
        (
            "codex, span",
            "or try again in 2 days 17 hours 14 minutes.",
            seconds(2 * 86_400 + 17 * 3600 + 14 * 60),
        ),
        ("codex, short span", "Try again in 20 minutes.", seconds(1200)),
        (
            "codex, body",
            r#"{"type":"usage_limit_reached","resets_at":1788879437,"resets_in_seconds":9568}"#,
            seconds(9568),
        ),
        ("codex, moment", r#"{"resets_at":1788879437}"#, moment(1_788_879_437)),
        ("openai, seconds", "Please try again in 1.2s. Visit", millis(1200)),
        ("openai, header", "x-ratelimit-reset-requests: later", None),
        ("gemini, message", "Please retry in 47.434s.", millis(47_434)),
        (
            "gemini, info",
            r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}"#,
            seconds(34),
        ),
        ("gemini, packed info", r#"\"retryDelay\": \"34.5s\""#, millis(34_500)),
        ("gemini, long", "Your quota will reset after 3h49m0s.", seconds(3 * 3600 + 49 * 60)),
        ("gemini, advice", "no.\nSuggested retry after 60s.", seconds(60)),
        ("header", "retry-after: 120", seconds(120)),
        ("header in JSON", r#"{"retry-after":"7"}"#, seconds(7)),
        ("anthropic, unified", "anthropic-ratelimit-unified-reset: 1763500000", moment(1_763_500_000)),
        (
            "anthropic, requests",
            "anthropic-ratelimit-requests-reset: 2026-11-21T20:00:00Z",
            Some(Reset::At(at("2026-11-21T20:00:00Z"))),
        ),
        (
            "anthropic, tokens",
            "anthropic-ratelimit-tokens-reset: 2026-11-21T20:00:00+01:00",
            Some(Reset::At(at("2026-11-21T19:00:00Z"))),
        ),
        ("a moment in words", "resets at 2026-11-22T03:00:00Z.", Some(Reset::At(at("2026-11-22T03:00:00Z")))),
        ("milliseconds", "resets_at: 1763500000123", moment(1_763_500_000)),
        ("words", "Try again later.", None),
        ("a number alone", "resets 3", None),
        ("no such hour", "resets 13pm", None),
        ("no such time", "resets 25:00", None),
        ("a small number", "resets_at: 12", None),
        ("nothing behind", "try again in", None),
        ("an endless span", "try again in 999999999999999999999999 days", None),
        ("characters behind", "resets ünï", None),
    ];
    for (name, text, reset) in cases {
        assert_eq!(Reset::read(text), reset, "{name}: {text}");
    }
}

/// Middle European time, by its rule, so that no test needs the machine's zones.
fn berlin(_: Option<&str>) -> Option<TimeZone> {
    Some(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap())
}

#[test]
fn a_time_of_day_is_the_next_one_in_its_zone() {
    let cases = [
        ("later today", "2026-11-21T12:00:00Z", clock(None, 15, 0, None), "2026-11-21T14:00:00Z"),
        ("tomorrow", "2026-11-21T15:00:00Z", clock(None, 15, 0, None), "2026-11-22T14:00:00Z"),
        ("just passed", "2026-11-21T14:05:00Z", clock(None, 15, 0, None), "2026-11-21T14:00:00Z"),
        ("already tomorrow there", "2026-11-21T23:30:00Z", clock(None, 2, 0, None), "2026-11-22T01:00:00Z"),
        (
            "across the change of the clocks",
            "2026-10-24T20:00:00Z",
            clock(None, 5, 0, None),
            "2026-10-25T04:00:00Z",
        ),
        ("a day", "2026-11-21T12:00:00Z", clock(Some((None, 11, 24)), 5, 31, None), "2026-11-24T04:31:00Z"),
        (
            "a day of the next year",
            "2026-12-30T12:00:00Z",
            clock(Some((None, 1, 3)), 5, 0, None),
            "2027-01-03T04:00:00Z",
        ),
        (
            "a day that has passed",
            "2026-11-21T12:00:00Z",
            clock(Some((None, 11, 20)), 5, 0, None),
            "2026-11-20T04:00:00Z",
        ),
        (
            "a day with its year",
            "2026-12-30T12:00:00Z",
            clock(Some((Some(2027), 1, 3)), 5, 0, None),
            "2027-01-03T04:00:00Z",
        ),
        ("a span", "2026-11-21T12:00:00Z", seconds(90), "2026-11-21T12:01:30Z"),
        (
            "a moment",
            "2026-11-21T12:00:00Z",
            Some(Reset::At(at("2026-11-22T00:00:00Z"))),
            "2026-11-22T00:00:00Z",
        ),
    ];
    for (name, said, reset, wanted) in cases {
        assert_eq!(reset.unwrap().moment(at(said), berlin), Some(at(wanted)), "{name}");
    }
}

#[test]
fn what_cannot_be_true_is_not_waited_for() {
    let now = at("2026-11-21T12:00:00Z");
    assert_eq!(Reset::At(at("2099-01-01T00:00:00Z")).moment(now, berlin), None);
    assert_eq!(seconds(40 * 86_400).unwrap().moment(now, berlin), None);
    assert_eq!(clock(Some((None, 2, 30)), 1, 0, None).unwrap().moment(now, berlin), None, "no such day");
    assert_eq!(clock(None, 1, 0, Some("No/Where")).unwrap().moment(now, |_| None), None, "no such zone");
    assert_eq!(seconds(u64::MAX).unwrap().moment(now, berlin), None);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), word in 0usize..BEFORE.len(), second in -60_000_000_000i64..250_000_000_000) {
        let text = format!("{} {text}", BEFORE[word].0);
        let said = Timestamp::from_second(second).unwrap();
        if let Some(reset) = Reset::read(&text) {
            let _ = reset.moment(said, berlin);
        }
    }

    #[test]
    fn what_is_nearly_a_time_does_not_make_it_panic(text in "(resets|try again at|try again in|resets_at) ?[0-9a-z]{0,3}[0-9:., ]{0,12}(am|pm|s|h|d|th)?[ (A-Z)é]{0,4}") {
        if let Some(reset) = Reset::read(&text) {
            let _ = reset.moment(at("2026-11-21T12:00:00Z"), berlin);
        }
    }
}

#[test]
fn a_text_that_says_the_same_a_hundred_thousand_times_is_read_in_no_time() {
    for (word, _) in BEFORE {
        let text = word.repeat((1 << 20) / word.len());
        assert_eq!(Reset::read(&text), None, "{word}");
    }
}
