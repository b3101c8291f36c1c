//! Small files that others may read while they are replaced, and locks that tell whether their holder lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use run_agent_core::Timestamp;
use run_agent_core::world::Marker;

/// Writes `text` to a temporary file beside `path` and renames it. `sync` makes it survive a power cut.
///
/// # Errors
/// When the folder cannot be written.
pub fn replace(path: &Path, text: &[u8], sync: bool) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    if sync {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, path)
}

/// Opens a file that a person named, by a link or not. What lies below the root is opened by [`Tree::open`].
///
/// What is no regular file, as anybody may put it there, is refused: a pipe could be waited
/// on for ever.
///
/// [`Tree::open`]: crate::Tree::open
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    regular(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// A file that was opened without waiting, if it is one to read.
pub(crate) fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Opens (and makes) a file that is locked for as long as somebody lives.
///
/// # Errors
/// When it cannot be made.
pub fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Takes the lock if it is free.
///
/// # Errors
/// When the system fails; a lock that is held is `Ok(false)`.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// As [`try_lock`], for a lock that any number hold together.
///
/// # Errors
/// As [`try_lock`].
pub fn try_lock_shared(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// As [`try_lock`], and not misled by those who only look: whoever probes a lock holds it shared for a moment.
///
/// # Errors
/// As [`try_lock`].
pub fn try_lock_for_good(file: &File) -> io::Result<bool> {
    for _ in 0..PROBES_MAX {
        if try_lock(file)? {
            return Ok(true);
        }
        if !try_lock_shared(file)? {
            return Ok(false);
        }
        file.unlock()?;
        std::thread::yield_now();
    }
    Ok(false)
}

/// So many looks in a row at the very moments of taking are no accident: something holds the lock shared.
const PROBES_MAX: usize = 1000;

/// True while somebody holds the lock at `path`. Probed shared and given back at once.
///
/// # Errors
/// When the file is there but cannot be opened.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(!try_lock_shared(&file)?)
}

/// The processes that hold a `flock` on this file, where the system lists locks.
#[must_use]
pub fn holders(path: &Path) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.metadata() else { return Vec::new() };
    let wanted = format!(":{}", meta.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Those that wait have an arrow in the second place.
        let held = words.get(1) == Some(&"FLOCK") && words.get(5)?.ends_with(&wanted);
        held.then(|| words.get(4)?.parse().ok()).flatten()
    };
    locks.lines().filter_map(holder).collect()
}

/// The DONE marker as it lies in the task's folder.
///
/// # Errors
/// When the folder cannot be looked at.
pub fn marker(done: &Path) -> io::Result<Marker> {
    marker_of(std::fs::symlink_metadata(done).map(|meta| {
        let written = || meta.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        meta.is_file().then(written)
    }))
}

/// As [`marker`], of a task below an open folder: a short way for whoever looks at many.
///
/// # Errors
/// As [`marker`].
pub fn marker_below(folder: impl AsFd, done: &str) -> io::Result<Marker> {
    let found = rustix::fs::statat(folder, done, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map(|stat| {
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
        is_file.then(|| Timestamp::new(stat.st_mtime, nanos).ok())
    });
    marker_of(found.map_err(io::Error::from))
}

/// `Some` is a regular file, with its time.
fn marker_of(found: io::Result<Option<Option<Timestamp>>>) -> io::Result<Marker> {
    match found {
        Ok(Some(written)) => Ok(Marker::Present { written }),
        Ok(None) => Ok(Marker::NotAFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Marker::Absent),
        Err(error) => Err(error),
    }
}
