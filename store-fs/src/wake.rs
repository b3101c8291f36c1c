//! Wakes readers that wait at the end of a stream when something happens in its folder. A wake-up is a hint.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};

/// However quiet it is, a waiter looks again after so long: watches may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) struct Wake {
    hints: Receiver<()>,
    /// Dropping it ends the watch. `None` where the system gave no watch: then waiting is looking again.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wake").finish_non_exhaustive()
    }
}

impl Wake {
    /// Watches `folder` for changes of the file `name`.
    pub(crate) fn new(folder: &Path, name: &std::ffi::OsStr) -> Self {
        let (hint, hints) = sync_channel(1);
        let name = name.to_owned();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = match &event {
                Ok(event) if event.kind.is_access() => false,
                Ok(event) => event.paths.iter().any(|path| path.file_name() == Some(&name)),
                Err(_) => true,
            };
            if concerns {
                // A full channel holds a hint already.
                let _ = hint.try_send(());
            }
        })
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher))
        .ok();
        Self { hints, _watcher: watcher }
    }

    /// Sleeps until a hint or `timeout`.
    pub(crate) fn sleep(&self, timeout: Duration) {
        match self.hints.recv_timeout(timeout.min(LOOK_AGAIN)) {
            Ok(()) | Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            // No watch: the sender is gone and would make this a busy loop.
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                std::thread::sleep(timeout.min(Duration::from_millis(100)));
            }
        }
    }
}
