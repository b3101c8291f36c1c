//! A stop's way into other tasks: what a run started there is stopped with it, and what that started in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use run_agent_core::RunId;
use run_agent_core::event::Event;
use run_agent_core::world::{Link, Run, RunStatus, Task};

use super::{How, Left, Stopped, ask_run, goes_on, run_once, stopping, task_once};
use crate::supervise::ring;
use crate::tree::{TaskName, Tree};
use crate::view::{TaskView, ViewError};
use crate::{files, link, starting};
use run_agent_core::decide::Refusal;

/// Links that were followed: two tasks may have started each other.
pub(super) type Seen = BTreeSet<String>;

pub(super) fn of_task(task: &Task) -> Vec<Link> {
    task.open_links().map(|(_, link)| link.clone()).collect()
}

pub(super) fn of_runs(task: &Task, runs: &[RunId]) -> Vec<Link> {
    let by = |link: &Link| link.parent.as_ref().is_some_and(|parent| runs.contains(parent));
    task.open_links().filter(|(_, link)| by(link)).map(|(_, link)| link.clone()).collect()
}

/// Says on the streams of other tasks that what is linked there is to stop, and wakes its supervisors, so that all of
/// them work at it at the same time. What cannot be told is seen to by [`stop`].
pub(crate) fn ask(tree: &Tree, links: &[Link], how: &How, seen: &mut Seen) {
    for link in links {
        if seen.insert(link.child.key())
            && let Err(error) = ask_one(tree, link, how, seen)
        {
            tracing::warn!(link = link.child.key(), %error, "cannot ask a child in another task to stop");
        }
    }
}

fn ask_one(tree: &Tree, link: &Link, how: &How, seen: &mut Seen) -> Result<(), ViewError> {
    let mut view = TaskView::open(tree, &link::child_of(link))?;
    let active: Vec<RunId> = match &link.child.child_run_id {
        Some(run) => view.task().with_descendants(run),
        None => {
            let line = format!("stop asked for by {}", how.by);
            let draft = Event::LoopStopping(stopping(how)).draft(&view.name.scope(None), &how.cause, line);
            let name = view.name.clone();
            let goes_on = |task: &Task| goes_on(task) || starting::is_on_its_way(tree, &name);
            let due = |task: &Task| goes_on(task) && task.ralph.stopping.is_none();
            view.propose(vec![draft], |task| if due(task) { Ok(()) } else { Err(Refusal::Moot) })?;
            view.task().active().map(|(id, _)| id.clone()).collect()
        }
    };
    let deeper = match &link.child.child_run_id {
        Some(_) => of_runs(view.task(), &active),
        None => of_task(view.task()),
    };
    for id in &active {
        if view.run(id).is_some_and(|run| run.is_active() && run.stopping.is_none()) {
            ask_run(&mut view, id, how)?;
        }
        ring(&tree.run(&view.name, id));
    }
    ask(tree, &deeper, how, seen);
    Ok(())
}

/// The runs that are active behind these links, before anybody asks them to stop: the drivers there may be quicker than
/// [`stop`], which then finds them ended.
pub(super) fn active(tree: &Tree, links: &[Link]) -> BTreeMap<TaskName, BTreeSet<RunId>> {
    let (mut found, mut seen) = (BTreeMap::<TaskName, BTreeSet<RunId>>::new(), Seen::new());
    let mut ahead = links.to_vec();
    while let Some(link) = ahead.pop() {
        if !seen.insert(link.child.key()) {
            continue;
        }
        // What cannot be read is not counted.
        let Ok(view) = TaskView::open(tree, &link::child_of(&link)) else { continue };
        let task = view.task();
        let runs: Vec<RunId> = match &link.child.child_run_id {
            Some(run) => task.with_descendants(run),
            None => task.active().map(|(id, _)| id.clone()).collect(),
        };
        ahead.extend(match &link.child.child_run_id {
            Some(_) => of_runs(task, &runs),
            None => of_task(task),
        });
        let is_active = |id: &RunId| view.run(id).is_some_and(Run::is_active);
        found.entry(view.name.clone()).or_default().extend(runs.into_iter().filter(is_active));
    }
    found
}

/// Those of them that were stopped.
pub(super) fn stopped_of(tree: &Tree, active: BTreeMap<TaskName, BTreeSet<RunId>>) -> BTreeSet<RunId> {
    let mut stopped = BTreeSet::new();
    for (name, runs) in active {
        let Ok(view) = TaskView::open(tree, &name) else { continue };
        let was = |run: &Run| run.stopping.is_some() || run.status() == RunStatus::Stopped;
        stopped.extend(runs.into_iter().filter(|id| view.run(id).is_some_and(was)));
    }
    stopped
}

/// A driver that has told of its loop's end holds the lock for a moment more, and a link to a loop that is held is not
/// over.
fn wait_for_its_lock(tree: &Tree, child: &mut TaskView) -> Result<(), ViewError> {
    let lock = tree.task(&child.name).loop_lock();
    let deadline = Instant::now() + LETS_GO_WITHIN;
    while files::is_locked(&lock).unwrap_or(false) && Instant::now() < deadline {
        child.refresh()?;
        if child.task().ralph.is_open() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

const LETS_GO_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Others {
    pub(super) stopped: Vec<RunId>,
    pub(super) left: Left,
}

/// Stops what is linked, waits for it, and tells the ends in the stream of the links.
pub(super) fn stop(
    tree: &Tree,
    view: &mut TaskView,
    links: &[Link],
    how: &How,
    seen: &mut Seen,
) -> Result<Others, ViewError> {
    let mut others = Others::default();
    for link in links {
        if !seen.insert(link.child.key()) {
            continue;
        }
        let stopped = TaskView::open(tree, &link::child_of(link)).and_then(|mut child| {
            let Some(run) = &link.child.child_run_id else {
                let stopped = task_once(tree, &mut child, how, seen)?;
                wait_for_its_lock(tree, &mut child)?;
                return Ok(stopped);
            };
            run_once(tree, &mut child, run, how, seen)
        });
        match stopped {
            Ok(Stopped::Done(runs)) => others.stopped.extend(runs),
            Ok(Stopped::Left(runs)) => others.left.hanging.extend(runs),
            Ok(Stopped::Foreign(runs)) => others.left.foreign.extend(runs),
            Ok(Stopped::HadEnded(_) | Stopped::DriverHangs(_) | Stopped::Elsewhere(_)) => {}
            Err(error) => {
                tracing::warn!(link = link.child.key(), %error, "cannot stop a child in another task");
            }
        }
    }
    link::reconcile(tree, view)?;
    Ok(others)
}
