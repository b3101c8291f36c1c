//! What an edited text comes to: its changed entries sealed again, and what the edit broke. Pure.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use run_agent_core::{MsgId, StreamKey};

use crate::markdown::{self, DecodeError, EDGE, HEADER_MAX};
use crate::scan::{self, Ends, Found, Source};

/// What an edited text comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The text with its changed entries sealed again.
    pub bytes: Vec<u8>,
    /// How many entries were sealed again.
    pub resealed: usize,
    /// How many entries that could be read are not in it any more.
    pub gone: usize,
    /// What the edit broke.
    pub findings: Vec<Finding>,
}

/// Something that a reader will not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1, in the text that was checked.
    pub line: usize,
    pub what: String,
    /// How the stretch begins, by which it is known again.
    pub(super) head: Vec<u8>,
}

/// So many bytes of a stretch tell it from others.
const HEAD: usize = 200;

/// Goes through the text stretch by stretch; one begins at an edge that opens an entry and ends before the next.
pub(super) fn reseal(edited: &[u8], original: &[u8], key: &StreamKey) -> Checked {
    let untouched: HashSet<&[u8]> = stretches(original).collect();
    let mut checked =
        Checked { bytes: Vec::with_capacity(edited.len()), resealed: 0, gone: 0, findings: Vec::new() };
    let mut line = 1;
    let mut last: Option<MsgId> = None;
    for stretch in stretches(edited) {
        let known = untouched.contains(stretch);
        let mut broken = |what: String| {
            let head = stretch[..stretch.len().min(HEAD)].to_vec();
            checked.findings.push(Finding { line, what, head });
        };
        let sealed = if known { None } else { sealed(stretch, key) };
        let text = sealed.as_deref().unwrap_or(stretch);
        match markdown::decode(text, key) {
            Ok((message, _)) => {
                if last.as_ref().is_some_and(|last| *last >= message.id) {
                    broken(format!("{} does not come after the id of the entry above it", message.id));
                }
                last = Some(message.id);
                checked.resealed += usize::from(sealed.is_some());
            }
            Err(what) if is_ours(stretch) => broken(what.to_string()),
            // What another tool or a hand wrote has no seal to break.
            Err(_) => {}
        }
        checked.bytes.extend_from_slice(text);
        line += stretch.iter().filter(|b| **b == b'\n').count();
    }
    add_damage(&mut checked, key);
    checked
}

/// A text in which damaged entries were sealed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mend {
    pub(crate) bytes: Vec<u8>,
    /// Where they stood before.
    pub(crate) sealed: Vec<Range<usize>>,
    /// Where text stood that no entry begins with. It is not in `bytes`.
    pub(crate) stray: Vec<Range<usize>>,
}

/// Seals anew what is damaged and can be read then. A stretch in which a reader finds an entry of its own stays as it
/// is, and so does one whose id is not between its neighbours': a seal would hide the one, and break the order by the
/// other. Text behind an entry that is none itself is taken out: no reader ever shows it, and nothing can seal it.
pub(super) fn mend(original: &[u8], key: &StreamKey) -> Mend {
    let found = scan::forward(original, whole(key), usize::MAX).found;
    let mut readable: BTreeMap<usize, MsgId> = BTreeMap::new();
    let mut stray = Vec::new();
    for found in found {
        match found {
            Found::Entry { at, message, .. } => {
                readable.insert(at, message.id);
            }
            Found::Damage { at, next, what: DecodeError::NoEdge, .. } => stray.push(at..next),
            Found::Damage { .. } => {}
        }
    }
    let mut mend = Mend { bytes: Vec::with_capacity(original.len()), sealed: Vec::new(), stray: Vec::new() };
    let (mut at, mut last) = (0, None::<MsgId>);
    for stretch in stretches(original) {
        let range = at..at + stretch.len();
        at = range.end;
        let sealed = (!readable.range(range.clone()).any(|_| true)).then(|| sealed(stretch, key)).flatten();
        let id_of = |text: &Vec<u8>| {
            let (message, len) = markdown::decode(text, key).ok()?;
            (len == text.len()).then_some(message.id)
        };
        // Ids of other writers have no order.
        let next = readable.range(range.end..).map(|(_, id)| id).find(|id| id.time().is_some());
        let fits =
            |id: &MsgId| last.as_ref().is_none_or(|last| last < id) && next.is_none_or(|next| id < next);
        match sealed.and_then(|text| Some((id_of(&text).filter(fits)?, text))) {
            Some((id, text)) => {
                last = Some(id);
                mend.bytes.extend_from_slice(&text);
                mend.sealed.push(range);
            }
            None => {
                let ours =
                    readable.range(range.clone()).rev().map(|(_, id)| id).find(|id| id.time().is_some());
                last = ours.cloned().or(last);
                mend.copy_without(&stray, original, range);
            }
        }
    }
    mend
}

impl Mend {
    /// Copies a stretch without what is stray in it.
    fn copy_without(&mut self, stray: &[Range<usize>], original: &[u8], stretch: Range<usize>) {
        let mut from = stretch.start;
        for stray in stray.iter().filter(|stray| stretch.start <= stray.start && stray.end <= stretch.end) {
            self.bytes.extend_from_slice(&original[from..stray.start]);
            self.stray.push(stray.clone());
            from = stray.end;
        }
        self.bytes.extend_from_slice(&original[from..stretch.end]);
    }
}

/// Adds what a reader passes over and nothing was said about: what is no entry, by us or by hand.
fn add_damage(checked: &mut Checked, key: &StreamKey) {
    let told: HashSet<usize> = checked.findings.iter().map(|finding| finding.line).collect();
    let (mut line, mut passed) = (1, 0);
    for found in scan::forward(&checked.bytes, whole(key), usize::MAX).found {
        let Found::Damage { at, next, what, .. } = found else { continue };
        line += checked.bytes[passed..at].iter().filter(|b| **b == b'\n').count();
        passed = at;
        if !told.contains(&line) {
            let head = checked.bytes[at..next.min(at + HEAD)].to_vec();
            checked.findings.push(Finding { line, what: what.to_string(), head });
        }
    }
    checked.findings.sort_by_key(|finding| finding.line);
}

/// Nothing comes behind the text that is checked.
fn whole(key: &StreamKey) -> Source<'_> {
    Source { ends: Ends::Sealed, ..Source::of(key) }
}

/// How many entries the edit took away: those of ours by their ids, the others, whose ids come from their places, by
/// their number.
pub(super) fn gone(original: &[u8], edited: &[u8], key: &StreamKey) -> usize {
    let (ours_before, others_before) = entries(original, key);
    let (ours, others) = entries(edited, key);
    ours_before.difference(&ours).count() + others_before.saturating_sub(others)
}

/// The ids of the entries of ours, and how many others there are.
fn entries(bytes: &[u8], key: &StreamKey) -> (HashSet<MsgId>, usize) {
    let (mut ours, mut others) = (HashSet::new(), 0);
    for found in scan::forward(bytes, whole(key), usize::MAX).found {
        let Found::Entry { at, next, message } = found else { continue };
        if is_ours(&bytes[at..next]) {
            ours.insert(message.id);
        } else {
            others += 1;
        }
    }
    (ours, others)
}

fn stretches(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at;
        at = (from < bytes.len()).then(|| next_entry(bytes, from))?;
        Some(&bytes[from..at])
    })
}

/// Where the stretch that begins at `at` ends: before the next edge that opens an entry.
fn next_entry(bytes: &[u8], at: usize) -> usize {
    let mut from = match header_at(bytes, at) {
        Some(header) => at + EDGE.len() + header + EDGE.len(),
        None => line_end(bytes, at),
    };
    while from < bytes.len() {
        if header_at(bytes, from).is_some_and(|len| opens_entry(&bytes[from + EDGE.len()..][..len])) {
            return from;
        }
        from = line_end(bytes, from);
    }
    bytes.len()
}

/// The length of the lines between an edge at `at` and the edge that closes them.
fn header_at(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes[at..].strip_prefix(EDGE)?;
    let mut end = 0;
    while end < rest.len().min(HEADER_MAX) {
        if rest[end..].starts_with(EDGE) {
            return Some(end);
        }
        end = line_end(rest, end);
    }
    None
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n + 1)
}

/// Lines that begin with a key, one of which every entry has. A line of a body may look like an edge; what follows
/// such a line seldom looks like this.
fn opens_entry(header: &[u8]) -> bool {
    let is_key = |line: &[u8]| {
        let word =
            line.iter().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || **b == b'_').count();
        word > 0 && line.get(word) == Some(&b':')
    };
    let mut lines = header.split(|b| *b == b'\n');
    lines.next().is_some_and(is_key) && has_line(header, &[b"msg_id:", b"type:"])
}

fn has_line(header: &[u8], keys: &[&[u8]]) -> bool {
    header.split(|b| *b == b'\n').any(|line| keys.iter().any(|key| line.starts_with(key)))
}

/// True of an entry with a seal, whole or not.
fn is_ours(stretch: &[u8]) -> bool {
    header_at(stretch, 0).is_some_and(|len| has_line(&stretch[EDGE.len()..][..len], SEAL))
}

const SEAL: &[&[u8]] = &[b"bytes:", b"crc32:"];

/// An entry of ours with its seal made anew. `None`: it is not ours.
fn sealed(stretch: &[u8], key: &StreamKey) -> Option<Vec<u8>> {
    if !is_ours(stretch) {
        return None;
    }
    // As it was written, and nothing behind it: there is nothing to seal.
    if markdown::decode(stretch, key).is_ok_and(|(_, len)| len == stretch.len()) {
        return None;
    }
    let len = header_at(stretch, 0)?;
    let header = &stretch[EDGE.len()..][..len];
    let body = &stretch[EDGE.len() + len + EDGE.len()..];
    let body = escape(body.strip_suffix(b"\n").unwrap_or(body));
    let mut covered = Vec::with_capacity(len);
    for line in header.split_inclusive(|b| *b == b'\n') {
        if !SEAL.iter().any(|key| line.starts_with(key)) {
            covered.extend_from_slice(line);
        }
    }
    covered.extend_from_slice(format!("bytes: {}\n", body.len()).as_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&covered);
    crc.update(&body);
    let mut out = Vec::with_capacity(stretch.len() + 16);
    out.extend_from_slice(EDGE);
    out.extend_from_slice(&covered);
    out.extend_from_slice(format!("crc32: \"{:08x}\"\n", crc.finalize()).as_bytes());
    out.extend_from_slice(EDGE);
    out.extend_from_slice(&body);
    out.push(b'\n');
    Some(out)
}

/// A line that was typed into a stored body and looks like an edge is escaped; what is escaped stays so.
fn escape(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b"---") {
            out.push(b'\\');
        }
        out.extend_from_slice(line);
    }
    out
}
