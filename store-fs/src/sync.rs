//! When what is synced (`docs/operating.md`, "What a message survives").

use run_agent_core::store::AppendError;
use run_agent_core::{Cursor, Durability, Timestamp};
use run_agent_store_shared::wait::ensure_synced;

use crate::append::nanos;
use crate::lock::Memory;
use crate::store::FsStream;
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

impl FsStream {
    /// Is it this appender's turn to sync?
    pub(crate) fn is_due(
        &self,
        memory: &Memory,
        durability: Durability,
        messages: u64,
        now: Timestamp,
    ) -> bool {
        match durability {
            Durability::None => false,
            Durability::Always => true,
            Durability::Interval => {
                let every = u64::try_from(self.options.sync_every.as_nanos()).unwrap_or(u64::MAX);
                // A clock that was set back makes the last sync one of the future: nothing is known of it.
                let since = nanos(now).checked_sub(memory.sync_at);
                since.is_none_or(|since| since >= every)
                    || memory.behind.saturating_add(messages) >= self.options.sync_messages
            }
        }
    }

    /// Makes everything survive that stands there now.
    pub(crate) fn sync_all(&self) -> Result<Cursor, AppendError> {
        let end = self.find_end().map_err(|source| self.unreadable(source))?;
        let memory = Memory::peek(&self.lock)
            .map_err(|e| self.append_error("has a lock file that cannot be read", e))?;
        let synced = match self.control()? {
            Some(control) if control.page().incarnation.load(Relaxed) == memory.incarnation => {
                control.page().syncs.synced()
            }
            Some(_) | None => memory.synced,
        };
        if synced >= end.get() {
            return Ok(end);
        }
        // Others append while this syncs: only what was there is promised.
        let (asked, end) = self.with_lock(|lock, open| {
            let memory = self.look_to_write(lock, open)?;
            let (control, memory) = self.control_held(lock, open, memory)?;
            let sync_at = nanos(Timestamp::now());
            let memory = self.written_down(lock, Memory { sync_at, behind: 0, ..memory })?;
            Ok((self.ask_sync(open, &control, &memory, memory.end), memory.end))
        })?;
        if let Some(asked) = asked {
            ensure_synced(&asked, end)?;
        }
        Ok(Cursor::new(end))
    }

    /// The stream's folder, and the one that has its name.
    pub(crate) fn folders(&self) -> io::Result<Vec<File>> {
        [Some(&*self.folder), self.folder.parent()].into_iter().flatten().map(File::open).collect()
    }
}
