//! The append lock: a stable file beside the bus, locked with `flock`, whose one line remembers where the stream's
//! end was (`docs/formats/bus-file.md`). What the line says is a memory, never the truth.
//!
//! A lock file that somebody renames by hand is noticed a moment later. Until then two writers may hold two locks; each entry
//! is still one appending write, so nothing is lost but the order of ids.

mod memory;

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) use run_agent_store_shared::lock::LockError;

pub(crate) use self::memory::Memory;
use self::memory::{LINE_LEN, read_line};

/// The lock file, open.
#[derive(Debug)]
pub(crate) struct LockFile {
    lock: run_agent_store_shared::lock::LockFile,
    /// The line that this handle read or wrote last: while nobody else writes, it need not be parsed again.
    known: RefCell<Option<([u8; LINE_LEN], Memory)>>,
}

impl Deref for LockFile {
    type Target = run_agent_store_shared::lock::LockFile;

    fn deref(&self) -> &Self::Target {
        &self.lock
    }
}

impl LockFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let lock = run_agent_store_shared::lock::LockFile::open(path)?;
        Ok(Self { lock, known: RefCell::default() })
    }

    /// The lock file of a stream that somebody has appended to.
    pub(crate) fn open_existing(path: &Path) -> io::Result<Self> {
        let lock = run_agent_store_shared::lock::LockFile::open_existing(path)?;
        Ok(Self { lock, known: RefCell::default() })
    }

    /// What the line says; `true` when that is what this handle itself wrote last.
    pub(crate) fn recall(&self) -> io::Result<(Option<Memory>, bool)> {
        let (line, len) = read_line(self.lock.file())?;
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
        self.lock.file().write_all_at(&line, 0)?;
        *self.known.borrow_mut() = Some((line, memory.clone()));
        Ok(())
    }
}
