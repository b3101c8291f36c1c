//! The page by which whoever appends tells a server which streams to look at (`docs/formats/doorbell.md`). A hint: nothing
//! depends on it but how soon.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::map::{COUNTERS, DoorbellPage, MappedDoorbell};
use crate::os;
use crate::wait::ring;

const MAGIC: u64 = u64::from_le_bytes(*b"RUNABEL1");
/// A writer looks this often at the most whether there is a page, and whether it is still the one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The number of the counter that a stream has.
#[must_use]
pub fn counter_of(project: &str, task: &str) -> usize {
    let mut crc = crc32fast::Hasher::new();
    crc.update(project.as_bytes());
    crc.update(&[0]);
    crc.update(task.as_bytes());
    crc.finalize() as usize % COUNTERS
}

/// The page, mapped.
#[derive(Debug)]
struct Doorbell {
    mapped: MappedDoorbell,
    identity: os::Identity,
}

impl Doorbell {
    /// `None` where there is none, or something else lies there.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match os::open(path, OpenOptions::new().read(true).write(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if os::len(&file)? < DoorbellPage::LEN as u64 {
            return Ok(None);
        }
        let opened = Self { mapped: MappedDoorbell::new(&file)?, identity: os::identity(&file)? };
        Ok((opened.page().magic.load(Acquire) == MAGIC).then_some(opened))
    }

    fn make(path: &Path) -> io::Result<Self> {
        let new = path.with_file_name("doorbell.new");
        let file = os::create_new(&new)?;
        let mut bytes = vec![0; DoorbellPage::LEN];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        file.write_all_at(&bytes, 0)?;
        let made = Self { mapped: MappedDoorbell::new(&file)?, identity: os::identity(&file)? };
        std::fs::rename(&new, path)?;
        Ok(made)
    }

    fn page(&self) -> &DoorbellPage {
        self.mapped.page()
    }

    fn is_in_place(&self, path: &Path) -> bool {
        os::names(path, self.identity).unwrap_or(false)
    }
}

/// What a process that appends has of the page.
#[derive(Debug)]
pub struct Ringer {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    page: Option<Arc<Doorbell>>,
    looked: Option<Instant>,
}

impl Ringer {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Something was appended to the stream with this counter. What keeps it from being told is let go.
    pub fn ring(&self, counter: usize) {
        let Some(doorbell) = self.page() else { return };
        let page = doorbell.page();
        if let Some(counter) = page.counters.get(counter) {
            counter.fetch_add(1, AcqRel);
            ring(&page.bell);
        }
    }

    fn page(&self) -> Option<Arc<Doorbell>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            known.looked = Some(Instant::now());
            if !known.page.as_ref().is_some_and(|page| page.is_in_place(&self.path)) {
                known.page = Doorbell::open(&self.path).ok().flatten().map(Arc::new);
            }
        }
        known.page.clone()
    }
}

/// Who wants to know of appends.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    doorbell: Doorbell,
    /// The counters as they were last seen.
    seen: Vec<u32>,
}

impl Listener {
    /// Makes the page where there is none.
    ///
    /// # Errors
    /// When it can be neither opened nor made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let doorbell = match Doorbell::open(path)? {
            Some(doorbell) => doorbell,
            None => Doorbell::make(path)?,
        };
        let mut listener = Self { path: path.to_owned(), doorbell, seen: vec![0; COUNTERS] };
        listener.changed();
        Ok(listener)
    }

    /// Where the page was deleted or replaced, another one is listened to. True then: what was rung meanwhile is not known.
    ///
    /// # Errors
    /// As [`Listener::open`].
    pub fn renew(&mut self) -> io::Result<bool> {
        if self.doorbell.is_in_place(&self.path) {
            return Ok(false);
        }
        *self = Self::open(&self.path)?;
        Ok(true)
    }

    /// The counters that were raised since the last look; none when the time was up first.
    pub fn wait(&mut self, timeout: Duration) -> Vec<usize> {
        let epoch = self.doorbell.page().bell.about_to_sleep();
        let changed = self.changed();
        if !changed.is_empty() || timeout.is_zero() {
            return changed;
        }
        os::sleep_on(&self.doorbell.page().bell.epoch, epoch, timeout);
        self.changed()
    }

    fn changed(&mut self) -> Vec<usize> {
        let page = self.doorbell.page();
        let mut changed = Vec::new();
        for (n, (counter, seen)) in page.counters.iter().zip(&mut self.seen).enumerate() {
            let now = counter.load(Acquire);
            if now != *seen {
                *seen = now;
                changed.push(n);
            }
        }
        changed
    }

    /// Wakes whoever waits on this page in this process or another.
    pub fn wake(&self) {
        ring(&self.doorbell.page().bell);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_ring_wakes_who_listens_and_names_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doorbell");
        let ringer = Ringer::new(path.clone());
        let mut listener = Listener::open(&path).unwrap();
        let counter = counter_of("p", "task-1");
        assert_ne!(counter, counter_of("p", ""));
        let thread = std::thread::spawn(move || {
            for _ in 0..3 {
                ringer.ring(counter);
            }
        });
        assert_eq!(listener.wait(LONG), [counter]);
        thread.join().unwrap();
        listener.wait(Duration::ZERO);
        assert_eq!(listener.wait(Duration::from_millis(1)), [], "each ring counts once");
    }

    #[test]
    fn where_nobody_listens_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        Ringer::new(folder.path().join("doorbell")).ring(5);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_page_that_is_gone_or_nonsense_is_made_anew_and_who_rings_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doorbell");
        std::fs::write(&path, "nonsense").unwrap();
        let mut listener = Listener::open(&path).unwrap();
        assert!(!listener.renew().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(listener.renew().unwrap());
        Ringer::new(path).ring(7);
        assert_eq!(listener.wait(LONG), [7]);
    }
}
