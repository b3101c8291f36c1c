//! The payload of a frame: the envelope in a compact binary form (`docs/formats/segment.md`). Pure, and total on any
//! bytes.
//!
//! Project and task stand in it only where they differ from those of the stream, and the id of a message of this tool
//! is two numbers beside the frame's time: most of what a reader would copy is there already.

use std::collections::BTreeMap;

use jiff::Timestamp;
use run_agent_core::message::{Kind, Link, Parent};
use run_agent_core::{Draft, Message, MsgId, ProjectId, RunId, StreamKey, TaskId};

const VERSION: u8 = 1;
/// Lengths have at most so many bytes.
const LENGTH_MAX: u32 = 1 << 28;

mod tag {
    pub(super) const END: u8 = 0;
    pub(super) const OWN_ID: u8 = 1;
    pub(super) const OTHER_ID: u8 = 2;
    pub(super) const KIND: u8 = 3;
    pub(super) const PROJECT: u8 = 4;
    pub(super) const TASK: u8 = 5;
    pub(super) const RUN: u8 = 6;
    pub(super) const ISSUE: u8 = 7;
    pub(super) const PARENT: u8 = 8;
    pub(super) const LINK: u8 = 9;
    pub(super) const META: u8 = 10;
    pub(super) const ATTACHMENT: u8 = 11;
}

/// How the id of a message is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// With the message's time it makes the id.
    Own {
        process: u32,
        sequence: u32,
    },
    Other(MsgId),
}

impl Id {
    /// The shortest form for the id of a message of this time.
    #[must_use]
    pub fn of(id: &MsgId, ts: Timestamp) -> Self {
        let numbers = id.as_str().rsplit_once("-PID").and_then(|(_, rest)| rest.split_once('-'));
        let parsed =
            numbers.and_then(|(process, sequence)| Some((process.parse().ok()?, sequence.parse().ok()?)));
        match parsed {
            Some((process, sequence)) if MsgId::new(ts, process, sequence) == *id => {
                Self::Own { process, sequence }
            }
            Some(_) | None => Self::Other(id.clone()),
        }
    }

    #[must_use]
    pub fn at(self, ts: Timestamp) -> MsgId {
        match self {
            Self::Own { process, sequence } => MsgId::new(ts, process, sequence),
            Self::Other(id) => id,
        }
    }
}

/// Why a payload is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("its payload has the form {0}, which is of a later version of run-agent")]
    Version(u8),
    #[error("its payload breaks off")]
    Short,
    #[error("its {0} is not valid")]
    Field(&'static str),
    #[error("its fields are not in order")]
    Order,
}

/// Appends a payload to `out`, and returns how many bytes its fields have. An `ISSUE` of which the draft names none is its
/// own.
pub fn encode(out: &mut Vec<u8>, stream: &StreamKey, id: &Id, draft: &Draft) -> usize {
    let start = out.len();
    out.push(VERSION);
    match id {
        Id::Own { process, sequence } => {
            field(out, tag::OWN_ID, |out| {
                out.extend_from_slice(&process.to_le_bytes());
                out.extend_from_slice(&sequence.to_le_bytes());
            });
        }
        Id::Other(id) => plain(out, tag::OTHER_ID, id.as_str()),
    }
    plain(out, tag::KIND, draft.kind.as_str());
    if draft.project != stream.project {
        plain(out, tag::PROJECT, draft.project.as_str());
    }
    if draft.task != stream.task {
        plain(out, tag::TASK, draft.task.as_ref().map_or("", TaskId::as_str));
    }
    if let Some(run) = &draft.run {
        plain(out, tag::RUN, run.as_str());
    }
    match &draft.issue {
        Some(issue) => plain(out, tag::ISSUE, issue.as_str()),
        None if draft.kind == Kind::ISSUE => plain(out, tag::ISSUE, ""),
        None => {}
    }
    for parent in &draft.parents {
        field(out, tag::PARENT, |out| {
            text(out, parent.msg_id.as_str());
            optional(out, parent.kind.as_deref());
            map(out, &parent.meta);
        });
    }
    for link in &draft.links {
        field(out, tag::LINK, |out| {
            text(out, &link.url);
            optional(out, link.label.as_deref());
            optional(out, link.kind.as_deref());
        });
    }
    if !draft.meta.is_empty() {
        field(out, tag::META, |out| map(out, &draft.meta));
    }
    if let Some(path) = &draft.attachment_path {
        plain(out, tag::ATTACHMENT, path);
    }
    out.push(tag::END);
    let fields = out.len() - start;
    out.extend_from_slice(draft.body.as_bytes());
    fields
}

fn field(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    write(out);
    let mut length = [0; 5];
    let digits = leb128(&mut length, out.len() - at);
    out.splice(at..at, length[..digits].iter().copied());
}

fn plain(out: &mut Vec<u8>, tag: u8, value: &str) {
    out.push(tag);
    text(out, value);
}

fn text(out: &mut Vec<u8>, value: &str) {
    number(out, value.len());
    out.extend_from_slice(value.as_bytes());
}

fn optional(out: &mut Vec<u8>, value: Option<&str>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        text(out, value);
    }
}

fn map(out: &mut Vec<u8>, map: &BTreeMap<String, String>) {
    number(out, map.len());
    for (key, value) in map {
        text(out, key);
        text(out, value);
    }
}

fn number(out: &mut Vec<u8>, value: usize) {
    let mut length = [0; 5];
    let digits = leb128(&mut length, value);
    out.extend_from_slice(&length[..digits]);
}

/// What is greater than a length can be is not written by a store that checks its limits.
fn leb128(digits: &mut [u8; 5], value: usize) -> usize {
    let mut value = u32::try_from(value).unwrap_or(u32::MAX);
    let mut count = 0;
    while value >= 0x80 {
        digits[count] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        count += 1;
    }
    digits[count] = (value & 0x7f) as u8;
    count + 1
}

/// Reads a payload of a frame of this time in this stream.
///
/// # Errors
/// When it is none.
pub fn decode(bytes: &[u8], stream: &StreamKey, ts: Timestamp) -> Result<Message, Bad> {
    let mut rest = Rest(bytes);
    match rest.byte()? {
        VERSION => {}
        other => return Err(Bad::Version(other)),
    }
    let mut id = None;
    let mut own_issue = false;
    let mut content: Option<Draft> = None;
    let mut last = tag::END;
    loop {
        let tag = rest.byte()?;
        if tag == tag::END {
            break;
        }
        let repeats = matches!(tag, tag::PARENT | tag::LINK) || tag > tag::ATTACHMENT;
        if tag < last || (tag == last && !repeats) {
            return Err(Bad::Order);
        }
        last = tag;
        let mut value = Rest(rest.counted()?);
        match tag {
            tag::OWN_ID => id = Some(value.own_id()?),
            tag::OTHER_ID if id.is_none() => id = Some(Id::Other(parsed(value.all()?, "id", MsgId::parse)?)),
            tag::KIND => {
                let kind = parsed(value.all()?, "type", Kind::parse)?;
                content = Some(Draft::new(kind, stream.project.clone(), stream.task.clone(), ""));
            }
            tag if tag > tag::ATTACHMENT => continue,
            tag => {
                let draft = content.as_mut().ok_or(Bad::Order)?;
                own_issue |= value.into_draft(tag, draft)?;
                continue;
            }
        }
        value.must_be_empty("id")?;
    }
    let (Some(id), Some(mut content)) = (id, content) else { return Err(Bad::Order) };
    let id = id.at(ts);
    if own_issue || (content.kind == Kind::ISSUE && content.issue.is_none()) {
        content.issue = Some(id.clone());
    }
    content.body = Rest(rest.0).all().map_err(|_| Bad::Field("body"))?.to_owned();
    Ok(Message { id, ts, content })
}

fn parsed<T, E>(value: &str, name: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Bad> {
    parse(value).map_err(|_| Bad::Field(name))
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<u8, Bad> {
        let (first, rest) = self.0.split_first().ok_or(Bad::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<usize, Bad> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                debug_assert!(value < LENGTH_MAX);
                return usize::try_from(value).map_err(|_| Bad::Short);
            }
        }
        Err(Bad::Short)
    }

    fn counted(&mut self) -> Result<&'a [u8], Bad> {
        let len = self.number()?;
        let (value, rest) = self.0.split_at_checked(len).ok_or(Bad::Short)?;
        self.0 = rest;
        Ok(value)
    }

    fn text(&mut self) -> Result<String, Bad> {
        Rest(self.counted()?).all().map(str::to_owned)
    }

    fn optional(&mut self) -> Result<Option<String>, Bad> {
        match self.byte()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            2.. => Err(Bad::Field("mark of a text")),
        }
    }

    fn map(&mut self) -> Result<BTreeMap<String, String>, Bad> {
        let count = self.number()?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let key = self.text()?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(Bad::Order);
            }
            map.insert(key, self.text()?);
        }
        Ok(map)
    }

    fn own_id(&mut self) -> Result<Id, Bad> {
        let numbers: [u8; 8] = self.0.try_into().map_err(|_| Bad::Field("id"))?;
        self.0 = &[];
        let [a, b, c, d, e, f, g, h] = numbers;
        Ok(Id::Own { process: u32::from_le_bytes([a, b, c, d]), sequence: u32::from_le_bytes([e, f, g, h]) })
    }

    fn all(&mut self) -> Result<&'a str, Bad> {
        std::str::from_utf8(std::mem::take(&mut self.0)).map_err(|_| Bad::Field("text"))
    }

    fn must_be_empty(&self, name: &'static str) -> Result<(), Bad> {
        if self.0.is_empty() { Ok(()) } else { Err(Bad::Field(name)) }
    }

    /// Takes a field over. True when the message is an issue of its own.
    fn into_draft(mut self, tag: u8, draft: &mut Draft) -> Result<bool, Bad> {
        match tag {
            tag::PROJECT => draft.project = parsed(self.all()?, "project", ProjectId::parse)?,
            tag::TASK if self.0.is_empty() => draft.task = None,
            tag::TASK => draft.task = Some(parsed(self.all()?, "task", TaskId::parse)?),
            tag::RUN => draft.run = Some(parsed(self.all()?, "run", RunId::parse)?),
            tag::ISSUE if self.0.is_empty() => return Ok(true),
            tag::ISSUE => draft.issue = Some(parsed(self.all()?, "issue", MsgId::parse)?),
            tag::PARENT => {
                let msg_id = parsed(&self.text()?, "parent", MsgId::parse)?;
                draft.parents.push(Parent { msg_id, kind: self.optional()?, meta: self.map()? });
            }
            tag::LINK => {
                draft.links.push(Link { url: self.text()?, label: self.optional()?, kind: self.optional()? });
            }
            tag::META => draft.meta = self.map()?,
            tag::ATTACHMENT => draft.attachment_path = Some(self.all()?.to_owned()),
            _ => return Err(Bad::Order),
        }
        self.must_be_empty("field")?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
