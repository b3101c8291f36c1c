//! Where in a stretch of bytes are entries, and where is damage? Pure: the caller reads the bytes and says where they
//! come from and whether more may follow.

use run_agent_core::{Message, MsgId, StreamKey};

use crate::markdown::{
    self, ByHand, DecodeError, EDGE, HEADER_MAX, Next, by_hand, edges, is_edge, next_entry,
};

/// What may follow the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// More: they end in the middle of a file, or at the end of one that is written to.
    Open,
    /// The end of a file that nobody has touched for a while: what was written by hand counts as it stands. An entry
    /// of ours that is not complete may still be: its writer may have been stopped.
    Settled,
    /// The end of a file that is never written to again.
    Sealed,
}

/// Where the bytes come from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub key: &'a StreamKey,
    /// The cursor of the first byte.
    pub origin: u64,
    pub ends: Ends,
    /// The number of the first line, where lines of the oldest form may stand: before a file's first edge.
    pub legacy: Option<u64>,
}

impl<'a> Source<'a> {
    /// The beginning of a stream's first file.
    #[must_use]
    pub fn of(key: &'a StreamKey) -> Self {
        Self { key, origin: 0, ends: Ends::Open, legacy: Some(1) }
    }
}

/// One thing found in the bytes. Offsets count from their beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
// Nearly all are entries: a box for each costs a tenth of reading it.
#[allow(clippy::large_enum_variant)]
pub enum Found {
    Entry {
        at: usize,
        next: usize,
        message: Message,
    },
    /// What stands here can never become an entry; `next` is where reading goes on.
    Damage {
        at: usize,
        next: usize,
        what: DecodeError,
        /// What can still be made of it, for people.
        shown: Option<Box<Message>>,
    },
}

/// What stands behind the last thing found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tail {
    #[default]
    Nothing,
    /// The beginning of an entry of ours: a writer is at work, or died.
    Torn,
    /// Written by hand, with nothing behind it that says that it is complete.
    ByHand,
    /// What no entry begins with.
    Stray,
}

/// What a scan of bytes came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    pub found: Vec<Found>,
    /// Where the bytes stop being decided.
    pub rest: usize,
    pub tail: Tail,
    /// The number of the line at `rest`, while lines of the oldest form may stand there.
    pub legacy: Option<u64>,
}

/// What begins at one place.
#[allow(clippy::large_enum_variant)]
enum Piece {
    Entry(Message, usize),
    /// Nothing but empty lines.
    Blank(usize),
    Damage {
        len: usize,
        what: DecodeError,
        shown: Option<Box<Message>>,
    },
    Undecided(Tail),
}

/// An entry with a short body.
const SMALL_ENTRY: usize = 256;

/// Scans from an edge: a file's start, or a cursor. At most `limit` entries. What is undecided at the end of the bytes
/// is left for a later look.
#[must_use]
pub fn forward(bytes: &[u8], source: Source<'_>, limit: usize) -> Scan {
    // Room for all that fits at a size that few entries are below: to grow is to copy everything that was found.
    let found = Vec::with_capacity(limit.min(bytes.len() / SMALL_ENTRY));
    let mut scan = Scan { found, legacy: source.legacy, ..Scan::default() };
    let mut entries = 0;
    while scan.rest < bytes.len() && entries < limit {
        let at = scan.rest;
        let here = Source { origin: source.origin + at as u64, legacy: scan.legacy, ..source };
        match piece(&bytes[at..], here) {
            Piece::Entry(message, len) => {
                entries += 1;
                scan.rest = at + len;
                scan.found.push(Found::Entry { at, next: scan.rest, message });
            }
            Piece::Blank(len) => scan.rest = at + len,
            Piece::Damage { len, what, shown } => {
                scan.rest = at + len;
                scan.found.push(Found::Damage { at, next: scan.rest, what, shown });
            }
            Piece::Undecided(tail) => {
                scan.tail = tail;
                break;
            }
        }
        scan.legacy = scan.legacy.and_then(|line| {
            let passed = &bytes[at..scan.rest];
            (!is_edge(passed)).then(|| line + memchr::memchr_iter(b'\n', passed).count() as u64)
        });
    }
    scan
}

fn piece(bytes: &[u8], source: Source<'_>) -> Piece {
    if !is_edge(bytes) {
        return match source.legacy {
            Some(line) => before_the_first_edge(bytes, source, line),
            None => stray(bytes, source),
        };
    }
    match markdown::decode(bytes, source.key) {
        Ok((message, len)) => Piece::Entry(message, len),
        Err(DecodeError::NotOurs | DecodeError::NoEdge) => foreign(bytes, source),
        Err(DecodeError::Incomplete) => incomplete(bytes, source),
        Err(what @ DecodeError::HeaderTooLarge) => damage(bytes, source, what, edge_of_ours(bytes, source)),
        Err(what) => changed(bytes, source, what),
    }
}

/// An entry without a seal, or one whose seal was damaged.
fn foreign(bytes: &[u8], source: Source<'_>) -> Piece {
    let at_end = source.ends != Ends::Open;
    let whole = |bytes: &[u8]| is_trusted(bytes, source.key);
    match by_hand(bytes, source.key, source.origin, at_end, whole) {
        ByHand::Entry { message, len } if markdown::has_seal_lines(bytes) => {
            let what = DecodeError::Header("its `bytes` and `crc32` lines were changed".to_owned());
            Piece::Damage { len, what, shown: Some(message) }
        }
        ByHand::Entry { message, len } => Piece::Entry(*message, len),
        ByHand::Unclosed { next } => Piece::Damage { len: next, what: DecodeError::Unclosed, shown: None },
        ByHand::Unreadable { what, next } => {
            Piece::Damage { len: next, what: DecodeError::Header(what), shown: None }
        }
        ByHand::Open { .. } if source.ends == Ends::Sealed => {
            Piece::Damage { len: bytes.len(), what: DecodeError::Unclosed, shown: None }
        }
        // A header far longer than any that is read has no end either.
        ByHand::Open { closed_header: false } if bytes.len() > 2 * HEADER_MAX => {
            damage(bytes, source, DecodeError::HeaderTooLarge, edge_of_ours(bytes, source))
        }
        ByHand::Open { closed_header: false } => Piece::Undecided(Tail::Torn),
        ByHand::Open { closed_header: true } => Piece::Undecided(Tail::ByHand),
    }
}

/// The beginning of an entry of ours. What another entry follows was torn, and will never be complete.
fn incomplete(bytes: &[u8], source: Source<'_>) -> Piece {
    // A header that is closed with the line end of another system is nobody's but a person's.
    let closing = edges(bytes, EDGE.len()).next();
    if closing.is_some_and(|closing| !bytes[closing..].starts_with(EDGE)) {
        return foreign(bytes, source);
    }
    // What is there of the next entry says nothing as long as this one may still become whole.
    match next_entry(bytes, EDGE.len(), true, |bytes| is_trusted(bytes, source.key)) {
        Next::At(next) => damage(bytes, source, DecodeError::Torn, Next::At(next)),
        Next::Nowhere | Next::Undecided if source.ends == Ends::Sealed => {
            damage(bytes, source, DecodeError::Torn, Next::Nowhere)
        }
        Next::Nowhere | Next::Undecided => Piece::Undecided(Tail::Torn),
    }
}

/// An entry of ours that does not verify. No line of a stored body is an edge, so the next one ends it.
fn changed(bytes: &[u8], source: Source<'_>, what: DecodeError) -> Piece {
    // The edge that closes its header may be the one that opens the next entry, where the rest was torn off.
    let closing = edges(bytes, EDGE.len()).next();
    let next = match closing {
        Some(closing) if is_trusted(&bytes[closing..], source.key) => Next::At(closing),
        Some(closing) => next_of(bytes, closing + EDGE.len(), source),
        None => Next::Nowhere,
    };
    let whole_at_end = !matches!(next, Next::At(_)) && markdown::extent(bytes) == Some(bytes.len());
    let next = if whole_at_end { Next::At(bytes.len()) } else { next };
    let id = MsgId::parse(&format!("HAND-{:020}", source.origin)).ok();
    match damage(bytes, source, what, next) {
        Piece::Damage { len, what, .. } => {
            let shown = id.and_then(|id| markdown::as_it_stands(&bytes[..len], source.key, &id));
            Piece::Damage { len, what, shown: shown.map(Box::new) }
        }
        undecided => undecided,
    }
}

fn next_of(bytes: &[u8], from: usize, source: Source<'_>) -> Next {
    next_entry(bytes, from, source.ends != Ends::Open, |bytes| is_trusted(bytes, source.key))
}

/// Damage up to `next`, or to the end where nothing more can come.
fn damage(bytes: &[u8], source: Source<'_>, what: DecodeError, next: Next) -> Piece {
    match next {
        Next::At(len) => Piece::Damage { len, what, shown: None },
        Next::Nowhere | Next::Undecided if source.ends == Ends::Open => Piece::Undecided(Tail::Stray),
        Next::Nowhere | Next::Undecided => Piece::Damage { len: bytes.len(), what, shown: None },
    }
}

/// Text where an edge is due: empty lines, or what somebody typed there.
fn stray(bytes: &[u8], source: Source<'_>) -> Piece {
    let text = bytes.iter().position(|b| !matches!(b, b'\n' | b'\r' | b' ' | b'\t')).unwrap_or(bytes.len());
    let blank = bytes[..text].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    if blank > 0 {
        return Piece::Blank(blank);
    }
    if EDGE.starts_with(bytes) || bytes == b"---\r" {
        return match source.ends {
            Ends::Open | Ends::Settled => Piece::Undecided(Tail::Torn),
            Ends::Sealed => damage(bytes, source, DecodeError::NoEdge, Next::Nowhere),
        };
    }
    // A header whose opening edge is damaged: its closing edge must not be taken for an opening one, since what stands
    // behind that is a body, and a body may hold anything.
    let next = if looks_like_ours(bytes) { edge_of_ours(bytes, source) } else { next_of(bytes, 1, source) };
    damage(bytes, source, DecodeError::NoEdge, next)
}

/// The first two lines, wherever the damage cut in, still show a header of ours.
fn looks_like_ours(bytes: &[u8]) -> bool {
    let names: [&[u8]; 7] =
        [b"msg_id: ", b"ts: ", b"type: ", b"project_id: ", b"task_id: ", b"bytes: ", b"crc32: "];
    let head = &bytes[..bytes.len().min(1024)];
    head.split(|b| *b == b'\n').any(|line| names.iter().any(|name| line.starts_with(name)))
}

fn edge_of_ours(bytes: &[u8], source: Source<'_>) -> Next {
    let found = edges(bytes, 1).find(|edge| is_trusted(&bytes[*edge..], source.key));
    found.map_or(Next::Nowhere, Next::At)
}

/// Lines of the oldest form, each an entry.
fn before_the_first_edge(bytes: &[u8], source: Source<'_>, number: u64) -> Piece {
    // The mark that some editors put in front of a text.
    if source.origin == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
        return Piece::Blank(3);
    }
    let mut at = 0;
    while at < bytes.len() && !is_edge(&bytes[at..]) {
        let end = bytes[at..].iter().position(|b| *b == b'\n').map(|n| at + n + 1);
        let Some(end) = end.or_else(|| (source.ends != Ends::Open).then_some(bytes.len())) else { break };
        let line = &bytes[at..end];
        let blank = line.trim_ascii().is_empty();
        if at == 0 && blank {
            return Piece::Blank(end);
        }
        if let Some(message) = markdown::legacy_line(line, number, source.key) {
            if at == 0 {
                return Piece::Entry(message, end);
            }
            break;
        }
        at = end;
    }
    // What stands before that is a heading, or what was an entry once.
    let undecided = at == 0 || (at == bytes.len() && source.ends == Ends::Open);
    if undecided {
        return Piece::Undecided(Tail::ByHand);
    }
    if looks_like_ours(&bytes[..at]) {
        return stray(bytes, source);
    }
    Piece::Damage { len: at, what: DecodeError::NoEdge, shown: None }
}

/// Finds a first trusted entry in bytes that begin anywhere in a file.
#[must_use]
pub fn first_trusted(bytes: &[u8], key: &StreamKey) -> Option<usize> {
    edges(bytes, 0).find(|edge| is_trusted(&bytes[*edge..], key))
}

/// True when a whole entry of ours stands here that verifies, and behind it the end or another edge.
fn is_trusted(bytes: &[u8], key: &StreamKey) -> bool {
    match markdown::decode(bytes, key) {
        Ok((_, len)) => {
            let behind = &bytes[len..];
            behind.is_empty() || is_edge(behind) || EDGE.starts_with(behind) || behind[0] == b'\n'
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests;
