//! The watch of whatever system there is: its thread puts a byte into a pipe.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use notify::{RecursiveMode, Watcher};

use super::What;

#[derive(Debug)]
pub(super) struct Watches {
    told: OwnedFd,
    tell: Arc<OwnedFd>,
    /// Dropping one ends its watch.
    watchers: Vec<notify::RecommendedWatcher>,
}

impl Watches {
    pub(super) fn new() -> io::Result<Self> {
        let (told, tell) = super::super::wake::bell()?;
        Ok(Self { told, tell: Arc::new(tell), watchers: Vec::new() })
    }

    pub(super) fn add(&mut self, folder: &Path, names: &[&OsStr], what: What) -> io::Result<()> {
        let names: Vec<OsString> = names.iter().map(|name| (*name).to_owned()).collect();
        let tell = self.tell.clone();
        let concerns = move |event: &notify::Event| {
            let kind = match what {
                What::Anything => !event.kind.is_access(),
                What::Growth => event.kind.is_modify(),
            };
            let named = |path: &std::path::PathBuf| {
                path.file_name().is_some_and(|name| names.iter().any(|known| known == name))
            };
            kind && event.paths.iter().any(named)
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, &concerns) {
                // A full pipe holds a hint already.
                let _ = rustix::io::write(&tell, b"!");
            }
        })
        .map_err(io::Error::other)?;
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        self.watchers.push(watcher);
        Ok(())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    pub(super) fn happened(&mut self) -> bool {
        super::super::wake::drain(self.told.as_fd())
    }
}
