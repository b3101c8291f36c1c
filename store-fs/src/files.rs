//! Which files a stream consists of: the bus file that is written to, and the archives that rotation left behind. An
//! archive's name holds the cursor of its first byte; the bus file begins where the last archive ends.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::os;
use crate::scan::Ends;

/// Digits of the cursor in an archive's name.
const BASE_DIGITS: usize = 20;

/// A file that rotation left behind: whole entries, never written to again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) base: u64,
    pub(crate) len: u64,
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
}

impl Archive {
    pub(crate) fn end(&self) -> u64 {
        self.base + self.len
    }
}

/// One file of a stream, open.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    /// The cursor of the first byte.
    pub(crate) base: u64,
    /// What may follow its last byte.
    pub(crate) ends: Ends,
}

impl Bus {
    pub(crate) fn end(&self) -> u64 {
        self.base + self.len
    }

    pub(crate) fn archived(archive: &Archive) -> io::Result<Self> {
        let file = Arc::new(os::open_to_read(&archive.path)?);
        Ok(Self {
            file,
            path: archive.path.clone(),
            len: archive.len,
            base: archive.base,
            ends: Ends::Sealed,
        })
    }
}

/// The name under which rotation keeps the file that begins at `base`.
pub(crate) fn archive_path(bus: &Path, base: u64) -> PathBuf {
    bus.with_extension(format!("{base:0BASE_DIGITS$}.md"))
}

/// The name under which entries lie that are written again since their sync failed; they begin at `base`.
pub(crate) fn rescue_path(bus: &Path, base: u64) -> PathBuf {
    bus.with_extension(format!("{base:0BASE_DIGITS$}.rescue"))
}

/// Removes the bus file and all that has its name and another ending, the bus file last: until it is gone, some is left
/// to do. `false`: there was nothing.
pub(crate) fn remove_all(bus: &Path) -> io::Result<bool> {
    let (Some(folder), Some(stem)) = (bus.parent(), bus.file_stem().and_then(|stem| stem.to_str())) else {
        return Ok(false);
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')) {
            files.push(path);
        }
    }
    files.sort_by_key(|path| path == bus);
    for path in &files {
        std::fs::remove_file(path)?;
    }
    Ok(!files.is_empty())
}

/// Such files as [`rescue_path`] names, with their bases.
pub(crate) fn rescues(bus: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let stem = bus.file_stem().unwrap_or_default().as_encoded_bytes();
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(bus.parent().unwrap_or(Path::new("."))) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(base) = base_in(name.as_encoded_bytes(), stem, b".rescue") {
            found.push((base, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The cursor in a name that is made of a stem, digits and an ending.
fn base_in(name: &[u8], stem: &[u8], ending: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(stem)?.strip_prefix(b".")?.strip_suffix(ending)?;
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.len() == BASE_DIGITS)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The archives of the bus at `bus`, in order. A file that goes while it is looked at is passed over.
pub(crate) fn archives(bus: &Path) -> io::Result<Vec<Archive>> {
    let stem = bus.file_stem().unwrap_or_default().as_encoded_bytes();
    let mut found = Vec::new();
    let folder = bus.parent().unwrap_or(Path::new("."));
    let (folder, entries) = match File::open(folder).and_then(|open| Ok((open, std::fs::read_dir(folder)?))) {
        Ok(open) => open,
        // Whoever looks for the stream itself says that it is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(base) = base_in(name.as_encoded_bytes(), stem, b".md") else { continue };
        let path = entry.path();
        match os::look_in(&folder, &path) {
            Ok(seen) => found.push(Archive { base, len: seen.len, number: seen.number(), path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|archive| archive.base);
    Ok(found)
}
