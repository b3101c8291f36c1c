//! What a stream looks like from outside: one look at its bus file, without opening it.
//!
//! The inode changes when the file is rotated or replaced, the size with every append, and the change time with every
//! write: unlike the modification time nobody sets it back, so that a file edited in place to the same length is seen
//! too. A file that changed a moment ago has no version yet: two writes within one tick of the file system's clock leave
//! the same time, and a last entry by hand counts only when it has stayed as it is for a second. Archives are not looked
//! at: the store never writes them again, and an edit of one by hand shows with the next append.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use run_agent_core::layout::Layout;
use run_agent_core::store::{ReadError, StreamVersion};
use run_agent_core::{ProjectId, StreamKey, TaskId};

/// How long an unchanged file may still come to be read otherwise, with a tick of the file system's clock.
const SETTLED: Duration = Duration::from_millis(1_200);
/// The same where the file system keeps whole seconds, or every other one.
const SETTLED_COARSE: Duration = Duration::from_millis(3_200);

pub(crate) fn of(layout: &Layout, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
    let bus = layout.bus_file(key);
    let error = |path: &Path, source| {
        let what = format!("{} cannot be looked at", path.display());
        ReadError::Io { key: key.clone(), what, source }
    };
    match look(&bus) {
        Ok(found) => return Ok(found.version("bus")),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(error(&bus, source)),
    }
    // Nothing was appended yet, or the file was rotated away: the folder tells one from the other.
    let (folder, _) = layout.stream(key);
    match look(&folder) {
        Ok(found) => Ok(found.version("folder")),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            Err(ReadError::Gone { key: key.clone(), place: folder.display().to_string() })
        }
        Err(source) => Err(error(&folder, source)),
    }
}

/// One open folder for all, so that each look walks two names and not the whole path.
pub(crate) fn of_many(layout: &Layout, project: &ProjectId, tasks: &[&TaskId]) -> Vec<Option<StreamVersion>> {
    let folder = File::open(layout.project(project)).ok();
    let version = |task: &&TaskId| {
        let near = folder.as_ref().and_then(|f| look_below(f, &Layout::bus_file_below_project(task)).ok());
        match near {
            Some(found) => found.version("bus"),
            None => of(layout, &StreamKey::task(project.clone(), (*task).clone())).ok().flatten(),
        }
    };
    tasks.iter().map(version).collect()
}

/// What one look tells.
#[derive(Debug, Clone, Copy)]
struct Found {
    inode: u64,
    len: u64,
    changed_s: i64,
    changed_ns: u32,
}

impl Found {
    /// `None` while a further change might leave the same.
    fn version(self, what: &str) -> Option<StreamVersion> {
        let Self { inode, len, changed_s, changed_ns } = self;
        let changed = UNIX_EPOCH + Duration::new(u64::try_from(changed_s).ok()?, changed_ns);
        let settled = if changed_ns == 0 { SETTLED_COARSE } else { SETTLED };
        // A change that lies in the future, as after the clock was set back, does not come again either.
        let apart = match SystemTime::now().duration_since(changed) {
            Ok(age) => age,
            Err(ahead) => ahead.duration(),
        };
        (apart > settled)
            .then(|| StreamVersion::new(&format!("{what}.{inode}.{len}.{changed_s}.{changed_ns:09}")))
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::{AsFd, BorrowedFd};

    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    use super::{File, Found, Path, io};

    fn found(folder: BorrowedFd<'_>, path: &Path) -> io::Result<Found> {
        let wanted = StatxFlags::INO | StatxFlags::SIZE | StatxFlags::CTIME;
        let stat = statx(folder, path, AtFlags::empty(), wanted)?;
        Ok(Found {
            inode: stat.stx_ino,
            len: stat.stx_size,
            changed_s: stat.stx_ctime.tv_sec,
            changed_ns: stat.stx_ctime.tv_nsec,
        })
    }

    pub(super) fn look(path: &Path) -> io::Result<Found> {
        found(CWD, path)
    }

    pub(super) fn look_below(folder: &File, path: &str) -> io::Result<Found> {
        found(folder.as_fd(), Path::new(path))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use rustix::fs::{AtFlags, CWD, Stat, statat};

    use super::{File, Found, Path, io};

    #[allow(clippy::unnecessary_cast, reason = "the fields differ in size from system to system")]
    fn found(stat: &Stat) -> Found {
        Found {
            inode: stat.st_ino as u64,
            len: stat.st_size as u64,
            changed_s: stat.st_ctime as i64,
            changed_ns: stat.st_ctime_nsec as u32,
        }
    }

    pub(super) fn look(path: &Path) -> io::Result<Found> {
        Ok(found(&statat(CWD, path, AtFlags::empty())?))
    }

    pub(super) fn look_below(folder: &File, path: &str) -> io::Result<Found> {
        Ok(found(&statat(folder, path, AtFlags::empty())?))
    }
}

use system::{look, look_below};

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> (i64, u32) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (i64::try_from(now.as_secs()).unwrap(), now.subsec_nanos().max(1))
    }

    #[test]
    fn a_file_that_changed_a_moment_ago_has_no_version() {
        let (changed_s, changed_ns) = now();
        let found = Found { inode: 1, len: 2, changed_s, changed_ns };
        assert_eq!(found.version("bus"), None);
        assert!(Found { changed_s: changed_s - 2, ..found }.version("bus").is_some());
        assert!(
            Found { changed_s: changed_s + 3600, ..found }.version("bus").is_some(),
            "the clock was set back"
        );
        assert_eq!(
            Found { changed_s: changed_s - 2, changed_ns: 0, ..found }.version("bus"),
            None,
            "whole seconds"
        );
    }
}
