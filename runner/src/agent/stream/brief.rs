//! Long things in brief: what of a text is looked at, one bounded line of it, the telling one of a tool's arguments.

use std::borrow::Cow;

use run_agent_core::text;

use super::{ARGUMENT_MAX, Json, TELLING_MAX};

/// What of a text is searched for words: all of it, or its beginning and its end. An error names itself in one of them, and
/// whoever searches does so more than once.
pub(crate) fn telling(text: &str) -> Cow<'_, str> {
    if text.len() <= TELLING_MAX {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (text::head(text, TELLING_MAX / 2), text::tail(text, TELLING_MAX / 2));
    Cow::Owned(format!("{head}\n{tail}"))
}

/// `text` on one line of at most `max` bytes: blanks and line ends become one blank, control sequences of a terminal go.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                    chars.next();
                }
            }
            c if c.is_whitespace() => {
                if !out.is_empty() && !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if c.is_control() => {}
            c if out.len() + c.len_utf8() > max => {
                out.truncate(text::head(&out, max.saturating_sub('…'.len_utf8())).trim_end().len());
                out.push('…');
                return out;
            }
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// What of a tool's arguments is shown: the one that says most, or all of them.
pub(crate) fn argument(of: &Json) -> String {
    const TELLING: [&str; 13] = [
        "command",
        "cmd",
        "file_path",
        "filePath",
        "path",
        "absolute_path",
        "pattern",
        "query",
        "url",
        "prompt",
        "script",
        "description",
        "input",
    ];
    let telling = TELLING.iter().map(|key| of.at(&[key])).find(|value| !value.is_null());
    match (telling, of) {
        (Some(Json::List(words)), _) => {
            let words: Vec<&str> = words.iter().filter_map(Json::text).collect();
            one_line(&words.join(" "), ARGUMENT_MAX)
        }
        (Some(Json::Text(text)), _) | (None, Json::Text(text)) => one_line(text, ARGUMENT_MAX),
        (Some(other), _) => one_line(&other.to_string(), ARGUMENT_MAX),
        (None, Json::Null) => String::new(),
        (None, Json::Map(fields)) if fields.is_empty() => String::new(),
        (None, other) => one_line(&other.to_string(), ARGUMENT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Json {
        Json::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_tools_argument_is_the_telling_one_on_one_bounded_line() {
        assert_eq!(argument(&read(r#"{"description":"d","command":"a\n  b\tc"}"#)), "a b c");
        assert_eq!(argument(&read(r#"{"command":["bash","-lc","ls"]}"#)), "bash -lc ls");
        assert_eq!(argument(&read(r#"{"todos":[{"x":1}]}"#)), r#"{"todos":[{"x":1}]}"#);
        assert_eq!(argument(&read("{}")), "");
        assert_eq!(argument(&Json::Null), "");
        let long = argument(&read(&format!("{{\"command\":\"{}\"}}", "é".repeat(500))));
        assert!(long.ends_with('…') && long.len() <= ARGUMENT_MAX, "{long}");
    }

    #[test]
    fn of_a_long_text_its_beginning_and_its_end_are_looked_at() {
        assert_eq!(telling("short"), "short");
        let long = format!("first {} last", "é".repeat(TELLING_MAX));
        let seen = telling(&long);
        assert!(seen.starts_with("first ") && seen.ends_with(" last") && seen.len() <= TELLING_MAX + 1);
    }

    #[test]
    fn colours_of_a_terminal_are_taken_off() {
        assert_eq!(one_line(" \u{1b}[31;1merror:\u{1b}[0m  no\u{7} way\r\n", 100), "error: no way");
        assert_eq!(one_line("\u{1b}[", 100), "");
    }

    proptest! {
        #[test]
        fn one_line_is_one_line_within_its_bound(text in any::<String>(), max in 3usize..50) {
            let line = one_line(&text, max);
            prop_assert!(line.len() <= max && !line.chars().any(char::is_control), "{line:?}");
            prop_assert_eq!(one_line(&line, max), line);
        }
    }
}
