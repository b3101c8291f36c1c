//! Segments as files: their names, how one is opened and made, and the walk over the frames of one by `pread` windows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use run_agent_store_shared::page::UnderWay;

use crate::block::{HEADER_LEN, Header};
use crate::frame::{self, ALIGN, Bad, FRAME_MAX, Frame, MAGIC, Salt};
use crate::os;
use crate::page::Set;

/// Digits of the base in a segment's name.
const BASE_DIGITS: usize = 20;
/// Where the first frame begins.
pub(crate) const FIRST: u64 = HEADER_LEN as u64;
/// The window of whoever walks a whole segment.
pub(crate) const WIDE: usize = 1024 * 1024;
const _: () = assert!(WIDE > 2 * FRAME_MAX);

pub(crate) fn log_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:0BASE_DIGITS$}.log"))
}

pub(crate) fn index_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:0BASE_DIGITS$}.idx"))
}

/// The bases of the segments in a folder, in order; none where there is no folder.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let names = match std::fs::read_dir(folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bases = Vec::new();
    for name in names {
        let name = name?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".log"));
        let digits = digits.filter(|d| d.len() == BASE_DIGITS && d.bytes().all(|b| b.is_ascii_digit()));
        bases.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// A segment, open.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// What it was opened for.
    pub(crate) set: Option<Set>,
    /// Syncs that went on when it was opened: of a failure in one of them this file may never be told.
    pub(crate) under_way: UnderWay,
    /// Up to where space is reserved, as far as this handle knows.
    pub(crate) reserved: AtomicU64,
}

impl Segment {
    /// `None` when neither copy of its header holds.
    pub(crate) fn open(folder: &Path, base: u64, write: bool) -> io::Result<Option<Self>> {
        let path = log_path(folder, base);
        let file = if write { os::open_to_write(&path)? } else { os::open_to_read(&path)? };
        let mut bytes = [0; HEADER_LEN];
        let have = read_at(&file, &mut bytes, 0)?;
        let header = Header::decode(&bytes[..have]).filter(|header| header.base == base);
        Ok(header.map(|header| Self {
            file,
            path,
            header,
            set: None,
            under_way: UnderWay::default(),
            reserved: AtomicU64::new(0),
        }))
    }

    /// Makes a segment with these frames, whole and synced, under the name of one in the making.
    pub(crate) fn make(folder: &Path, header: Header, frames: &[u8]) -> io::Result<Self> {
        let path = log_path(folder, header.base);
        let file = os::create_new(&new_path(&path))?;
        file.write_all_at(&header.encode(), 0)?;
        file.write_all_at(frames, FIRST)?;
        file.sync_all()?;
        let under_way = UnderWay::default();
        Ok(Self { file, path, header, set: None, under_way, reserved: AtomicU64::new(0) })
    }

    /// Gives a segment that was made its name.
    pub(crate) fn link(&self) -> io::Result<()> {
        std::fs::rename(new_path(&self.path), &self.path)
    }

    pub(crate) fn base(&self) -> u64 {
        self.header.base
    }

    pub(crate) fn salt(&self) -> Salt {
        self.header.salt
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        os::len(&self.file)
    }

    /// Walks the frames before byte `end`, with a look of `window` bytes at a time.
    pub(crate) fn walk(&self, end: u64, window: usize) -> Walk<'_> {
        Walk { segment: self, end, window, bytes: Vec::new(), start: 0 }
    }

    /// The time of the first frame, or what was the last before it.
    pub(crate) fn first_time(&self) -> io::Result<Timestamp> {
        let first = self.walk(u64::MAX, 4096).frame_at(FIRST)?.map(|frame| frame.head.ts);
        Ok(first.unwrap_or(self.header.ts))
    }
}

pub(crate) fn new_path(path: &Path) -> PathBuf {
    path.with_extension("log.new")
}

/// Reads as much as there is.
pub(crate) fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<usize> {
    let mut have = 0;
    while !bytes.is_empty() {
        match file.read_at(bytes, at) {
            Ok(0) => break,
            Ok(n) => {
                have += n;
                at += n as u64;
                bytes = &mut bytes[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Frames of one segment, looked at in any order, best forward.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    end: u64,
    window: usize,
    bytes: Vec<u8>,
    /// Where in the file `bytes` stand.
    start: u64,
}

impl Walk<'_> {
    /// The bytes from `at` on that are at hand, `wanted` of them unless the end comes first.
    fn look(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let held = at.checked_sub(self.start).and_then(|n| usize::try_from(n).ok());
        let held = held.filter(|from| self.bytes.len().saturating_sub(*from) >= wanted);
        if held.is_none() {
            let len = self.window.max(wanted).min(left);
            self.bytes.resize(len, 0);
            let have = read_at(&self.segment.file, &mut self.bytes, at)?;
            self.bytes.truncate(have);
            self.start = at;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).unwrap_or_default())
    }

    /// The frame that begins there, if one verifies.
    pub(crate) fn frame_at(&mut self, at: u64) -> io::Result<Option<Frame<'_>>> {
        let salt = self.segment.salt();
        let mut wanted = frame::HEADER;
        loop {
            let bytes = self.look(at, wanted)?;
            match frame::decode(bytes, at, salt) {
                Ok(_) => break,
                Err(Bad::Short { wanted: more }) if more > wanted && bytes.len() >= wanted => wanted = more,
                Err(Bad::Short { .. } | Bad::Invalid) => return Ok(None),
            }
        }
        let bytes = self.look(at, wanted)?;
        Ok(frame::decode(bytes, at, salt).ok())
    }

    /// Where at or behind `from` the next frame begins that verifies and whose number is above `lsn`. It
    /// reads wide: false beginnings that claim to be long are not read once each.
    pub(crate) fn next_frame(&mut self, from: u64, lsn: u64) -> io::Result<Option<(u64, u64)>> {
        let finder = memchr::memmem::Finder::new(&MAGIC);
        let mut at = from.next_multiple_of(ALIGN as u64);
        self.window = WIDE;
        while at < self.end {
            let bytes = self.look(at, frame::HEADER)?;
            if bytes.len() < frame::HEADER {
                break;
            }
            let Some(n) = finder.find(bytes) else {
                // The magic may begin in the last bytes of the window.
                at += (bytes.len() - MAGIC.len()) as u64 / ALIGN as u64 * ALIGN as u64 + ALIGN as u64;
                continue;
            };
            let place = at + n as u64;
            if place.is_multiple_of(ALIGN as u64)
                && let Some(frame) = self.frame_at(place)?
                && frame.head.lsn > lsn
            {
                return Ok(Some((place, frame.head.lsn)));
            }
            at = (place + 1).next_multiple_of(ALIGN as u64);
        }
        Ok(None)
    }

    /// Where the last byte stands, from `from` on, that is not zero; `None` when all are.
    pub(crate) fn last_written(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        let mut last = None;
        while at < self.end {
            let bytes = self.look(at, 1)?;
            if bytes.is_empty() {
                break;
            }
            last = bytes.iter().rposition(|b| *b != 0).map(|n| at + n as u64).or(last);
            at += bytes.len() as u64;
        }
        Ok(last)
    }
}
