//! Editing a bus by hand without stopping anybody: a person works on a copy, and what was appended meanwhile is put
//! behind it under the append lock before the copy takes the file's place (`docs/decisions/0020-bus-edit.md`).
//!
//! Only the active file is edited; archives stay what they are. An entry of ours that was changed gets its `bytes` and
//! `crc32` anew; what was not touched is not touched here either, damage included.

mod reseal;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::{Condition, Options};
use run_agent_core::{Cursor, Durability, Entry, Store, StreamKey};

pub(crate) use self::reseal::Mend;
pub use self::reseal::{Checked, Finding};
use self::reseal::{gone, mend, reseal};
use crate::lock::{LockError, LockFile};
use crate::os;
use crate::store::FsStore;

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
        let original = os::read(&edit.bus, u64::MAX);
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

    /// The text with those entries sealed anew that a hand edited and that are read then.
    pub(crate) fn mend(&self) -> Mend {
        mend(&self.original, &self.key)
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
        let now = os::read(&self.bus, u64::MAX).map_err(|e| self.error("it cannot be read again", e))?;
        let Some(appended) = now.strip_prefix(self.original.as_slice()) else {
            return Err(EditError::Changed { path: self.bus.clone() });
        };
        let name = self.bus.file_name().unwrap_or_default().to_string_lossy();
        let beside = self.bus.with_file_name(format!(".{name}.edit-{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = os::create_new(&beside)?;
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

#[cfg(test)]
mod tests;
