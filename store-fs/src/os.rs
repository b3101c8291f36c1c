//! Looking at a file for what the store compares: which file it is, and how long. On Linux only that is asked for:
//! asking for the change time as well makes the kernel write a fresh one at the next write, which costs more than the
//! write itself.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

pub(crate) use run_agent_store_shared::os::{create_new, open, open_to_read, read, sync_folder};

/// Which file, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    pub(crate) len: u64,
    /// When it was made, in nanoseconds, where the file system tells.
    born: u64,
}

impl Seen {
    /// A number that another file does not have, also one that got the inode of a deleted one.
    pub(crate) fn number(self) -> u64 {
        self.identity.1.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.born
    }
}

fn must_be_regular(is_file: bool) -> io::Result<()> {
    if is_file {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
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

    use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

    use super::{File, Path, Seen, io};

    const ASKED: StatxFlags = StatxFlags::INO.union(StatxFlags::SIZE).union(StatxFlags::BTIME);

    fn seen(stat: &rustix::fs::Statx) -> Seen {
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        let seconds = u64::try_from(stat.stx_btime.tv_sec).unwrap_or_default();
        let born = seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::from(stat.stx_btime.tv_nsec));
        Seen { identity: (device, stat.stx_ino), len: stat.stx_size, born }
    }

    pub(crate) fn look(path: &Path) -> io::Result<Seen> {
        Ok(seen(&statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, ASKED)?))
    }

    /// As [`look`], of a path in this open folder: the way there is walked once for many.
    pub(crate) fn look_in(folder: &File, path: &Path) -> io::Result<Seen> {
        let name = path.file_name().unwrap_or_default();
        Ok(seen(&statx(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW, ASKED)?))
    }

    pub(crate) fn look_at(file: &File) -> io::Result<Seen> {
        let stat = statx(file.as_fd(), "", AtFlags::EMPTY_PATH, ASKED)?;
        super::must_be_regular(FileType::from_raw_mode(stat.stx_mode.into()).is_file())?;
        Ok(seen(&stat))
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
        let born = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let born = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or_default();
        Seen { identity: (meta.dev(), meta.ino()), len: meta.len(), born }
    }

    pub(crate) fn look(path: &Path) -> io::Result<Seen> {
        std::fs::symlink_metadata(path).map(|meta| seen(&meta))
    }

    pub(crate) fn look_in(_: &File, path: &Path) -> io::Result<Seen> {
        look(path)
    }

    pub(crate) fn look_at(file: &File) -> io::Result<Seen> {
        let meta = file.metadata()?;
        super::must_be_regular(meta.is_file())?;
        Ok(seen(&meta))
    }

    /// Renames, unless the new name is taken. The caller holds the lock that everybody takes who makes such names.
    pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        super::rename_checked(from, to)
    }
}

pub(crate) use system::{look, look_at, look_in, rename_new};

/// How long ago the file was last written to. A time that lies ahead, after the clock was set back, does not come again.
pub(crate) fn age(file: &File) -> Option<Duration> {
    Some(match file.metadata().ok()?.modified().ok()?.elapsed() {
        Ok(age) => age,
        Err(ahead) => ahead.duration(),
    })
}
