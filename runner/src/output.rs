//! A run's output: the marks by which stdout and stderr are merged in order of time, and the final answer.

mod marks;
mod writer;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use run_agent_core::layout::RunPaths;
use run_agent_core::output::Mark;

use crate::agent::Stream;
use crate::agent::stream::{CUT, Told};
use crate::hear;
use crate::tree::Tree;
pub use marks::Marks;
pub(crate) use writer::{Counted, Print, Writer};

/// How much of what an agent printed becomes `output.md`, where nothing says what of it is its answer.
const FINAL_MAX: u64 = 64 << 20;

/// Writes marks while a run lives.
#[derive(Debug)]
pub(crate) struct Marker {
    path: PathBuf,
    /// Made for the first mark: an agent that prints nothing has none.
    file: Option<File>,
    began: Instant,
    last: Mark,
}

impl Marker {
    pub(crate) fn new(run: &RunPaths) -> Self {
        Self::at(run.marks())
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, file: None, began: Instant::now(), last: Mark::default() }
    }

    /// Another one of the same run, with the same clock.
    pub(crate) fn another(&self) -> Self {
        Self { path: self.path.clone(), file: None, ..*self }
    }

    /// Marks only order what is shown: output is in its own files, whole, so that one that cannot be written is let go.
    fn write(&mut self, text: &str) {
        if self.file.is_none() {
            self.file = File::options().create(true).append(true).open(&self.path).ok();
        }
        let _ = self.file.as_mut().map(|file| file.write_all(text.as_bytes()));
    }

    /// How much both streams held at the last look.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        (self.last.stdout, self.last.stderr)
    }

    /// Goes on with the marks of a run that began at `began`: its supervisor was lost.
    pub(crate) fn go_on(run: &RunPaths, began: Instant) -> Self {
        let text = std::fs::read_to_string(run.marks()).unwrap_or_default();
        let last = text.lines().rev().find_map(Mark::parse).unwrap_or_default();
        let mut marker = Self { began, last, ..Self::new(run) };
        if !text.is_empty() && !text.ends_with('\n') {
            // A torn mark must not swallow the next one.
            marker.write("\n");
        }
        marker.look(run);
        marker
    }

    /// Looks at both files and notes it when one has grown.
    pub(crate) fn look(&mut self, run: &RunPaths) {
        let len = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        self.note(len(&run.stdout()), len(&run.stderr()));
    }

    /// Both files hold so much.
    fn note(&mut self, stdout: u64, stderr: u64) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mark = Mark { ms, stdout, stderr };
        if (mark.stdout, mark.stderr) != (self.last.stdout, self.last.stderr) {
            self.write(&format!("{} {} {}\n", mark.ms, mark.stdout, mark.stderr));
            self.last = mark;
        }
    }
}

/// Reads the marks of a run; none when there are none.
#[must_use]
pub fn marks(tree: &Tree, run: &RunPaths) -> Vec<Mark> {
    tree.read_text(&run.marks()).unwrap_or_default().lines().filter_map(Mark::parse).collect()
}

/// Sees to `output.md`: the agent's own file if it wrote one, else the answer that its stream gives, else what it printed.
///
/// # Errors
/// When the run's folder cannot be written.
pub(crate) fn see_to_final(tree: &Tree, run: &RunPaths, stream: Option<Stream>) -> io::Result<()> {
    tree.no_link(run.folder()).map_err(io::Error::other)?;
    let output = run.output();
    if output.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(stream) = stream {
        write_final(tree, run, &hear::whole(run, stream, None));
        if output.symlink_metadata().is_ok() {
            return Ok(());
        }
    }
    let temporary = run.folder().join(".output.md");
    match tree.open(&run.stdout()) {
        Ok(mut printed) => {
            let mut options = File::options();
            let mut copy = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            copy_head(&mut printed, &mut copy, FINAL_MAX)?;
            std::fs::rename(&temporary, &output)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::write(&output, ""),
        Err(error) => Err(error),
    }
}

/// Copies so many bytes at the most, and says so where there were more.
fn copy_head(from: &mut impl Read, to: &mut impl Write, max: u64) -> io::Result<()> {
    io::copy(&mut from.take(max), to)?;
    if from.read(&mut [0])? > 0 {
        to.write_all(CUT.as_bytes())?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Writes `output.md` with what the agent's stream gives as its answer, if it is of a known form, unless the agent wrote
/// one itself. What cannot be written here is tried again when the run is closed.
pub(crate) fn write_final(tree: &Tree, run: &RunPaths, told: &Told) {
    let output = run.output();
    let Some(text) = told.answer() else { return };
    if tree.no_link(run.folder()).is_err() || output.symlink_metadata().is_ok() {
        return;
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    if let Err(error) = crate::files::replace(&output, format!("{text}{end}").as_bytes(), false) {
        tracing::warn!(path = %output.display(), %error, "cannot write the agent's answer");
    }
}

/// The last `lines` lines of a file below the root, reading at most `max` bytes of it.
///
/// # Errors
/// When the file cannot be read; one that is not there is empty.
pub fn tail_of(tree: &Tree, path: &Path, lines: usize, max: u64) -> io::Result<String> {
    if lines == 0 {
        return Ok(String::new());
    }
    let mut file = match tree.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(max)))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(last_lines(&bytes, lines)).into_owned())
}

/// The last so many lines; line feeds at the end begin none.
#[must_use]
pub fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    if lines == 0 {
        return &[];
    }
    let end = text.iter().rposition(|b| *b != b'\n').map_or(0, |at| at + 1);
    let mut ends = text[..end].iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
    ends.nth(lines - 1).map_or(text, |(at, _)| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_a_flood_is_bounded_and_says_so() {
        let copied = |max| {
            let mut out = Vec::new();
            copy_head(&mut b"0123456789".as_slice(), &mut out, max).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(copied(10), "0123456789");
        assert_eq!(copied(9), "012345678\n\n[cut here; agent-stdout.txt has the whole]\n");
    }
}
