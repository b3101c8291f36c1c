//! Looking after runs whose supervisors were lost: the dead are closed, and an agent that lives gets a new supervisor
//! (`Taking over` in `docs/supervision.md`). Whoever takes the run's lock does it, however many look.

use std::fs::File;
use std::time::{Duration, Instant};

use run_agent_core::RunId;
use run_agent_core::policy::watch::WatchPolicy;
use run_agent_core::world::Run;

use super::close::{self, Life};
use super::hand_over::hand_over;
use super::launch::{Launch, Order, Streams};
use super::ownership;
use super::start::{self, StartOutcome};
use crate::agent::Api;
use crate::files;
use crate::tree::Tree;
use crate::view::{TaskView, ViewError};

/// The grace period of a run of which nobody knows any more under which terms it was started.
const GRACE_MS: u64 = 30_000;

/// How often who waits looks whether supervisors live: one that was killed says nothing, so that no hint is a reason to.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// [`look_after`], now and then.
#[derive(Debug, Default)]
pub struct LookAfter {
    last: Option<Instant>,
}

impl LookAfter {
    /// Looks, if that is due.
    ///
    /// # Errors
    /// As [`look_after`].
    pub fn look(
        &mut self,
        tree: &Tree,
        view: &mut TaskView,
        wanted: impl Fn(&RunId) -> bool,
    ) -> Result<(), ViewError> {
        if self.last.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        look_after(tree, view, wanted)
    }
}

/// Closes what is dead, and takes over the wanted runs whose agents live without a supervisor.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn look_after(
    tree: &Tree,
    view: &mut TaskView,
    wanted: impl Fn(&RunId) -> bool,
) -> Result<(), ViewError> {
    close::close_dead(tree, view)?;
    take_over(tree, view, wanted).map(drop)
}

/// Starts a new supervisor for each wanted run whose own is lost while its agent lives. Returns the runs that this call
/// took over.
///
/// # Errors
/// When the stream cannot be read. A supervisor that does not come up is tried again at the next look.
pub fn take_over(
    tree: &Tree,
    view: &mut TaskView,
    wanted: impl Fn(&RunId) -> bool,
) -> Result<Vec<RunId>, ViewError> {
    let active: Vec<(RunId, Run)> = view
        .task()
        .active()
        .filter(|(id, _)| wanted(id))
        .map(|(id, run)| (id.clone(), run.clone()))
        .collect();
    let mut taken = Vec::new();
    for (id, run) in active {
        if let Ok(Life::AgentAlone(_)) = close::life(tree, &view.name, &id, &run)
            && take_over_one(tree, view, &id)?
        {
            taken.push(id);
        }
    }
    Ok(taken)
}

fn take_over_one(tree: &Tree, view: &mut TaskView, id: &RunId) -> Result<bool, ViewError> {
    let paths = tree.run(&view.name, id);
    let path = paths.supervisor_lock();
    // An agent that deleted its run's folder has no lock that only one could hold: it is left as it is.
    let Ok(lock) = File::options().append(true).open(&path) else { return Ok(false) };
    if !matches!(files::try_lock(&lock), Ok(true)) {
        return Ok(false);
    }
    // Looked at again under the lock: somebody may have taken it over and ended it since.
    view.fold()?;
    let Some(run) = view.run(id).filter(|run| run.is_active()) else { return Ok(false) };
    if !matches!(close::agent_alone(&path, run), Ok(Some(_))) {
        return Ok(false);
    }
    let Some(launch) = launch_of(tree, view, id, run) else { return Ok(false) };
    let Ok(order) = serde_json::to_vec(&Order::TakeOver(Box::new(launch.clone()))) else { return Ok(false) };
    Ok(match hand_over(tree, &launch, &order, &paths, lock) {
        Ok(report) => {
            let (outcome, _) = start::outcome(tree, view, id, report);
            tracing::info!(run = %id, ?outcome, "taken over");
            matches!(outcome, StartOutcome::Running { .. })
        }
        Err(_) => false,
    })
}

/// What the stream tells of how a run was started. `None` for one that kept its terminal: that is the person's.
fn launch_of(tree: &Tree, view: &TaskView, id: &RunId, run: &Run) -> Option<Launch> {
    let start = run.start().filter(|start| !ownership::keeps_terminal(start))?;
    Some(Launch {
        root: tree.layout.root().to_owned(),
        project: view.name.project.clone(),
        task: view.name.task.clone(),
        run: id.clone(),
        agent: run.agent.clone(),
        argv: Vec::new(),
        commandline: String::new(),
        env: std::collections::BTreeMap::new(),
        secrets: Vec::new(),
        cwd: start.cwd.clone().into(),
        attempt: run.attempt,
        parent: run.parent.clone(),
        depth: run.depth,
        previous: run.previous.clone(),
        grace_ms: GRACE_MS,
        timeout_ms: None,
        watch: WatchPolicy::NEVER,
        streams: Streams::Prompt,
        max_agents: 0,
        stream: None,
        before: None,
        program: None,
        request: None,
        api: Api::default(),
    })
}
