//! Step 3 of an append: is the stream's end where the lock file's line remembers it, and what happened if not?

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use run_agent_core::store::{AppendError, Page, ReadError};
use run_agent_core::{Cursor, Entry, MsgId, Timestamp};
use run_agent_store_shared::page::UnderWay;

use crate::files::{Archive, Bus};
use crate::lock::{LockFile, Memory};
use crate::markdown::{self, EDGE};
use crate::os;
use crate::page::Control;
use crate::scan::Ends;
use crate::store::FsStream;

/// Entries that are read at once where many are passed over: a bound on memory.
pub(crate) const FEED_ENTRIES: usize = 1024;

/// How far ahead of the clock an id by hand is believed: clocks are set back by an hour now and then.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// The bus file, open for appending.
#[derive(Debug)]
pub(crate) struct OpenBus {
    pub(crate) file: Arc<File>,
    pub(crate) number: u64,
    /// The attempts to sync that a page said were under way, once it was open.
    pub(crate) under_way: Option<(Arc<Control>, UnderWay)>,
}

impl OpenBus {
    pub(crate) fn new(file: File, number: u64) -> Self {
        Self { file: Arc::new(file), number, under_way: None }
    }
}

impl FsStream {
    /// As [`FsStream::look_under_lock`], for who is to append or to sync.
    pub(crate) fn look_to_write(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
    ) -> Result<Memory, AppendError> {
        let memory = self.look_under_lock(lock, open)?;
        if memory.refused {
            let what = "refuses messages: a sync failed and what it was for could not be written again; see `run-agent store verify`";
            return Err(AppendError::Unsupported { key: self.key.clone(), what });
        }
        Ok(memory)
    }

    /// The bus file, and a memory that is true of it. What was found is written down, also when nothing is appended:
    /// the next writer need not look again, and readers learn of the incarnation.
    pub(crate) fn look_under_lock(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
    ) -> Result<Memory, AppendError> {
        let (remembered, own) =
            lock.recall().map_err(|e| self.append_error("has a lock file that cannot be read", e))?;
        let len = self.keep_open(open)?;
        let Some(bus) = open.as_ref() else { return Ok(Memory::NEW) };
        if let Some(memory) = &remembered
            && memory.file == bus.number
            && len >= memory.len()
            // Nobody appended since this handle did: its own end is one.
            && ((own && len == memory.len()) || is_edge(&bus.file, memory, len))
        {
            if len == memory.len() {
                return Ok(memory.clone());
            }
            let memory = self.catch_up(bus, memory.clone(), len)?;
            return self.written_down(lock, memory);
        }
        if let Some(memory) = &remembered
            && let Some(memory) = self.finish_rescue(memory, bus.number, len)?
        {
            *open = None;
            self.keep_open(open)?;
            return self.written_down(lock, memory);
        }
        let memory = self.find_out(remembered, bus)?;
        let memory = self.catch_up(bus, memory, len)?;
        self.written_down(lock, memory)
    }

    pub(crate) fn written_down(&self, lock: &LockFile, memory: Memory) -> Result<Memory, AppendError> {
        lock.remember(&memory).map_err(|e| self.append_error("has a lock file that cannot be written", e))?;
        Ok(memory)
    }

    /// Opens the file that the path names, if it is not open already. Returns its length.
    pub(crate) fn keep_open(&self, open: &mut Option<OpenBus>) -> Result<u64, AppendError> {
        if let Some(bus) = open {
            match os::look(&self.bus) {
                Ok(seen) if seen.number() == bus.number => return Ok(seen.len),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.append_error("cannot be looked at", error)),
            }
        }
        let file = os::open(&self.bus, OpenOptions::new().read(true).append(true).create(true));
        let file = file.map_err(|e| self.append_error("cannot be opened", e))?;
        let seen = os::look_at(&file).map_err(|e| self.append_error("cannot be looked at", e))?;
        *open = Some(OpenBus::new(file, seen.number()));
        Ok(seen.len)
    }

    /// The file is not the one that the line tells of, or it was changed. A rotation that a writer did not live to
    /// write down goes on as the same stream; anything else is another one, in which cursors mean other places.
    fn find_out(&self, remembered: Option<Memory>, bus: &OpenBus) -> Result<Memory, AppendError> {
        let archives = self.look_for_archives().map_err(|source| self.unreadable(source))?;
        let end = archives.last().map_or(0, Archive::end);
        let memory = remembered.unwrap_or(Memory::NEW);
        let rotated = archives.last().is_some_and(|a| a.base == memory.base && a.number == memory.file);
        let incarnation =
            if rotated { memory.incarnation } else { Memory::next_incarnation(memory.incarnation) };
        let mut last = memory.last;
        if let Some(archive) = archives.last().filter(|archive| archive.end() != memory.base) {
            // What the line does not know of: ids go on from there.
            let page = self.open_archive(archive).and_then(|bus| self.last_of(&bus, 1));
            let page = page.map_err(|source| self.unreadable(source))?;
            last = self.newest(last, &page);
        }
        Ok(Memory {
            incarnation,
            base: end,
            end,
            file: bus.number,
            synced: memory.synced.min(end),
            last,
            ..memory
        })
    }

    /// Reads what stands behind the remembered end, and moves a torn tail away. What is no entry and can never become
    /// one stays where it is, as damage.
    fn catch_up(&self, bus: &OpenBus, mut memory: Memory, len: u64) -> Result<Memory, AppendError> {
        let whole = self.held_bus(bus, &memory, len);
        let mut from = Cursor::new(memory.end);
        let mut damaged = None;
        loop {
            let mut page = Page { next: from, ..Page::default() };
            self.read_bus(&whole, &mut page, FEED_ENTRIES).map_err(|source| self.unreadable(source))?;
            damaged = page.damage.last().map(|damage| (damage.at.get(), damage.next.get())).or(damaged);
            memory.behind = memory.behind.saturating_add(page.entries.len() as u64);
            memory.last = self.newest(memory.last, &page);
            if page.next == from {
                break;
            }
            from = page.next;
        }
        let mut at = from.get() - memory.base;
        memory.end = memory.base + len;
        // The length came to the disk and the bytes did not, before the power went: nobody wrote these by hand.
        if let Some((begin, end)) = damaged
            && end == memory.end
            && ends_with(&bus.file, len, 0)
        {
            at = begin - memory.base;
        }
        if at < len {
            self.move_torn_tail(&bus.file, at, len)?;
            memory.end = memory.base + at;
        } else if len > 0 && !ends_with(&bus.file, len, b'\n') {
            // Somebody wrote by hand and left the last line without an end: an edge begins a line of its own.
            let mut file = &*bus.file;
            file.write_all(b"\n").map_err(|e| self.append_error("cannot be written", e))?;
            memory.end += 1;
        }
        Ok(memory)
    }

    /// The bus file as its only writer sees it: what stands there stays so.
    pub(crate) fn held_bus(&self, bus: &OpenBus, memory: &Memory, len: u64) -> Bus {
        Bus { file: bus.file.clone(), path: self.bus.clone(), len, base: memory.base, ends: Ends::Settled }
    }

    /// A writer died in the middle of its entry: nothing of it was acknowledged, and nothing is thrown away.
    fn move_torn_tail(&self, file: &File, at: u64, len: u64) -> Result<(), AppendError> {
        let mut tail = vec![0; usize::try_from(len - at).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut tail, at).map_err(|e| self.append_error("cannot be read", e))?;
        let stamp = run_agent_core::text::stamp(Timestamp::now());
        let torn = self.bus.with_extension(format!("md.torn-{stamp}-{at}"));
        let mut options = OpenOptions::new();
        let kept = os::open(&torn, options.write(true).create(true).truncate(true));
        kept.and_then(|mut kept| kept.write_all(&tail).and_then(|()| kept.sync_data()))
            .map_err(|e| self.append_error("has a torn tail that cannot be kept aside", e))?;
        file.set_len(at).map_err(|e| self.append_error("has a torn tail that cannot be cut off", e))
    }

    /// The newest id of this tool's form. An id by hand of a time that is still to come says nothing: every later id and
    /// time would follow it there.
    fn newest(&self, last: Option<MsgId>, page: &Page) -> Option<MsgId> {
        let soon = Timestamp::now() + AHEAD_MAX;
        let counts = |entry: &&Entry| match entry.message.id.time() {
            None => false,
            Some(time) => time <= soon || self.is_sealed(entry),
        };
        let ids = page.entries.iter().filter(counts).map(|entry| &entry.message.id);
        last.into_iter().chain(ids.max().cloned()).max()
    }

    fn is_sealed(&self, entry: &Entry) -> bool {
        let mut bytes = Vec::new();
        markdown::encode(&mut bytes, &entry.message);
        // What this tool wrote is written the same way again, to the byte.
        bytes.len() as u64 == entry.next.get() - entry.at.get()
    }

    pub(crate) fn unreadable(&self, source: ReadError) -> AppendError {
        AppendError::Read { key: self.key.clone(), source }
    }
}

/// Is the remembered end still one? The byte before it ends a line, and what follows begins an entry. A file that was
/// edited in place fails this.
fn is_edge(file: &File, memory: &Memory, len: u64) -> bool {
    let end = memory.len();
    if end > 0 && !ends_with(file, end, b'\n') {
        return false;
    }
    let mut edge = [0; EDGE.len()];
    let follows = usize::try_from(len.saturating_sub(end)).unwrap_or(usize::MAX).min(edge.len());
    if follows == 0 {
        return true;
    }
    file.read_exact_at(&mut edge[..follows], end).is_ok()
        && (EDGE.starts_with(&edge[..follows]) || edge.starts_with(b"---\r"))
}

fn ends_with(file: &File, end: u64, wanted: u8) -> bool {
    let mut byte = [0];
    end > 0 && file.read_exact_at(&mut byte, end - 1).is_ok() && byte[0] == wanted
}
