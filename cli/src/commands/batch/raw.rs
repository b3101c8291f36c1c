//! The file of a batch as it is written: its keys, and the shapes that they may have.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpec {
    pub(super) agent: Option<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) timeout: Option<Word>,
    pub(super) tasks: Vec<RawItem>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawItem {
    #[serde(alias = "name")]
    pub(super) id: Word,
    pub(super) prompt: Option<String>,
    pub(super) prompt_file: Option<PathBuf>,
    pub(super) agent: Option<String>,
    #[serde(default)]
    pub(super) depends_on: Words,
    pub(super) cwd: Option<PathBuf>,
    pub(super) timeout: Option<Word>,
}

/// The whole document: a list of tasks, or a mapping with defaults for all and `tasks`.
pub(super) struct Top {
    pub(super) nested: bool,
    pub(super) spec: RawSpec,
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;
        impl<'de> Visitor<'de> for Shape {
            type Value = Top;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of tasks, or a mapping with `tasks`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Top, A::Error> {
                let tasks = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Top { nested: false, spec: RawSpec { tasks, ..RawSpec::default() } })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Top, A::Error> {
                let spec = RawSpec::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Top { nested: true, spec })
            }
        }
        deserializer.deserialize_any(Shape)
    }
}

/// A name; a number is one too.
#[derive(Debug)]
pub(super) struct Word(pub(super) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Word;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Word, E> {
                Ok(Word(n.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// One name or several.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Vec<Word>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Words;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(vec![Word(text.to_owned())]))
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Words, E> {
                Ok(Words(vec![Word(n.to_string())]))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Words, E> {
                Ok(Words::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Words, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Words)
            }
        }
        deserializer.deserialize_any(Names)
    }
}
