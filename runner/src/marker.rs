//! The DONE marker and what the stream tells of it: whoever looks and finds them apart says so, exactly once.

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::layout::DONE;
use run_agent_core::world::{Marker, Task};

use crate::view::{TaskView, ViewError};

/// Posts what marker and stream disagree about; the marker wins.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn reconcile(view: &mut TaskView, marker: Marker) -> Result<(), ViewError> {
    let due = |task: &Task| decide::marker_event(task, marker, "file");
    let Some(event) = due(view.task()) else { return Ok(()) };
    let line = if marker == Marker::Absent { "DONE is gone" } else { "DONE was found" };
    let draft = event.draft(&view.name.scope(None), &Cause::File(DONE.to_owned()), line);
    view.propose(vec![draft], |task| due(task).map(drop).ok_or(Refusal::Moot))?;
    Ok(())
}
