//! The pure codec: one message to the text of one entry, and back. No I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use run_agent_core::text::{push_quoted, unquote};
use run_agent_core::{
    Draft, Kind, Link, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId, Timestamp,
};
use serde::Deserialize;

/// A header above this is damage: a YAML parser must not see it.
pub const HEADER_MAX: usize = 64 * 1024;

/// An edge: the line that opens an entry and closes its header.
pub const EDGE: &[u8] = b"---\n";

/// Appends the entry of `message` to `out`. Returns the size of its header.
pub fn encode(out: &mut Vec<u8>, message: &Message) -> usize {
    let body = escape(&message.content.body);
    let header = header(message, body.len());
    let mut crc = crc32fast::Hasher::new();
    crc.update(header.as_bytes());
    crc.update(body.as_bytes());
    out.reserve(header.len() + body.len() + 40);
    out.extend_from_slice(EDGE);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(format!("crc32: \"{:08x}\"\n---\n", crc.finalize()).as_bytes());
    out.extend_from_slice(body.as_bytes());
    out.push(b'\n');
    header.len()
}

/// The header's lines up to and including `bytes`.
fn header(message: &Message, bytes: usize) -> String {
    let content = &message.content;
    let mut out = String::with_capacity(320);
    line(&mut out, "msg_id", message.id.as_str());
    line(&mut out, "ts", &message.ts.to_string());
    line(&mut out, "type", content.kind.as_str());
    line(&mut out, "project_id", content.project.as_str());
    optional(&mut out, "task_id", content.task.as_ref().map(TaskId::as_str));
    optional(&mut out, "run_id", content.run.as_ref().map(RunId::as_str));
    optional(&mut out, "issue_id", content.issue.as_ref().map(MsgId::as_str));
    if !content.parents.is_empty() {
        out.push_str("parents:\n");
    }
    for parent in &content.parents {
        line(&mut out, "  - msg_id", parent.msg_id.as_str());
        optional(&mut out, "    kind", parent.kind.as_deref());
        map(&mut out, "    ", "meta", &parent.meta);
    }
    if !content.links.is_empty() {
        out.push_str("links:\n");
    }
    for link in &content.links {
        line(&mut out, "  - url", &link.url);
        optional(&mut out, "    label", link.label.as_deref());
        optional(&mut out, "    kind", link.kind.as_deref());
    }
    map(&mut out, "", "meta", &content.meta);
    optional(&mut out, "attachment_path", content.attachment_path.as_deref());
    // Writing to a String cannot fail.
    let _ = writeln!(out, "bytes: {bytes}");
    out
}

fn line(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push_str(": ");
    push_quoted(out, value);
    out.push('\n');
}

fn optional(out: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        line(out, key, value);
    }
}

fn map(out: &mut String, indent: &str, name: &str, map: &BTreeMap<String, String>) {
    if map.is_empty() {
        return;
    }
    let _ = writeln!(out, "{indent}{name}:");
    for (key, value) in map {
        let _ = write!(out, "{indent}  ");
        if is_plain_key(key) {
            out.push_str(key);
        } else {
            push_quoted(out, key);
        }
        out.push_str(": ");
        push_quoted(out, value);
        out.push('\n');
    }
}

/// Words that no YAML reader takes for anything but text.
fn is_plain_key(key: &str) -> bool {
    let reserved = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    key.len() <= 64
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !reserved.contains(&key)
}

/// A line that would look like an edge, or like an escaped one, gets one backslash more.
fn escape(body: &str) -> std::borrow::Cow<'_, str> {
    if !body.contains("---") {
        return body.into();
    }
    let mut out = String::with_capacity(body.len() + 8);
    for line in body.split_inclusive('\n') {
        if line.trim_start_matches('\\').starts_with("---") {
            out.push('\\');
        }
        out.push_str(line);
    }
    out.into()
}

/// The way back from [`escape`].
fn unescape(stored: &str) -> String {
    if !stored.contains("\\---") {
        return stored.to_owned();
    }
    let mut out = String::with_capacity(stored.len());
    for line in stored.split_inclusive('\n') {
        let escaped = line.starts_with('\\') && line.trim_start_matches('\\').starts_with("---");
        out.push_str(if escaped { &line[1..] } else { line });
    }
    out
}

/// Why bytes at an edge are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes may make it one: a writer is at work, or died.
    #[error("the entry is not complete")]
    Incomplete,
    #[error("no entry begins here")]
    NoEdge,
    #[error("the header is larger than {HEADER_MAX} bytes")]
    HeaderTooLarge,
    #[error("the header has no `bytes` and `crc32`; entries of other writers are not read by this version")]
    NotOurs,
    #[error("the checksum does not match: the entry was changed after it was written")]
    Checksum,
    #[error("no newline ends the body")]
    NoSeparator,
    #[error("the header cannot be read: {0}")]
    Header(String),
}

/// Decodes the entry at the beginning of `bytes`, which belongs to the stream `key`. Returns the message and the
/// entry's length.
///
/// # Errors
/// [`DecodeError::Incomplete`] when the bytes end too early, anything else when they can never become an entry.
pub fn decode(bytes: &[u8], key: &StreamKey) -> Result<(Message, usize), DecodeError> {
    let Some(rest) = bytes.strip_prefix(EDGE) else {
        return Err(if EDGE.starts_with(bytes) { DecodeError::Incomplete } else { DecodeError::NoEdge });
    };
    let header_len = header_len(rest)?;
    let header = &rest[..header_len];
    let seal = seal(header)?;
    let body_at = header_len + EDGE.len();
    let body_end = body_at
        .checked_add(seal.bytes)
        .ok_or_else(|| DecodeError::Header("`bytes` is too large".to_owned()))?;
    let Some(body) = rest.get(body_at..body_end) else { return Err(DecodeError::Incomplete) };
    match rest.get(body_end) {
        None => return Err(DecodeError::Incomplete),
        Some(b'\n') => {}
        Some(_) => return Err(DecodeError::NoSeparator),
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..seal.covered]);
    crc.update(body);
    if crc.finalize() != seal.crc {
        return Err(DecodeError::Checksum);
    }
    let header =
        std::str::from_utf8(&header[..seal.covered]).map_err(|e| DecodeError::Header(e.to_string()))?;
    let body =
        std::str::from_utf8(body).map_err(|e| DecodeError::Header(format!("the body is not UTF-8: {e}")))?;
    let mut message = match parse_lines(header) {
        Some(message) => message,
        None => parse_yaml(header, key)?,
    };
    message.content.body = unescape(body);
    Ok((message, EDGE.len() + body_end + 1))
}

/// The length of the header's lines, up to the closing edge.
fn header_len(rest: &[u8]) -> Result<usize, DecodeError> {
    let mut at = 0;
    loop {
        let line = &rest[at..];
        if line.starts_with(EDGE) {
            return Ok(at);
        }
        if at > HEADER_MAX {
            return Err(DecodeError::HeaderTooLarge);
        }
        match line.iter().position(|b| *b == b'\n') {
            Some(end) => at += end + 1,
            None if line.len() > HEADER_MAX => return Err(DecodeError::HeaderTooLarge),
            None => return Err(DecodeError::Incomplete),
        }
    }
}

/// What the last two lines of a header say.
struct Seal {
    bytes: usize,
    crc: u32,
    /// The part of the header that the checksum covers.
    covered: usize,
}

fn seal(header: &[u8]) -> Result<Seal, DecodeError> {
    let text = |part: &[u8]| std::str::from_utf8(part).ok().map(str::to_owned);
    let read = || -> Option<Seal> {
        let without_end = header.strip_suffix(b"\n")?;
        let crc_at = without_end.iter().rposition(|b| *b == b'\n')? + 1;
        let crc_line = text(&without_end[crc_at..])?;
        let hex = crc_line.strip_prefix("crc32: \"")?.strip_suffix('"')?;
        let bytes_at = without_end[..crc_at - 1].iter().rposition(|b| *b == b'\n')? + 1;
        let bytes_line = text(&without_end[bytes_at..crc_at - 1])?;
        let bytes = bytes_line.strip_prefix("bytes: ")?.parse().ok()?;
        let exact = hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let crc = exact.then(|| u32::from_str_radix(hex, 16).ok())??;
        Some(Seal { bytes, crc, covered: crc_at })
    };
    read().ok_or(DecodeError::NotOurs)
}

/// Reads the form that [`header`] writes, and nothing else: `None` sends the caller to the YAML parser.
fn parse_lines(header: &str) -> Option<Message> {
    let mut lines = header.lines().peekable();
    let mut take = |key: &str| -> Option<String> {
        let value = lines.peek()?.strip_prefix(key)?.strip_prefix(": ")?;
        let value = unquote(value)?;
        lines.next();
        Some(value)
    };
    let id = MsgId::parse(&take("msg_id")?).ok()?;
    let ts: Timestamp = take("ts")?.parse().ok()?;
    let kind = Kind::parse(&take("type")?).ok()?;
    let project = ProjectId::parse(&take("project_id")?).ok()?;
    let task = take("task_id").map(|t| TaskId::parse(&t)).transpose().ok()?;
    let mut content = Draft::new(kind, project, task, "");
    content.run = take("run_id").map(|r| RunId::parse(&r)).transpose().ok()?;
    content.issue = take("issue_id").map(|i| MsgId::parse(&i)).transpose().ok()?;
    content.parents = parse_parents(&mut lines)?;
    content.links = parse_links(&mut lines)?;
    content.meta = parse_map(&mut lines, "")?;
    content.attachment_path = field(&mut lines, "attachment_path");
    lines.next()?.strip_prefix("bytes: ")?;
    lines.next().is_none().then_some(Message { id, ts, content })
}

type Lines<'a> = std::iter::Peekable<std::str::Lines<'a>>;

fn field(lines: &mut Lines<'_>, key: &str) -> Option<String> {
    let value = unquote(lines.peek()?.strip_prefix(key)?.strip_prefix(": ")?)?;
    lines.next();
    Some(value)
}

fn parse_parents(lines: &mut Lines<'_>) -> Option<Vec<Parent>> {
    let mut parents = Vec::new();
    if lines.next_if_eq(&"parents:").is_none() {
        return Some(parents);
    }
    while let Some(id) = field(lines, "  - msg_id") {
        let kind = field(lines, "    kind");
        parents.push(Parent { msg_id: MsgId::parse(&id).ok()?, kind, meta: parse_map(lines, "    ")? });
    }
    Some(parents)
}

fn parse_links(lines: &mut Lines<'_>) -> Option<Vec<Link>> {
    let mut links = Vec::new();
    if lines.next_if_eq(&"links:").is_none() {
        return Some(links);
    }
    while let Some(url) = field(lines, "  - url") {
        links.push(Link { url, label: field(lines, "    label"), kind: field(lines, "    kind") });
    }
    Some(links)
}

fn parse_map(lines: &mut Lines<'_>, indent: &str) -> Option<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    if lines.next_if(|line| line.strip_prefix(indent) == Some("meta:")).is_none() {
        return Some(map);
    }
    while let Some(entry) = lines.peek().and_then(|line| line.strip_prefix(indent)?.strip_prefix("  ")) {
        if entry.starts_with([' ', '-']) {
            return None;
        }
        let (key, value) = if entry.starts_with('"') {
            // The end of a quoted key is the first `": "` behind which a quoted value stands whole.
            let end = entry
                .match_indices("\": \"")
                .map(|(at, _)| at)
                .find(|at| unquote(&entry[..=*at]).is_some())?;
            (unquote(&entry[..=end])?, unquote(&entry[end + 3..])?)
        } else {
            let (key, value) = entry.split_once(": ")?;
            (is_plain_key(key).then(|| key.to_owned())?, unquote(value)?)
        };
        map.insert(key, value);
        lines.next();
    }
    Some(map)
}

/// What a YAML reader may find in a header whose checksum holds but which another version wrote.
#[derive(Deserialize)]
struct Loose {
    msg_id: String,
    ts: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(alias = "project")]
    project_id: Option<String>,
    #[serde(alias = "task")]
    task_id: Option<String>,
    run_id: Option<String>,
    issue_id: Option<String>,
    #[serde(default)]
    parents: Vec<LooseParent>,
    #[serde(default)]
    links: Vec<Link>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    attachment_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LooseParent {
    Id(String),
    Whole(Parent),
}

fn parse_yaml(header: &str, key: &StreamKey) -> Result<Message, DecodeError> {
    let wrong = |what: &dyn std::fmt::Display| DecodeError::Header(what.to_string());
    let loose: Loose = serde_yaml::from_str(header).map_err(|e| wrong(&e))?;
    let given = |value: Option<String>| value.filter(|v| !v.is_empty());
    let project = match given(loose.project_id) {
        Some(project) => ProjectId::parse(&project).map_err(|e| wrong(&e))?,
        None => key.project.clone(),
    };
    let task = given(loose.task_id).map(|t| TaskId::parse(&t)).transpose().map_err(|e| wrong(&e))?;
    let mut content = Draft::new(Kind::parse(&loose.kind).map_err(|e| wrong(&e))?, project, task, "");
    content.run = given(loose.run_id).map(|r| RunId::parse(&r)).transpose().map_err(|e| wrong(&e))?;
    content.issue = given(loose.issue_id).map(|i| MsgId::parse(&i)).transpose().map_err(|e| wrong(&e))?;
    for parent in loose.parents {
        content.parents.push(match parent {
            LooseParent::Id(id) => Parent::new(MsgId::parse(&id).map_err(|e| wrong(&e))?, None),
            LooseParent::Whole(parent) => parent,
        });
    }
    content.links = loose.links;
    content.meta = loose.meta;
    content.attachment_path = loose.attachment_path;
    Ok(Message {
        id: MsgId::parse(&loose.msg_id).map_err(|e| wrong(&e))?,
        ts: loose.ts.parse().map_err(|e| wrong(&e))?,
        content,
    })
}

#[cfg(test)]
mod tests;
