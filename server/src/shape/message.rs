use std::collections::BTreeMap;

use run_agent_core::Message;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A message, as everywhere: on the command line with `--json`, here, and in streams.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct MessageShape {
    pub(crate) msg_id: String,
    /// RFC 3339.
    pub(crate) timestamp: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) project_id: String,
    pub(crate) task_id: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) issue_id: Option<String>,
    #[serde(default)]
    pub(crate) parents: Vec<ParentShape>,
    #[serde(default)]
    pub(crate) links: Vec<LinkShape>,
    #[serde(default)]
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) attachment_path: Option<String>,
    pub(crate) body: String,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ParentShape {
    pub(crate) msg_id: String,
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) meta: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct LinkShape {
    pub(crate) url: String,
    pub(crate) label: Option<String>,
    pub(crate) kind: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Messages {
    #[schema(value_type = Vec<MessageShape>)]
    pub(crate) messages: Vec<Box<RawValue>>,
    /// Where to go on: `since` of the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
    pub(crate) has_more: bool,
}

/// The one way in which a message becomes JSON.
pub(crate) fn one(message: &Message) -> Box<RawValue> {
    serde_json::value::to_raw_value(message).unwrap_or_default()
}

/// A message of somebody's. Its type is `USER` where it names none.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct ProjectPost {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) body: String,
    #[serde(default)]
    pub(crate) parents: Vec<Parent>,
    #[serde(default)]
    pub(crate) links: Vec<LinkShape>,
    #[serde(default)]
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) run_id: Option<String>,
    pub(crate) issue_id: Option<String>,
    /// Somebody waits for the answer.
    #[serde(default)]
    pub(crate) blocking: bool,
}

/// A plain id, or one with its kind.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Parent {
    Id(String),
    Named(ParentShape),
}

/// As [`ProjectPost`], with where it goes.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct V1Post {
    pub(crate) project_id: String,
    pub(crate) task_id: Option<String>,
    #[serde(flatten)]
    pub(crate) post: ProjectPost,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Posted {
    pub(crate) msg_id: String,
    pub(crate) timestamp: String,
}
