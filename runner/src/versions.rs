//! Which versions agents' programs are of: what they answered when they were asked, kept below the root, and asking
//! them (`docs/agents.md`, "Versions"). To ask costs seconds: nobody who waits for a run does.

mod aside;
mod ask;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use run_agent_core::Timestamp;
use run_agent_core::layout::Layout;
use serde::{Deserialize, Serialize};

pub(crate) use aside::ask_aside;
pub use aside::ask_for_supervisor;
pub use ask::{NoAnswer, ask, ask_all};

use crate::{files, sealed};

const KIND: &str = "version";
const FORMAT: u32 = 1;
/// After so long a program is asked again: one that only chooses another shows no change.
const FRESH_S: i64 = 24 * 60 * 60;

/// What was answered, of all programs that a root's agents are.
#[derive(Debug)]
pub struct Versions {
    folder: PathBuf,
}

/// What a program answered, and is not known to have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// `None`: it gave no answer.
    pub version: Option<String>,
    asked: Timestamp,
}

impl Known {
    /// False when it is time to ask again.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        // A time ahead of the clock is of a clock that was wrong.
        (0..FRESH_S).contains(&Timestamp::now().duration_since(self.asked).as_secs())
    }
}

/// What of a program changes when another one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(Vec<FileStamp>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileStamp {
    ino: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    kind: String,
    format: u32,
    program: PathBuf,
    stamp: Stamp,
    asked: Timestamp,
    version: Option<String>,
}

impl Stamp {
    /// Of a program as it is now; `None` where there is none.
    #[must_use]
    pub fn of(program: &Path) -> Option<Self> {
        let target = std::fs::canonicalize(program).ok()?;
        let mut all = vec![FileStamp::of(&target)?];
        // A launcher may be the same in every version; what the package says of itself is not.
        let folders = target.ancestors().skip(1).take(2);
        all.extend(folders.map(|folder| folder.join("package.json")).find_map(|path| FileStamp::of(&path)));
        Some(Self(all))
    }
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Some(Self {
            ino: meta.ino(),
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Versions {
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        Self { folder: layout.versions() }
    }

    /// What is known of the program at this path. Whatever is missing or doubtful is unknown.
    #[must_use]
    pub fn known(&self, program: &Path) -> Option<Known> {
        let bytes = std::fs::read(self.file(program)).ok()?;
        let (answer, _) = sealed::unseal::<Answer>(&bytes)?;
        let fits = (answer.kind.as_str(), answer.format, answer.program.as_path()) == (KIND, FORMAT, program);
        (fits && Stamp::of(program)? == answer.stamp)
            .then_some(Known { version: answer.version, asked: answer.asked })
    }

    /// Keeps an answer. `stamp` is of before the question. Failing costs another question, and nothing else.
    pub fn keep(&self, program: &Path, stamp: Stamp, version: Option<String>) {
        let answer = Answer {
            kind: KIND.to_owned(),
            format: FORMAT,
            program: program.to_owned(),
            stamp,
            asked: Timestamp::now(),
            version,
        };
        if let Err(error) = sealed::write(&self.file(program), &answer, &[]) {
            tracing::info!(program = %program.display(), %error, "cannot keep the program's version");
        }
    }

    /// Whoever gets the lock asks; `None` where somebody else does, or nobody has to.
    #[must_use]
    pub fn lock_to_ask(&self, program: &Path) -> Option<File> {
        let fresh = || self.known(program).is_some_and(|known| known.is_fresh());
        if fresh() {
            return None;
        }
        std::fs::create_dir_all(&self.folder).ok()?;
        let lock = files::open_lock(&self.file(program).with_extension("lock")).ok()?;
        // Asked and answered between the look and the lock.
        (files::try_lock(&lock).ok()? && !fresh()).then_some(lock)
    }

    fn file(&self, program: &Path) -> PathBuf {
        let path = program.as_os_str().as_encoded_bytes();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
        self.folder.join(format!("{name}-{:08x}", crc32fast::hash(path)))
    }
}

#[cfg(test)]
mod tests;
