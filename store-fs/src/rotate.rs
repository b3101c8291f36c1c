//! How a new bus file begins, under the append lock: the old one is renamed to an archive that carries the cursor of its
//! first byte. Cursors go on: the new file begins where the archive ends.

use std::fs::OpenOptions;
use std::io;

use run_agent_core::Durability;
use run_agent_core::store::AppendError;

use crate::files::archive_path;
use crate::lock::{LockFile, Memory};
use crate::os;
use crate::store::FsStream;
use crate::tail::OpenBus;

impl FsStream {
    /// Begins a new file, whatever the size of the old one. An empty one is left alone.
    pub(crate) fn rotate_now(&self) -> Result<(), AppendError> {
        self.with_lock(|lock, open| {
            let memory = self.look_under_lock(lock, open)?;
            if memory.len() > 0 {
                self.rotate_held(lock, open, memory, Durability::Always)?;
            }
            Ok(())
        })
    }

    /// Steps R1 to R5, with the lock held and the tail whole.
    ///
    /// # Errors
    /// Before R2 nothing has happened, and the old file can be written to as before.
    pub(crate) fn rotate_held(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        memory: Memory,
        durability: Durability,
    ) -> Result<Memory, AppendError> {
        let file = memory.file;
        let memory = self.synced_to_rotate(lock, open, memory, durability)?;
        if memory.file != file {
            // What is written again begins a new file of its own.
            return Ok(memory);
        }
        let archive = archive_path(&self.bus, memory.base);
        os::rename_new(&self.bus, &archive).map_err(|error| {
            let what = if error.kind() == io::ErrorKind::AlreadyExists {
                format!("cannot be rotated: {} is there already", archive.display())
            } else {
                format!("cannot be renamed to {}", archive.display())
            };
            self.append_error(&what, error)
        })?;
        *open = None;
        let file = os::open(&self.bus, OpenOptions::new().read(true).append(true).create_new(true));
        let file = file.map_err(|e| self.append_error("cannot be made anew", e))?;
        let seen = os::look_at(&file).map_err(|e| self.append_error("cannot be looked at", e))?;
        let next = Memory { base: memory.end, file: seen.number(), ..memory };
        *open = Some(OpenBus::new(file, seen.number()));
        lock.remember(&next).map_err(|e| self.append_error("has a lock file that cannot be written", e))?;
        os::sync_folder(&self.folder)
            .map_err(|e| self.append_error("has a folder that cannot be synced", e))?;
        Ok(next)
    }

    /// R1. The next file begins where this one ends: if it were shorter after a power cut, what is missing would leave no
    /// trace between what stands before and behind it. That holds with `none` as well.
    fn synced_to_rotate(
        &self,
        lock: &LockFile,
        open: &mut Option<OpenBus>,
        memory: Memory,
        durability: Durability,
    ) -> Result<Memory, AppendError> {
        if memory.synced >= memory.end {
            return Ok(memory);
        }
        match self.control_held(lock, open, memory) {
            Ok((control, memory)) => self.sync_held(lock, open, &control, memory),
            // Nobody was promised anything, and a file that grows without an end is worse: where no page can be made, as on a
            // file system of a network, it is rotated without.
            Err(_) if durability == Durability::None => self.look_to_write(lock, open),
            Err(error) => Err(error),
        }
    }
}
