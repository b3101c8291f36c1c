//! What strict JSON refuses and programs write nevertheless: half of a surrogate pair, where a text was cut between the
//! two; a number that no number can hold; bytes that are no text. A line is worth more than one of its characters.

use std::borrow::Cow;

/// Stands in the place of what is no character.
const NO_CHARACTER: &[u8] = b"\\ufffd";

/// The same bytes with each of these replaced; none when there is nothing to replace.
pub(super) fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let mut changed = matches!(text, Cow::Owned(_));
    let (mut left, mut out, mut in_text) = (text.as_bytes(), Vec::with_capacity(text.len()), false);
    while let Some(first) = left.first() {
        let (length, instead): (usize, Option<&[u8]>) = match (first, in_text) {
            (b'\\', true) => escape(left),
            (b'"', _) => {
                in_text = !in_text;
                (1, None)
            }
            (b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z', false) => word(left),
            (_, _) => (1, None),
        };
        let (token, rest) = left.split_at(length.min(left.len()));
        out.extend_from_slice(instead.unwrap_or(token));
        changed |= instead.is_some();
        left = rest;
    }
    changed.then_some(out)
}

/// How long it is, and what stands in its place.
fn escape(text: &[u8]) -> (usize, Option<&'static [u8]>) {
    match (unit(text), text.get(6..).and_then(unit)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, None),
        (Some(0xd800..=0xdfff), _) => (6, Some(NO_CHARACTER)),
        (Some(_), _) => (6, None),
        (None, _) => (2, None),
    }
}

/// The code unit of a `\u` escape.
fn unit(text: &[u8]) -> Option<u16> {
    let digits =
        text.strip_prefix(b"\\u")?.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A number, or `true`, `false` and `null`.
fn word(text: &[u8]) -> (usize, Option<&'static [u8]>) {
    let length = text.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)).count();
    let number = std::str::from_utf8(&text[..length]).ok().and_then(|word| word.parse::<f64>().ok());
    // `1e999`, and the `NaN` and `Infinity` that some writers know.
    (length, number.filter(|number| !number.is_finite()).map(|_| b"null".as_slice()))
}
