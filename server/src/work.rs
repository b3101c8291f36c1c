//! What the server has done by others: whoever embeds it knows how tasks are started and lost runs closed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use run_agent_core::{Draft, ProjectId, RunId, StreamKey, TaskId};
use serde::Deserialize;
use serde_json::Value;

/// Why something was not done, in the words of the command line.
#[derive(Debug, Clone, Deserialize)]
pub struct Failed {
    /// As in `--json`: `unknown_agent`, `locked`.
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub hint: Option<String>,
    /// What may have been meant.
    #[serde(default)]
    pub candidates: Vec<String>,
}

/// How the processes of a task stand, of which its stream tells nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Processes {
    /// Its active runs that were started on another machine or in another container.
    pub foreign_runs: usize,
    /// Its loop is open, and its driver died.
    pub no_driver: bool,
}

/// What a look around a task finds beside its stream.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What stream and files disagree about, a line each.
    pub notes: Vec<String>,
    /// The nearest cause of the task's status.
    pub why: String,
}

/// Whoever opens files below the root.
pub trait Opens: Send + Sync + std::fmt::Debug + 'static {
    /// Opens a regular file below the root to read it. No link is followed.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or a link lies on the way.
    fn open(&self, path: &Path) -> io::Result<File>;
}

pub trait Work: Opens {
    /// Makes stream and processes of a task agree: closes runs whose supervisors are lost, takes in the DONE marker. What it
    /// finds it posts. Called now and then for tasks with active runs.
    fn settle(&self, project: &ProjectId, task: &TaskId);

    /// Looks at the processes of a task that has active runs, or an open loop.
    fn processes(&self, project: &ProjectId, task: &TaskId) -> Processes;

    /// Looks around a task, as it is now.
    ///
    /// # Errors
    /// In words, when it cannot be read.
    fn look(&self, project: &ProjectId, task: &TaskId) -> Result<Seen, String>;

    /// The agents that can be named.
    fn agents(&self) -> Vec<String>;

    /// Sleeps until something may have been appended below the root, and names the counters of the streams
    /// ([`Work::counter`]); none when the time was up.
    fn wait_for_appends(&self, timeout: Duration) -> Vec<usize>;

    /// Ends a sleep in [`Work::wait_for_appends`].
    fn wake(&self);

    /// Sees to it that appends are told of. True when some may have been missed.
    fn renew(&self) -> bool;

    /// Which counter stands for a stream.
    fn counter(&self, key: &StreamKey) -> usize;

    /// Runs a command of the program on this root, as a process of its own, with this text on its stdin; returns what it
    /// printed as JSON when it has ended. What it starts outlives it, and this process.
    ///
    /// # Errors
    /// What the command says.
    fn command(&self, words: &[String], stdin: &str) -> Result<Value, Failed>;

    /// Moves a body that is too large for a message into an attachment.
    ///
    /// # Errors
    /// In words, when it cannot be written.
    fn fit(&self, key: &StreamKey, draft: &mut Draft) -> Result<(), String>;

    /// Makes a project whose agents work in this folder. False when it was there.
    ///
    /// # Errors
    /// When it cannot be made.
    fn make_project(&self, project: &ProjectId, home: &Path) -> Result<bool, Failed>;

    /// Deletes a run that has ended, and tells how many bytes that freed.
    ///
    /// # Errors
    /// When it is active, or cannot be removed.
    fn delete_run(&self, project: &ProjectId, task: &TaskId, run: &RunId) -> Result<u64, Failed>;

    /// Deletes a project with all its tasks, none of which may be active.
    ///
    /// # Errors
    /// As [`Work::delete_run`].
    fn delete_project(&self, project: &ProjectId) -> Result<u64, Failed>;

    /// Posts an event to the operator's webhook, signed.
    ///
    /// # Errors
    /// When it was not taken, in words.
    fn deliver(&self, event: &str) -> Result<(), String>;

    /// Takes what looks like a secret out of what is written down.
    fn redact(&self, value: &mut Value);
}
