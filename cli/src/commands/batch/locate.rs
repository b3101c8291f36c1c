//! Where a value stands in a YAML or JSON text. The parsers tell places only with errors, so the text is parsed once
//! more, and the value that is looked for is the error.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step from the top of a document downwards.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// The value under one of these keys.
    Key(&'a [&'a str]),
    /// This key itself: the end of a path.
    Name(&'a str),
    Index(usize),
}

/// The line of the value at `path`, from 1; `None` when there is no such value.
pub(super) fn line(text: &str, json: bool, path: &[Step<'_>]) -> Option<usize> {
    if json {
        let error = Locate(path).deserialize(&mut serde_json::Deserializer::from_str(text)).err()?;
        Some(error.line())
    } else {
        let error = Locate(path).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
        error.location().map(|place| place.line())
    }
}

struct Locate<'a>(&'a [Step<'a>]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Locate<'_> {
    /// A value that is no list and no mapping is the one that is looked for, or on the way to nothing.
    fn leaf<E: Error>(&self) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom("here")) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return self.leaf() };
        for at in 0.. {
            let more = match step {
                Step::Index(wanted) if *wanted == at => seq.next_element_seed(Locate(rest))?.is_some(),
                Step::Index(_) | Step::Key(_) | Step::Name(_) => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.0.split_first() else { return self.leaf() };
        let name = if let Step::Name(name) = step { Some(*name) } else { None };
        while let Some(key) = map.next_key_seed(Key(name))? {
            match step {
                Step::Key(wanted) if wanted.contains(&key.as_str()) => map.next_value_seed(Locate(rest))?,
                Step::Key(_) | Step::Name(_) | Step::Index(_) => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.leaf()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.leaf()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.leaf()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.leaf()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.leaf()
    }
}

/// A key, which may be the one that is looked for.
struct Key<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if self.0 == Some(key) { Err(E::custom("here")) } else { Ok(key.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_yaml_and_in_json() {
        let path = [Step::Key(&["tasks"]), Step::Index(1), Step::Key(&["id", "name"])];
        let yaml = "agent: x\ntasks:\n  - id: a\n    prompt: |\n      id: b\n  - prompt: p\n    name: b\n";
        assert_eq!(line(yaml, false, &path), Some(7));
        let json = "{\"tasks\": [\n {\"id\": \"a\"},\n {\"prompt\": \"p\",\n  \"id\": \"b\"}]}";
        assert_eq!(line(json, true, &path), Some(4));
        assert_eq!(line("- a\n- b\n", false, &[Step::Index(7)]), None);
    }
}
