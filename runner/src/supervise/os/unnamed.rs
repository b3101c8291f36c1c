//! Files without a name, which vanish with the process that makes them unless they are given one.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;

/// By which an open file can be given a name.
const OPEN_FILES: &str = "/proc/self/fd";

/// `None` where the file system knows no files without a name, or the system gives no way to name one later.
///
/// # Errors
/// When the folder cannot be written.
pub fn make(folder: &Path, mode: u32) -> io::Result<Option<File>> {
    if !Path::new(OPEN_FILES).is_dir() {
        return Ok(None);
    }
    match openat(CWD, folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(mode)) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives it its name.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when the name is taken.
pub fn link(file: &File, path: &Path) -> io::Result<()> {
    let open = Path::new(OPEN_FILES).join(file.as_raw_fd().to_string());
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}
