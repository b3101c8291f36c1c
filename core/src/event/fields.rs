//! How the typed fields of an event become strings in `meta`, and how they are read back. A field that is absent
//! takes its empty value: entries of older versions and of other tools of the family carry fewer fields.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{MsgId, ProjectId, RunId, TaskId};

/// A field of `meta` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{name}` is not {expected}: `{}`", value.escape_debug())]
pub struct FieldError {
    name: &'static str,
    expected: &'static str,
    value: String,
}

/// One type of field.
pub(super) trait Field: Sized {
    const EXPECTED: &'static str;
    /// `None` leaves the field out.
    fn write(&self) -> Option<String>;
    fn read(text: &str) -> Option<Self>;
    /// The value of an absent field; `None` makes its absence an error.
    fn absent() -> Option<Self>;
}

/// `text` is what stands in `meta` under this name.
pub(super) fn read<T: Field>(text: Option<&str>, name: &'static str) -> Result<T, FieldError> {
    let error = |value: &str| FieldError {
        name,
        expected: T::EXPECTED,
        value: crate::text::head(value, 80).to_owned(),
    };
    match text {
        Some(text) => T::read(text).ok_or_else(|| error(text)),
        None => T::absent().ok_or_else(|| error("")),
    }
}

macro_rules! number_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const EXPECTED: &'static str = "a whole number";
            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn absent() -> Option<Self> {
                Some(0)
            }
        }
    )*};
}
number_field!(u32, i32, u64);

macro_rules! id_field {
    ($($type:ty => $expected:literal),*) => {$(
        impl Field for $type {
            const EXPECTED: &'static str = $expected;
            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn absent() -> Option<Self> {
                None
            }
        }
    )*};
}
id_field!(MsgId => "a message id", RunId => "a run id", TaskId => "a task id", ProjectId => "a project id",
          Timestamp => "a time");

impl Field for String {
    const EXPECTED: &'static str = "text";
    fn write(&self) -> Option<String> {
        Some(self.clone())
    }
    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";
    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl<T: Field> Field for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn write(&self) -> Option<String> {
        self.as_ref().and_then(Field::write)
    }
    fn read(text: &str) -> Option<Self> {
        T::read(text).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A list of ids, separated by blanks.
impl<T: Field> Field for Vec<T> {
    const EXPECTED: &'static str = "a list of ids";
    fn write(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        Some(self.iter().filter_map(Field::write).collect::<Vec<_>>().join(" "))
    }
    fn read(text: &str) -> Option<Self> {
        text.split_whitespace().map(T::read).collect()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// An amount of US dollars in millionths: exact, so that sums do not depend on their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Usd {
    pub micros: u64,
}

impl Usd {
    /// `$0.05`, `$12.30`; below ten cents with as many digits as say something. Rounded.
    #[must_use]
    pub fn short(self) -> String {
        // Nothing is nothing, and less than a half of the last digit is not.
        let half = if self.micros < 50 { 0 } else { self.step() / 2 };
        Self { micros: self.micros.saturating_add(half) }.digits()
    }

    /// As [`Self::short`], never more than it is: of a lower bound.
    #[must_use]
    pub fn short_at_least(self) -> String {
        self.digits()
    }

    fn step(self) -> u64 {
        if self.micros < 100_000 { 100 } else { 10_000 }
    }

    /// What is less than the last digit is left out.
    fn digits(self) -> String {
        let micros = self.micros - self.micros % self.step();
        match micros {
            0 if self.micros == 0 => "$0".to_owned(),
            0 => "<$0.0001".to_owned(),
            1..100_000 => {
                let text = format!("{:04}", micros / 100);
                let text = text.strip_suffix("00").unwrap_or(&text);
                format!("$0.{text}")
            }
            _ => format!("${}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000),
        }
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.micros / 1_000_000, self.micros % 1_000_000)
    }
}

impl Field for Usd {
    const EXPECTED: &'static str = "an amount such as 0.012345";
    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn read(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let six: String = fraction.chars().chain("000000".chars()).take(6).collect();
        let micros = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(six.parse().ok()?)?;
        Some(Self { micros })
    }
    fn absent() -> Option<Self> {
        None
    }
}

/// Declares event structs whose fields are read from and written to `meta` under their own names.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident { $($field:ident : $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $name { $(pub $field: $type),* }

        impl $name {
            fn read(meta: &std::collections::BTreeMap<String, String>) -> Result<Self, $crate::event::FieldError> {
                // One walk over what is there: a look for each field costs more than all that is done with them.
                $(let mut $field = None;)*
                for (name, text) in meta {
                    match name.as_str() {
                        $(stringify!($field) => $field = Some(text.as_str()),)*
                        // Of another version, or of no field of this event.
                        _ => {}
                    }
                }
                Ok(Self { $($field: $crate::event::fields::read($field, stringify!($field))?),* })
            }

            fn write(&self) -> std::collections::BTreeMap<String, String> {
                let mut meta = std::collections::BTreeMap::new();
                $(if let Some(value) = $crate::event::fields::Field::write(&self.$field) {
                    meta.insert(stringify!($field).to_owned(), value);
                })*
                meta
            }
        }
    )*};
}
pub(super) use fields;

/// Declares a closed set of words that stand in a field. The first is the value of an absent field.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident { $first:ident = $first_word:literal $(, $variant:ident = $word:literal)* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { #[default] $first, $($variant),* }

        impl $name {
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { Self::$first => $first_word, $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::event::fields::Field for $name {
            const EXPECTED: &'static str = concat!("one of ", $first_word $(, ", ", $word)*);
            fn write(&self) -> Option<String> {
                Some(self.as_str().to_owned())
            }
            fn read(text: &str) -> Option<Self> {
                match text { $first_word => Some(Self::$first), $($word => Some(Self::$variant),)* _ => None }
            }
            fn absent() -> Option<Self> {
                Some(Self::default())
            }
        }
    };
}
pub(super) use word;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_amounts_have_the_digits_that_say_something() {
        let micros =
            [0, 1, 100, 5_520, 12_000, 16_560, 17_952, 50_000, 99_999, 100_000, 1_200_000, 123_456_789];
        let rounded = [
            "$0", "<$0.0001", "$0.0001", "$0.0055", "$0.0120", "$0.0166", "$0.0180", "$0.05", "$0.10",
            "$0.10", "$1.20", "$123.46",
        ];
        assert_eq!(micros.map(|micros| Usd { micros }.short()), rounded);
        let bounds = [17_952, 99_999, 1_999_999, 60].map(|micros| Usd { micros }.short_at_least());
        assert_eq!(bounds, ["$0.0179", "$0.0999", "$1.99", "<$0.0001"]);
        assert_eq!(Usd { micros: 60 }.short(), "$0.0001");
    }
}
