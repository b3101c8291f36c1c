//! The two locks of a stream: stable, empty files, locked with `flock`. Waiting is sleeping in the system's own queue,
//! with a time limit.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::alarm::Alarm;
use crate::os::{self, Identity};

/// A file that somebody renames by hand is noticed after so long; one that is removed, at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An append holds the lock for some microseconds, less than falling asleep and being woken costs: so long a waiter only
/// lets others run.
const TRIES: u32 = 4;

/// Is an open file still the one that its path names?
#[derive(Debug)]
pub(crate) struct InPlace {
    identity: Identity,
    opened: Instant,
    /// Milliseconds after `opened` when the path was last looked at.
    looked: AtomicU64,
}

impl InPlace {
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        Ok(Self { identity: os::identity(file)?, opened: Instant::now(), looked: AtomicU64::new(u64::MAX) })
    }

    /// Between two looks at the path only a removed file is noticed, which the file itself tells for a third of the cost.
    pub(crate) fn check(&self, file: &File, path: &Path) -> io::Result<bool> {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Relaxed);
        if looked != u64::MAX && now.saturating_sub(looked) < LOOK_EVERY.as_millis() as u64 {
            return os::is_linked(file);
        }
        let named = os::names(path, self.identity)?;
        if named {
            self.looked.store(now, Relaxed);
        }
        Ok(named)
    }
}

#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    path: PathBuf,
    place: InPlace,
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// Who holds it, as far as the system tells.
    TimedOut(String),
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A lock that is held, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a LockFile);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // An unlock cannot fail on a file that is open; closing it would free the lock all the same.
        let _ = self.0.file.unlock();
    }
}

impl LockFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = os::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
        let place = InPlace::new(&file)?;
        Ok(Self { file, path: path.to_owned(), place })
    }

    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        self.place.check(&self.file, &self.path)
    }

    /// Waits for the lock, asleep. True when it had to wait.
    pub(crate) fn lock(&self, timeout: Duration) -> Result<(Held<'_>, bool), LockError> {
        if let Some(held) = self.try_lock()? {
            return Ok((held, false));
        }
        for _ in 0..TRIES {
            std::thread::yield_now();
            if let Some(held) = self.try_lock()? {
                return Ok((held, true));
            }
        }
        let alarm = Alarm::set(timeout)?;
        loop {
            match flock(&self.file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok((Held(self), true)),
                Err(Errno::INTR) if alarm.is_due() => {
                    return Err(LockError::TimedOut(holder(self.place.identity.1)));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(LockError::Io(error.into())),
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Held<'_>>> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(Held(self))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The process that holds a `flock` on this inode, where the system lists locks.
fn holder(inode: u64) -> String {
    // The list is read in pieces while it changes, and may lack a line that was there all the time.
    match (0..5).find_map(|_| holder_in(&std::fs::read_to_string("/proc/locks").unwrap_or_default(), inode)) {
        Some(pid) => {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim())
        }
        None => "a process that the system does not name".to_owned(),
    }
}

fn holder_in(locks: &str, inode: u64) -> Option<String> {
    let wanted = format!(":{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let of_kind = words.nth(1) == Some("FLOCK");
        let pid = words.nth(2)?;
        (of_kind && words.next()?.ends_with(&wanted)).then(|| pid.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_nobody_frees_is_an_error_that_names_its_holder_and_is_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("append.lock");
        let (one, other) = (LockFile::open(&path).unwrap(), LockFile::open(&path).unwrap());
        let held = one.lock(Duration::ZERO).unwrap();
        let Err(LockError::TimedOut(holder)) = other.lock(Duration::from_millis(20)) else {
            panic!("it was taken")
        };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        drop(held);
        other.lock(Duration::from_secs(30)).unwrap();
    }
}
