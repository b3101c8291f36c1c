//! The envelope: what every event looks like, whoever posted it (spec, section 3).

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{MsgId, ProjectId, RunId, TaskId};

/// The greatest body that a store takes, in bytes. Larger payloads are attachments.
pub const BODY_MAX: usize = 64 * 1024;

/// The greatest size of all other fields together as a store writes them, in bytes.
pub const FIELDS_MAX: usize = 60 * 1024;

/// A message as it stands in a stream. Serialised, it has the same field names everywhere: `--json`, REST, SSE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    #[serde(rename = "msg_id")]
    pub id: MsgId,
    #[serde(rename = "timestamp")]
    pub ts: Timestamp,
    #[serde(flatten)]
    pub content: Draft,
}

/// A message that has no id and no time yet: the store gives both under the append lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(rename = "project_id")]
    pub project: ProjectId,
    #[serde(rename = "task_id", default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    #[serde(rename = "run_id", default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(rename = "issue_id", default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<MsgId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_path: Option<String>,
    #[serde(default)]
    pub body: String,
}

impl Draft {
    /// A draft with a type, a scope and a body, everything else empty.
    #[must_use]
    pub fn new(kind: Kind, project: ProjectId, task: Option<TaskId>, body: impl Into<String>) -> Self {
        Self {
            kind,
            project,
            task,
            run: None,
            issue: None,
            parents: Vec::new(),
            links: Vec::new(),
            meta: BTreeMap::new(),
            attachment_path: None,
            body: body.into(),
        }
    }
}

/// A message that this one answers, supersedes, blocks …; the kind is free text and never enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub msg_id: MsgId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

impl Parent {
    #[must_use]
    pub fn new(msg_id: MsgId, kind: Option<&str>) -> Self {
        Self { msg_id, kind: kind.map(str::to_owned), meta: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A message type: an upper-case token. Unknown ones are kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind(std::borrow::Cow<'static, str>);

/// Why a string is not a message type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "message type `{}` is not valid: it must be an upper-case token such as FACT or MY_TYPE (at most {KIND_MAX} characters)",
    .0.escape_debug()
)]
pub struct KindError(String);

const KIND_MAX: usize = 64;

impl Kind {
    pub const ANSWER: Self = Self::known("ANSWER");
    pub const ERROR: Self = Self::known("ERROR");
    pub const FACT: Self = Self::known("FACT");
    pub const INFO: Self = Self::known("INFO");
    pub const ISSUE: Self = Self::known("ISSUE");
    pub const PROGRESS: Self = Self::known("PROGRESS");
    pub const QUESTION: Self = Self::known("QUESTION");
    pub const USER: Self = Self::known("USER");
    pub const WARNING: Self = Self::known("WARNING");

    /// The types that people and agents post, in the order in which help lists them.
    pub const COMMON: [&'static str; 12] = [
        "FACT",
        "PROGRESS",
        "DECISION",
        "REVIEW",
        "QUESTION",
        "ANSWER",
        "USER",
        "ERROR",
        "WARNING",
        "INFO",
        "OBSERVATION",
        "ISSUE",
    ];

    pub(crate) const fn known(name: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(name))
    }

    /// # Errors
    /// When `value` is not `[A-Z][A-Z0-9_]*` of at most 64 characters.
    pub fn parse(value: &str) -> Result<Self, KindError> {
        let bytes = value.as_bytes();
        let ok = bytes.first().is_some_and(u8::is_ascii_uppercase)
            && bytes.len() <= KIND_MAX
            && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
        if ok {
            // Almost every message has one of these, and a stream has many messages.
            let known = Self::COMMON.iter().chain(&crate::event::TOOL_KINDS).find(|known| **known == value);
            Ok(Self(match known {
                Some(known) => std::borrow::Cow::Borrowed(known),
                None => std::borrow::Cow::Owned(value.to_owned()),
            }))
        } else {
            Err(KindError(crate::text::head(value, 80).to_owned()))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the types that only the tool itself posts. They are refused from outside, so that nobody forges a
    /// lifecycle.
    #[must_use]
    pub fn is_tool_own(&self) -> bool {
        crate::event::TOOL_KINDS.contains(&self.as_str())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Kind {
    type Error = KindError;
    fn try_from(value: String) -> Result<Self, KindError> {
        Self::parse(&value)
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.0.into_owned()
    }
}

impl std::str::FromStr for Kind {
    type Err = KindError;
    fn from_str(value: &str) -> Result<Self, KindError> {
        Self::parse(value)
    }
}
