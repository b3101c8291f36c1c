//! The append lock: a stable file beside the bus, locked with `flock`, whose one line remembers where the stream's
//! end was (`docs/formats/bus-file.md`). What the line says is a memory, never the truth.

mod memory;

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub(crate) use self::memory::Memory;
use self::memory::{LINE_LEN, read_line};
use crate::alarm::Alarm;
use crate::os;

/// A lock file that somebody renames by hand is noticed after so long. Until then two writers may hold two locks; each
/// entry is still one appending write, so nothing is lost but the order of ids.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The lock file, open.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    /// The line that this handle read or wrote last: while nobody else writes, it need not be parsed again.
    known: RefCell<Option<([u8; LINE_LEN], Memory)>>,
    /// When its path was last seen to name it.
    looked: Cell<Option<Instant>>,
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// Who holds it, as far as the system tells.
    TimedOut(String),
    Io(io::Error),
}

/// An append holds the lock for some microseconds, less than falling asleep and being woken costs: so long a waiter only
/// lets others run. Then it sleeps in the system's queue, so that nobody starves.
const TRIES: u32 = 4;

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl LockFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = os::open(path, options.read(true).write(true).create(true).truncate(false).mode(0o600))?;
        let identity = os::look_at(&file)?.identity;
        Ok(Self { file, path: path.to_owned(), identity, known: RefCell::default(), looked: Cell::default() })
    }

    /// The lock file of a stream that somebody has appended to.
    pub(crate) fn open_existing(path: &Path) -> io::Result<Self> {
        let file = os::open(path, OpenOptions::new().read(true).write(true))?;
        let identity = os::look_at(&file)?.identity;
        Ok(Self { file, path: path.to_owned(), identity, known: RefCell::default(), looked: Cell::default() })
    }

    /// True while the path still names this file. Between two looks at the path, at most [`LOOK_EVERY`] apart, only a file
    /// that was removed or replaced is noticed, which the file itself tells for a third of the cost.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let now = Instant::now();
        if self.looked.get().is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY) {
            return os::is_linked(&self.file);
        }
        match os::look(&self.path) {
            Ok(seen) if seen.identity == self.identity => {
                self.looked.set(Some(now));
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock, asleep. True when it had to wait.
    pub(crate) fn lock(&self, timeout: Duration) -> Result<bool, LockError> {
        match self.file.try_lock() {
            Ok(()) => return Ok(false),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
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
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// True while nobody holds it, as far as one look tells.
    pub(crate) fn is_free(&self) -> bool {
        let free = self.file.try_lock_shared().is_ok();
        if free {
            self.unlock();
        }
        free
    }

    pub(crate) fn unlock(&self) {
        // An unlock cannot fail on a file that is open; closing it would free the lock all the same.
        let _ = self.file.unlock();
    }

    /// What the line says; `true` when that is what this handle itself wrote last.
    pub(crate) fn recall(&self) -> io::Result<(Option<Memory>, bool)> {
        let (line, len) = read_line(&self.file)?;
        let mut known = self.known.borrow_mut();
        if let Some((own, memory)) = &*known
            && own[..] == line[..len]
        {
            return Ok((Some(memory.clone()), true));
        }
        *known = None;
        Ok((Memory::from_line(&line[..len]), false))
    }

    pub(crate) fn remember(&self, memory: &Memory) -> io::Result<()> {
        let line = memory.to_line();
        *self.known.borrow_mut() = None;
        self.file.write_all_at(&line, 0)?;
        *self.known.borrow_mut() = Some((line, memory.clone()));
        Ok(())
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
        let path = folder.path().join("x.lock");
        let (held, waiting) = (LockFile::open(&path).unwrap(), LockFile::open(&path).unwrap());
        held.lock(Duration::ZERO).unwrap();
        let Err(LockError::TimedOut(holder)) = waiting.lock(Duration::from_millis(20)) else {
            panic!("it was taken")
        };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        held.unlock();
        let third = LockFile::open(&path).unwrap();
        third.lock(Duration::from_secs(30)).unwrap();
    }
}
