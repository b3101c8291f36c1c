//! Entries without a seal, written by hand or by another tool of the family, and the single lines of the oldest form.
//! They carry no length: a body ends where the next header begins.

use run_agent_core::{Draft, Kind, Message, MsgId, StreamKey};

use super::{HEADER_MAX, front};

/// One of these is in every header. A line `---` in front of lines without any of them is a line of text, as people
/// draw them.
const KNOWN_NAMES: [&[u8]; 14] = [
    b"msg_id",
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

/// Does a header begin at an edge?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opens {
    Yes,
    No,
    /// The bytes end before it is closed.
    Undecided,
}

/// Where the next entry begins, as far as the bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    At(usize),
    Nowhere,
    Undecided,
}

/// The first edge from `from` on where an entry begins: one that `is_whole`, or in front of a closed header.
pub(crate) fn next_entry(bytes: &[u8], from: usize, at_end: bool, is_whole: impl Fn(&[u8]) -> bool) -> Next {
    for edge in edges(bytes, from) {
        let rest = &bytes[edge..];
        if is_whole(rest) {
            return Next::At(edge);
        }
        match opens(rest) {
            Opens::Yes => return Next::At(edge),
            Opens::Undecided if !at_end => return Next::Undecided,
            Opens::Undecided | Opens::No => {}
        }
    }
    if at_end { Next::Nowhere } else { Next::Undecided }
}

/// Reads the entry at the beginning of `bytes`, an edge. `is_whole`: true for a place where a sealed entry verifies.
/// `at_end`: nothing follows the bytes any more. `cursor` is where they stand: an entry that names no id is called by
/// it, and by a checksum, so that another one that comes to stand there is not taken for it.
pub(crate) fn by_hand(
    bytes: &[u8],
    key: &StreamKey,
    cursor: u64,
    at_end: bool,
    is_whole: impl Fn(&[u8]) -> bool,
) -> ByHand {
    let header_at = line_len(bytes);
    let Some(closing) = edges(bytes, header_at).next() else { return ByHand::Open { closed_header: false } };
    if is_whole(&bytes[closing..]) || is_header_of_a_tool(&bytes[closing..]) {
        return ByHand::Unclosed { next: closing };
    }
    let body_at = closing + line_len(&bytes[closing..]);
    let end = match next_entry(bytes, body_at, at_end, is_whole) {
        Next::At(end) => end,
        Next::Nowhere => bytes.len(),
        Next::Undecided => return ByHand::Open { closed_header: true },
    };
    if closing - header_at > HEADER_MAX {
        return ByHand::Unreadable { what: format!("it is larger than {HEADER_MAX} bytes"), next: end };
    }
    let body = body(&bytes[body_at..end]);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[header_at..closing]);
    crc.update(body);
    let id = MsgId::parse(&format!("HAND-{cursor:020}-{:08x}", crc.finalize())).ok();
    let header = String::from_utf8_lossy(&bytes[header_at..closing]).replace("\r\n", "\n");
    match front::read(&header, key, id.as_ref()) {
        Ok(mut message) => {
            message.content.body = String::from_utf8_lossy(body).into_owned();
            ByHand::Entry { message: Box::new(message), len: end }
        }
        Err(what) => ByHand::Unreadable { what, next: end },
    }
}

/// The first two lines behind this edge are those with which tools begin a header. A person's text hardly is like that.
fn is_header_of_a_tool(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|b| *b == b'\n').skip(1);
    let begins = |line: Option<&[u8]>, name: &[u8]| line.is_some_and(|line| line.starts_with(name));
    begins(lines.next(), b"msg_id: ") && begins(lines.next(), b"ts: ")
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

/// Does a header stand behind the edge here: lines `name: value` up to a closing edge, one of the names a known one?
fn opens(bytes: &[u8]) -> Opens {
    let header_at = line_len(bytes);
    let (mut at, mut known) = (header_at, false);
    while at < bytes.len() {
        let line = &bytes[at..at + line_len(&bytes[at..])];
        if is_edge(line) {
            return if known { Opens::Yes } else { Opens::No };
        }
        let cut = !line.ends_with(b"\n");
        if cut {
            break;
        }
        if !is_header_line(line) || at - header_at > HEADER_MAX {
            return Opens::No;
        }
        known |= KNOWN_NAMES
            .iter()
            .any(|name| line.strip_prefix(*name).is_some_and(|rest| rest.starts_with(b":")));
        at += line.len();
    }
    Opens::Undecided
}

fn is_header_line(line: &[u8]) -> bool {
    let text = line.trim_ascii_end();
    let of_word = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'"' | b'\'');
    let word = text.iter().take_while(of_word).count();
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
