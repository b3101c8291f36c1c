//! What the targets share: how arbitrary bytes become ids, texts and messages.
//!
//! Purely random strings are neither ids nor edges nor escapes, so most of what is made here is taken from short lists
//! of words on which the code branches. The rest stays arbitrary.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use run_agent_core::event::TOOL_KINDS;
use run_agent_core::{
    Draft, Kind, Link, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId, Timestamp,
};

/// What texts are made of: all that the codec escapes, quotes or looks for.
const SCRAPS: [&str; 24] = [
    "---",
    "---\n",
    "\\",
    "\\---",
    "\n",
    "\r",
    "\r\n",
    "\"",
    "\": \"",
    ": ",
    "#",
    "- ",
    "{",
    "'",
    "bytes: 3\n",
    "crc32: \"00000000\"\n",
    "msg_id: \"m\"\n",
    "\0",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "[2026-11-21 09:30:15] FACT: x",
    "meta:\n",
];

/// A text of scraps, or any text.
pub fn text(u: &mut Unstructured<'_>) -> Result<String> {
    if u.ratio(1, 3)? {
        return u.arbitrary();
    }
    let mut text = String::new();
    for _ in 0..u.int_in_range(0..=8)? {
        text.push_str(if u.ratio(1, 4)? { u.arbitrary()? } else { u.choose(&SCRAPS)? });
    }
    Ok(text)
}

fn optional<T>(u: &mut Unstructured<'_>, make: fn(&mut Unstructured<'_>) -> Result<T>) -> Result<Option<T>> {
    if u.arbitrary()? { make(u).map(Some) } else { Ok(None) }
}

fn several<T>(
    u: &mut Unstructured<'_>,
    max: usize,
    make: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=max)?).map(|_| make(u)).collect()
}

pub fn map(u: &mut Unstructured<'_>) -> Result<BTreeMap<String, String>> {
    Ok(several(u, 3, |u| Ok((text(u)?, text(u)?)))?.into_iter().collect())
}

#[must_use]
pub fn project() -> ProjectId {
    ProjectId::parse("p").expect("a plain name is a project id")
}

/// The stream of the project, or of one of its tasks.
#[must_use]
pub fn stream(n: u8) -> StreamKey {
    match n {
        0 => StreamKey::project(project()),
        n => StreamKey::task(project(), task(n)),
    }
}

#[must_use]
pub fn task(n: u8) -> TaskId {
    TaskId::parse(&format!("task-20261121-093000-t{n}")).expect("it has the form of a task id")
}

#[must_use]
pub fn run(n: u8) -> RunId {
    RunId::parse(&format!("20261121-0930000000-1-{n}")).expect("it has the form of a run id")
}

/// One of a few ids, so that messages name each other, or any that is valid.
pub fn msg_id(u: &mut Unstructured<'_>) -> Result<MsgId> {
    let id = match u.int_in_range(0..=3)? {
        0 => MsgId::parse(u.arbitrary()?).ok(),
        1 => MsgId::parse(&format!("m-{}-{}", u.int_in_range(0..=2)?, u.int_in_range(0..=9)?)).ok(),
        _ => Some(MsgId::new(moment(u)?, u.arbitrary()?, u.arbitrary()?)),
    };
    id.ok_or(arbitrary::Error::IncorrectFormat)
}

/// Any moment that a time stamp can be.
pub fn moment(u: &mut Unstructured<'_>) -> Result<Timestamp> {
    let (min, max) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
    let nanos = if u.arbitrary()? {
        1_795_250_000_000_000_000 + i128::from(u.arbitrary::<u32>()?)
    } else {
        u.int_in_range(min..=max)?
    };
    Timestamp::from_nanosecond(nanos).map_err(|_| arbitrary::Error::IncorrectFormat)
}

pub fn kind(u: &mut Unstructured<'_>) -> Result<Kind> {
    let word = match u.int_in_range(0..=3)? {
        0 => *u.choose(&Kind::COMMON)?,
        1 => u.arbitrary()?,
        _ => *u.choose(&TOOL_KINDS)?,
    };
    Kind::parse(word).map_err(|_| arbitrary::Error::IncorrectFormat)
}

pub fn draft(u: &mut Unstructured<'_>, key: &StreamKey) -> Result<Draft> {
    let mut draft = Draft::new(kind(u)?, key.project.clone(), key.task.clone(), text(u)?);
    draft.run = optional(u, |u| Ok(run(u.int_in_range(1..=4)?)))?;
    draft.issue = optional(u, msg_id)?;
    draft.parents =
        several(u, 2, |u| Ok(Parent { msg_id: msg_id(u)?, kind: optional(u, text)?, meta: map(u)? }))?;
    draft.links =
        several(u, 2, |u| Ok(Link { url: text(u)?, label: optional(u, text)?, kind: optional(u, text)? }))?;
    draft.meta = map(u)?;
    draft.attachment_path = optional(u, text)?;
    Ok(draft)
}

pub fn message(u: &mut Unstructured<'_>, key: &StreamKey) -> Result<Message> {
    let (id, ts, mut content) = (msg_id(u)?, moment(u)?, draft(u, key)?);
    // As the store does before it writes.
    if content.kind == Kind::ISSUE && content.issue.is_none() {
        content.issue = Some(id.clone());
    }
    Ok(Message { id, ts, content })
}
