//! One writer of both files of a run's output: it marks each turn from one to the other before it takes it, so that what
//! is shown is in the order in which it was written. Looks at the files from outside fall between its marks and order
//! nothing else.

use std::fs::File;
use std::io::{self, Write};

use run_agent_core::output::Source;

use super::Marker;
use crate::agent::secrets;

/// Where an agent without a process prints.
pub(crate) trait Print: Send {
    fn print(&mut self, to: Source, bytes: &[u8]) -> io::Result<()>;
}

/// A file that was empty, and how much was written to it.
#[derive(Debug)]
pub(crate) struct Counted {
    file: File,
    bytes: u64,
}

impl Counted {
    pub(crate) fn new(file: File) -> Self {
        Self { file, bytes: 0 }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    stdout: secrets::Writer<Counted>,
    stderr: secrets::Writer<Counted>,
    marker: Marker,
    last: Option<Source>,
}

impl Writer {
    pub(crate) fn new(
        stdout: secrets::Writer<Counted>,
        stderr: secrets::Writer<Counted>,
        marker: Marker,
    ) -> Self {
        Self { stdout, stderr, marker, last: None }
    }
}

impl Print for Writer {
    fn print(&mut self, to: Source, bytes: &[u8]) -> io::Result<()> {
        if self.last.replace(to).is_some_and(|last| last != to) {
            self.marker.note(self.stdout.to().bytes, self.stderr.to().bytes);
        }
        match to {
            Source::Stdout => self.stdout.write_all(bytes),
            Source::Stderr => self.stderr.write_all(bytes),
        }
    }
}
