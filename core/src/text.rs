//! Small pure functions over text that several formats share: stamps, and the one way in which this project writes a
//! YAML string.

use jiff::{Timestamp, tz::TimeZone};

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
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(inner.to_owned());
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
    Some(out)
}

fn hex_char(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0u32;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

/// `YYYYMMDD-HHMMSS`, UTC: the stamp of task and message ids.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    let utc = at.to_zoned(TimeZone::UTC);
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        utc.year(),
        utc.month(),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second()
    )
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

    proptest! {
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
