//! Small pure functions over text that several formats share: stamps, and the one way in which this project writes a
//! YAML string.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// How long something lasted, in words for the stream: `90 s`, `6 min`, `3 h`.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Appends `value` as a YAML double-quoted scalar on one line. Every string the tool writes is quoted this way, so
/// that `no`, `1e3` and dates stay strings for every reader.
pub fn push_quoted(out: &mut String, value: &str) {
    out.push('"');
    // Most strings are plain words, and this is on the path of every append.
    if value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push_str(value);
        out.push('"');
        return;
    }
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            c if must_be_escaped(c) => {
                use std::fmt::Write;
                let code = u32::from(c);
                // Writing to a String cannot fail.
                let _ =
                    if code <= 0xffff { write!(out, "\\u{code:04x}") } else { write!(out, "\\U{code:08x}") };
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Control characters, and those that YAML readers take for line breaks, byte-order marks or refuse outright.
fn must_be_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Reads what [`push_quoted`] wrote: the whole of `quoted`, from its first quote to its last. `None` when it is
/// anything else, which sends the caller to a full YAML parser.
#[must_use]
pub fn unquote(quoted: &str) -> Option<String> {
    unquoted(quoted).map(Cow::into_owned)
}

/// As [`unquote`], without a copy where there is nothing to take off.
#[must_use]
pub fn unquoted(quoted: &str) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.bytes().any(|b| b == b'\\' || b == b'"') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => out.push(match chars.next()? {
                '"' => '"',
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => hex_char(&mut chars, 4)?,
                'U' => hex_char(&mut chars, 8)?,
                _ => return None,
            }),
            c => out.push(c),
        }
    }
    Some(Cow::Owned(out))
}

fn hex_char(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0u32;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

/// `20261121-093015`, in UTC: the stamp in the ids and names that the tool gives.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    let mut out = String::with_capacity(48);
    push_stamp(&mut out, at);
    out
}

pub(crate) fn push_stamp(out: &mut String, at: Timestamp) {
    let utc = Offset::UTC.to_datetime(at);
    push_year(out, utc);
    for value in [utc.month(), utc.day()] {
        push_two(out, value);
    }
    out.push('-');
    for value in [utc.hour(), utc.minute(), utc.second()] {
        push_two(out, value);
    }
}

/// RFC 3339 in UTC with as many digits of a second as there are, as [`Timestamp`] shows itself: this is on the path of
/// every append, where the general formatter is a tenth of the cost.
pub fn push_time(out: &mut String, at: Timestamp) {
    let utc = Offset::UTC.to_datetime(at);
    if utc.year() < 0 {
        out.push_str(&at.to_string());
        return;
    }
    push_year(out, utc);
    for (mark, value) in
        [('-', utc.month()), ('-', utc.day()), ('T', utc.hour()), (':', utc.minute()), (':', utc.second())]
    {
        out.push(mark);
        push_two(out, value);
    }
    let nanos = utc.subsec_nanosecond().unsigned_abs();
    if nanos > 0 {
        out.push('.');
        push_padded(out, nanos, 9);
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push('Z');
}

fn push_year(out: &mut String, utc: DateTime) {
    push_padded(out, u32::from(utc.year().unsigned_abs()), 4);
}

/// `00` to `99`, one behind the other.
const TWO_DIGITS: &str = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
    5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// Two digits of a number below a hundred.
fn push_two(out: &mut String, value: i8) {
    let at = usize::from(value.unsigned_abs() % 100) * 2;
    out.push_str(&TWO_DIGITS[at..at + 2]);
}

/// Reads what [`push_time`] wrote, and whatever else is a [`Timestamp`]. The general parser is a tenth of what reading
/// an entry costs.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    plain_time(text.as_bytes()).or_else(|| text.parse().ok())
}

fn plain_time(text: &[u8]) -> Option<Timestamp> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
        rest @ ..,
        b'Z',
    ] = text
    else {
        return None;
    };
    let nanos = match rest {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            number(digits)? * 10i32.pow(u32::try_from(9 - digits.len()).ok()?)
        }
        _ => return None,
    };
    let two = |tens: &u8, ones: &u8| number(&[*tens, *ones]).and_then(|value| i8::try_from(value).ok());
    let year = i16::try_from(number(&[*y1, *y2, *y3, *y4])?).ok()?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let at = DateTime::new(year, month, day, two(h1, h2)?, two(n1, n2)?, two(s1, s2)?, nanos).ok()?;
    Offset::UTC.to_timestamp(at).ok()
}

/// At most nine digits, and nothing else.
fn number(digits: &[u8]) -> Option<i32> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i32::from(digit - b'0')))
}

/// At least `width` digits.
pub(crate) fn push_padded(out: &mut String, value: u32, width: usize) {
    let mut digits = [b'0'; 10];
    let (mut left, mut at) = (value, digits.len());
    while left > 0 {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
    let from = at.min(digits.len() - width.min(digits.len()));
    out.push_str(std::str::from_utf8(&digits[from..]).unwrap_or_default());
}

/// `text` cut to at most `max` bytes at a character boundary, the end kept: the tail of a log for an error message.
#[must_use]
pub fn tail(text: &str, max: usize) -> &str {
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// `text` cut to at most `max` bytes at a character boundary, the beginning kept.
#[must_use]
pub fn head(text: &str, max: usize) -> &str {
    let mut to = max.min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

/// A task slug from free text: lower-case words of its first line joined by `-`, at most `max` characters.
#[must_use]
pub fn slug(text: &str, max: usize) -> String {
    let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
    let mut out = String::new();
    for c in line.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if out.len() >= max {
            break;
        }
    }
    while out.ends_with('-') {
        out.pop();
    }
    if out.is_empty() { "task".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_span_has_one_unit() {
        assert_eq!([0, 119, 120, 7199, 7200].map(span), ["0 s", "119 s", "2 min", "119 min", "2 h"]);
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_it_shows_itself(nanos in -62_000_000_000_000_000_000i128..253_000_000_000_000_000_000, zeros in 0u32..10) {
            let at = Timestamp::from_nanosecond(nanos / 10i128.pow(zeros) * 10i128.pow(zeros)).unwrap();
            let mut out = String::new();
            push_time(&mut out, at);
            prop_assert_eq!(out, at.to_string());
        }

        #[test]
        fn a_time_is_read_as_the_general_parser_reads_it(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?(Z|\\+01:00|)"
        ) {
            prop_assert_eq!(parse_time(&text), text.parse().ok());
        }

        #[test]
        fn numbers_are_padded(value in any::<u32>(), width in 0usize..10) {
            let mut out = String::new();
            push_padded(&mut out, value, width);
            let wanted = if value == 0 && width == 0 { String::new() } else { format!("{value:0width$}") };
            prop_assert_eq!(out, wanted);
        }

        #[test]
        fn a_quoted_string_is_one_line_and_comes_back(value in any::<String>()) {
            let mut quoted = String::new();
            push_quoted(&mut quoted, &value);
            prop_assert!(!quoted.contains(['\n', '\r']));
            prop_assert_eq!(unquote(&quoted), Some(value));
        }

        #[test]
        fn another_yaml_reader_agrees(value in any::<String>()) {
            let mut quoted = String::new();
            push_quoted(&mut quoted, &value);
            prop_assert_eq!(serde_yaml::from_str::<String>(&quoted).unwrap(), value);
        }
    }

    #[test]
    fn slugs_are_short_lower_case_words() {
        assert_eq!(slug("Fix the Login!! page\nsecond line", 48), "fix-the-login-page");
        assert_eq!(slug("  \n\n Ünïcode only ", 48), "n-code-only");
        assert_eq!(slug("漢字", 48), "task");
        assert_eq!(slug("aaaa bbbb", 5), "aaaa");
    }

    #[test]
    fn head_and_tail_respect_characters() {
        assert_eq!(tail("añb", 2), "b");
        assert_eq!(head("añb", 2), "a");
    }
}
