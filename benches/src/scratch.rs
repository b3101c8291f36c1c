//! What every measurement gets: a root of its own below the system's temporary folder, and the programs to measure.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{
    Draft, Durability, Kind, Message, MsgId, ProjectId, Store, Stream, StreamKey, TaskId, Timestamp,
};
use run_agent_store_fs::{FsStore, markdown};
use run_agent_store_segmented::SegmentedStore;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// The only task of each project: a command that looks its task up must not find the tasks of other measurements.
pub(crate) const TASK: &str = "task-20260101-000000-bench";
const BODY_BYTES: usize = 256;
/// Messages in one call while a stream is filled: a bound on memory, and on the size of an archive.
const FILL_BATCH: usize = 100;
/// When the first message of a stream that is filled was posted: 2026-01-01.
const FIRST_MS: i64 = 1_767_225_600_000;

/// Which store is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Backend {
    Fs,
    Segmented,
}

impl Backend {
    pub(crate) const BOTH: [Self; 2] = [Self::Fs, Self::Segmented];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::Segmented => "segmented",
        }
    }

    /// One of two, by store.
    pub(crate) fn pick<T>(self, fs: T, segmented: T) -> T {
        match self {
            Self::Fs => fs,
            Self::Segmented => segmented,
        }
    }
}

/// What is measured as a process, and what it is measured against.
const PROGRAMS: [&str; 5] = [
    "run-agent",
    "run-agent-bench",
    "run-agent-bench-empty",
    "run-agent-bench-bare-job",
    "run-agent-bench-bare-server",
];

/// Copies the programs, as installing them does. The linker leaves its output in the page cache in small pieces, and
/// starting from those takes the system up to a third longer than from a file that was copied, or read from a disk.
fn install(built: &Path, programs: &Path) -> Result<()> {
    std::fs::create_dir(programs)?;
    for name in PROGRAMS {
        let from = built.join(name);
        std::fs::copy(&from, programs.join(name))
            .with_context(|| format!("cannot copy {}; build it first: cargo xtask bench", from.display()))?;
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Bench {
    quick: bool,
    scratch: TempDir,
    programs: PathBuf,
}

impl Bench {
    pub(crate) fn new(quick: bool) -> Result<Self> {
        let driver = std::env::current_exe().context("cannot find the driver's own program")?;
        let built = driver.parent().context("the driver lies in no folder")?;
        let scratch = tempfile::Builder::new().prefix("run-agent-bench-").tempdir()?;
        let programs = scratch.path().join("programs");
        install(built, &programs)?;
        Ok(Self { quick, scratch, programs })
    }

    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.pick(5, 3)
    }

    /// For files that belong to no root.
    pub(crate) fn beside(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn root(&self, backend: Backend) -> PathBuf {
        self.scratch.path().join(backend.word())
    }

    /// A program that was built with the driver, with nothing of the caller's surroundings and no output.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.beside());
        command.current_dir(self.beside());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// `run-agent` on the task of a project.
    pub(crate) fn run_agent(&self, backend: Backend, project: &str, args: &[&str]) -> Command {
        let mut command = self.run_agent_in(&self.root(backend), args);
        command.args(["--project", project, "--task", TASK]);
        command
    }

    /// `run-agent` on another root.
    pub(crate) fn run_agent_in(&self, root: &Path, args: &[&str]) -> Command {
        let mut command = self.program("run-agent");
        command.args(args).env("JRUN_ROOT", root);
        command
    }

    /// A new stream that holds so many messages. It takes the place of the project's last one, so that a run holds
    /// little on the disk.
    pub(crate) fn stream(
        &self,
        backend: Backend,
        project: &str,
        messages: usize,
        rotate_bytes: Option<u64>,
    ) -> Result<Arc<dyn Stream>> {
        Self::stream_in(&self.root(backend), backend, project, messages, rotate_bytes)
    }

    /// The same in another root.
    pub(crate) fn stream_in(
        root: &Path,
        backend: Backend,
        project: &str,
        messages: usize,
        rotate_bytes: Option<u64>,
    ) -> Result<Arc<dyn Stream>> {
        let folder = root.join(project);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(folder.join(TASK))?;
        say_store(root, backend)?;
        let stream = open(root, backend, project, rotate_bytes)?;
        let draft = draft(stream.key());
        let mut written = 0;
        if backend == Backend::Fs && rotate_bytes.is_none() {
            // The codec alone fills faster than the store; archives only the store makes. Its last append leaves the
            // lock file that every used stream has.
            written = messages.saturating_sub(FILL_BATCH);
            write(&Layout::new(root.to_owned()).bus_file(stream.key()), &draft, written)?;
        }
        for from in (written..messages).step_by(FILL_BATCH) {
            let batch = vec![draft.clone(); FILL_BATCH.min(messages - from)];
            stream.append(batch, Durability::None)?;
        }
        Ok(stream)
    }
}

/// For commands: which store the root has.
pub(crate) fn say_store(root: &Path, backend: Backend) -> Result<()> {
    let said = Layout::new(root.to_owned()).store_file();
    if !said.exists() {
        std::fs::create_dir_all(said.parent().context("the file lies in no folder")?)?;
        std::fs::write(said, format!("version: 1\nbackend: \"{}\"\nformat: 1\n", backend.word()))?;
    }
    Ok(())
}

/// Writes a bus file of so many messages, a millisecond after each other.
pub(crate) fn write(bus: &Path, draft: &Draft, messages: usize) -> Result<()> {
    if messages == 0 {
        return Ok(());
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(bus)?);
    let mut entry = Vec::new();
    for n in 1..=u32::try_from(messages)? {
        let ts = Timestamp::from_millisecond(FIRST_MS + i64::from(n))?;
        let message = Message { id: MsgId::new(ts, 1, n), ts, content: draft.clone() };
        entry.clear();
        markdown::encode(&mut entry, &message);
        file.write_all(&entry)?;
    }
    Ok(file.flush()?)
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A supervisor whose job has returned may still be writing its last file.
        for _ in 0..100 {
            if std::fs::remove_dir_all(self.beside()).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("cannot remove {}", self.beside().display());
    }
}

pub(crate) fn open(
    root: &Path,
    backend: Backend,
    project: &str,
    rotate_bytes: Option<u64>,
) -> Result<Arc<dyn Stream>> {
    let key = StreamKey::task(ProjectId::parse(project)?, TaskId::parse(TASK)?);
    let layout = Layout::new(root.to_owned());
    let mut options = Options::default();
    options.rotate_bytes = rotate_bytes.unwrap_or(options.rotate_bytes);
    Ok(match backend {
        Backend::Fs => FsStore::new(layout, options).open(&key)?,
        Backend::Segmented => SegmentedStore::new(layout, options).open(&key)?,
    })
}

pub(crate) fn draft(key: &StreamKey) -> Draft {
    Draft::new(Kind::FACT, key.project.clone(), key.task.clone(), body())
}

pub(crate) fn body() -> String {
    "What an agent says is a line or two of plain text. ".chars().cycle().take(BODY_BYTES).collect()
}
