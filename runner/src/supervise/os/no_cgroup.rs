//! The portable twin of `cgroup`: there are none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use run_agent_core::RunId;

#[must_use]
pub fn outside() -> Option<Cgroup> {
    None
}

pub fn leave() {}

pub fn remove_nobodys() {}

/// There is none of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {}

impl Cgroup {
    #[must_use]
    pub fn for_run(_: &RunId) -> Option<Self> {
        None
    }

    #[must_use]
    pub fn noted(_: &Path, _: &RunId) -> Option<Self> {
        None
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn make(&self) -> io::Result<()> {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn open(&self) -> io::Result<Handle> {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn enter(&self, _: u32) -> io::Result<()> {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        match *self {}
    }

    /// # Errors
    /// Never.
    pub fn kill(&self) -> io::Result<()> {
        match *self {}
    }

    #[must_use]
    pub fn is_there(&self) -> bool {
        match *self {}
    }

    pub fn remove(&self) {
        match *self {}
    }
}

/// There is none of these.
#[derive(Debug)]
pub enum Handle {}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
