//! Which files a stream consists of at this moment, as a reader finds out without a lock: the active file with its
//! base, and the archives before it, while writers rotate and people replace them.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use run_agent_core::store::ReadError;

use crate::append::Held;
use crate::files::{self, Archive, Bus};
use crate::lock::{LockFile, Memory};
use crate::os;
use crate::scan::Ends;
use crate::store::FsStream;

/// How often a reader looks again at files that a writer is just moving.
const LOOKS: u32 = 50;
/// How often a folder is listed before a gap in what it holds is believed.
const LISTINGS: u32 = 5;

/// Where a cursor lies.
pub(crate) enum Place {
    File(Bus),
    /// In a file that is gone; the next one begins here.
    Missing {
        until: u64,
    },
    Nowhere,
}

impl FsStream {
    pub(crate) fn peek(&self) -> Result<Memory, ReadError> {
        Memory::peek(&self.lock).map_err(|e| self.read_error("has a lock file that cannot be read", e))
    }

    /// The bus file with its base. `None` when nothing was ever appended, or only the archives are left of a rotation
    /// that goes on.
    pub(crate) fn open_active(&self) -> Result<Option<Bus>, ReadError> {
        let mut before = None;
        for look in 0.. {
            let memory = self.peek()?;
            let file = match os::open_to_read(&self.bus) {
                Ok(file) => Some(Arc::new(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(self.read_error("cannot be opened", error)),
            };
            let seen = file.as_deref().map(os::look_at).transpose();
            let seen = seen.map_err(|e| self.read_error("cannot be looked at", e))?;
            let as_remembered = seen.is_some_and(|s| s.number() == memory.file && s.len >= memory.len())
                && memory != Memory::NEW;
            let base = if as_remembered {
                memory.base
            } else if memory == Memory::NEW && seen.is_some() {
                // Without a line nobody rotates: what was found once stays so until there is one.
                self.known_archives()?.last().map_or(0, Archive::end)
            } else {
                let archives = self.look_for_archives()?;
                let end = archives.last().map_or(0, Archive::end);
                // A rotation that was not written down yet, or never will be: the file goes on where its archive ends.
                let rotated =
                    archives.last().is_some_and(|a| a.base == memory.base && a.number == memory.file);
                // What the line tells of another file is told anew by whoever writes next. Where nobody does, this
                // reader does, if the lock is free; where it is not, its holder is about to.
                let settled = rotated || seen.is_none();
                let moving = before.replace(memory.clone()) != Some(memory.clone());
                if look < LOOKS && (moving || (!settled && self.settle())) {
                    continue;
                }
                end
            };
            let had = self.incarnation.load(Relaxed);
            // The line may tell of a file that is not there: it was deleted, or never came to the disk before the power went.
            if seen.is_none() && base <= memory.base && had == 0 {
                return Ok(None);
            }
            self.check_incarnation(&memory)?;
            return match file.zip(seen) {
                Some((file, seen)) => {
                    Ok(Some(Bus { file, path: self.bus.clone(), len: seen.len, base, ends: Ends::Open }))
                }
                // A handle that has seen a stream is not told that it is empty.
                None if base <= memory.base => {
                    Err(ReadError::Gone { key: self.key.clone(), place: self.bus.display().to_string() })
                }
                None => Ok(None),
            };
        }
        Ok(None)
    }

    /// A handle that is older than the stream's first incarnation takes it. Without a line there is nothing to compare
    /// with: the file itself tells.
    fn check_incarnation(&self, memory: &Memory) -> Result<(), ReadError> {
        if *memory == Memory::NEW {
            return Ok(());
        }
        match self.incarnation.compare_exchange(0, memory.incarnation, Relaxed, Relaxed) {
            Ok(_) => Ok(()),
            Err(had) if had == memory.incarnation => Ok(()),
            Err(had) => Err(ReadError::Incarnation { key: self.key.clone(), had, now: memory.incarnation }),
        }
    }

    /// Writes down what the files are now, as an appender would. False when that cannot be done here: the folder is not
    /// ours to write to.
    fn settle(&self) -> bool {
        let Ok(lock) = LockFile::open_existing(&self.lock) else { return false };
        match lock.try_lock() {
            Ok(true) => {
                let held = Held::new(&lock);
                let settled = self.look_under_lock(&lock, &mut None);
                drop(held);
                settled.is_ok()
            }
            Ok(false) => {
                std::thread::sleep(Duration::from_millis(2));
                true
            }
            Err(_) => false,
        }
    }

    /// The archives as they are now. A listing that was made while files were renamed may lack one: one with a gap is
    /// made again.
    pub(crate) fn look_for_archives(&self) -> Result<Arc<[Archive]>, ReadError> {
        let mut found = Vec::new();
        for _ in 0..LISTINGS {
            found = files::archives(&self.bus)
                .map_err(|e| self.read_error("has a folder that cannot be read", e))?;
            let whole = found.first().is_none_or(|first: &Archive| first.base == 0)
                && found.windows(2).all(|pair| pair[0].end() == pair[1].base);
            if whole {
                break;
            }
        }
        let found: Arc<[Archive]> = found.into();
        *self.archives.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone());
        Ok(found)
    }

    fn known_archives(&self) -> Result<Arc<[Archive]>, ReadError> {
        let known = self.archives.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map_or_else(|| self.look_for_archives(), Ok)
    }

    /// The archives before `base`, where the active file begins. They never change, so what was found once is kept.
    pub(crate) fn archives(&self, base: u64) -> Result<Arc<[Archive]>, ReadError> {
        if base == 0 {
            return Ok(Arc::default());
        }
        let known = self.known_archives()?;
        if known.last().is_some_and(|last| last.end() == base) {
            return Ok(known);
        }
        // The active file may have been rotated since its base was seen: then it is among them, and is not one yet for
        // a caller who holds it open.
        let found = self.look_for_archives()?;
        Ok(found.iter().filter(|archive| archive.base < base).cloned().collect())
    }

    pub(crate) fn open_archive(&self, archive: &Archive) -> Result<Bus, ReadError> {
        Bus::archived(archive).map_err(|e| ReadError::Io {
            key: self.key.clone(),
            what: format!("{} cannot be opened", archive.path.display()),
            source: e,
        })
    }

    pub(crate) fn locate(&self, active: Option<Bus>, cursor: u64) -> Result<Place, ReadError> {
        let base = match &active {
            Some(bus) => bus.base,
            None => self.look_for_archives()?.last().map_or(0, Archive::end),
        };
        if cursor >= base {
            return Ok(active.map_or(Place::Nowhere, Place::File));
        }
        let archives = self.archives(base)?;
        let next = archives.iter().find(|archive| archive.end() > cursor);
        match next {
            Some(archive) if archive.base <= cursor => Ok(Place::File(self.open_archive(archive)?)),
            other => Ok(Place::Missing { until: other.map_or(base, |archive| archive.base) }),
        }
    }
}
