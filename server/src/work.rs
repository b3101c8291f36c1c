//! What the server has done by others: whoever embeds it knows how tasks are started and lost runs closed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use run_agent_core::{ProjectId, StreamKey, TaskId};

pub trait Work: Send + Sync + std::fmt::Debug + 'static {
    /// Makes stream and processes of a task agree: closes runs whose supervisors are lost, takes in the DONE marker. What it
    /// finds it posts. Called now and then for tasks with active runs.
    fn settle(&self, project: &ProjectId, task: &TaskId);

    /// Opens a regular file below the root to read it. No link is followed.
    ///
    /// # Errors
    /// When it cannot be opened, is no regular file, or a link lies on the way.
    fn open(&self, path: &Path) -> io::Result<File>;

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
}
