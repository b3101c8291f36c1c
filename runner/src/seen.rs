//! What a look around a task finds that its stream cannot tell: who drives its loop, whether its runs' processes live,
//! how the tasks stand that it waits for. `why` and the inbox put it beside the stream.

use run_agent_core::TaskId;
use run_agent_core::follow::FollowError;
use run_agent_core::plan::reason;
use run_agent_core::store::OpenError;
use run_agent_core::why::{Driver, Life, Other, Seen};
use run_agent_core::world::{RalphState, Task};

use crate::adopt::DriverLife;
use crate::files;
use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};

/// Other tasks that are looked at for one answer, at the most.
const OTHERS_MAX: usize = 20;

/// Looks around a task that was folded up to its end, and whose dead runs were closed.
#[must_use]
pub fn around(tree: &Tree, view: &TaskView) -> Seen {
    let task = view.task();
    let runs = task.active().map(|(id, run)| {
        let life = match close::life(tree, &view.name, id, run) {
            Ok(close::Life::Supervised) => Life::Supervised,
            Ok(close::Life::AgentAlone(agent)) => Life::AgentAlone { pid: agent.pid },
            Ok(close::Life::Foreign) => Life::Foreign,
            Ok(close::Life::Dead(_)) => {
                Life::Unclear("its processes are gone, and its end is not written yet".to_owned())
            }
            Err(error) => Life::Unclear(error.to_string()),
        };
        (id.clone(), life)
    });
    Seen {
        driver: match view.driver(tree) {
            DriverLife::NotOpen => Driver::NotLookedAt,
            DriverLife::Alive => Driver::Alive,
            DriverLife::Lost => Driver::Gone,
            DriverLife::Foreign => Driver::Foreign,
        },
        runs: runs.collect(),
        tasks: others(task).into_iter().map(|id| (id.clone(), other(tree, view, id))).collect(),
        marker: files::marker(&tree.task(&view.name).done()).ok(),
    }
}

/// The tasks that this one waits for.
fn others(task: &Task) -> Vec<&TaskId> {
    let mut others: Vec<&TaskId> = match &task.ralph.state {
        RalphState::Blocked { tasks, .. } => tasks.iter().collect(),
        RalphState::Ended { reason, .. } if reason == reason::DEPENDENCY => {
            task.created.iter().flat_map(|(text, _)| &text.depends_on).collect()
        }
        RalphState::Never
        | RalphState::Driven { .. }
        | RalphState::BackingOff { .. }
        | RalphState::Waiting { .. }
        | RalphState::Cooling { .. }
        | RalphState::Ended { .. } => Vec::new(),
    };
    others.extend(task.open_links().map(|(_, link)| &link.child.child_task_id));
    others.truncate(OTHERS_MAX);
    others
}

fn other(tree: &Tree, view: &TaskView, id: &TaskId) -> Other {
    let name = TaskName { project: view.name.project.clone(), task: id.clone() };
    match TaskView::open(tree, &name) {
        Ok(other) => Other::There { status: other.task().status(), reason: other.task().reason() },
        Err(ViewError::Follow(FollowError::Open(OpenError::NotFound { .. }))) => Other::Missing,
        Err(error) => Other::Unreadable(error.to_string()),
    }
}
