//! Reading and checking everything: what `store verify` tells.

use std::io;
use std::path::PathBuf;

use run_agent_core::Cursor;
use run_agent_core::store::{Damage, ReadError, Report};

use crate::lock::{LockFile, Memory};
use crate::store::FsStream;
use crate::{files, os};

impl FsStream {
    pub(crate) fn check(&self) -> Result<Report, ReadError> {
        // Before anything is read: a reader takes a stream as it is, and then nothing tells of this any more.
        let mut report = Report { damage: self.cut_short()?.into_iter().collect(), ..Report::default() };
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
        // A copy that is still to be used was used by now.
        report.damage.extend(self.stray_rescues()?);
        Ok(report)
    }

    /// The file is the one that the last writer remembers, and shorter than it left it: messages that were acknowledged are
    /// gone from its end, and no other trace is left of them.
    fn cut_short(&self) -> Result<Option<Damage>, ReadError> {
        let cut = || -> Result<Option<(Memory, u64)>, ReadError> {
            let memory = self.peek()?;
            let left = match os::look(&self.bus) {
                Ok(seen) => (seen.number() == memory.file).then_some(seen.len),
                // Deleted, or never on the disk before the power went; unless it was rotated just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let archives = self.look_for_archives()?;
                    archives.last().is_none_or(|last| last.end() <= memory.base).then_some(0)
                }
                Err(error) => return Err(self.read_error("cannot be looked at", error)),
            };
            let left = left.filter(|left| memory != Memory::NEW && *left < memory.len());
            Ok(left.map(|left| (memory, left)))
        };
        // A writer that moves the file's end is at it for a moment.
        let (first, second) = (cut()?, cut()?);
        Ok(first.filter(|first| Some(first) == second.as_ref()).map(|(memory, len)| Damage {
            at: Cursor::new(memory.base + len),
            next: Cursor::new(memory.end),
            place: format!("{} at byte {len}", self.bus.display()),
            what: format!("{} {} bytes, which are gone from its end", CUT_SHORT, memory.len() - len),
            shown: None,
        }))
    }

    /// Copies that a writer made after a failed sync and did not live to use: nobody holds the lock under which they are
    /// made.
    fn stray_rescues(&self) -> Result<Vec<Damage>, ReadError> {
        let found =
            files::rescues(&self.bus).map_err(|e| self.read_error("has a folder that cannot be read", e))?;
        if found.is_empty() || !LockFile::open_existing(&self.lock).is_ok_and(|lock| lock.is_free()) {
            return Ok(Vec::new());
        }
        let damage = |(base, path): (u64, PathBuf)| Damage {
            at: Cursor::new(base),
            next: Cursor::new(base),
            place: path.display().to_string(),
            what: STRAY_RESCUE.to_owned(),
            shown: None,
        };
        Ok(found.into_iter().map(damage).collect())
    }
}

/// How these two kinds of damage begin.
pub(crate) const CUT_SHORT: &str = "it was cut short by";
pub(crate) const STRAY_RESCUE: &str = "a copy that a writer made after a failed sync and did not live to use";
