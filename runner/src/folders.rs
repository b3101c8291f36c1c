//! Tells when something happens to named files, by one descriptor that a `poll` can wait for. What it tells is a hint:
//! it may come late, doubled, or for nothing.
//!
//! Systems give a user only so many watches, and a swarm has more processes than that: files that got none are looked at,
//! more and more seldom while nothing happens to them.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

/// Whoever waits for less than this gets no watch from the system: to give one back takes ten milliseconds, which a
/// process that ends waits for. Until then files are looked at, more seldom each time.
const LAZY: Duration = Duration::from_millis(100);
const LOOK_LAZY: Duration = Duration::from_millis(1);
/// How soon a file without a watch is looked at, and how seldom while nothing happens.
const LOOK_UNWATCHED: Duration = Duration::from_millis(50);
const LOOK_UNWATCHED_MAX: Duration = Duration::from_secs(1);

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A file appears, changes, vanishes or is replaced.
    Anything,
    /// A file is written to.
    Growth,
}

/// Files in folders.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    watches: Option<system::Watches>,
    unwatched: Vec<Unwatched>,
    nap: Duration,
    /// What is to be watched from a moment on.
    later: Option<(Instant, Vec<(PathBuf, What)>)>,
}

#[derive(Debug)]
struct Unwatched {
    path: PathBuf,
    seen: Option<Seen>,
    /// It has a watch: this look is the last.
    last: bool,
}

/// What a look at a file finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    bytes: u64,
    changed_s: i64,
    changed_ns: i64,
}

impl Seen {
    fn at(path: &Path) -> Option<Self> {
        let meta = std::fs::symlink_metadata(path).ok()?;
        Some(Self {
            inode: meta.ino(),
            bytes: meta.len(),
            changed_s: meta.ctime(),
            changed_ns: meta.ctime_nsec(),
        })
    }
}

impl Folders {
    /// Watches files of one folder, and no others. `None` where the system gives no watch.
    pub(crate) fn watched(folder: &Path, names: &[&OsStr], what: What) -> Option<Self> {
        let mut folders = Self::default();
        folders.try_watch(folder, names, what).then_some(folders)
    }

    /// As [`Folders::watch`], but for a while the files are only looked at.
    pub(crate) fn watch_later(&mut self, folder: &Path, names: &[&OsStr], what: What) {
        let files = names.iter().map(|name| folder.join(name));
        let (_, later) = self.later.get_or_insert_with(|| (Instant::now() + LAZY, Vec::new()));
        later.extend(files.clone().map(|path| (path, what)));
        self.nap = LOOK_LAZY;
        self.unwatched.extend(files.map(|path| Unwatched { seen: Seen::at(&path), path, last: false }));
    }

    /// Watches what was only looked at. It is looked at once more then: nothing falls between the two.
    fn watch_now(&mut self) {
        let Some((_, later)) = self.later.take_if(|(at, _)| *at <= Instant::now()) else { return };
        for (path, what) in later {
            let Some((folder, name)) = path.parent().zip(path.file_name()) else { continue };
            if self.try_watch(folder, &[name], what) {
                // Its last look is that of `happened`, which calls this.
                self.unwatched.iter_mut().filter(|file| file.path == path).for_each(|file| file.last = true);
            }
        }
        self.nap = LOOK_UNWATCHED;
    }

    /// Watches files of a folder, too. Where the system gives no watch they are looked at.
    pub(crate) fn watch(&mut self, folder: &Path, names: &[&OsStr], what: What) {
        if self.try_watch(folder, names, what) {
            return;
        }
        self.nap = LOOK_UNWATCHED;
        self.unwatched.extend(names.iter().map(|name| {
            let path = folder.join(name);
            Unwatched { seen: Seen::at(&path), path, last: false }
        }));
    }

    fn try_watch(&mut self, folder: &Path, names: &[&OsStr], what: What) -> bool {
        if self.watches.is_none() {
            self.watches = system::Watches::new().ok();
        }
        self.watches.as_mut().is_some_and(|watches| watches.add(folder, names, what).is_ok())
    }

    /// Readable when something may have happened.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watches.as_ref().map(system::Watches::fd)
    }

    /// How soon [`Folders::happened`] is to be asked though the descriptor is silent. `None`: not at all.
    pub(crate) fn nap(&self) -> Option<Duration> {
        (!self.unwatched.is_empty()).then_some(self.nap)
    }

    /// True when something happened since it was last asked. Takes all that there is.
    pub(crate) fn happened(&mut self) -> bool {
        self.watch_now();
        let told = self.watches.as_mut().is_some_and(system::Watches::happened);
        let mut changed = false;
        for file in &mut self.unwatched {
            let now = Seen::at(&file.path);
            changed |= now != file.seen;
            file.seen = now;
        }
        self.unwatched.retain(|file| !file.last);
        let soon = if self.later.is_some() { LOOK_LAZY } else { LOOK_UNWATCHED };
        self.nap = if changed { soon } else { (self.nap * 3 / 2).min(LOOK_UNWATCHED_MAX) };
        told || changed
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn is_readable(folders: &Folders, within: Duration) -> bool {
        let mut fds = [PollFd::new(folders.fd().unwrap(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() > 0
    }

    fn happens(folders: &mut Folders) -> bool {
        while is_readable(folders, Duration::from_secs(60)) {
            if folders.happened() {
                return true;
            }
        }
        false
    }

    #[test]
    fn what_happens_to_a_named_file_is_told_and_what_happens_to_others_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let mut folders = Folders::watched(folder.path(), &[OsStr::new("one")], What::Anything).unwrap();
        std::fs::write(&other, "text").unwrap();
        assert!(is_readable(&folders, Duration::from_secs(60)));
        assert!(!folders.happened());
        std::fs::write(&one, "text").unwrap();
        assert!(happens(&mut folders));
        std::fs::rename(&other, &one).unwrap();
        assert!(happens(&mut folders));
        std::fs::remove_file(&one).unwrap();
        assert!(happens(&mut folders));
    }

    #[test]
    fn who_reads_a_file_wakes_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "text").unwrap();
        let mut folders = Folders::watched(folder.path(), &[OsStr::new("one")], What::Anything).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("one")).unwrap(), "text");
        assert!(!folders.happened());
        // It came behind the reading, and so did every event.
        std::fs::write(folder.path().join("one"), "more").unwrap();
        assert!(happens(&mut folders));
    }

    #[test]
    fn a_folder_that_goes_away_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let mut folders = Folders::watched(&below, &[OsStr::new("one")], What::Anything).unwrap();
        std::fs::remove_dir(&below).unwrap();
        assert!(happens(&mut folders));
    }

    #[test]
    fn growth_alone_is_told_to_who_asks_for_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut folders = Folders::watched(folder.path(), &[OsStr::new("one")], What::Growth).unwrap();
        std::fs::File::create(folder.path().join("one")).unwrap();
        assert!(!folders.happened());
        std::fs::write(folder.path().join("one"), "text").unwrap();
        assert!(happens(&mut folders));
    }

    #[test]
    fn a_file_without_a_watch_is_looked_at_more_and_more_seldom_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let unwatched = vec![Unwatched { path: path.clone(), seen: None, last: false }];
        let mut folders = Folders { unwatched, nap: LOOK_UNWATCHED, ..Folders::default() };
        for _ in 0..50 {
            assert!(!folders.happened());
        }
        assert_eq!(folders.nap(), Some(LOOK_UNWATCHED_MAX));
        std::fs::write(&path, "text").unwrap();
        assert!(folders.happened());
        assert_eq!(folders.nap(), Some(LOOK_UNWATCHED));
        assert!(!folders.happened());
    }

    #[test]
    fn what_is_watched_later_is_looked_at_until_then_and_watched_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let mut folders = Folders::default();
        folders.watch_later(folder.path(), &[OsStr::new("one")], What::Anything);
        assert!(folders.fd().is_none() && folders.nap() == Some(LOOK_LAZY));
        std::fs::write(&path, "text").unwrap();
        assert!(folders.happened());
        folders.later.as_mut().unwrap().0 = Instant::now();
        // Between the last look and the watch.
        std::fs::write(&path, "more text").unwrap();
        assert!(folders.happened());
        assert!(folders.fd().is_some() && folders.nap().is_none());
        std::fs::write(&path, "the last").unwrap();
        assert!(happens(&mut folders));
    }
}
