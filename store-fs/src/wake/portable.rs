//! The watch of whatever system there is.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};

#[derive(Debug)]
pub(super) struct Watch {
    hints: Receiver<()>,
    /// Dropping it ends the watch.
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    pub(super) fn new(folder: &Path, name: &OsStr) -> notify::Result<Self> {
        let (hint, hints) = sync_channel(1);
        let name = name.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = match &event {
                Ok(event) if event.kind.is_access() => false,
                Ok(event) => event.paths.iter().any(|path| path.file_name() == Some(&name)),
                Err(_) => true,
            };
            if concerns {
                // A full channel holds a hint already.
                let _ = hint.try_send(());
            }
        })?;
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { hints, _watcher: watcher })
    }

    pub(super) fn sleep(&self, timeout: Duration) {
        match self.hints.recv_timeout(timeout) {
            // The watcher holds a sender: the channel closes only with it.
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}
