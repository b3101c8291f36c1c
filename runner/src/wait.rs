//! Waiting until runs end, as `job` and `wait` do.

use std::time::{Duration, Instant};

use run_agent_core::{Entry, RunId};

use crate::supervise::take_over::LookAfter;
use crate::tree::Tree;
use crate::view::{TaskView, ViewError};
use crate::wake::Wake;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    AllEnded,
    TimeUp,
    Interrupted,
}

/// Waits until all of these runs of one task have ended. `seen` is called after each look, so that a caller can show
/// what is new.
///
/// # Errors
/// When the stream cannot be read.
pub fn for_runs(
    tree: &Tree,
    view: &mut TaskView,
    runs: &[RunId],
    limit: Option<Duration>,
    wake: &Wake,
    mut seen: impl FnMut(&TaskView, &[Entry]),
) -> Result<Waited, ViewError> {
    let began = Instant::now();
    let mut certain = wake.waits_for_end();
    let mut look_after = LookAfter::default();
    loop {
        let new = view.refresh()?;
        look_after.look(tree, view, |id| runs.contains(id))?;
        seen(view, &new);
        // A supervisor that is gone, and its run is not over: somebody else's end is to be told by the stream.
        if std::mem::replace(&mut certain, wake.waits_for_end()) && !certain {
            wake.watch_stream(tree, &view.name);
        }
        if runs.iter().all(|id| view.run(id).is_none_or(|run| !run.is_active())) {
            return Ok(Waited::AllEnded);
        }
        if wake.interrupted() {
            return Ok(Waited::Interrupted);
        }
        let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(Waited::TimeUp);
        }
        wake.sleep(left);
    }
}
