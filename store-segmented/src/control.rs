//! The control page as a file: made whole under the append lock, mapped by everybody, and looked at again and again,
//! since anybody may delete it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::lock::InPlace;
use crate::map::{Mapped, bytes_of};
use crate::os;
use crate::page::{Page, Tail};

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("ctl")
}

/// The page, mapped.
#[derive(Debug)]
pub(crate) struct Control {
    mapped: Mapped,
    file: File,
    path: PathBuf,
    place: InPlace,
    /// Nothing may be stored in a page of a root that this process can only read.
    writable: bool,
}

impl Control {
    /// `None` when there is none that holds for this start of the machine.
    pub(crate) fn open(folder: &Path) -> io::Result<Option<Self>> {
        let path = path(folder);
        let (opened, writable) = match os::open_to_write(&path) {
            Err(error) if may_only_read(&error) => (os::open_to_read(&path), false),
            opened => (opened, true),
        };
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let place = InPlace::new(&file)?;
        let mapped = match if writable { Mapped::new(&file) } else { Mapped::to_read(&file) } {
            Ok(mapped) => mapped,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let control = Self { mapped, file, path, place, writable };
        let holds = control.page().is_of(os::boot()) && control.page().tail().is_some();
        Ok(holds.then_some(control))
    }

    /// For who holds the append lock: puts a new page in the place of whatever is there. `change` may set more in it.
    pub(crate) fn make(
        folder: &Path,
        incarnation: u64,
        tail: &Tail,
        synced: u64,
        change: impl FnOnce(&Page),
    ) -> io::Result<Self> {
        let page = Page::default();
        page.begin(os::boot(), incarnation, tail, synced);
        change(&page);
        let (new, path) = (folder.join("ctl.new"), path(folder));
        let file = os::create_new(&new)?;
        file.write_all_at(&bytes_of(&page), 0)?;
        let mapped = Mapped::new(&file)?;
        std::fs::rename(&new, &path)?;
        let place = InPlace::new(&file)?;
        Ok(Self { mapped, file, path, place, writable: true })
    }

    pub(crate) fn page(&self) -> &Page {
        self.mapped.page()
    }

    /// False where this process may only read: it stores nothing in the page then.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// False once it was deleted or replaced.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        self.place.check(&self.file, &self.path)
    }
}

fn may_only_read(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
