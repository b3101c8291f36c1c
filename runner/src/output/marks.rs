//! The marks of a run, read while they are written: once each, and what is held does not grow with them.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use run_agent_core::layout::RunPaths;
use run_agent_core::output::Mark;

use crate::agent::stream::Lines;
use crate::tree::Tree;

/// What is read of the marks at once.
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    read: u64,
    lines: Lines,
}

impl Marks {
    #[must_use]
    pub fn new(run: &RunPaths) -> Self {
        Self { path: run.marks(), read: 0, lines: Lines::default() }
    }

    /// Gives each mark that is new, in order.
    ///
    /// # Errors
    /// Those of `each`. A file that cannot be read has nothing new: marks only order what is shown.
    pub fn read<E>(&mut self, tree: &Tree, mut each: impl FnMut(Mark) -> Result<(), E>) -> Result<(), E> {
        let Ok(mut file) = tree.open(&self.path) else { return Ok(()) };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return Ok(());
        }
        let (mut buffer, mut marks) = (vec![0; BUFFER_BYTES], Vec::new());
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.read += n as u64;
                    let text = |line: &[u8]| std::str::from_utf8(line).ok().and_then(Mark::parse);
                    self.lines.push(&buffer[..n], |line| marks.extend(text(line)));
                    marks.drain(..).try_for_each(&mut each)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    }
}
