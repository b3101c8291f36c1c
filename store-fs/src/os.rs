//! Looking at a file for what the store compares: which file it is, and how long. On Linux only that is asked for:
//! asking for the change time as well makes the kernel write a fresh one at the next write, which costs more than the
//! write itself.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Which file, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    pub(crate) len: u64,
}

impl Seen {
    pub(crate) fn inode(self) -> u64 {
        self.identity.1
    }
}

fn rename_checked(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::AsFd;

    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    use super::{File, Path, Seen, io};

    fn seen(stat: &rustix::fs::Statx) -> Seen {
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        Seen { identity: (device, stat.stx_ino), len: stat.stx_size }
    }

    pub(crate) fn look(path: &Path) -> io::Result<Seen> {
        Ok(seen(&statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::SIZE)?))
    }

    pub(crate) fn look_at(file: &File) -> io::Result<Seen> {
        Ok(seen(&statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::SIZE)?))
    }

    /// True while some name is left of an open file.
    pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
        Ok(statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::NLINK)?.stx_nlink > 0)
    }

    /// Renames, unless the new name is taken.
    pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // File systems without the flag: the caller holds the lock that everybody takes who makes such names.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => super::rename_checked(from, to),
            other => Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::unix::fs::MetadataExt;

    use super::{File, Path, Seen, io};

    fn seen(meta: &std::fs::Metadata) -> Seen {
        Seen { identity: (meta.dev(), meta.ino()), len: meta.len() }
    }

    pub(crate) fn look(path: &Path) -> io::Result<Seen> {
        std::fs::metadata(path).map(|meta| seen(&meta))
    }

    pub(crate) fn look_at(file: &File) -> io::Result<Seen> {
        file.metadata().map(|meta| seen(&meta))
    }

    /// True while some name is left of an open file.
    pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 0)
    }

    /// Renames, unless the new name is taken. The caller holds the lock that everybody takes who makes such names.
    pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        super::rename_checked(from, to)
    }
}

pub(crate) use system::{is_linked, look, look_at, rename_new};

/// How long ago the file was last written to; nothing where the clock does not tell.
pub(crate) fn age(file: &File) -> Option<Duration> {
    file.metadata().ok()?.modified().ok()?.elapsed().ok()
}

/// Syncs a folder, so that names made in it survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
