//! For tests alone: what every store survives whose syncs are shared, whatever its files look like. The tests that name a
//! store run these as processes of their own.
#![allow(clippy::unwrap_used, missing_debug_implementations)]

pub mod denied;
mod dice;
#[cfg(target_os = "linux")]
pub mod disk;
mod forced;
pub mod kills;
#[cfg(target_os = "linux")]
pub mod power;
pub mod steps;
pub mod stopped;
#[cfg(target_os = "linux")]
mod survive;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use run_agent_core::store::Stream;

pub use self::forced::Forced;

/// A stream that a test and its child processes open, and the test's own name, by which it starts itself again.
pub struct Scene<'a> {
    pub test: &'a str,
    /// Tells a child where the stream is.
    pub variable: &'a str,
    pub root: PathBuf,
    /// What everybody may delete.
    pub page: PathBuf,
    pub open: fn(&Path) -> Arc<dyn Stream>,
}

impl Scene<'_> {
    /// Where the stream is, in a child.
    #[must_use]
    pub fn is_child(variable: &str) -> Option<PathBuf> {
        std::env::var_os(variable).map(PathBuf::from)
    }

    fn stream(&self) -> Arc<dyn Stream> {
        (self.open)(&self.root)
    }

    /// The test once more, as a process of its own.
    fn again(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", self.test, "--nocapture"]).env(self.variable, &self.root);
        command
    }
}

/// Says so where it is not.
#[must_use]
pub fn strace_is_here() -> bool {
    let known = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if known.is_err() {
        eprintln!("skipped: strace is not installed");
    }
    known.is_ok()
}

/// Runs a test again, as a child whose system calls fail as `inject` says. What it printed, and whether it lived; `None`
/// where there is no strace.
#[must_use]
pub fn under_strace(plain: &Command, inject: &[&str]) -> Option<(String, bool)> {
    if !strace_is_here() {
        return None;
    }
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync,write,pwrite64,fallocate,rename,renameat2",
    ]);
    for rule in inject {
        command.args(["-e", rule]);
    }
    command.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().unwrap();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}

/// What a child said.
#[must_use]
pub fn said(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("said ")).collect()
}

/// A folder in memory, where there is such a place: thousands of files are made there and removed.
#[cfg(target_os = "linux")]
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).unwrap()
}
