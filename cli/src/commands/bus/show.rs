//! How a page of messages is shown: in order, each with its attachment where that is asked for, and damage in its
//! place.

use run_agent_core::store::{Damage, Page};
use run_agent_core::{Cursor, Message, StreamKey};
use run_agent_runner::Tree;
use run_agent_runner::attach::{self, Payload};
use serde::Serialize;

use super::filter::Filter;
use crate::error::Failure;
use crate::render;

/// A message, and what of its attachment does not stand in its body. In JSON one object with the message's fields.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) message: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attachment_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attachment_left_out: Option<String>,
}

impl Shown {
    /// `full`: with its attachment, from there.
    pub(super) fn new(full: Option<&Tree>, key: &StreamKey, mut message: Message) -> Self {
        let joined = full.and_then(|tree| attach::join(tree, key, &mut message));
        let Payload { text, left_out } = joined.unwrap_or(Payload { text: String::new(), left_out: None });
        let attachment_text = Some(text).filter(|text| !text.is_empty());
        Self { message, attachment_text, attachment_left_out: left_out }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.message.content.body.as_str()).chain(self.attachment_text.as_deref())
    }
}

/// Shows what is read from one stream.
pub(super) struct Printer<'a> {
    pub(super) json: bool,
    key: StreamKey,
    filter: Filter,
    /// Where attachments lie that are shown.
    full: Option<&'a Tree>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(json: bool, key: StreamKey, filter: Filter, full: Option<&'a Tree>) -> Self {
        Self { json, key, filter, full }
    }

    pub(super) fn is_unfiltered(&self) -> bool {
        self.filter.is_empty()
    }

    pub(super) fn matches(&self, message: &Message) -> bool {
        if self.full.is_some() {
            self.wanted(message).is_some()
        } else {
            self.wants_envelope_and_body(message)
        }
    }

    fn wants_envelope_and_body(&self, message: &Message) -> bool {
        self.filter.wants(message) && self.filter.wants_text(std::iter::once(message.content.body.as_str()))
    }

    fn wanted(&self, message: &Message) -> Option<Shown> {
        // Most of what a filter passes over is not copied, and its attachment not read.
        let out = if self.full.is_some() {
            !self.filter.wants(message)
        } else {
            !self.wants_envelope_and_body(message)
        };
        if out {
            return None;
        }
        let shown = Shown::new(self.full, &self.key, message.clone());
        self.filter.wants_text(shown.texts()).then_some(shown)
    }

    /// Shows what of the page stands before `end` and matches. Returns how many messages that are.
    pub(super) fn page(&self, page: &Page, end: Option<Cursor>) -> Result<usize, Failure> {
        let inside = |at: Cursor| end.is_none_or(|end| at < end);
        let mut damage = page.damage.iter().filter(|damage| inside(damage.at)).peekable();
        let mut out = String::new();
        let mut count = 0;
        for entry in page.entries.iter().filter(|entry| inside(entry.at)) {
            while let Some(damage) = damage.next_if(|damage| damage.at < entry.at) {
                self.damage(&mut out, damage)?;
            }
            if let Some(shown) = self.wanted(&entry.message) {
                self.message(&mut out, &shown)?;
                count += 1;
            }
        }
        for damage in damage {
            self.damage(&mut out, damage)?;
        }
        if !out.is_empty() {
            render::out(&out)?;
        }
        Ok(count)
    }

    fn message(&self, out: &mut String, shown: &Shown) -> Result<(), Failure> {
        if self.json {
            return line(out, shown);
        }
        out.push_str(&render::message_text(&shown.message));
        if let Some(text) = &shown.attachment_text {
            let name = shown.message.content.attachment_path.as_deref().unwrap_or_default();
            out.push_str(&format!("    ┄┄ {}\n", render::safe_line(name)));
            for line in render::safe(text).lines() {
                out.push_str(&format!("    {line}\n"));
            }
        }
        match (&shown.attachment_left_out, self.full.is_some()) {
            (Some(why), _) => out.push_str(&format!("    ┄┄ {}\n", render::safe_line(why))),
            (None, true) => {}
            (None, false) => out.push_str(&pointer(&shown.message)),
        }
        Ok(())
    }

    /// Damage is told to people at once; a program finds it in its place among the messages. What can still be made of
    /// it is shown as what it is.
    fn damage(&self, out: &mut String, damage: &Damage) -> Result<(), Failure> {
        let shown = damage.shown.as_deref().and_then(|message| self.wanted(message));
        // What is shown below says so itself.
        if shown.is_none() || self.json {
            warn(damage);
        }
        if self.json {
            let mut told = serde_json::json!({ "place": damage.place, "what": damage.what });
            if let Some(shown) = &shown {
                told["shown"] = serde_json::json!(shown);
            }
            return line(out, &serde_json::json!({ "damage": told }));
        }
        if let Some(shown) = &shown {
            self.message(out, shown)?;
            let Damage { what, place, .. } = damage;
            out.push_str(&format!("    ┄┄ damaged: {}\n", render::safe_line(&format!("{what} ({place})"))));
        }
        Ok(())
    }
}

pub(super) fn warn(damage: &Damage) {
    let (place, what) = (render::safe_line(&damage.place), render::safe_line(&damage.what));
    render::say(&format!("warning: {place}: {what}; what stands around it is read"));
}

/// Says that there is more than is shown.
fn pointer(message: &Message) -> String {
    let content = &message.content;
    let Some(path) = &content.attachment_path else { return String::new() };
    let size = content.meta.get(attach::META_BYTES).map(|bytes| format!("{bytes} bytes in "));
    let (size, path) = (render::safe_line(&size.unwrap_or_default()), render::safe_line(path));
    format!("    ┄┄ {size}{path}; --full shows it\n")
}

/// One JSON value on a line of its own.
pub(super) fn line(out: &mut String, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|e| Failure::io("cannot write JSON", &e.into()))?;
    out.push_str(&text);
    out.push('\n');
    Ok(())
}
