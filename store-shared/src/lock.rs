//! Files that are locked with `flock`. Waiting is sleeping in the system's own queue, with a time limit.

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
/// lets others run. Then it sleeps in the system's queue, so that nobody starves.
const TRIES: u32 = 4;
/// Before that it tries so often without letting go of its processor: whoever holds the lock on another one is about to
/// free it.
const SPINS: u32 = 20;
/// Rests between two such tries.
const RESTS: u32 = 30;

/// A file that is locked, open.
#[derive(Debug)]
pub struct LockFile {
    file: File,
    path: PathBuf,
    identity: Identity,
    opened: Instant,
    /// Milliseconds after `opened` when the path was last seen to name the file.
    looked: AtomicU64,
}

#[derive(Debug)]
pub enum LockError {
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
pub struct Held<'a>(&'a LockFile);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl LockFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When that is not possible, or it is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(
            os::open(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?,
            path,
        )
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// When it is not, or cannot be opened, or is no regular file.
    pub fn open_existing(path: &Path) -> io::Result<Self> {
        Self::of(os::open(path, OpenOptions::new().read(true).write(true))?, path)
    }

    pub(crate) fn of(file: File, path: &Path) -> io::Result<Self> {
        let identity = os::identity(&file)?;
        let looked = AtomicU64::new(u64::MAX);
        Ok(Self { file, path: path.to_owned(), identity, opened: Instant::now(), looked })
    }

    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Does its path still name this file? Between two looks at the path, at most [`LOOK_EVERY`] apart, only a file that
    /// was removed or replaced is noticed, which the file itself tells for a third of the cost.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn is_in_place(&self) -> io::Result<bool> {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Relaxed);
        if looked != u64::MAX && now.saturating_sub(looked) < LOOK_EVERY.as_millis() as u64 {
            return os::is_linked(&self.file);
        }
        let named = os::names(&self.path, self.identity)?;
        if named {
            self.looked.store(now, Relaxed);
        }
        Ok(named)
    }

    /// Waits for the lock, asleep. True when it had to wait.
    ///
    /// # Errors
    /// [`LockError::TimedOut`], or what the system says.
    pub fn lock(&self, timeout: Duration) -> Result<bool, LockError> {
        if self.try_lock()? {
            return Ok(false);
        }
        for _ in 0..SPINS {
            for _ in 0..RESTS {
                std::hint::spin_loop();
            }
            if self.try_lock()? {
                return Ok(true);
            }
        }
        for _ in 0..TRIES {
            std::thread::yield_now();
            if self.try_lock()? {
                return Ok(true);
            }
        }
        let alarm = Alarm::set(timeout)?;
        loop {
            match flock(&self.file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) if alarm.is_due() => {
                    return Err(LockError::TimedOut(holder(self.identity.1)));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(LockError::Io(error.into())),
            }
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// What the system says, but for "somebody holds it".
    pub fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// True while nobody holds it, as far as one look tells.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let free = self.file.try_lock_shared().is_ok();
        if free {
            self.unlock();
        }
        free
    }

    /// Frees the lock, which was just taken, at the end of a scope.
    #[must_use]
    pub fn held(&self) -> Held<'_> {
        Held(self)
    }

    pub fn unlock(&self) {
        // An unlock cannot fail on a file that is open; closing it would free the lock all the same.
        let _ = self.file.unlock();
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
        one.lock(Duration::ZERO).unwrap();
        let Err(LockError::TimedOut(holder)) = other.lock(Duration::from_millis(20)) else {
            panic!("it was taken")
        };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        one.unlock();
        other.lock(Duration::from_secs(30)).unwrap();
    }
}
