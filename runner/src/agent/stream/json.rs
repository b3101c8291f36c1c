//! One line of JSON as a small tree that answers questions: no answer depends on the order of keys, a field that is
//! absent or of another type than expected is none, and what is kept of a hostile line is bounded.

mod mend;

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How many values of a line are kept; the rest is read over. Texts are bounded by the line itself.
const VALUES_MAX: usize = 16_384;

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Json {
    #[default]
    Null,
    Bool(bool),
    Whole(u64),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

const NULL: &Json = &Json::Null;

impl Json {
    /// A whole JSON value, and nothing behind it. What is no JSON for the sake of one character or number in it is read
    /// without that.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_strictly(bytes).or_else(|| Self::read_strictly(&mend::mended(bytes)?))
    }

    fn read_strictly(bytes: &[u8]) -> Option<Self> {
        let left = Cell::new(VALUES_MAX);
        let mut from = serde_json::Deserializer::from_slice(bytes);
        let value = Seed { left: &left }.deserialize(&mut from).ok()?;
        from.end().ok()?;
        Some(value)
    }

    /// As [`Self::read`], of a line that is an object.
    pub(crate) fn object(bytes: &[u8]) -> Option<Self> {
        // Most lines that are no JSON end here, without an error being built.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        Self::read(bytes)
    }

    /// The field at the end of this path, or null. A key that stands twice counts once, the last one.
    pub(crate) fn at(&self, path: &[&str]) -> &Self {
        path.iter().fold(self, |value, key| match value {
            Self::Map(fields) => fields.iter().rev().find(|(name, _)| name == key).map_or(NULL, |(_, v)| v),
            Self::Null | Self::Bool(_) | Self::Whole(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => {
                NULL
            }
        })
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Whole(_) | Self::Number(_) | Self::List(_) | Self::Map(_) => {
                None
            }
        }
    }

    /// A text that says something.
    pub(crate) fn words(&self) -> Option<&str> {
        self.text().filter(|text| !text.trim().is_empty())
    }

    pub(crate) fn whole(&self) -> Option<u64> {
        match self {
            Self::Whole(number) => Some(*number),
            // Some write counts as floating point numbers.
            Self::Number(number) if *number >= 0.0 && *number <= 9e15 => Some(*number as u64),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Map(_) => {
                None
            }
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    pub(crate) fn is(&self, wanted: bool) -> bool {
        *self == Self::Bool(wanted)
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::Null | Self::Bool(_) | Self::Whole(_) | Self::Number(_) | Self::Text(_) | Self::Map(_) => {
                &[]
            }
        }
    }

    pub(crate) fn fields(&self) -> &[(String, Self)] {
        match self {
            Self::Map(fields) => fields,
            Self::Null | Self::Bool(_) | Self::Whole(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => {
                &[]
            }
        }
    }
}

/// As JSON writes it, for people.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (n, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if n == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Map(fields) => {
                f.write_str("{")?;
                for (n, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name:?}:{value}", if n == 0 { "" } else { "," })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Reads one value while there is room for it.
#[derive(Clone, Copy)]
struct Seed<'a> {
    left: &'a Cell<usize>,
}

impl Seed<'_> {
    fn has_room(self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Whole(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while self.has_room() {
            match items.next_element_seed(self)? {
                Some(item) => out.push(item),
                None => return Ok(Json::List(out)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while self.has_room() {
            match fields.next_key::<String>()? {
                Some(name) => out.push((name, fields.next_value_seed(self)?)),
                None => return Ok(Json::Map(out)),
            }
        }
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Json::Map(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_found_whatever_their_order_and_another_type_is_none() {
        let line = Json::object(br#" {"b":{"c":[1,2.5,-3,"x"]},"a":true,"a":"last"}"#).unwrap();
        assert_eq!(line.at(&["a"]).text(), Some("last"));
        assert_eq!(line.at(&["b", "c"]).list()[0].whole(), Some(1));
        assert_eq!(line.at(&["b", "c"]).list()[2].whole(), None, "no count is negative");
        assert_eq!(line.at(&["b", "c"]).list()[1].whole(), Some(2));
        assert_eq!(line.at(&["b", "no", "way"]), &Json::Null);
        assert_eq!(line.at(&["a", "b"]).text(), None);
        assert_eq!(line.to_string(), r#"{"b":{"c":[1,2.5,-3,"x"]},"a":true,"a":"last"}"#);
    }

    #[test]
    fn what_is_no_whole_object_is_none() {
        for text in ["", "null", "[1]", "{", "{}}", "{\"a\":1} x", "warning: {", "\u{feff}{}"] {
            assert_eq!(Json::object(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_line_is_not_lost_for_one_character_or_number_in_it() {
        let text = |json: &[u8]| Json::read(json).map(|json| json.to_string());
        for (json, wanted) in [
            (r#"{"a":"x\ud83d","b":1}"#, "{\"a\":\"x\u{fffd}\",\"b\":1}"),
            (r#""\ude00 \uD83D\ude00 \ud83d\ud83d\ude00""#, "\"\u{fffd} 😀 \u{fffd}😀\""),
            (r#""\\ud83d \ud83d\n \ud83dx""#, "\"\\\\ud83d \u{fffd}\\n \u{fffd}x\""),
            (
                r#"{"a":1e999,"b":-1e999,"c":"1e999","d":NaN,"e":[-Infinity,2]}"#,
                r#"{"a":null,"b":null,"c":"1e999","d":null,"e":[null,2]}"#,
            ),
        ] {
            assert_eq!(text(json.as_bytes()).as_deref(), Some(wanted), "{json}");
        }
        assert_eq!(text(&[b"\"".as_slice(), &[0xff], b"a\""].concat()).as_deref(), Some("\"\u{fffd}a\""));
        for text in [r#""\ud83d"#, r#""\ud8"#, r#""\u""#, r#"{"a":1e999"#, "1e999 x", r#"{"a":xyz}"#] {
            assert_eq!(Json::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_line_of_many_values_is_kept_in_part_and_read_to_its_end() {
        let many = format!("{{\"first\":1,\"list\":[{}0],\"last\":1}}", "0,".repeat(VALUES_MAX * 2));
        let line = Json::object(many.as_bytes()).unwrap();
        assert_eq!(line.at(&["first"]).whole(), Some(1));
        assert!(line.at(&["list"]).list().len() < VALUES_MAX);
        assert!(Json::object("[".repeat(100_000).as_bytes()).is_none());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(Json::object(deep.as_bytes()), None, "no line overflows the stack");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            Json::read(&bytes);
        }

        #[test]
        fn what_is_json_is_not_mended(text in any::<String>(), number in any::<f64>().prop_filter("JSON has none", |n| n.is_finite())) {
            let json = serde_json::json!({ "a": text, "b": [number, null, true] }).to_string();
            prop_assert_eq!(mend::mended(json.as_bytes()), None);
        }
    }
}
