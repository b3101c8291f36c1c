//! Reading without a lock: forward from a cursor, the last N, the end.

use std::borrow::Borrow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use run_agent_core::message::BODY_MAX;
use run_agent_core::store::{Damage, Page, ReadError, Report};
use run_agent_core::{Cursor, Entry, MsgId};

use crate::lock::Memory;
use crate::markdown::HEADER_MAX;
use crate::os;
use crate::scan::{self, Found, Scan};
use crate::store::FsStream;
use crate::wake::Wake;

/// What one look at the file reads; any whole entry fits into the second size.
const WINDOW: usize = 256 * 1024;
const _: () = assert!(WINDOW > 2 * BODY_MAX);
/// The first look at the end of the file.
const TAIL_WINDOW: u64 = 16 * 1024;
/// Beyond this an entry that does not end is not waited for: header and body at their largest, every line escaped.
pub(crate) const ENTRY_MAX: usize = HEADER_MAX + 2 * BODY_MAX + 1024;
const _: () = assert!(ENTRY_MAX < WINDOW);

/// The bus file as it is now, open.
pub(crate) struct Bus<F = File> {
    pub(crate) file: F,
    pub(crate) len: u64,
    pub(crate) base: u64,
}

impl FsStream {
    /// `None` when nothing was ever appended.
    fn open_bus(&self) -> Result<Option<Bus>, ReadError> {
        let memory = Memory::peek(&self.lock)
            .map_err(|e| self.read_error("has a lock file that cannot be read", e))?;
        let had = self.incarnation.load(Relaxed);
        // A handle that is older than the stream's first incarnation takes it.
        let adopted =
            had == 0 && self.incarnation.compare_exchange(0, memory.incarnation, Relaxed, Relaxed).is_ok();
        // Without a line there is nothing to compare with: the file itself tells.
        if memory.incarnation != had && !adopted && memory != Memory::NEW {
            return Err(ReadError::Incarnation { key: self.key.clone(), had, now: memory.incarnation });
        }
        match File::open(&self.bus) {
            Ok(file) => {
                let len = os::look_at(&file).map_err(|e| self.read_error("cannot be looked at", e))?.len;
                Ok(Some(Bus { file, len, base: memory.base }))
            }
            // A handle that has seen a stream is not told that it is empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound && had != 0 => {
                Err(ReadError::Gone { key: self.key.clone(), place: self.bus.display().to_string() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.read_error("cannot be opened", error)),
        }
    }

    fn window<F: Borrow<File>>(&self, bus: &Bus<F>, at: u64, len: usize) -> Result<Vec<u8>, ReadError> {
        let len = usize::try_from(bus.len.saturating_sub(at)).unwrap_or(usize::MAX).min(len);
        let mut bytes = vec![0; len];
        let mut have = 0;
        while have < len {
            match bus.file.borrow().read_at(&mut bytes[have..], at + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(&format!("cannot be read at byte {at}"), error)),
            }
        }
        bytes.truncate(have);
        Ok(bytes)
    }

    /// Turns what was found in a window that begins at byte `at` of the file into a page.
    fn collect(&self, page: &mut Page, scan: Scan, at: u64, base: u64) {
        let cursor = |offset: usize| Cursor::new(base + at + offset as u64);
        for found in scan.found {
            match found {
                Found::Entry { at, next, message } => {
                    page.entries.push(Entry { at: cursor(at), next: cursor(next), message: *message });
                }
                Found::Damage { at: from, next, what } => page.damage.push(Damage {
                    at: cursor(from),
                    next: cursor(next),
                    place: format!("{} at byte {}", self.bus.display(), at + from as u64),
                    what: what.to_string(),
                }),
            }
        }
        page.next = cursor(scan.rest);
    }

    pub(crate) fn read_from(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        let Some(bus) = self.open_bus()? else { return Ok(Page { next: from, ..Page::default() }) };
        let page = self.read_bus(&bus, from, limit)?;
        if page.damage.is_empty() {
            return Ok(page);
        }
        // An appender may have cut a torn tail off while it was read: before damage is told it is read again while
        // nobody writes. A writer that holds the lock for long does not hold this reader up.
        let Ok(lock) = File::open(&self.lock) else { return Ok(page) };
        for _ in 0..20 {
            if lock.try_lock_shared().is_ok() {
                let Some(bus) = self.open_bus()? else { return Ok(Page { next: from, ..Page::default() }) };
                return self.read_bus(&bus, from, limit);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(page)
    }

    pub(crate) fn read_bus<F: Borrow<File>>(
        &self,
        bus: &Bus<F>,
        from: Cursor,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let mut page = Page { next: from, ..Page::default() };
        while page.entries.len() < limit {
            let at = page.next.get().saturating_sub(bus.base);
            if at >= bus.len {
                break;
            }
            let bytes = self.window(bus, at, WINDOW)?;
            let scan = scan::forward(&bytes, &self.key, limit - page.entries.len());
            if scan.rest == 0 {
                // Nothing whole yet: a writer is at work, or died here. An entry that could not fit will never be.
                let stuck = bytes.len() >= ENTRY_MAX && at + (bytes.len() as u64) < bus.len;
                if !stuck || !self.skip_damage(bus, at, &mut page)? {
                    break;
                }
                continue;
            }
            self.collect(&mut page, scan, at, bus.base);
        }
        Ok(page)
    }

    /// Steps over a stretch in which nothing can be trusted that is longer than a window. False when it reaches to
    /// the end of the file.
    fn skip_damage<F: Borrow<File>>(
        &self,
        bus: &Bus<F>,
        at: u64,
        page: &mut Page,
    ) -> Result<bool, ReadError> {
        let mut probe = at + 1;
        while probe < bus.len {
            let bytes = self.window(bus, probe, WINDOW)?;
            // Only a line's beginning counts as an edge; the window's own beginning may stand in the middle of one.
            let lines_at = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| n + 1);
            if let Some(found) = scan::first_trusted(&bytes[lines_at..], &self.key) {
                let next = probe + (lines_at + found) as u64;
                page.damage.push(Damage {
                    at: Cursor::new(bus.base + at),
                    next: Cursor::new(bus.base + next),
                    place: format!("{} at byte {at}", self.bus.display()),
                    what: "no entry can be read here".to_owned(),
                });
                page.next = Cursor::new(bus.base + next);
                return Ok(true);
            }
            // Windows overlap by an entry, so that none is cut by every one of them.
            probe += (WINDOW - ENTRY_MAX) as u64;
        }
        Ok(false)
    }

    pub(crate) fn read_last(&self, count: usize) -> Result<Page, ReadError> {
        let Some(bus) = self.open_bus()? else { return Ok(Page::default()) };
        let mut reach = TAIL_WINDOW;
        loop {
            let at = bus.len.saturating_sub(reach);
            let bytes = self.window(&bus, at, usize::try_from(reach).unwrap_or(usize::MAX))?;
            let mut page = Page { next: Cursor::new(bus.base + at), ..Page::default() };
            let skip = if at == 0 { Some(0) } else { first_entry(&bytes, &self.key) };
            if let Some(skip) = skip {
                let scan = scan::forward(&bytes[skip..], &self.key, usize::MAX);
                self.collect(&mut page, scan, at + skip as u64, bus.base);
            }
            if page.entries.len() >= count.max(1) || at == 0 {
                page.entries.drain(..page.entries.len().saturating_sub(count));
                return Ok(page);
            }
            reach = reach.saturating_mul(4);
        }
    }

    pub(crate) fn find_end(&self) -> Result<Cursor, ReadError> {
        Ok(self.read_last(1)?.next)
    }

    pub(crate) fn find_id(&self, id: &MsgId) -> Result<Cursor, ReadError> {
        let mut from = Cursor::START;
        loop {
            let page = self.read_from(from, 4096)?;
            if let Some(entry) = page.entries.iter().find(|e| e.message.id == *id) {
                return Ok(entry.next);
            }
            if page.next == from {
                return Err(ReadError::UnknownId { key: self.key.clone(), id: id.clone() });
            }
            from = page.next;
        }
    }

    pub(crate) fn wait_for_growth(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError> {
        let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        let watch =
            wake.get_or_insert_with(|| Wake::new(&self.folder, self.bus.file_name().unwrap_or_default()));
        // The watch stands: what was appended before it is seen now, what comes later wakes.
        let len = self.open_bus()?.map_or(0, |bus| bus.len);
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
        if let Some(bus) = self.open_bus()?
            && bus.base + bus.len > from.get()
            // What was appended in the meantime is no damage.
            && self.read_from(from, 1)?.is_empty()
        {
            report.damage.push(Damage {
                at: from,
                next: Cursor::new(bus.base + bus.len),
                place: format!("{} at byte {}", self.bus.display(), from.get().saturating_sub(bus.base)),
                what: "an entry that is not complete".to_owned(),
            });
        }
        Ok(report)
    }
}

/// The first entry to trust in a window that begins in the middle of a file.
fn first_entry(bytes: &[u8], key: &run_agent_core::StreamKey) -> Option<usize> {
    let lines_at = bytes.iter().position(|b| *b == b'\n')? + 1;
    scan::first_trusted(&bytes[lines_at..], key).map(|found| lines_at + found)
}
