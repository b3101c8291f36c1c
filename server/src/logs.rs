//! What agents print, as it grows (`docs/server.md`, "Streams of logs").
//!
//! | question | file |
//! | --- | --- |
//! | where does a line begin and end? | `lines` |
//! | what is new in a file? | `file` |
//! | in which order do lines of both streams come? | `merged` |
//! | how far did a client get? | `place` |
//! | when is there something new? | `growth` |
//! | what is a client told of one run, of several, of one file? | `run`, `several`, `tail` |
//! | when is it told, and what goes on meanwhile? | `told` |

mod file;
mod growth;
mod lines;
mod merged;
mod place;
mod run;
mod several;
mod tail;
mod told;

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use run_agent_core::layout::RunPaths;
use run_agent_core::{ProjectId, RunId, TaskId};
use tokio::sync::Semaphore;

use self::growth::Growth;
use self::run::OneRun;
use self::several::Several;
use self::tail::Tail;
use self::told::Told;
use crate::App;
use crate::live::Live;
use crate::sse;

/// So many clients are read for at once: what they wait for is a disk, and a thread each would be one too many.
const READERS: usize = 4;
/// About so much text is made at once, in bytes. Whoever takes it slowly has no more of it waiting.
const PIECE_BYTES: usize = 128 << 10;

/// What log streams share.
#[derive(Debug)]
pub(crate) struct Logs {
    growth: Arc<Growth>,
    readers: Arc<Semaphore>,
}

/// A run, by all its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) project: ProjectId,
    pub(crate) task: TaskId,
    pub(crate) run: RunId,
}

/// What a client is told next.
#[derive(Debug)]
enum Step {
    Text(String),
    /// The last that it is told.
    Last(String),
    /// Nothing until something grows, or until so much time has passed.
    Wait(Option<Duration>),
}

impl Logs {
    pub(crate) fn new(live: &Arc<Live>) -> Self {
        Self { growth: Growth::new(live.clone()), readers: Arc::new(Semaphore::new(READERS)) }
    }
}

impl Name {
    fn paths(&self, live: &Live) -> RunPaths {
        live.layout.task(&self.project, &self.task).run(&self.run)
    }
}

/// Follows both streams of a run.
pub(crate) fn of_run(app: &Arc<App>, name: Name, last: Option<&str>) -> Response {
    let grown = app.logs.growth.watch(&name);
    let one = OneRun::new(&app.live, name, last);
    sse::response(app, Told::new(app, one, grown, None))
}

/// Follows one file of a run.
pub(crate) fn of_file(
    app: &Arc<App>,
    name: Name,
    file: &str,
    path: std::path::PathBuf,
    last: Option<&str>,
) -> Response {
    let grown = app.logs.growth.watch(&name);
    let tail = Tail::new(name, file, path, last);
    sse::response(app, Told::new(app, tail, grown, None))
}

/// Follows the runs of a task, or those of all tasks.
pub(crate) fn of_several(app: &Arc<App>, task: Option<(ProjectId, TaskId)>, last: Option<&str>) -> Response {
    let grown = app.logs.growth.watch_all();
    let several = Several::new(app.logs.growth.clone(), task, last);
    sse::response(app, Told::new(app, several, grown, Some(app.live.ring.watch())))
}
