//! Looking at a file for what the store compares: which file it is, and how long. On Linux only that is asked for:
//! asking for the change time as well makes the kernel write a fresh one at the next write, which costs more than the
//! write itself.

use std::fs::File;
use std::io;
use std::path::Path;

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
}

pub(crate) use system::{look, look_at};
