//! Where the entry with an id stands. Ids increase within a stream, so they are searched for by halves; where that
//! finds nothing, as among ids of other writers, the id's text is looked for in the bytes, which needs no parsing.

use std::sync::Arc;

use run_agent_core::store::{Page, ReadError};
use run_agent_core::{Cursor, MsgId};

use crate::files::{Archive, Bus};
use crate::read::WINDOW;
use crate::store::FsStream;

/// Entries that are read at once where a whole file is: a bound on memory.
const PAGE_ENTRIES: usize = 1024;
/// The same where only a few are looked at.
const FEW_ENTRIES: usize = 16;
/// A stretch that is read rather than halved.
const NEAR: u64 = 16 * 1024;

/// The files of a stream, opened one at a time.
struct Files {
    archives: Arc<[Archive]>,
    active: Option<Bus>,
}

impl Files {
    fn len(&self) -> usize {
        self.archives.len() + usize::from(self.active.is_some())
    }
}

impl FsStream {
    pub(crate) fn find_id(&self, id: &MsgId) -> Result<Cursor, ReadError> {
        let active = self.open_active()?;
        let archives = match &active {
            Some(bus) => self.archives(bus.base)?,
            None => self.look_for_archives()?,
        };
        let files = Files { archives, active };
        let mut found = None;
        if id.time().is_some() {
            found = self.search(&files, id)?;
        }
        if found.is_none() {
            found = self.look_through(&files, id)?;
        }
        found.ok_or_else(|| ReadError::UnknownId { key: self.key.clone(), id: id.clone() })
    }

    fn open_file(&self, files: &Files, index: usize) -> Result<Option<Bus>, ReadError> {
        match files.archives.get(index) {
            Some(archive) => self.open_archive(archive).map(Some),
            None => Ok(files.active.clone()),
        }
    }

    /// By halves: first the file, then the place in it.
    fn search(&self, files: &Files, id: &MsgId) -> Result<Option<Cursor>, ReadError> {
        let (mut low, mut high) = (0, files.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let Some(bus) = self.open_file(files, middle)? else { return Ok(None) };
            match self.first_id(&bus)? {
                Some(first) if first <= *id => low = middle,
                Some(_) => high = middle,
                // An empty file is the last one; one that begins otherwise tells nothing.
                None if bus.len == 0 => high = middle,
                None => return Ok(None),
            }
        }
        match self.open_file(files, low)? {
            Some(bus) => self.search_in(&bus, id),
            None => Ok(None),
        }
    }

    fn first_id(&self, bus: &Bus) -> Result<Option<MsgId>, ReadError> {
        let mut page = Page { next: Cursor::new(bus.base), ..Page::default() };
        self.read_bus(bus, &mut page, 1)?;
        Ok(page.entries.pop().map(|entry| entry.message.id).filter(|id| id.time().is_some()))
    }

    fn search_in(&self, bus: &Bus, id: &MsgId) -> Result<Option<Cursor>, ReadError> {
        let (mut low, mut high) = (0, bus.len);
        while high - low > NEAR {
            let middle = low + (high - low) / 2;
            let Some(at) = self.trusted_from(bus, middle, high)? else {
                high = middle;
                continue;
            };
            let mut page = Page { next: Cursor::new(bus.base + at), ..Page::default() };
            self.read_bus(bus, &mut page, 1)?;
            match page.entries.pop() {
                Some(entry) if entry.message.id == *id => return Ok(Some(entry.next)),
                Some(entry) if entry.message.id < *id => low = at,
                Some(_) => high = middle,
                None => return Ok(None),
            }
        }
        self.read_for(bus, low, high, id, FEW_ENTRIES)
    }

    /// Reads the entries that begin in a stretch of a file.
    fn read_for(
        &self,
        bus: &Bus,
        from: u64,
        until: u64,
        id: &MsgId,
        at_once: usize,
    ) -> Result<Option<Cursor>, ReadError> {
        let mut next = Cursor::new(bus.base + from);
        loop {
            let mut page = Page { next, ..Page::default() };
            self.read_bus(bus, &mut page, at_once)?;
            if let Some(entry) = page.entries.iter().find(|entry| entry.message.id == *id) {
                return Ok(Some(entry.next));
            }
            if page.next == next || page.next.get() > bus.base.saturating_add(until) {
                return Ok(None);
            }
            next = page.next;
        }
    }

    /// Every file, from its beginning: only those that hold the text, but for ids that stand in no text.
    fn look_through(&self, files: &Files, id: &MsgId) -> Result<Option<Cursor>, ReadError> {
        let by_place = id.as_str().starts_with("HAND-") || id.as_str().starts_with("LEGACY-LINE-");
        for index in 0..files.len() {
            let Some(bus) = self.open_file(files, index)? else { break };
            if by_place || self.holds(&bus, id.as_str().as_bytes())? {
                let found = self.read_for(&bus, 0, u64::MAX, id, PAGE_ENTRIES)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    fn holds(&self, bus: &Bus, text: &[u8]) -> Result<bool, ReadError> {
        let finder = memchr::memmem::Finder::new(text);
        let mut at = 0;
        while at < bus.len {
            let bytes = self.window(bus, at, 4 * WINDOW)?;
            if finder.find(&bytes).is_some() {
                return Ok(true);
            }
            // Windows overlap, so that none cuts the text.
            at += (4 * WINDOW - text.len()) as u64;
        }
        Ok(false)
    }
}
