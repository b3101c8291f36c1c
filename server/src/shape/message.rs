use std::collections::BTreeMap;

use run_agent_core::store::{Damage, Page};
use run_agent_core::{Cursor, Message};
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

#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Messages {
    #[schema(value_type = Vec<MessageShape>)]
    pub(crate) messages: Vec<Box<RawValue>>,
    /// Where to go on: `since` of the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<String>,
    pub(crate) has_more: bool,
    /// Stretches that cannot be read, where they stand among the messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damage: Vec<DamageShape>,
}

/// A stretch of a stream that cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DamageShape {
    /// How many of the messages stand before it.
    pub(crate) behind: usize,
    pub(crate) place: String,
    pub(crate) what: String,
    /// What can still be made of it, for people alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MessageShape>)]
    pub(crate) shown: Option<Box<RawValue>>,
}

impl Messages {
    /// Takes in what of a page stands before `end` and is wanted, up to so many messages.
    pub(crate) fn take_in(
        &mut self,
        page: Page,
        end: Cursor,
        limit: usize,
        wanted: impl Fn(&Message) -> bool,
    ) {
        let mut damage = page.damage.into_iter().filter(|damage| damage.at < end).peekable();
        for entry in page.entries.iter().filter(|entry| entry.at < end) {
            while let Some(damage) = damage.next_if(|damage| damage.at < entry.at) {
                self.push_damage(damage);
            }
            if self.messages.len() == limit {
                self.has_more = true;
                return;
            }
            self.last = Some(entry.message.id.to_string());
            if wanted(&entry.message) {
                self.messages.push(one(&entry.message));
            }
        }
        damage.for_each(|damage| self.push_damage(damage));
    }

    fn push_damage(&mut self, damage: Damage) {
        let Damage { place, what, shown, .. } = damage;
        let shown = shown.map(|message| one(&message));
        self.damage.push(DamageShape { behind: self.messages.len(), place, what, shown });
    }
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
    /// Where the whole of a body lies that was too large for a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attachment_path: Option<String>,
}
