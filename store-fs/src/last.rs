//! The last N entries and the end, found from behind: what is read grows with what is asked for, and not with the
//! stream.

use std::collections::VecDeque;

use run_agent_core::Cursor;
use run_agent_core::store::{Page, ReadError};

use crate::files::{Archive, Bus};
use crate::store::FsStream;

/// The first look at the end of a file.
const REACH: u64 = 16 * 1024;
/// Entries that are read at once where many are passed over: a bound on memory.
const PAGE_ENTRIES: usize = 1024;

impl FsStream {
    pub(crate) fn read_last(&self, count: usize) -> Result<Page, ReadError> {
        let active = self.open_active()?;
        let (mut page, base) = match &active {
            Some(bus) => (self.last_of(bus, count)?, bus.base),
            None => {
                let end = self.look_for_archives()?.last().map_or(0, Archive::end);
                (Page { next: Cursor::new(end), ..Page::default() }, end)
            }
        };
        if page.entries.len() >= count {
            return Ok(page);
        }
        for archive in self.archives(base)?.iter().rev() {
            let Some(missing) = count.checked_sub(page.entries.len()).filter(|missing| *missing > 0) else {
                break;
            };
            let older = self.last_of(&self.open_archive(archive)?, missing)?;
            page.entries.splice(0..0, older.entries);
            page.damage.splice(0..0, older.damage);
        }
        Ok(page)
    }

    pub(crate) fn find_end(&self) -> Result<Cursor, ReadError> {
        Ok(self.read_last(0)?.next)
    }

    /// The last entries of one file, and its end.
    pub(crate) fn last_of(&self, bus: &Bus, count: usize) -> Result<Page, ReadError> {
        let mut reach = REACH;
        loop {
            let at = bus.len.saturating_sub(reach);
            let start = if at == 0 { Some(0) } else { self.trusted_from(bus, at, bus.len)? };
            if let Some(start) = start {
                let page = self.last_from(bus, start, count)?;
                if page.entries.len() >= count || start == 0 {
                    return Ok(page);
                }
            }
            reach = reach.saturating_mul(4);
        }
    }

    /// Reads from `start` to the file's end and keeps the last entries.
    fn last_from(&self, bus: &Bus, start: u64, count: usize) -> Result<Page, ReadError> {
        let mut next = Cursor::new(bus.base + start);
        let mut kept = VecDeque::new();
        let mut damage = Vec::new();
        loop {
            let mut page = Page { next, ..Page::default() };
            self.read_bus(bus, &mut page, PAGE_ENTRIES)?;
            kept.extend(page.entries);
            kept.drain(..kept.len().saturating_sub(count));
            damage.extend(page.damage);
            if page.next == next {
                break;
            }
            next = page.next;
        }
        if let Some(first) = kept.front() {
            // What is damaged before them is not theirs to tell, unless all of the file is shown.
            damage.retain(|stretch| stretch.at >= first.at || (start == 0 && kept.len() < count));
        }
        Ok(Page { entries: kept.into(), damage, next })
    }
}
