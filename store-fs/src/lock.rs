//! The append lock: a stable file beside the bus, locked with `flock`, whose one line remembers where the stream's
//! end was (`docs/formats/bus-file.md`). What the line says is a memory, never the truth.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use run_agent_core::MsgId;

use crate::os;

const LINE_LEN: usize = 512;

/// What the lock file's line remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) incarnation: u64,
    /// The cursor of the bus file's first byte.
    pub(crate) base: u64,
    /// The cursor behind the last whole entry.
    pub(crate) end: u64,
    pub(crate) inode: u64,
    pub(crate) last: Option<MsgId>,
}

impl Memory {
    /// What holds for a stream that nobody has appended to with this tool.
    pub(crate) const NEW: Self = Self { incarnation: 0, base: 0, end: 0, inode: 0, last: None };

    /// A number that no earlier incarnation had, also when the line that remembered it is gone.
    pub(crate) fn next_incarnation(before: u64) -> u64 {
        let now = u64::try_from(run_agent_core::Timestamp::now().as_nanosecond()).unwrap_or(1);
        now.max(before.saturating_add(1))
    }

    fn to_line(&self) -> [u8; LINE_LEN] {
        let last = self.last.as_ref().map_or("-", MsgId::as_str);
        let text = format!(
            "run-agent-bus 1 incarnation={} base={} end={} inode={} last={last}",
            self.incarnation, self.base, self.end, self.inode
        );
        let mut line = [b' '; LINE_LEN];
        line[LINE_LEN - 1] = b'\n';
        let sealed = format!("{text} crc={:08x}", crc32fast::hash(text.as_bytes()));
        // Ids have at most 255 bytes, so the text fits; a longer one would only fail its checksum.
        let len = sealed.len().min(LINE_LEN - 1);
        line[..len].copy_from_slice(&sealed.as_bytes()[..len]);
        line
    }

    fn from_line(line: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(line).ok()?.trim_end().rsplit_once(" crc=")?;
        if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(text.as_bytes()) {
            return None;
        }
        let mut fields = text.strip_prefix("run-agent-bus 1 ")?.split(' ');
        let mut number =
            |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok();
        let (incarnation, base, end, inode) =
            (number("incarnation")?, number("base")?, number("end")?, number("inode")?);
        let last = fields.next()?.strip_prefix("last=")?;
        Some(Self { incarnation, base, end, inode, last: MsgId::parse(last).ok().filter(|_| last != "-") })
    }

    /// What the line at `path` says, read without the lock: a reader must wait for no writer. A line that is being
    /// rewritten fails its checksum and is read again; one that stays damaged counts as absent.
    pub(crate) fn peek(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::NEW),
            Err(error) => return Err(error),
        };
        for _ in 0..10 {
            if let Some(memory) = read_line(&file)? {
                return Ok(memory);
            }
            if file.metadata()?.len() == 0 {
                break;
            }
            std::thread::yield_now();
        }
        Ok(Self::NEW)
    }
}

fn read_line(file: &File) -> io::Result<Option<Memory>> {
    let mut line = [0; LINE_LEN];
    let mut have = 0;
    while have < LINE_LEN {
        match file.read_at(&mut line[have..], have as u64)? {
            0 => break,
            n => have += n,
        }
    }
    Ok(Memory::from_line(&line[..have]))
}

/// The lock file, open.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// Who holds it, as far as the system tells.
    TimedOut(String),
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl LockFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let identity = os::look_at(&file)?.identity;
        Ok(Self { file, path: path.to_owned(), identity })
    }

    /// True while the path still names this file.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        match os::look(&self.path) {
            Ok(seen) => Ok(seen.identity == self.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock, asleep. True when it had to wait.
    pub(crate) fn lock(&self, timeout: Duration) -> Result<bool, LockError> {
        match self.file.try_lock() {
            Ok(()) => return Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        // The system's queue is fair only to those who sleep in it, and knows no time limit: so a thread sleeps.
        let (done, waiting) = mpsc::sync_channel(0);
        let file = self.file.try_clone()?;
        std::thread::Builder::new().name("bus-lock".to_owned()).spawn(move || {
            let result = file.lock();
            // Nobody waits any more: the lock, which this clone shares with its original, must not stay taken.
            if done.send(result).is_err() {
                let _ = file.unlock();
            }
        })?;
        match waiting.recv_timeout(timeout) {
            Ok(result) => result.map(|()| true).map_err(LockError::Io),
            Err(_) => Err(LockError::TimedOut(holder(self.identity.1))),
        }
    }

    pub(crate) fn unlock(&self) {
        // An unlock cannot fail on a file that is open; closing it would free the lock all the same.
        let _ = self.file.unlock();
    }

    pub(crate) fn recall(&self) -> io::Result<Option<Memory>> {
        read_line(&self.file)
    }

    pub(crate) fn remember(&self, memory: &Memory) -> io::Result<()> {
        self.file.write_all_at(&memory.to_line(), 0)
    }
}

/// The process that holds a `flock` on this inode, where the system lists locks.
fn holder(inode: u64) -> String {
    // The list is read in pieces while it changes, and may lack a line that was there all the time.
    match (0..5).find_map(|_| holder_in(&std::fs::read_to_string("/proc/locks").unwrap_or_default(), inode)) {
        Some(pid) => {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim())
        }
        None => "a process that the system does not name".to_owned(),
    }
}

fn holder_in(locks: &str, inode: u64) -> Option<String> {
    let wanted = format!(":{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let of_kind = words.nth(1) == Some("FLOCK");
        let pid = words.nth(2)?;
        (of_kind && words.next()?.ends_with(&wanted)).then(|| pid.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_comes_back_and_a_changed_one_does_not() {
        let longest = MsgId::parse(&"m".repeat(255)).unwrap();
        for last in [None, Some(longest)] {
            let memory =
                Memory { incarnation: u64::MAX, base: u64::MAX, end: u64::MAX, inode: u64::MAX, last };
            let mut line = memory.to_line();
            assert_eq!(Memory::from_line(&line), Some(memory));
            line[30] ^= 1;
            assert_eq!(Memory::from_line(&line), None);
        }
    }

    #[test]
    fn a_lock_that_nobody_frees_is_an_error_that_names_its_holder_and_is_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let (held, waiting) = (LockFile::open(&path).unwrap(), LockFile::open(&path).unwrap());
        held.lock(Duration::ZERO).unwrap();
        let Err(LockError::TimedOut(holder)) = waiting.lock(Duration::from_millis(20)) else {
            panic!("it was taken")
        };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        held.unlock();
        let third = LockFile::open(&path).unwrap();
        third.lock(Duration::from_secs(30)).unwrap();
    }
}
