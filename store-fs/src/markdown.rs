//! The pure codec: one message to the text of one entry, and back. No I/O.

mod front;
mod hand;
mod lines;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use run_agent_core::text::{push_quoted, push_time};
use run_agent_core::{Draft, Kind, Message, MsgId, RunId, StreamKey, TaskId, Timestamp};

pub(crate) use hand::{ByHand, Next, by_hand, edges, is_edge, legacy_line, next_entry};

/// A header above this is damage: a YAML parser must not see it.
pub const HEADER_MAX: usize = 64 * 1024;

/// The longest quoted key that stands on the line of its value, in bytes.
const KEY_MAX: usize = 1000;

/// An edge: the line that opens an entry and closes its header.
pub const EDGE: &[u8] = b"---\n";

/// Appends the entry of `message` to `out`. Returns the size of its header.
pub fn encode(out: &mut Vec<u8>, message: &Message) -> usize {
    Prepared::new(&message.content).finish(out, &message.content.body, &message.id, message.ts)
}

/// An entry but for its id and time, which are known only under the append lock.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The header's lines behind `ts`, up to and including `bytes`.
    rest: String,
    /// The stored body, where it is not the body as it is.
    escaped: Option<String>,
}

impl Prepared {
    pub(crate) fn new(content: &Draft) -> Self {
        let escaped = match escape(&content.body) {
            Cow::Borrowed(_) => None,
            Cow::Owned(escaped) => Some(escaped),
        };
        let bytes = escaped.as_ref().map_or(content.body.len(), String::len);
        Self { rest: rest_of_header(content, bytes), escaped }
    }

    /// Appends the entry to `out`. `body` is the one it was prepared with. Returns the size of the header.
    pub(crate) fn finish(&self, out: &mut Vec<u8>, body: &str, id: &MsgId, ts: Timestamp) -> usize {
        let body = self.escaped.as_deref().unwrap_or(body);
        let mut first = String::with_capacity(112);
        line(&mut first, "msg_id", id.as_str());
        first.push_str("ts: \"");
        push_time(&mut first, ts);
        first.push_str("\"\n");
        let mut crc = crc32fast::Hasher::new();
        for part in [&first, &self.rest, body] {
            crc.update(part.as_bytes());
        }
        out.reserve(first.len() + self.rest.len() + body.len() + 40);
        out.extend_from_slice(EDGE);
        out.extend_from_slice(first.as_bytes());
        out.extend_from_slice(self.rest.as_bytes());
        out.extend_from_slice(b"crc32: \"");
        let crc = crc.finalize();
        out.extend((0..8).rev().map(|shift| b"0123456789abcdef"[(crc >> (shift * 4) & 0xf) as usize]));
        out.extend_from_slice(b"\"\n---\n");
        out.extend_from_slice(body.as_bytes());
        out.push(b'\n');
        first.len() + self.rest.len()
    }
}

fn rest_of_header(content: &Draft, bytes: usize) -> String {
    let mut out = String::with_capacity(320);
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
            push_key(out, indent, key);
        }
        out.push_str(": ");
        push_quoted(out, value);
        out.push('\n');
    }
}

/// YAML ends a key on the line of its value after 1,024 characters; a longer one gets a line of its own.
fn push_key(out: &mut String, indent: &str, key: &str) {
    let at = out.len();
    push_quoted(out, key);
    if out.len() - at > KEY_MAX {
        out.insert_str(at, "? ");
        let _ = write!(out, "\n{indent}  ");
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
fn escape(body: &str) -> Cow<'_, str> {
    if memchr::memmem::find(body.as_bytes(), b"---").is_none() {
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
    #[error("the header has no end")]
    Unclosed,
    #[error("the entry was cut off, and another one stands behind it")]
    Torn,
    #[error("the header is larger than {HEADER_MAX} bytes")]
    HeaderTooLarge,
    /// Well formed as far as it goes, but not sealed by this tool.
    #[error("the header has no `bytes` and `crc32`")]
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
    let mut message = match lines::parse(header, key) {
        Some(message) => message,
        None => front::read(header, key, None).map_err(DecodeError::Header)?,
    };
    if message.content.kind == Kind::ISSUE && message.content.issue.is_none() {
        message.content.issue = Some(message.id.clone());
    }
    message.content.body = unescape(body);
    Ok((message, EDGE.len() + body_end + 1))
}

/// The length of the entry at the beginning of `bytes` as its header tells it, whether or not it verifies.
pub(crate) fn extent(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(EDGE)?;
    let header_len = header_len(rest).ok()?;
    let seal = seal(&rest[..header_len]).ok()?;
    (2 * EDGE.len() + header_len + 1).checked_add(seal.bytes)
}

/// True when the header here has one of the lines that seal an entry of ours.
pub(crate) fn has_seal_lines(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(EDGE) else { return false };
    let header = &rest[..header_len(rest).unwrap_or(0)];
    header.split(|b| *b == b'\n').any(|line| line.starts_with(b"bytes: ") || line.starts_with(b"crc32: "))
}

/// What can be made of an entry of ours that does not verify, for people. `id` is what it is called when that cannot be read.
pub(crate) fn as_it_stands(bytes: &[u8], key: &StreamKey, id: &MsgId) -> Option<Message> {
    let rest = bytes.strip_prefix(EDGE)?;
    let header_len = header_len(rest).ok()?;
    let header = String::from_utf8_lossy(&rest[..header_len]);
    let mut message = front::read(&header, key, Some(id)).ok()?;
    let body = &rest[header_len + EDGE.len()..];
    let body = String::from_utf8_lossy(body.strip_suffix(b"\n").unwrap_or(body));
    message.content.body = unescape(&body);
    Some(message)
}

/// The length of the header's lines, up to the closing edge.
fn header_len(rest: &[u8]) -> Result<usize, DecodeError> {
    if rest.starts_with(EDGE) {
        return Ok(0);
    }
    let head = &rest[..rest.len().min(HEADER_MAX + EDGE.len() + 1)];
    static CLOSING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n---\n"));
    match CLOSING.find(head) {
        Some(at) => Ok(at + 1),
        None if rest.len() > HEADER_MAX => Err(DecodeError::HeaderTooLarge),
        None => Err(DecodeError::Incomplete),
    }
}

/// What the last two lines of a header say.
struct Seal {
    bytes: usize,
    crc: u32,
    /// The part of the header that the checksum covers.
    covered: usize,
}

/// The line of the checksum, which has the same length in every entry: `crc32: "8 digits"`.
const CRC_LINE: usize = 18;

fn seal(header: &[u8]) -> Result<Seal, DecodeError> {
    let read = || -> Option<Seal> {
        let (covered, crc_line) = header.split_at_checked(header.len().checked_sub(CRC_LINE)?)?;
        let hex = crc_line.strip_prefix(b"crc32: \"")?.strip_suffix(b"\"\n")?;
        let before = covered.strip_suffix(b"\n")?;
        let bytes_at = memchr::memrchr(b'\n', before)? + 1;
        let bytes = before[bytes_at..].strip_prefix(b"bytes: ")?;
        let bytes = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        let mut crc = 0;
        for digit in hex {
            crc = crc << 4
                | u32::from(match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return None,
                });
        }
        Some(Seal { bytes, crc, covered: covered.len() })
    };
    read().ok_or(DecodeError::NotOurs)
}

#[cfg(test)]
mod tests;
