//! Wakes readers that wait at the end of a stream when something happens in its folder. A wake-up is a hint.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::os::{self, Seen};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

/// However quiet it is, a waiter looks again after so long: watches may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How soon one looks that got no watch, and how seldom while nothing happens: systems give a user only so many watches,
/// and a swarm has more processes than that.
const LOOK_UNWATCHED: Duration = Duration::from_millis(50);
const LOOK_UNWATCHED_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Wake {
    /// `None` where the system gave no watch: then waiting is looking again.
    watch: Option<system::Watch>,
    path: PathBuf,
    /// What the file was when the last sleep without a watch ended.
    seen: Option<Seen>,
    /// How long it sleeps next without a watch: longer from one to the next, until something happens.
    nap: Duration,
}

impl Wake {
    /// Watches `folder` for changes of the file `name`.
    pub(crate) fn new(folder: &Path, name: &OsStr) -> Self {
        let watch = system::Watch::new(folder, name).ok();
        Self { watch, path: folder.join(name), seen: None, nap: LOOK_UNWATCHED }
    }

    /// Sleeps until a hint or `timeout`.
    pub(crate) fn sleep(&mut self, timeout: Duration) {
        match &self.watch {
            Some(watch) => watch.sleep(timeout.min(LOOK_AGAIN)),
            None => self.sleep_unwatched(timeout.min(LOOK_AGAIN)),
        }
    }

    /// What came between two sleeps counts: the file is compared with what it was at the end of the last one.
    fn sleep_unwatched(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            let now = os::look(&self.path).ok();
            if now != self.seen {
                (self.seen, self.nap) = (now, LOOK_UNWATCHED);
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(self.nap.min(left));
            self.nap = (self.nap * 3 / 2).min(LOOK_UNWATCHED_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_watch_what_came_since_the_last_look_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut wake = Wake { watch: None, path: folder.path().join("bus"), seen: None, nap: LOOK_UNWATCHED };
        let long = Duration::from_secs(60);
        std::fs::write(&wake.path, "one").unwrap();
        wake.sleep(long);
        // Between two sleeps, while its owner reads.
        std::fs::write(&wake.path, "one, two").unwrap();
        wake.sleep(long);
        let path = wake.path.clone();
        let writer = std::thread::spawn(move || std::fs::write(path, "one, two, three").unwrap());
        wake.sleep(long);
        writer.join().unwrap();
        std::fs::remove_file(&wake.path).unwrap();
        wake.sleep(long);
        assert_eq!(wake.seen, None);
    }
}
