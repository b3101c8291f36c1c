//! The control page as a file, in this store's words.

use std::io;
use std::path::{Path, PathBuf};

use run_agent_store_shared::page_file::PageFile;

use crate::os;
use crate::page::{Ends, MAGIC, OWN, Page, Tail};

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("ctl")
}

/// The page, mapped.
pub(crate) type Control = PageFile<OWN>;

/// `None` when there is none that holds for this start of the machine.
pub(crate) fn open(folder: &Path) -> io::Result<Option<Control>> {
    let found = Control::open(&path(folder), MAGIC)?;
    Ok(found.filter(|control| control.page().tail().is_some()))
}

/// For who holds the append lock: puts a new page in the place of whatever is there. `change` may set more in it.
pub(crate) fn make(
    folder: &Path,
    incarnation: u64,
    tail: &Tail,
    synced: u64,
    change: impl FnOnce(&Page),
) -> io::Result<Control> {
    let page = Page::default();
    page.begin(MAGIC, os::boot(), incarnation, synced);
    page.publish(tail);
    change(&page);
    Control::make(&path(folder), &page)
}
