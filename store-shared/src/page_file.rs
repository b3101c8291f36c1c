//! A shared page as a file: made whole under the append lock, mapped by everybody, and looked at again and again, since
//! anybody may delete it.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::lock::LockFile;
use crate::map::{Mapped, PAGE_LEN, bytes_of};
use crate::os;
use crate::page::Page;

/// The page, mapped.
#[derive(Debug)]
pub struct PageFile<const OWN: usize> {
    mapped: Mapped<OWN>,
    file: LockFile,
    /// Nothing may be stored in a page of a root that this process can only read.
    writable: bool,
}

impl<const OWN: usize> PageFile<OWN> {
    /// `None` when there is none that holds for this start of the machine.
    ///
    /// # Errors
    /// When there is something that cannot be opened or mapped.
    pub fn open(path: &Path, magic: u64) -> io::Result<Option<Self>> {
        let (opened, writable) = match LockFile::open_existing(path) {
            Err(error) if may_only_read(&error) => {
                (os::open_to_read(path).and_then(|file| LockFile::of(file, path)), false)
            }
            opened => (opened, true),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if os::len(file.file())? < PAGE_LEN as u64 {
            return Ok(None);
        }
        let mapped = if writable { Mapped::new(file.file())? } else { Mapped::to_read(file.file())? };
        let opened = Self { mapped, file, writable };
        Ok(opened.page().is_of(magic, os::boot()).then_some(opened))
    }

    /// For who holds the append lock: puts a page in the place of whatever is there.
    ///
    /// # Errors
    /// When it cannot be written there.
    pub fn make(path: &Path, page: &Page<OWN>) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = path.with_file_name(format!("{name}.new"));
        let file = os::create_new(&new)?;
        file.write_all_at(&bytes_of(page), 0)?;
        let mapped = Mapped::new(&file)?;
        std::fs::rename(&new, path)?;
        Ok(Self { mapped, file: LockFile::of(file, path)?, writable: true })
    }

    #[must_use]
    pub fn page(&self) -> &Page<OWN> {
        self.mapped.page()
    }

    /// False where this process may only read: it stores nothing in the page then.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// False once it was deleted or replaced.
    ///
    /// # Errors
    /// When the path cannot be looked at.
    pub fn is_in_place(&self) -> io::Result<bool> {
        self.file.is_in_place()
    }

    /// The file, to be locked.
    #[must_use]
    pub fn lock(&self) -> &LockFile {
        &self.file
    }
}

fn may_only_read(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
