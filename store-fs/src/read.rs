//! Reading forward without a lock: what stands behind a cursor.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use run_agent_core::message::BODY_MAX;
use run_agent_core::store::{Damage, Page, ReadError};
use run_agent_core::{Cursor, Entry};

use crate::files::Bus;
use crate::look::Place;
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
/// Stretches of damage that a handle remembers.
const CONFIRMED_MAX: usize = 4096;

impl FsStream {
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
        page.entries.reserve(scan.found.len());
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
}
