//! Editing a bus by hand without stopping anybody: a person works on a copy, and what was appended meanwhile is put
//! behind it under the append lock before the copy takes the file's place (`docs/decisions/0020-bus-edit.md`).
//!
//! Only the active file is edited; archives stay what they are. An entry of ours that was changed gets its `bytes` and
//! `crc32` anew; what was not touched is not touched here either, damage included.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::Condition;
use run_agent_core::{Cursor, Durability, Entry, MsgId, Store, StreamKey};

use crate::lock::{LockError, LockFile};
use crate::markdown::{self, EDGE, HEADER_MAX};
use crate::scan::{self, Ends, Found, Source};
use crate::store::{FsStore, Options};

#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("{path} is not there; the first post makes it")]
    NotThere { path: PathBuf },
    #[error("waited {waited:?} for the append lock of {path}, which is held by {holder}; try again")]
    LockTimeout { path: PathBuf, waited: Duration, holder: String },
    #[error(
        "{path} was rotated, cut or edited by somebody else meanwhile; put the change into it as it is now"
    )]
    Changed { path: PathBuf },
    #[error("cannot edit {path}: {what}")]
    Io { path: PathBuf, what: &'static str, source: io::Error },
}

/// A bus that is being edited: what it held when the copy was made.
#[derive(Debug)]
pub struct Edit {
    layout: Layout,
    options: Options,
    key: StreamKey,
    bus: PathBuf,
    lock: PathBuf,
    original: Vec<u8>,
}

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
    head: Vec<u8>,
}

/// So many bytes of a stretch tell it from others.
const HEAD: usize = 200;

impl Edit {
    /// Copies the active file while nobody appends.
    ///
    /// # Errors
    /// When there is no bus, or it is locked for longer than `options` allow, or cannot be read.
    pub fn begin(layout: &Layout, options: &Options, key: &StreamKey) -> Result<Self, EditError> {
        let (folder, stem) = layout.stream(key);
        let bus = layout.bus_file(key);
        let mut edit = Self {
            layout: layout.clone(),
            options: options.clone(),
            key: key.clone(),
            lock: folder.join(format!("{stem}.lock")),
            bus,
            original: Vec::new(),
        };
        if !edit.bus.is_file() {
            return Err(EditError::NotThere { path: edit.bus });
        }
        let lock = edit.hold()?;
        let original = std::fs::read(&edit.bus);
        lock.unlock();
        edit.original = original.map_err(|e| edit.error("it cannot be read", e))?;
        Ok(edit)
    }

    /// What is to be edited.
    #[must_use]
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// Seals changed entries again and tells what the edit broke.
    #[must_use]
    pub fn check(&self, edited: &[u8]) -> Checked {
        let mut checked = reseal(edited, &self.original, &self.key);
        let before = reseal(&self.original, &self.original, &self.key).findings;
        let before: HashSet<(String, Vec<u8>)> = before.into_iter().map(|f| (f.what, f.head)).collect();
        checked.findings.retain(|f| !before.contains(&(f.what.clone(), f.head.clone())));
        checked.gone = gone(&self.original, &checked.bytes, &self.key);
        checked
    }

    /// Puts the text into the bus's place, with what was appended meanwhile behind it. Returns how many bytes that is.
    /// Readers go on behind the last message that they have read.
    ///
    /// # Errors
    /// [`EditError::Changed`] when the bus does not begin with what was copied any more: nothing is replaced then.
    pub fn finish(&self, bytes: &[u8]) -> Result<usize, EditError> {
        let lock = self.hold()?;
        let replaced = self.replace(bytes);
        lock.unlock();
        let appended = replaced?;
        // Whoever appends next would find out by himself; until then readers would hold cursors of the old text. That
        // this fails costs them that moment alone.
        let store = FsStore::new(self.layout.clone(), self.options.clone());
        if let Ok(stream) = store.open(&self.key) {
            let _ = stream.append_if(Cursor::new(u64::MAX), &mut Never, Vec::new(), Durability::None);
        }
        Ok(appended)
    }

    fn replace(&self, bytes: &[u8]) -> Result<usize, EditError> {
        let now = std::fs::read(&self.bus).map_err(|e| self.error("it cannot be read again", e))?;
        let Some(appended) = now.strip_prefix(self.original.as_slice()) else {
            return Err(EditError::Changed { path: self.bus.clone() });
        };
        let name = self.bus.file_name().unwrap_or_default().to_string_lossy();
        let beside = self.bus.with_file_name(format!(".{name}.edit-{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            file.set_permissions(std::fs::metadata(&self.bus)?.permissions())?;
            file.write_all(bytes)?;
            // An edge begins a line of its own.
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                file.write_all(b"\n")?;
            }
            file.write_all(appended)?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.bus)?;
            File::open(self.bus.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|e| {
            let _ = std::fs::remove_file(&beside);
            self.error("the edited text cannot be written beside it", e)
        })?;
        Ok(appended.len())
    }

    fn hold(&self) -> Result<LockFile, EditError> {
        loop {
            let lock = LockFile::open(&self.lock).map_err(|e| self.error("it cannot be locked", e))?;
            match lock.lock(self.options.lock_timeout) {
                Ok(_) => {}
                Err(LockError::TimedOut(holder)) => {
                    let (path, waited) = (self.bus.clone(), self.options.lock_timeout);
                    return Err(EditError::LockTimeout { path, waited, holder });
                }
                Err(LockError::Io(error)) => return Err(self.error("it cannot be locked", error)),
            }
            if lock.is_in_place().map_err(|e| self.error("its lock file cannot be looked at", e))? {
                return Ok(lock);
            }
        }
    }

    fn error(&self, what: &'static str, source: io::Error) -> EditError {
        EditError::Io { path: self.bus.clone(), what, source }
    }
}

/// Looks, and appends nothing.
struct Never;

impl Condition for Never {
    fn see(&mut self, _: &Entry) {}

    fn agrees(&mut self) -> bool {
        false
    }
}

/// Goes through the text stretch by stretch; one begins at an edge that opens an entry and ends before the next.
fn reseal(edited: &[u8], original: &[u8], key: &StreamKey) -> Checked {
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
fn gone(original: &[u8], edited: &[u8], key: &StreamKey) -> usize {
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

#[cfg(test)]
mod tests;
