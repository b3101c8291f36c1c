//! What a stream looks like from outside: one look at its bus file, without opening it.
//!
//! The inode changes when the file is rotated or replaced, the size with every append, and the change time with every
//! write: unlike the modification time nobody sets it back, so that a file edited in place to the same length is seen
//! too. A file that changed a moment ago has no version yet: two writes within one tick of the file system's clock leave
//! the same time, and a last entry by hand counts only when it has stayed as it is for a second.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use run_agent_core::StreamKey;
use run_agent_core::layout::Layout;
use run_agent_core::store::{ReadError, StreamVersion};

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
fn look(path: &Path) -> io::Result<Found> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let wanted = StatxFlags::INO | StatxFlags::SIZE | StatxFlags::CTIME;
    let stat = statx(CWD, path, AtFlags::empty(), wanted)?;
    Ok(Found {
        inode: stat.stx_ino,
        len: stat.stx_size,
        changed_s: stat.stx_ctime.tv_sec,
        changed_ns: stat.stx_ctime.tv_nsec,
    })
}

#[cfg(not(target_os = "linux"))]
fn look(path: &Path) -> io::Result<Found> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path)?;
    Ok(Found {
        inode: meta.ino(),
        len: meta.len(),
        changed_s: meta.ctime(),
        changed_ns: u32::try_from(meta.ctime_nsec()).unwrap_or_default(),
    })
}

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
