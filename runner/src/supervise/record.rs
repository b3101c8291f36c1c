//! The run's lock: held while the supervisor lives, and the notes in it by which a later process finishes what a dead
//! supervisor could not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use run_agent_core::RunId;
use run_agent_core::event::RunEnd;
use serde::{Deserialize, Serialize};

use super::Launch;
use super::os::{Cgroup, ProcessId};
use crate::files;

/// One line of `supervisor.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    Supervisor(ProcessId),
    /// The cgroup that is about to be made for the run.
    Cgroup(PathBuf),
    /// The agent's process exists; it is let go only after this was written.
    Agent(ProcessId),
    /// The agent is about to be let go: what a supervisor that takes over must know.
    Terms(Box<Terms>),
    /// The exit record.
    Exit(Box<RunEnd>),
}

/// What the stream does not tell of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Without what only a start needs: its arguments, and its environment and request, which may hold tokens.
    pub launch: Launch,
    /// When the agent was let go, on [`super::os::clock_ms`]'s clock.
    pub began_ms: u64,
}

/// What the notes say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The last one.
    pub supervisor: Option<ProcessId>,
    pub cgroup: Option<PathBuf>,
    pub agent: Option<ProcessId>,
    pub terms: Option<Terms>,
    pub exit: Option<RunEnd>,
}

impl Notes {
    /// The run's cgroup, if one was noted that is the run's own. An agent may delete its run's folder with the notes:
    /// then the one that lies where this process would make it.
    #[must_use]
    pub fn cgroup_of(&self, run: &RunId) -> Option<Cgroup> {
        let noted = self.cgroup.as_ref().and_then(|path| Cgroup::noted(path, run));
        noted.or_else(|| Cgroup::for_run(run).filter(Cgroup::is_there))
    }
}

/// Appends a note. Only the holder of the lock does.
///
/// # Errors
/// When the file cannot be written.
pub fn note(mut lock: &File, note: &Note) -> io::Result<()> {
    let mut line = serde_json::to_vec(note)?;
    line.push(b'\n');
    lock.write_all(&line)
}

/// Reads the notes. A torn last line is passed over: what it would say did not happen yet.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn notes(path: &Path) -> io::Result<Notes> {
    let mut text = String::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Notes::default()),
        Err(error) => return Err(error),
    };
    let mut notes = Notes::default();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(Note::Supervisor(id)) => notes.supervisor = Some(id),
            Ok(Note::Cgroup(path)) => notes.cgroup = Some(path),
            Ok(Note::Agent(id)) => notes.agent = Some(id),
            Ok(Note::Terms(terms)) => notes.terms = Some(*terms),
            Ok(Note::Exit(end)) => notes.exit = Some(*end),
            Err(_) => {}
        }
    }
    Ok(notes)
}

/// Opens the lock of a run that is being made.
///
/// # Errors
/// When it cannot be made or somebody holds it.
pub fn create(path: &Path) -> io::Result<File> {
    let file = files::open_lock(path)?;
    if files::try_lock(&file)? {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock of this new run"))
    }
}
