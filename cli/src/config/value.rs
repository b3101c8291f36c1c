//! The types of settings: what may be written, what it means, and how it is said back.

use std::collections::BTreeMap;
use std::time::Duration;

use run_agent_core::text::push_quoted;
use serde_json::json;

use super::plain::{Entry, Node, Plain};
use super::problem::Problem;
use super::schema;
use super::units::{bytes, bytes_text, duration_text};
use crate::args;
use crate::find::near;
use crate::render;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// A text that is not shown.
    Secret,
    Choice(&'static [&'static str]),
    /// One of the types of agents, or empty.
    AgentType,
    Duration,
    /// A duration, or empty.
    OptionalDuration,
    Bytes,
    Count {
        max: u64,
    },
    Amount,
    Flag,
    Texts,
    /// Names of agents.
    Agents,
    TextMap,
    /// Names of agents with whole numbers.
    Weights,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Secret(String),
    Span(Duration),
    Bytes(u64),
    Count(u64),
    Amount(f64),
    Flag(bool),
    Texts(Vec<String>),
    TextMap(BTreeMap<String, String>),
    Weights(BTreeMap<String, u64>),
}

impl Kind {
    pub(crate) fn read(self, node: &Node) -> Result<Value, Problem> {
        match self {
            Self::Text => Ok(Value::Text(self.text(node)?.to_owned())),
            Self::Secret => Ok(Value::Secret(self.text(node)?.to_owned())),
            Self::Choice(choices) => choice(node, self.text(node)?, choices),
            Self::AgentType => match self.text(node)? {
                "" => Ok(Value::Text(String::new())),
                text => choice(node, text, schema::AGENT_TYPES),
            },
            Self::OptionalDuration if node.plain == Plain::Text(String::new()) => {
                Ok(Value::Text(String::new()))
            }
            Self::Duration | Self::OptionalDuration => args::duration(self.text(node)?)
                .map(Value::Span)
                .map_err(|what| Problem::new(node.span.clone(), what)),
            Self::Bytes => {
                let wrong = |what| Problem::new(node.span.clone(), what);
                let size = match &node.plain {
                    Plain::Number(number) => whole(node, *number, 1 << 53)?,
                    _ => bytes(self.text(node)?).map_err(wrong)?,
                };
                // A bare number that was meant as megabytes would make a file of each message.
                let small = || wrong(format!("{size} bytes are too few; the least is 1KiB"));
                if size < 1024 { Err(small()) } else { Ok(Value::Bytes(size)) }
            }
            Self::Count { max } => whole(node, self.number(node)?, max).map(Value::Count),
            Self::Amount => match self.number(node)? {
                number if number >= 0.0 && number.is_finite() => Ok(Value::Amount(number)),
                number => Err(Problem::new(node.span.clone(), format!("{number} is less than nothing"))),
            },
            Self::Flag => match &node.plain {
                Plain::Flag(flag) => Ok(Value::Flag(*flag)),
                _ => Err(self.expected(node)),
            },
            Self::Texts | Self::Agents => match &node.plain {
                Plain::List(items) => items
                    .iter()
                    .map(|item| Ok(self.item(item)?.to_owned()))
                    .collect::<Result<_, _>>()
                    .map(Value::Texts),
                _ => Err(self.expected(node)),
            },
            Self::TextMap => {
                let text = |entry: &Entry| Ok((entry.name.clone(), self.item(&entry.node)?.to_owned()));
                self.map(node)?.iter().map(text).collect::<Result<_, _>>().map(Value::TextMap)
            }
            Self::Weights => {
                let weight = |entry: &Entry| match &entry.node.plain {
                    Plain::Number(number) => {
                        Ok((entry.name.clone(), whole(&entry.node, *number, u64::from(u32::MAX))?))
                    }
                    _ => Err(self.expected(&entry.node)),
                };
                self.map(node)?.iter().map(weight).collect::<Result<_, _>>().map(Value::Weights)
            }
        }
    }

    fn text(self, node: &Node) -> Result<&str, Problem> {
        if let Plain::Text(text) = &node.plain { Ok(text) } else { Err(self.expected(node)) }
    }

    fn number(self, node: &Node) -> Result<f64, Problem> {
        if let Plain::Number(number) = node.plain { Ok(number) } else { Err(self.expected(node)) }
    }

    /// A text within a list or map.
    fn item(self, node: &Node) -> Result<&str, Problem> {
        if let Plain::Text(text) = &node.plain { Ok(text) } else { Err(self.expected(node)) }
    }

    fn map(self, node: &Node) -> Result<&[Entry], Problem> {
        let Plain::Map(entries) = &node.plain else { return Err(self.expected(node)) };
        for (at, entry) in entries.iter().enumerate() {
            if entries[..at].iter().any(|before| before.name == entry.name) {
                return Err(Problem::new(entry.at.clone(), format!("`{}` stands here twice", entry.name)));
            }
        }
        Ok(entries)
    }

    fn expected(self, node: &Node) -> Problem {
        let what = format!("expected {}, found {}", self.noun(), node.plain.noun());
        Problem::new(node.span.clone(), what).suggest(self.meant(&node.plain))
    }

    /// The same value as this type writes it, where that is plain.
    fn meant(self, plain: &Plain) -> Option<String> {
        match (self, plain) {
            (Self::Count { .. } | Self::Amount, Plain::Text(text)) => {
                text.parse::<f64>().ok().map(|number| number.to_string())
            }
            (Self::Duration | Self::OptionalDuration, Plain::Number(number)) => {
                Some(format!("\"{number}s\""))
            }
            (Self::Flag, Plain::Text(text)) => {
                matches!(text.as_str(), "true" | "false").then(|| text.clone())
            }
            (Self::Texts | Self::Agents, Plain::Text(text)) => Some(format!("[\"{text}\"]")),
            (Self::Text | Self::Choice(_), Plain::Number(number)) => Some(format!("\"{number}\"")),
            _ => None,
        }
    }

    /// What is to be written, for an error and for the schema.
    pub(crate) fn noun(self) -> String {
        match self {
            Self::Text | Self::Secret => "a text in quotes".to_owned(),
            Self::Choice(choices) => one_of(choices),
            Self::AgentType => one_of(schema::AGENT_TYPES),
            Self::Duration => "a duration in quotes, such as \"90s\"".to_owned(),
            Self::OptionalDuration => "a duration in quotes, such as \"168h\", or \"\"".to_owned(),
            Self::Bytes => "a size in quotes, such as \"64MiB\"".to_owned(),
            Self::Count { .. } => "a whole number".to_owned(),
            Self::Amount => "a number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Texts => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
            Self::Agents => "a list of agents, such as [\"claude\", \"codex\"]".to_owned(),
            Self::TextMap => "names with texts, such as { NAME = \"value\" }".to_owned(),
            Self::Weights => "agents with whole numbers, such as { claude = 3 }".to_owned(),
        }
    }

    /// For `config schema` (JSON Schema, draft 2020-12).
    pub(crate) fn json_schema(self) -> serde_json::Value {
        const DURATION: &str = "([0-9]+(ms|s|m|h|d)?)+";
        match self {
            Self::Text | Self::Secret => json!({ "type": "string" }),
            Self::Choice(choices) => json!({ "enum": choices }),
            Self::AgentType => {
                let types: Vec<&str> = [""].into_iter().chain(schema::AGENT_TYPES.iter().copied()).collect();
                json!({ "enum": types })
            }
            Self::Duration => json!({ "type": "string", "pattern": format!("^{DURATION}$") }),
            Self::OptionalDuration => json!({ "type": "string", "pattern": format!("^({DURATION})?$") }),
            Self::Bytes => {
                json!({ "oneOf": [
                    { "type": "string", "pattern": "^[0-9]+ ?([kKMGT]i?B?|B)?$" },
                    { "type": "integer", "minimum": 0 },
                ] })
            }
            Self::Count { max } => json!({ "type": "integer", "minimum": 0, "maximum": max }),
            Self::Amount => json!({ "type": "number", "minimum": 0 }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Texts | Self::Agents => json!({ "type": "array", "items": { "type": "string" } }),
            Self::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Self::Weights => {
                json!({ "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } })
            }
        }
    }
}

fn one_of(choices: &[&str]) -> String {
    format!("one of {}", choices.join(", "))
}

fn choice(node: &Node, text: &str, choices: &[&str]) -> Result<Value, Problem> {
    if choices.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    // A choice that is spelt in another case or with another dash is near whatever its length.
    let plain = text.to_lowercase().replace('_', "-");
    let same = choices.iter().find(|choice| choice.replace('_', "-") == plain).copied();
    let what = format!("`{}` is not {}", render::value(text), one_of(choices));
    Err(Problem::new(node.span.clone(), what)
        .suggest(same.or_else(|| near(text, choices.iter().copied())).map(str::to_owned)))
}

/// A whole number from 0 to `max`.
fn whole(node: &Node, number: f64, max: u64) -> Result<u64, Problem> {
    // Whole numbers up to 2^53 are exact, and `max` is never above that.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    if number.fract() == 0.0 && (0.0..=max as f64).contains(&number) {
        Ok(number as u64)
    } else {
        Err(Problem::new(node.span.clone(), format!("{number} is not a whole number from 0 to {max}")))
    }
}

impl Value {
    /// As a program reads it: durations and sizes as texts in their own notation, a secret only as being there.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Secret(text) => json!(masked(text)),
            Self::Span(span) => json!(duration_text(*span)),
            Self::Bytes(bytes) => json!(bytes_text(*bytes)),
            Self::Count(count) => json!(count),
            Self::Amount(amount) => json!(amount),
            Self::Flag(flag) => json!(flag),
            Self::Texts(texts) => json!(texts),
            Self::TextMap(map) => json!(map.keys().map(|name| (name, "…")).collect::<BTreeMap<_, _>>()),
            Self::Weights(map) => json!(map),
        }
    }

    /// As it is written in a configuration.
    pub(crate) fn hcl(&self) -> String {
        let quoted = |text: &str| {
            let mut out = String::new();
            push_quoted(&mut out, text);
            out
        };
        match self {
            Self::Text(text) => quoted(text),
            Self::Secret(text) => quoted(masked(text)),
            Self::Span(span) => quoted(&duration_text(*span)),
            Self::Bytes(bytes) => quoted(&bytes_text(*bytes)),
            Self::Count(count) => count.to_string(),
            Self::Amount(amount) => amount.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Texts(texts) => {
                format!("[{}]", texts.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(", "))
            }
            // Variables may carry secrets.
            Self::TextMap(map) => braces(map.keys().map(|name| format!("{name} = \"…\"")).collect()),
            Self::Weights(map) => braces(map.iter().map(|(name, n)| format!("{name} = {n}")).collect()),
        }
    }
}

fn braces(pairs: Vec<String>) -> String {
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

/// The path behind an `@` is no secret.
fn masked(secret: &str) -> &str {
    if secret.is_empty() || secret.starts_with('@') { secret } else { "…" }
}
