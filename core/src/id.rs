//! Ids: newtypes that are parsed once and valid for ever after (spec, section 2). Every id that names a folder is
//! checked here, so that no other file has to think about traversal.

use std::fmt;
use std::sync::Arc;

use jiff::{Timestamp, tz::Offset};
use serde::{Deserialize, Serialize};

use crate::text;

/// Why a string is not an id. The text names the kind of id, the value and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id `{}` is not valid: {rule}", value.escape_debug())]
pub struct IdError {
    kind: &'static str,
    value: String,
    rule: &'static str,
}

/// Longest file name that the common file systems take, in bytes.
const NAME_MAX: usize = 255;
/// Longest slug that a caller may choose; a clash adds five characters.
pub const SLUG_MAX: usize = 48;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `value` and keeps it.
            ///
            /// # Errors
            /// When the value breaks a rule of section 2; the error names the rule.
            pub fn parse(value: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(value) {
                    Ok(()) => Ok(Self(value.into())),
                    Err(rule) => {
                        Err(IdError { kind: $kind, value: text::head(value, 80).to_owned(), rule })
                    }
                }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::parse(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::parse(&value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().into()
            }
        }
    };
}

id_type!(
    /// A project's name, which is its folder's name.
    ProjectId, "project", check_project
);
id_type!(
    /// `task-YYYYMMDD-HHMMSS-<slug>`, which is the task folder's name.
    TaskId, "task", check_task
);
id_type!(
    /// `YYYYMMDD-HHMMSSffff-PID-SEQ`, which is the run folder's name. Sorts as text in order of time.
    RunId, "run", check_run
);
id_type!(
    /// A message's id. Those that this tool gives have the form `MSG-YYYYMMDD-HHMMSS-NNNNNNNNN-PIDnnnnn-SSSS` and
    /// increase within a stream; those of other tools are any printable token.
    MsgId, "message", check_message
);

fn check_name(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("it is empty");
    }
    if value.len() > NAME_MAX {
        return Err("it is longer than 255 bytes");
    }
    if value.contains(['/', '\\']) {
        return Err("it must not contain `/` or `\\`");
    }
    if value.chars().any(char::is_control) {
        return Err("it must not contain control characters");
    }
    Ok(())
}

fn check_project(value: &str) -> Result<(), &'static str> {
    check_name(value)?;
    if value.starts_with('.') {
        return Err("it must not begin with `.`");
    }
    if value.starts_with('-') {
        return Err("it must not begin with `-`");
    }
    if matches!(value, "global" | "config.hcl" | "config.yaml" | "config.yml") {
        return Err("the name is reserved");
    }
    // Beyond ASCII every printable character that is no blank may stand in a name: combining marks, which some systems
    // write letters with, are no letters by themselves.
    let ordinary = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '$' | '-' | '.')
            || (!c.is_ascii() && !c.is_whitespace() && !is_invisible(c))
    };
    if !value.chars().all(ordinary) {
        return Err("only letters, digits, `_`, `$`, `-` and `.` are allowed");
    }
    Ok(())
}

/// Characters that are not seen, or change how the ones around them are shown.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}'
    )
}

fn check_task(value: &str) -> Result<(), &'static str> {
    check_name(value)?;
    const FORM: &str = "it must have the form task-YYYYMMDD-HHMMSS-<slug>, the slug of `a-z`, `0-9` and `-`";
    let rest = value.strip_prefix("task-").ok_or(FORM)?;
    let mut parts = rest.splitn(3, '-');
    let stamp_ok = all_digits(parts.next(), 8) && all_digits(parts.next(), 6);
    let slug = parts.next().unwrap_or_default();
    if !stamp_ok || check_slug(slug, SLUG_MAX + 5).is_err() {
        return Err(FORM);
    }
    Ok(())
}

fn check_slug(slug: &str, max: usize) -> Result<(), &'static str> {
    if slug.is_empty() || slug.len() > max {
        return Err("a slug has 1 to 48 characters");
    }
    if !slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("a slug has only `a-z`, `0-9` and `-`");
    }
    Ok(())
}

fn check_run(value: &str) -> Result<(), &'static str> {
    check_name(value)?;
    let mut parts = value.split('-');
    let ok = all_digits(parts.next(), 8)
        && all_digits(parts.next(), 10)
        && some_digits(parts.next())
        && some_digits(parts.next())
        && parts.next().is_none();
    if ok { Ok(()) } else { Err("it must have the form YYYYMMDD-HHMMSSffff-PID-SEQ") }
}

fn check_message(value: &str) -> Result<(), &'static str> {
    if value.is_empty() || value.len() > NAME_MAX {
        return Err("a message id has 1 to 255 bytes");
    }
    // Nearly all are plain ASCII, of which all bytes are looked at at once: this is on the path of every entry read.
    let plain = |b: u8| matches!(b, b'!'..=b'~') & !matches!(b, b'"' | b'\\' | b',');
    if value.bytes().fold(true, |all, b| all & plain(b)) {
        return Ok(());
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\\' | ',')) {
        return Err("a message id has no blanks, quotes, commas, backslashes or control characters");
    }
    Ok(())
}

fn all_digits(part: Option<&str>, len: usize) -> bool {
    part.is_some_and(|p| p.len() == len && p.bytes().all(|b| b.is_ascii_digit()))
}

fn some_digits(part: Option<&str>) -> bool {
    part.is_some_and(|p| (1..=20).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
}

impl TaskId {
    /// A new task's id. `clash` is the random suffix for a name that is taken.
    ///
    /// # Errors
    /// When the slug has other characters than `a-z`, `0-9`, `-` or is not 1 to 48 long.
    pub fn new(at: Timestamp, slug: &str, clash: Option<u16>) -> Result<Self, IdError> {
        check_slug(slug, SLUG_MAX).map_err(|rule| IdError {
            kind: "task",
            value: text::head(slug, 80).to_owned(),
            rule,
        })?;
        let suffix = clash.map(|n| format!("-{n:04x}")).unwrap_or_default();
        Self::parse(&format!("task-{}-{slug}{suffix}", text::stamp(at)))
    }

    /// The part after the stamp.
    #[must_use]
    pub fn slug(&self) -> &str {
        self.0.splitn(4, '-').nth(3).unwrap_or_default()
    }
}

impl RunId {
    /// A new run's id. `seq` counts the runs this process has made, from 1.
    #[must_use]
    pub fn new(at: Timestamp, pid: u32, seq: u32) -> Self {
        let fraction = at.subsec_nanosecond().unsigned_abs() / 100_000;
        Self(format!("{}{fraction:04}-{pid}-{seq}", text::stamp(at)).into())
    }
}

impl MsgId {
    /// The id of a message that is appended at `at`, the `seq`-th of process `pid`.
    #[must_use]
    pub fn new(at: Timestamp, pid: u32, seq: u32) -> Self {
        let mut id = String::with_capacity(48);
        id.push_str("MSG-");
        text::push_stamp(&mut id, at);
        for (mark, value, width) in
            [("-", at.subsec_nanosecond().unsigned_abs(), 9), ("-PID", pid, 5), ("-", seq, 4)]
        {
            id.push_str(mark);
            text::push_padded(&mut id, value, width);
        }
        Self(id.into())
    }

    /// The moment in an id of this tool's form. Within a stream it increases strictly from id to id.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        let rest = self.0.strip_prefix("MSG-")?.as_bytes();
        let number = |from: usize, len: usize| -> Option<i32> {
            rest.get(from..from + len)?
                .iter()
                .try_fold(0i32, |n, b| b.is_ascii_digit().then(|| n * 10 + i32::from(b - b'0')))
        };
        if rest.get(8) != Some(&b'-') || rest.get(15) != Some(&b'-') || rest.get(25..29) != Some(b"-PID") {
            return None;
        }
        let small = |from: usize| number(from, 2).and_then(|n| i8::try_from(n).ok());
        let at = jiff::civil::DateTime::new(
            i16::try_from(number(0, 4)?).ok()?,
            small(4)?,
            small(6)?,
            small(9)?,
            small(11)?,
            small(13)?,
            number(16, 9)?,
        );
        Offset::UTC.to_timestamp(at.ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn ids_have_the_form_of_the_spec() {
        let t = at("2026-11-21T09:30:00.1234567Z");
        assert_eq!(RunId::new(t, 67946, 1).as_str(), "20261121-0930001234-67946-1");
        assert_eq!(MsgId::new(t, 7, 3).as_str(), "MSG-20261121-093000-123456700-PID00007-0003");
        assert_eq!(TaskId::new(t, "fix-login", None).unwrap().as_str(), "task-20261121-093000-fix-login");
        let clash = TaskId::new(t, "fix-login", Some(0xab)).unwrap();
        assert_eq!(clash.as_str(), "task-20261121-093000-fix-login-00ab");
        assert_eq!(clash.slug(), "fix-login-00ab");
        assert!(RunId::parse("20261121-0155060000-22398-1").is_ok());
    }

    #[test]
    fn a_message_id_gives_its_moment_back() {
        let t = at("2026-11-21T09:30:15.184887001Z");
        assert_eq!(MsgId::new(t, 4_194_304, 12345).time(), Some(t));
        assert_eq!(MsgId::parse("LEGACY-LINE-000000001").unwrap().time(), None);
        assert_eq!(MsgId::parse("MSG-20269921-093000-123456700-PID00007-0003").unwrap().time(), None);
    }

    #[test]
    fn names_that_could_leave_the_root_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            ".hidden",
            "a\u{202e}b",
            "a\u{a0}b",
            "-x",
            "global",
            "config.hcl",
            "a*",
            "a b",
            "%2e%2e",
        ] {
            assert!(ProjectId::parse(bad).is_err(), "{bad:?} as project");
            assert!(TaskId::parse(bad).is_err(), "{bad:?} as task");
            assert!(RunId::parse(bad).is_err(), "{bad:?} as run");
        }
        assert!(ProjectId::parse(&"p".repeat(256)).is_err());
        assert!(TaskId::parse("task-20261121-093000-").is_err());
        assert!(TaskId::parse("task-20261121-093000-*").is_err());
        assert!(TaskId::parse("task-20261121-093000-../../x").is_err());
    }

    #[test]
    fn ordinary_names_are_taken() {
        for good in ["swarm", "my.project-2", "$x", "2048", "проект", "cafe\u{301}", &"p".repeat(255)] {
            assert!(ProjectId::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn the_error_says_what_and_why() {
        assert_eq!(
            ProjectId::parse("../x").unwrap_err().to_string(),
            "project id `../x` is not valid: it must not contain `/` or `\\`"
        );
        assert!(ProjectId::parse("a\u{1b}[31m").unwrap_err().to_string().contains("\\u{1b}"));
    }
}
