//! Reading forward without a lock: which file a cursor lies in, and what stands there.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use run_agent_core::message::BODY_MAX;
use run_agent_core::store::{Damage, Page, ReadError, Report};
use run_agent_core::{Cursor, Entry};

use crate::append::Held;
use crate::files::{self, Archive, Bus};
use crate::lock::{LockFile, Memory};
use crate::markdown::{HEADER_MAX, edges, is_edge};
use crate::os;
use crate::scan::{self, Ends, Found, Scan, Source, Tail};
use crate::store::FsStream;
use crate::wake::Wake;
use crate::window::Window;

/// What one look at the file reads; any whole entry of ours fits into it.
pub(crate) const WINDOW: usize = 256 * 1024;
const _: () = assert!(WINDOW > 2 * BODY_MAX);
/// The first look for an entry that stands anywhere: most are small.
const FIRST_WINDOW: usize = 4 * 1024;
/// What one look reads at the most, and so the greatest entry of another writer.
const WIDE_WINDOW: usize = 4 * WINDOW;
/// Beyond this an entry of ours that does not end is not waited for: header and body at their largest, every line escaped.
pub(crate) const ENTRY_MAX: usize = HEADER_MAX + 2 * BODY_MAX + 1024;
const _: () = assert!(ENTRY_MAX < WINDOW);
/// What was written by hand counts once nobody has touched the file for so long.
const STILL: Duration = Duration::from_secs(1);
/// How often a reader looks again at files that a writer is just moving.
const LOOKS: u32 = 50;
/// How often a folder is listed before a gap in what it holds is believed.
const LISTINGS: u32 = 5;
/// Stretches of damage that a handle remembers.
const CONFIRMED_MAX: usize = 4096;

/// Where a cursor lies.
enum Place {
    File(Bus),
    /// In a file that is gone; the next one begins here.
    Missing {
        until: u64,
    },
    Nowhere,
}

impl FsStream {
    fn peek(&self) -> Result<Memory, ReadError> {
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
            self.check_incarnation(&memory)?;
            return match file.zip(seen) {
                Some((file, seen)) => {
                    Ok(Some(Bus { file, path: self.bus.clone(), len: seen.len, base, ends: Ends::Open }))
                }
                // A handle that has seen a stream is not told that it is empty.
                None if had != 0 && base <= memory.base => {
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

    fn locate(&self, active: Option<Bus>, cursor: u64) -> Result<Place, ReadError> {
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

    pub(crate) fn window(&self, bus: &Bus, at: u64, len: usize) -> Result<Window, ReadError> {
        let len = usize::try_from(bus.len.saturating_sub(at)).unwrap_or(usize::MAX).min(len);
        let mut bytes = Window::new(len);
        let mut have = 0;
        while have < len {
            match bus.file.read_at(&mut bytes.room()[have..], at + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let what = format!("{} cannot be read at byte {at}", bus.path.display());
                    return Err(ReadError::Io { key: self.key.clone(), what, source });
                }
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    /// Turns what was found in a window that begins at byte `at` of the file into a page.
    fn collect(page: &mut Page, scan: Scan, bus: &Bus, at: u64) {
        let cursor = |offset: usize| Cursor::new(bus.base + at + offset as u64);
        for found in scan.found {
            match found {
                Found::Entry { at, next, message } => {
                    page.entries.push(Entry { at: cursor(at), next: cursor(next), message });
                }
                Found::Damage { at: from, next, what, shown } => page.damage.push(Damage {
                    at: cursor(from),
                    next: cursor(next),
                    place: format!("{} at byte {}", bus.path.display(), at + from as u64),
                    what: what.to_string(),
                    shown,
                }),
            }
        }
        page.next = cursor(scan.rest);
    }

    pub(crate) fn read_from(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        let page = self.read_files(from, limit)?;
        if page.damage.iter().all(|stretch| self.is_confirmed(stretch)) {
            return Ok(page);
        }
        // An appender may have cut a torn tail off while it was read: before damage is told it is looked at again while
        // nobody writes. A writer that holds the lock for long does not hold this reader up.
        let Ok(lock) = os::open_to_read(&self.lock) else { return Ok(page) };
        for _ in 0..20 {
            if lock.try_lock_shared().is_ok() {
                let stands =
                    page.damage.iter().filter(|stretch| !self.is_confirmed(stretch)).all(|stretch| {
                        // Little is read, so that no writer waits for long.
                        self.read_files(stretch.at, 1)
                            .is_ok_and(|again| again.damage.first() == Some(stretch))
                    });
                drop(lock);
                if stands {
                    self.confirm(&page.damage);
                    return Ok(page);
                }
                return self.read_files(from, limit);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(page)
    }

    /// Damage that was looked at while nobody wrote stays damage.
    fn is_confirmed(&self, stretch: &Damage) -> bool {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.contains(&(stretch.at, stretch.next))
    }

    fn confirm(&self, damage: &[Damage]) {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed.len() > CONFIRMED_MAX {
            confirmed.clear();
        }
        confirmed.extend(damage.iter().map(|stretch| (stretch.at, stretch.next)));
    }

    fn read_files(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        self.read_through(from, limit, || self.open_active())
    }

    /// Reads on from file to file; `active` is asked again at each, since it may have been rotated.
    pub(crate) fn read_through(
        &self,
        from: Cursor,
        limit: usize,
        active: impl Fn() -> Result<Option<Bus>, ReadError>,
    ) -> Result<Page, ReadError> {
        let mut page = Page { next: from, ..Page::default() };
        while page.entries.len() < limit {
            match self.locate(active()?, page.next.get())? {
                Place::File(bus) => {
                    self.read_bus(&bus, &mut page, limit)?;
                    if bus.ends != Ends::Sealed || page.next.get() < bus.end() {
                        break;
                    }
                }
                Place::Missing { until } => {
                    page.damage.push(Damage {
                        at: page.next,
                        next: Cursor::new(until),
                        place: self.folder.display().to_string(),
                        what: format!(
                            "the file with the bytes {} to {until} of the stream is gone",
                            page.next.get()
                        ),
                        shown: None,
                    });
                    page.next = Cursor::new(until);
                }
                Place::Nowhere => break,
            }
        }
        Ok(page)
    }

    /// Reads on in one file, from `page.next`.
    pub(crate) fn read_bus(&self, bus: &Bus, page: &mut Page, limit: usize) -> Result<(), ReadError> {
        // Whoever wants few entries reads little; what does not fit is read again, wider.
        let usual = limit.saturating_mul(2048).clamp(2 * FIRST_WINDOW, WINDOW);
        let mut width = usual;
        let mut legacy = None;
        while page.entries.len() < limit && page.next.get() < bus.end() {
            let at = page.next.get().saturating_sub(bus.base);
            let bytes = self.window(bus, at, width)?;
            let to_the_end = at + bytes.len() as u64 >= bus.len;
            let ends = if to_the_end { bus.ends } else { Ends::Open };
            let line = match legacy {
                Some(line) => line,
                None => self.legacy_line_number(bus, at, &bytes)?,
            };
            let source = Source { key: &self.key, origin: bus.base + at, ends, legacy: line };
            let mut scan = scan::forward(&bytes, source, limit - page.entries.len());
            let by_hand = matches!(scan.tail, Tail::ByHand | Tail::Stray) && to_the_end && ends == Ends::Open;
            if by_hand && scan.rest == 0 && os::age(&bus.file).is_some_and(|age| age >= STILL) {
                scan = scan::forward(
                    &bytes,
                    Source { ends: Ends::Settled, ..source },
                    limit - page.entries.len(),
                );
            }
            legacy = Some(scan.legacy);
            if scan.rest > 0 {
                if let Some(line) = scan.legacy {
                    let place = (bus.base + at + scan.rest as u64, line);
                    *self.legacy.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
                }
                Self::collect(page, scan, bus, at);
                width = usual;
            } else if !to_the_end && width < WIDE_WINDOW {
                width = if width < WINDOW { WINDOW } else { WIDE_WINDOW };
            } else if to_the_end && bytes.len() < ENTRY_MAX {
                // A writer is at work, or died here.
                break;
            } else if !self.skip_damage(bus, at, page)? {
                break;
            }
        }
        Ok(())
    }

    /// The number of the line at byte `at`, if lines of the oldest form may stand there.
    fn legacy_line_number(&self, bus: &Bus, at: u64, bytes: &[u8]) -> Result<Option<u64>, ReadError> {
        if bus.base > 0 || is_edge(bytes) {
            return Ok(None);
        }
        // Who reads on knows it from before.
        let known = *self.legacy.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut from, mut line) = known.filter(|(place, _)| *place <= at).unwrap_or((0, 1));
        while from < at {
            let len = usize::try_from(at - from).unwrap_or(usize::MAX).min(WINDOW);
            let before = self.window(bus, from, len)?;
            if before.is_empty() || is_edge(&before) || edges(&before, 0).next().is_some() {
                return Ok(None);
            }
            line += before.iter().filter(|b| **b == b'\n').count() as u64;
            from += before.len() as u64;
        }
        Ok(Some(line))
    }

    /// Steps over a stretch in which nothing can be trusted that is longer than a window. False when it reaches to
    /// the end of a file that may still grow.
    fn skip_damage(&self, bus: &Bus, at: u64, page: &mut Page) -> Result<bool, ReadError> {
        let found = self.trusted_from(bus, at + 1, bus.len)?;
        let next = match found {
            Some(next) => next,
            None if bus.ends == Ends::Open => return Ok(false),
            None => bus.len,
        };
        page.damage.push(Damage {
            at: Cursor::new(bus.base + at),
            next: Cursor::new(bus.base + next),
            place: format!("{} at byte {at}", bus.path.display()),
            what: "no entry can be read here".to_owned(),
            shown: None,
        });
        page.next = Cursor::new(bus.base + next);
        Ok(true)
    }

    /// The first entry at or behind byte `from` that verifies and that begins before `until`.
    pub(crate) fn trusted_from(&self, bus: &Bus, from: u64, until: u64) -> Result<Option<u64>, ReadError> {
        let mut at = from;
        let mut width = FIRST_WINDOW;
        while at < until.min(bus.len) {
            let bytes = self.window(bus, at, width)?;
            // Only a line's beginning counts as an edge; the window's own may stand in the middle of one.
            let lines_at = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| n + 1);
            if let Some(found) = scan::first_trusted(&bytes[lines_at..], &self.key) {
                let found = at + (lines_at + found) as u64;
                return Ok((found < until).then_some(found));
            }
            if width < WINDOW && at + (width as u64) < bus.len {
                width *= 4;
            } else {
                // Windows overlap by an entry, so that none is cut by every one of them.
                at += (WINDOW - ENTRY_MAX) as u64;
            }
        }
        Ok(None)
    }

    pub(crate) fn wait_for_growth(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError> {
        let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        let watch =
            wake.get_or_insert_with(|| Wake::new(&self.folder, self.bus.file_name().unwrap_or_default()));
        // The watch stands: what was appended before it is seen now, what comes later wakes.
        let len = self.open_active()?.map_or(0, |bus| bus.len);
        if self.read_from(cursor, 1)?.is_empty() {
            // What is not whole may be in the middle of being written: looked at again soon, but only once a length.
            let growing = self.fruitless.swap(len, Relaxed) != len;
            watch.sleep(if growing { timeout.min(Duration::from_millis(50)) } else { timeout });
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<Report, ReadError> {
        let mut report = Report::default();
        let mut from = Cursor::START;
        loop {
            let page = self.read_from(from, 4096)?;
            report.entries += page.entries.len() as u64;
            report.damage.extend(page.damage);
            if page.next == from {
                break;
            }
            from = page.next;
        }
        if let Some(bus) = self.open_active()?
            && bus.end() > from.get()
            // What was appended in the meantime is no damage.
            && self.read_from(from, 1)?.is_empty()
        {
            report.damage.push(Damage {
                at: from,
                next: Cursor::new(bus.end()),
                place: format!("{} at byte {}", bus.path.display(), from.get().saturating_sub(bus.base)),
                what: "an entry that is not complete".to_owned(),
                shown: None,
            });
        }
        if report.damage.is_empty()
            && self.peek()?.refused
            && let Err(error) = self.take_up_again()
        {
            report.damage.push(Damage {
                at: from,
                next: from,
                place: self.bus.display().to_string(),
                what: error.to_string(),
                shown: None,
            });
        }
        Ok(report)
    }
}
