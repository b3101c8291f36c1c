//! Entries without a seal, written by hand or by another tool of the family, and the single lines of the oldest form.
//! They carry no length: a body ends where the next header begins.

use run_agent_core::{Draft, Kind, Message, MsgId, StreamKey};

use super::{HEADER_MAX, front};

/// Names with which a header begins. A line `---` followed by anything else is a line of text, as people draw them.
const FIRST_NAMES: [&[u8]; 15] = [
    b"msg_id",
    b"id",
    b"ts",
    b"timestamp",
    b"time",
    b"date",
    b"type",
    b"project_id",
    b"project",
    b"task_id",
    b"task",
    b"run_id",
    b"run",
    b"issue_id",
    b"meta",
];

/// What stands at an edge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ByHand {
    Entry {
        message: Box<Message>,
        len: usize,
    },
    /// A header without an end: `next` is the edge at which another entry begins.
    Unclosed {
        next: usize,
    },
    /// A header that says nothing: `next` is where the next entry begins.
    Unreadable {
        what: String,
        next: usize,
    },
    /// Nothing says yet where it ends.
    Open {
        closed_header: bool,
    },
}

/// Reads the entry at the beginning of `bytes`, an edge. `is_whole`: true for a place where a sealed entry verifies.
/// `at_end`: nothing follows the bytes any more. `id` is what an entry is called that names no id.
pub(crate) fn by_hand(
    bytes: &[u8],
    key: &StreamKey,
    id: &MsgId,
    at_end: bool,
    is_whole: impl Fn(&[u8]) -> bool,
) -> ByHand {
    let header_at = line_len(bytes);
    let Some(closing) = edges(bytes, header_at).next() else { return ByHand::Open { closed_header: false } };
    if is_whole(&bytes[closing..]) || bytes[closing + line_len(&bytes[closing..])..].starts_with(b"msg_id: ")
    {
        return ByHand::Unclosed { next: closing };
    }
    let body_at = closing + line_len(&bytes[closing..]);
    let next = edges(bytes, body_at).find(|edge| opens(&bytes[*edge..], at_end) || is_whole(&bytes[*edge..]));
    let end = match next {
        Some(end) => end,
        None if at_end => bytes.len(),
        None => return ByHand::Open { closed_header: true },
    };
    let header = String::from_utf8_lossy(&bytes[header_at..closing]).replace("\r\n", "\n");
    match front::read(&header, key, Some(id)) {
        Ok(mut message) => {
            message.content.body = String::from_utf8_lossy(body(&bytes[body_at..end])).into_owned();
            ByHand::Entry { message: Box::new(message), len: end }
        }
        Err(what) => ByHand::Unreadable { what, next: end },
    }
}

/// The places of all lines `---` or `---\r` from `from` on, where a line begins.
pub(crate) fn edges(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> + '_ {
    let mid_line = from > 0 && bytes.get(from - 1) != Some(&b'\n');
    let mut at = if mid_line { from + line_len(bytes.get(from..).unwrap_or_default()) } else { from };
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            let here = at;
            at += line_len(rest);
            if is_edge(rest) {
                return Some(here);
            }
        }
    })
}

/// True when the bytes begin with an edge, newline included.
pub(crate) fn is_edge(bytes: &[u8]) -> bool {
    bytes.starts_with(b"---\n") || bytes.starts_with(b"---\r\n")
}

/// True when the edge here is followed by something that looks like a header, up to its closing edge.
pub(crate) fn opens(bytes: &[u8], at_end: bool) -> bool {
    let header_at = line_len(bytes);
    let mut at = header_at;
    while at < bytes.len() && at - header_at <= HEADER_MAX {
        let line = &bytes[at..at + line_len(&bytes[at..])];
        if is_edge(line) {
            return at > header_at;
        }
        let whole = line.ends_with(b"\n");
        if at == header_at {
            let known = |name: &&[u8]| line.strip_prefix(*name).is_some_and(|rest| rest.starts_with(b":"));
            if !FIRST_NAMES.iter().any(known) {
                return false;
            }
        } else if whole && !is_header_line(line) {
            return false;
        }
        at += line.len();
    }
    // More may follow: what looks like a header so far is taken for one, so that it is not lost in a body.
    !at_end && at > header_at && at - header_at <= HEADER_MAX
}

fn is_header_line(line: &[u8]) -> bool {
    let text = line.trim_ascii_end();
    let word = text
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'"' | b'\''))
        .count();
    text.is_empty()
        || matches!(text[0], b' ' | b'\t' | b'-' | b'#' | b']' | b'}')
        || (word > 0 && text.get(word) == Some(&b':') && text.get(word + 1).is_none_or(|b| *b == b' '))
}

/// The length of the first line, its newline included.
fn line_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| n + 1)
}

/// A body without what ends it: the end of its last line, and one empty line that parts it from the next entry.
fn body(bytes: &[u8]) -> &[u8] {
    let without = |bytes: &'_ [u8]| -> Option<usize> {
        let cut = bytes.strip_suffix(b"\n")?;
        Some(cut.strip_suffix(b"\r").unwrap_or(cut).len())
    };
    let Some(first) = without(bytes) else { return bytes };
    &bytes[..without(&bytes[..first]).unwrap_or(first)]
}

/// `[YYYY-MM-DD HH:MM:SS] TYPE: text`, on the line with this number.
pub(crate) fn legacy_line(line: &[u8], number: u64, key: &StreamKey) -> Option<Message> {
    let text = std::str::from_utf8(line).ok()?.trim_end_matches(['\n', '\r']);
    let (time, rest) = text.strip_prefix('[')?.split_once("] ")?;
    let civil = time.len() == "YYYY-MM-DD HH:MM:SS".len();
    let ts = civil.then(|| front::moment(time)).flatten()?;
    let (kind, body) = rest.split_once(": ").or_else(|| rest.strip_suffix(':').map(|kind| (kind, "")))?;
    let content = Draft::new(Kind::parse(kind).ok()?, key.project.clone(), key.task.clone(), body);
    let id = MsgId::parse(&format!("LEGACY-LINE-{number:09}")).ok()?;
    Some(Message { id, ts, content })
}
