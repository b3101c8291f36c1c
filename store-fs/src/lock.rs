//! The append lock: a stable file beside the bus, locked with `flock`, whose one line remembers where the stream's
//! end was (`docs/formats/bus-file.md`). What the line says is a memory, never the truth.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use run_agent_core::MsgId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::alarm::Alarm;
use crate::os;

const LINE_LEN: usize = 640;
/// A lock file that somebody renames by hand is noticed after so long. Until then two writers may hold two locks; each
/// entry is still one appending write, so nothing is lost but the order of ids.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the lock file's line remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) incarnation: u64,
    /// The cursor of the bus file's first byte.
    pub(crate) base: u64,
    /// The cursor behind the last whole entry.
    pub(crate) end: u64,
    /// Which file the bus file is.
    pub(crate) file: u64,
    /// What stands before this cursor survives a power cut.
    pub(crate) synced: u64,
    /// When somebody last began to sync, in nanoseconds since 1970.
    pub(crate) sync_at: u64,
    /// Messages appended since then.
    pub(crate) behind: u64,
    /// What the last rescue wrote again after a failed sync: from this cursor …
    pub(crate) rescued_from: u64,
    /// … up to this one.
    pub(crate) rescued_to: u64,
    /// A sync failed, and so did writing again what it was for: nothing is appended until the stream was verified.
    pub(crate) refused: bool,
    pub(crate) last: Option<MsgId>,
}

impl Memory {
    /// What holds for a stream that nobody has appended to with this tool.
    pub(crate) const NEW: Self = Self {
        incarnation: 0,
        base: 0,
        end: 0,
        file: 0,
        synced: 0,
        sync_at: 0,
        behind: 0,
        rescued_from: 0,
        rescued_to: 0,
        refused: false,
        last: None,
    };

    /// The bus file's length.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.base
    }

    /// A number that no earlier incarnation had, also when the line that remembered it is gone.
    pub(crate) fn next_incarnation(before: u64) -> u64 {
        let now = u64::try_from(run_agent_core::Timestamp::now().as_nanosecond()).unwrap_or(1);
        now.max(before.saturating_add(1))
    }

    fn to_line(&self) -> [u8; LINE_LEN] {
        let mut line = Line { bytes: [b' '; LINE_LEN], len: 0 };
        line.push(b"run-agent-bus 3");
        for (name, value) in [
            (&b" incarnation="[..], self.incarnation),
            (b" base=", self.base),
            (b" end=", self.end),
            (b" file=", self.file),
            (b" synced=", self.synced),
            (b" sync_at=", self.sync_at),
            (b" behind=", self.behind),
            (b" rescued_from=", self.rescued_from),
            (b" rescued_to=", self.rescued_to),
            (b" refused=", u64::from(self.refused)),
        ] {
            line.push(name);
            line.push_number(value);
        }
        line.push(b" last=");
        line.push(self.last.as_ref().map_or("-", MsgId::as_str).as_bytes());
        let crc = crc32fast::hash(&line.bytes[..line.len]);
        line.push(b" crc=");
        for shift in (0..8).rev() {
            line.push(&[b"0123456789abcdef"[(crc >> (shift * 4) & 0xf) as usize]]);
        }
        line.bytes[LINE_LEN - 1] = b'\n';
        line.bytes
    }

    fn from_line(line: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(line).ok()?.trim_end().rsplit_once(" crc=")?;
        if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(text.as_bytes()) {
            return None;
        }
        let mut fields = text.strip_prefix("run-agent-bus 3 ")?.split(' ');
        let mut number =
            |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok();
        let memory = Self {
            incarnation: number("incarnation")?,
            base: number("base")?,
            end: number("end")?,
            file: number("file")?,
            synced: number("synced")?,
            sync_at: number("sync_at")?,
            behind: number("behind")?,
            rescued_from: number("rescued_from")?,
            rescued_to: number("rescued_to")?,
            refused: number("refused")? != 0,
            last: None,
        };
        let last = fields.next()?.strip_prefix("last=")?;
        let last = MsgId::parse(last).ok().filter(|_| last != "-");
        (memory.base <= memory.end).then_some(Self { last, ..memory })
    }

    /// What the line at `path` says, read without the lock: a reader must wait for no writer. A line that is being
    /// rewritten fails its checksum and is read again; one that stays damaged counts as absent.
    pub(crate) fn peek(path: &Path) -> io::Result<Self> {
        let file = match os::open_to_read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::NEW),
            Err(error) => return Err(error),
        };
        for _ in 0..10 {
            let (line, len) = read_line(&file)?;
            if let Some(memory) = Memory::from_line(&line[..len]) {
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

/// The line while it is written. Ids have at most 255 bytes, so it always fits; what did not would fail the checksum.
struct Line {
    bytes: [u8; LINE_LEN],
    len: usize,
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        let len = text.len().min(LINE_LEN - 1 - self.len);
        self.bytes[self.len..self.len + len].copy_from_slice(&text[..len]);
        self.len += len;
    }

    fn push_number(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }
}

fn read_line(file: &File) -> io::Result<([u8; LINE_LEN], usize)> {
    let mut line = [0; LINE_LEN];
    let mut have = 0;
    while have < LINE_LEN {
        match file.read_at(&mut line[have..], have as u64)? {
            0 => break,
            n => have += n,
        }
    }
    Ok((line, have))
}

/// The lock file, open.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    /// The line that this handle read or wrote last: while nobody else writes, it need not be parsed again.
    known: RefCell<Option<([u8; LINE_LEN], Memory)>>,
    /// When its path was last seen to name it.
    looked: Cell<Option<Instant>>,
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// Who holds it, as far as the system tells.
    TimedOut(String),
    Io(io::Error),
}

/// An append holds the lock for some microseconds, less than falling asleep and being woken costs: so long a waiter only
/// lets others run. Then it sleeps in the system's queue, so that nobody starves.
const TRIES: u32 = 4;

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl LockFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = os::open(path, options.read(true).write(true).create(true).truncate(false).mode(0o600))?;
        let identity = os::look_at(&file)?.identity;
        Ok(Self { file, path: path.to_owned(), identity, known: RefCell::default(), looked: Cell::default() })
    }

    /// The lock file of a stream that somebody has appended to.
    pub(crate) fn open_existing(path: &Path) -> io::Result<Self> {
        let file = os::open(path, OpenOptions::new().read(true).write(true))?;
        let identity = os::look_at(&file)?.identity;
        Ok(Self { file, path: path.to_owned(), identity, known: RefCell::default(), looked: Cell::default() })
    }

    /// True while the path still names this file. Between two looks at the path, at most [`LOOK_EVERY`] apart, only a file
    /// that was removed or replaced is noticed, which the file itself tells for a third of the cost.
    pub(crate) fn is_in_place(&self) -> io::Result<bool> {
        let now = Instant::now();
        if self.looked.get().is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY) {
            return os::is_linked(&self.file);
        }
        match os::look(&self.path) {
            Ok(seen) if seen.identity == self.identity => {
                self.looked.set(Some(now));
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock, asleep. True when it had to wait.
    pub(crate) fn lock(&self, timeout: Duration) -> Result<bool, LockError> {
        match self.file.try_lock() {
            Ok(()) => return Ok(false),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        for _ in 0..TRIES {
            std::thread::yield_now();
            if self.try_lock()? {
                return Ok(true);
            }
        }
        let alarm = Alarm::set(timeout)?;
        loop {
            match flock(&self.file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) if alarm.is_due() => {
                    return Err(LockError::TimedOut(holder(self.identity.1)));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(LockError::Io(error.into())),
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn unlock(&self) {
        // An unlock cannot fail on a file that is open; closing it would free the lock all the same.
        let _ = self.file.unlock();
    }

    /// What the line says; `true` when that is what this handle itself wrote last.
    pub(crate) fn recall(&self) -> io::Result<(Option<Memory>, bool)> {
        let (line, len) = read_line(&self.file)?;
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
        self.file.write_all_at(&line, 0)?;
        *self.known.borrow_mut() = Some((line, memory.clone()));
        Ok(())
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
            let max = u64::MAX;
            let (synced, sync_at, behind, refused) = (max, max, max, true);
            let memory = Memory {
                incarnation: max,
                base: max,
                end: max,
                file: max,
                synced,
                sync_at,
                behind,
                rescued_from: max,
                rescued_to: max,
                refused,
                last,
            };
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
