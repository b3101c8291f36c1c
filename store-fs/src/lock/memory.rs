//! The lock file's one line: what it says, how it is written, and how it is read while somebody else may be writing it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use run_agent_core::MsgId;

use crate::os;

pub(super) const LINE_LEN: usize = 640;

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
    /// In which start of the machine a page was last made for the syncs; 0 for none.
    pub(crate) page: u64,
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
        page: 0,
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

    pub(super) fn to_line(&self) -> [u8; LINE_LEN] {
        let mut line = Line { bytes: [b' '; LINE_LEN], len: 0 };
        line.push(b"run-agent-bus 4");
        for (name, value) in [
            (&b" incarnation="[..], self.incarnation),
            (b" base=", self.base),
            (b" end=", self.end),
            (b" file=", self.file),
            (b" synced=", self.synced),
            (b" sync_at=", self.sync_at),
            (b" behind=", self.behind),
            (b" page=", self.page),
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

    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(line).ok()?.trim_end().rsplit_once(" crc=")?;
        if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(text.as_bytes()) {
            return None;
        }
        let mut fields = text.strip_prefix("run-agent-bus 4 ")?.split(' ');
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
            page: number("page")?,
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

pub(super) fn read_line(file: &File) -> io::Result<([u8; LINE_LEN], usize)> {
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
                page: max,
                refused,
                last,
            };
            let mut line = memory.to_line();
            assert_eq!(Memory::from_line(&line), Some(memory));
            line[30] ^= 1;
            assert_eq!(Memory::from_line(&line), None);
        }
    }
}
