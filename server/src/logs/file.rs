//! A file that grows, read line by line from where it was left. Nothing of it is held between two reads.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use super::lines::{self, LINE_MAX, Piece};
use crate::work::Opens;

/// What is read at once; more than the longest line.
const CHUNK_BYTES: usize = 2 * LINE_MAX;

#[derive(Debug)]
pub(super) struct Reading {
    path: PathBuf,
    /// The byte at which the next line begins.
    pub(super) at: u64,
    /// How many lines stand before it.
    pub(super) lines: u64,
    /// Which file was read so far.
    pub(super) which: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Fault {
    /// It is another file than the one that was read so far, or was cut short.
    Replaced,
    Unread(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

/// Tells files with one name from each other.
pub(super) fn which(meta: &Metadata) -> u64 {
    let made = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let nanos = made.map_or(0, |at| at.as_nanos() as u64);
    meta.ino().rotate_left(40) ^ nanos
}

impl Reading {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, at: 0, lines: 0, which: None }
    }

    /// None: it is not there yet.
    pub(super) fn open(&mut self, work: &dyn Opens) -> Result<Option<File>, Fault> {
        let file = match work.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if self.at == 0 && self.which.is_none() { Ok(None) } else { Err(Fault::Replaced) };
            }
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata()?;
        let which = which(&meta);
        if self.which.replace(which).is_some_and(|known| known != which) || meta.len() < self.at {
            return Err(Fault::Replaced);
        }
        Ok(Some(file))
    }

    /// Gives each line that ends before `until`, for as long as `each` wants more. True: there are no more of them.
    /// `is_all`: the file does not grow any more, and its last line counts without an end, too.
    pub(super) fn read(
        &mut self,
        file: &File,
        until: u64,
        is_all: bool,
        mut each: impl FnMut(&Self, Piece<'_>) -> bool,
    ) -> io::Result<bool> {
        let mut buffer = Vec::new();
        while self.at < until {
            let wanted = usize::try_from(until - self.at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            buffer.resize(wanted, 0);
            let got = read_at(file, &mut buffer, self.at)?;
            let is_end = got < wanted;
            let mut left = &buffer[..got];
            while let Some(piece) = lines::first(left, is_all && is_end) {
                left = &left[piece.taken..];
                self.at += piece.taken as u64;
                self.lines += 1;
                if !each(self, piece) {
                    return Ok(false);
                }
            }
            if wanted < CHUNK_BYTES || is_end {
                break;
            }
        }
        Ok(true)
    }

    /// Goes on behind so many lines. False: the file has not so many.
    pub(super) fn skip(&mut self, file: &File, lines: u64, is_all: bool) -> io::Result<bool> {
        if lines > self.lines {
            self.read(file, u64::MAX, is_all, |reading, _| reading.lines < lines)?;
        }
        Ok(self.lines >= lines)
    }
}

/// Fills the buffer, if there is so much.
pub(super) fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
