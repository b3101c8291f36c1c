//! Attachments: payloads too large for a message, as files beside the stream (spec, sections 2 and 3). This layer
//! stands above the store trait, so that every store has it.
//!
//! The file is whole and in its place before the entry that names it is appended. A crash between the two leaves a
//! file that no message names, and never a message whose payload is missing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use run_agent_core::message::BODY_MAX;
use run_agent_core::{Draft, Durability, Message, RunId, StreamKey, Timestamp, text};

use crate::new_file::NewFile;
use crate::tree::Tree;

/// What of a large text stays in the message, in bytes.
pub const HEAD_MAX: usize = 1024;

/// The largest text that is posted as one, and the most that a reader joins: both hold it in memory.
pub const TEXT_MAX: u64 = 64 * 1024 * 1024;

/// The largest file that is attached: a bound on what a mistaken name can fill the disk with.
pub const FILE_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How every attachment's name begins. Nothing else in a stream's folder is read as one.
pub const PREFIX: &str = "ATTACH-";

/// `meta`: the payload's size, for readers that do not fetch it.
pub const META_BYTES: &str = "attachment_bytes";
/// `meta`: what the attached file was called where it came from.
pub const META_NAME: &str = "attachment_name";

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("cannot read {path}, which is to be attached")]
    Read { path: String, source: io::Error },
    #[error("{path} is a folder; attach a file, such as an archive of it")]
    Folder { path: String },
    #[error("{path} has more than {max} bytes, the most that is attached; post a link to it")]
    FileTooLarge { path: String, max: u64 },
    #[error("the text has {bytes} bytes and may have {max}; put it into a file and post that with --attach")]
    TextTooLarge { bytes: u64, max: u64 },
    #[error(
        "the text has {bytes} bytes, and beside an attachment it may have {max}: a message has one attachment; post the two one after the other"
    )]
    TextBesideFile { bytes: usize, max: usize },
    #[error("cannot write the attachment {path}")]
    Write { path: String, source: io::Error },
}

impl AttachError {
    /// True when another call would do, false when the system failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::Folder { .. }
            | Self::FileTooLarge { .. }
            | Self::TextTooLarge { .. }
            | Self::TextBesideFile { .. } => true,
            Self::Write { .. } => false,
        }
    }
}

/// Moves a body that is too large for a message into an attachment, and leaves the head of the text.
///
/// # Errors
/// When the file cannot be written, or the text is beyond [`TEXT_MAX`].
pub fn fit(
    tree: &Tree,
    key: &StreamKey,
    draft: &mut Draft,
    durability: Durability,
) -> Result<(), AttachError> {
    if draft.body.len() <= BODY_MAX {
        return Ok(());
    }
    if draft.attachment_path.is_some() {
        return Err(AttachError::TextBesideFile { bytes: draft.body.len(), max: BODY_MAX });
    }
    if draft.body.len() as u64 > TEXT_MAX {
        return Err(AttachError::TextTooLarge { bytes: draft.body.len() as u64, max: TEXT_MAX });
    }
    let name = format!("{}.txt", draft.kind.as_str().to_ascii_lowercase());
    let place = Place::of(tree, key, &name);
    let body = std::mem::take(&mut draft.body);
    let mut file = place.open()?;
    file.write_all(body.as_bytes()).map_err(|e| place.error(e))?;
    draft.attachment_path = Some(place.put(file, durability)?);
    draft.meta.insert(META_BYTES.to_owned(), body.len().to_string());
    draft.body = text::head(&body, HEAD_MAX).to_owned();
    Ok(())
}

/// Attaches a copy of any file, text or not. A draft without a body says the file's name.
///
/// # Errors
/// When the file cannot be read or is beyond [`FILE_MAX`], or the copy cannot be written.
pub fn file(
    tree: &Tree,
    key: &StreamKey,
    draft: &mut Draft,
    source: &Path,
    durability: Durability,
) -> Result<(), AttachError> {
    let path = || source.display().to_string();
    let unread = |source| AttachError::Read { path: path(), source };
    let from = File::open(source).map_err(unread)?;
    let meta = from.metadata().map_err(unread)?;
    if meta.is_dir() {
        return Err(AttachError::Folder { path: path() });
    }
    // A file says how large it is before it is copied; a pipe or a device only while it is.
    if meta.len() > FILE_MAX {
        return Err(AttachError::FileTooLarge { path: path(), max: FILE_MAX });
    }
    let name = source.file_name().unwrap_or(source.as_os_str()).to_string_lossy();
    let place = Place::of(tree, key, &name);
    let mut to = place.open()?;
    let bytes = copy(from, &mut to, unread, |e| place.error(e))?;
    if bytes > FILE_MAX {
        return Err(AttachError::FileTooLarge { path: path(), max: FILE_MAX });
    }
    draft.attachment_path = Some(place.put(to, durability)?);
    draft.meta.insert(META_BYTES.to_owned(), bytes.to_string());
    draft.meta.insert(META_NAME.to_owned(), text::head(&name, 255).to_owned());
    if draft.body.is_empty() {
        draft.body = text::head(&name, 255).to_owned();
    }
    Ok(())
}

/// Copies up to one byte more than [`FILE_MAX`], and tells a source that fails from a target that fails.
fn copy<E>(
    from: File,
    to: &mut impl Write,
    unread: impl Fn(io::Error) -> E,
    unwritten: impl Fn(io::Error) -> E,
) -> Result<u64, E> {
    let mut from = from.take(FILE_MAX + 1);
    let mut piece = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n) => {
                to.write_all(&piece[..n]).map_err(&unwritten)?;
                bytes += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error)),
        }
    }
}

/// Where a new attachment goes.
struct Place {
    folder: PathBuf,
    stem: String,
    extension: String,
}

/// Counts the attachments of this process.
static SEQUENCE: AtomicU32 = AtomicU32::new(1);

impl Place {
    fn of(tree: &Tree, key: &StreamKey, name: &str) -> Self {
        let (folder, _) = tree.layout.stream(key);
        let (stem, extension) = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, extension),
            _ => (name, ""),
        };
        Self { folder, stem: plain(stem, 48, "file"), extension: plain(extension, 16, "bin") }
    }

    fn open(&self) -> Result<NewFile, AttachError> {
        NewFile::in_folder(&self.folder, 0o600).map_err(|e| self.error(e))
    }

    fn error(&self, source: io::Error) -> AttachError {
        let path = self.folder.join(format!("{PREFIX}….{}", self.extension)).display().to_string();
        AttachError::Write { path, source }
    }

    /// Names the file. With a durability that survives a power cut, file and name are on disk before the entry is.
    fn put(&self, file: NewFile, durability: Durability) -> Result<String, AttachError> {
        let stamp = RunId::new(Timestamp::now(), std::process::id(), SEQUENCE.fetch_add(1, Relaxed));
        let name = format!("{PREFIX}{stamp}-{}.{}", self.stem, self.extension);
        let path = self.folder.join(&name);
        file.place(&path, durability != Durability::None)
            .map_err(|source| AttachError::Write { path: path.display().to_string(), source })?;
        crate::failpoint::here("attachment-placed");
        Ok(name)
    }
}

/// A part of a file name that means the same to every file system and shell.
fn plain(name: &str, max: usize, otherwise: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if out.len() >= max {
            break;
        }
        if c.is_ascii_alphanumeric() || (matches!(c, '_' | '.') && !out.is_empty()) {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let trimmed = out.trim_end_matches(['-', '.']);
    if trimmed.is_empty() { otherwise.to_owned() } else { trimmed.to_owned() }
}

/// An attachment's text, read for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Bytes that are no text are replaced.
    pub text: String,
    /// What a reader does not get, and why.
    pub left_out: Option<String>,
}

/// Reads the payload of a message. `None`: it has none, or it was joined before.
#[must_use]
pub fn payload(tree: &Tree, key: &StreamKey, message: &Message) -> Option<Payload> {
    let name = message.content.attachment_path.as_deref()?;
    let nothing = |why: String| Payload { text: String::new(), left_out: Some(why) };
    Some(match open(tree, key, name) {
        Ok((file, len)) => {
            read(file, len).unwrap_or_else(|e| nothing(format!("attachment {name} cannot be read: {e}")))
        }
        Err(why) => nothing(why),
    })
}

/// Opens what a message names, if it is an attachment of its stream. The field may have been written by hand: it must
/// not lead anywhere else, and a pipe must not hold the reader up.
///
/// # Errors
/// Says in words why not.
pub fn open(tree: &Tree, key: &StreamKey, name: &str) -> Result<(File, u64), String> {
    let shown = || text::head(name, 255).escape_debug().to_string();
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    if !plain || !name.starts_with(PREFIX) {
        return Err(format!("`{}` names no attachment of this stream and is not read", shown()));
    }
    let (folder, _) = tree.layout.stream(key);
    let no = |error: io::Error| format!("attachment {} cannot be opened: {error}", shown());
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, folder.join(name), flags, Mode::empty()).map_err(|e| no(e.into()))?;
    let file = File::from(file);
    let meta = file.metadata().map_err(no)?;
    if !meta.is_file() {
        return Err(format!("attachment {} is no regular file and is not read", shown()));
    }
    Ok((file, meta.len()))
}

fn read(file: File, len: u64) -> io::Result<Payload> {
    let mut bytes = Vec::with_capacity(usize::try_from(len.min(TEXT_MAX)).unwrap_or(0));
    file.take(TEXT_MAX).read_to_end(&mut bytes)?;
    let left = len.saturating_sub(bytes.len() as u64);
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    let left_out = (left > 0).then(|| format!("{left} bytes beyond the first {TEXT_MAX} of the attachment"));
    Ok(Payload { text, left_out })
}

/// Joins a message with its attachment again. Where the body is the head of the payload, the payload becomes the body;
/// any other payload stands beside the body and is returned.
///
/// The rule needs no mark in the message, so that entries of other writers are joined as well.
#[must_use]
pub fn join(tree: &Tree, key: &StreamKey, message: &mut Message) -> Option<Payload> {
    let mut payload = payload(tree, key, message)?;
    if payload.text.starts_with(&message.content.body) && !payload.text.is_empty() {
        message.content.body = std::mem::take(&mut payload.text);
    }
    Some(payload)
}

#[cfg(test)]
mod tests;
