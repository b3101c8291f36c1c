//! Wakes readers that wait at the end of a stream when something happens in its folder. A wake-up is a hint.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

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
/// How often one looks that got no watch: systems give a user only so many.
const LOOK_UNWATCHED: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Wake {
    /// `None` where the system gave no watch: then waiting is looking again.
    watch: Option<system::Watch>,
}

impl Wake {
    /// Watches `folder` for changes of the file `name`.
    pub(crate) fn new(folder: &Path, name: &OsStr) -> Self {
        Self { watch: system::Watch::new(folder, name).ok() }
    }

    /// Sleeps until a hint or `timeout`.
    pub(crate) fn sleep(&self, timeout: Duration) {
        match &self.watch {
            Some(watch) => watch.sleep(timeout.min(LOOK_AGAIN)),
            None => std::thread::sleep(timeout.min(LOOK_UNWATCHED)),
        }
    }
}
