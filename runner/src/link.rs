//! Children in other tasks: what a run starts elsewhere is told in its own task's stream (`CHILD_LINK`), so that its
//! loop waits for it, and a stop reaches it, as for its own.
//!
//! The link is posted before the child is intended, and again when it ended. A crash in between leaves a link to
//! nothing, or to what has ended: whoever drives the loop finds that and posts the end.
//!
//! A loop that is taken for a run of a task for which it waits itself, directly or by way of others, waits for that no more: each would wait
//! for the other. Of two links in a circle the newer counts, since its run may be waiting for the command that took the loop.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use run_agent_core::RunId;
use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::{ChildLink, Event};
use run_agent_core::policy::budget::Budget;
use run_agent_core::world::{Link, Task};
use serde::{Deserialize, Serialize};

use crate::circle::way_back;
use crate::supervise::close;
use crate::tree::{TaskName, Tree};
use crate::view::{Proposed, TaskView, ViewError};
use crate::{above, files, starting};

/// A run that starts something in another task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub name: TaskName,
    pub run: RunId,
}

/// What kind of child a link leads to, for people.
fn kind(run: Option<&RunId>) -> &'static str {
    if run.is_some() { "run" } else { "task" }
}

fn child_link(child: &TaskName, run: Option<&RunId>, ended: bool) -> ChildLink {
    ChildLink {
        child_project_id: child.project.clone(),
        child_task_id: child.task.clone(),
        child_run_id: run.cloned(),
        link: kind(run).to_owned(),
        ended,
    }
}

/// The task that a link leads into.
#[must_use]
pub fn child_of(link: &Link) -> TaskName {
    TaskName { project: link.child.child_project_id.clone(), task: link.child.child_task_id.clone() }
}

/// Says that a run of another task starts this run, or the loop of this task.
///
/// # Errors
/// When that other stream cannot be read or written.
pub fn open(
    tree: &Tree,
    origin: &Origin,
    child: &TaskName,
    run: Option<&RunId>,
    budget: Option<Budget>,
    cause: &Cause,
) -> Result<Result<(), Refusal>, ViewError> {
    if let Err(refusal) = above::may_spend(tree, origin, budget) {
        return Ok(Err(refusal));
    }
    let mut view = TaskView::open(tree, &origin.name)?;
    let line = match run {
        Some(run) => format!("starts run {run} in {child}"),
        None => format!("starts the loop of {child}"),
    };
    let event = Event::ChildLink(child_link(child, run, false));
    let draft = event.draft(&origin.name.scope(Some(origin.run.clone())), cause, line);
    Ok(match view.propose(vec![draft], |task| decide::may_link(task, &origin.run, budget))? {
        Proposed::Appended(_) => Ok(()),
        Proposed::Refused(refusal) => Err(refusal),
    })
}

/// Says that the child of a link has ended; once, whoever does.
///
/// # Errors
/// When the stream of the link cannot be read or written.
pub fn close(tree: &Tree, parent: &TaskName, child: &TaskName, run: Option<&RunId>) -> Result<(), ViewError> {
    let mut view = TaskView::open(tree, parent)?;
    end(&mut view, &child_link(child, run, true))
}

/// Ends the links of a task to loops that wait for this task's loop. Asked by the driver that takes it, after its own link was opened: of two
/// that start each other at the same moment both find the other one's.
///
/// # Errors
/// When this task's stream cannot be read or written.
pub(crate) fn break_circles(tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
    let links = view.task().open_links().filter(|(_, link)| link.child.child_run_id.is_none());
    let links: Vec<Link> = links.map(|(_, link)| link.clone()).collect();
    for link in links {
        if way_back(tree, &view.name, &child_of(&link), |_| &[]).is_some() {
            end(view, &link.child)?;
        }
    }
    Ok(())
}

fn end(view: &mut TaskView, ended: &ChildLink) -> Result<(), ViewError> {
    let key = ended.key();
    let open = |task: &Task| task.open_links().find(|(k, _)| *k == key).map(|(_, link)| link.clone());
    let Some(link) = open(view.task()) else { return Ok(()) };
    let child = child_of(&link);
    let line = match &ended.child_run_id {
        Some(run) => format!("run {run} of {child} has ended"),
        None => format!("the loop of {child} has ended"),
    };
    let cause = Cause::Process(format!("end of {key}"));
    let draft = Event::ChildLink(ChildLink { ended: true, ..ended.clone() }).draft(
        &view.name.scope(link.parent),
        &cause,
        line,
    );
    view.propose(vec![draft], |task| open(task).map(drop).ok_or(Refusal::Moot))?;
    Ok(())
}

/// Posts the ends that nobody was left to tell of.
///
/// # Errors
/// When this task's stream cannot be read or written.
pub fn reconcile(tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
    Children::default().reconcile(tree, view)
}

/// As [`reconcile`], of a task that is itself at rest but for its links: what links back to it is over when the rest is.
///
/// # Errors
/// As [`reconcile`].
pub(crate) fn reconcile_at_rest(tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
    let open: Vec<Link> = view.task().open_links().map(|(_, link)| link.clone()).collect();
    for link in open {
        let mut seen = BTreeSet::from([view.name.clone()]);
        if is_over(tree, &link, &mut seen).unwrap_or(false) {
            end(view, &link.child)?;
        }
    }
    Ok(())
}

/// Does the child of a link work no more, nor what that started in turn? `seen` are the tasks on the way here: loops that
/// are linked in a circle are over together.
fn is_over(tree: &Tree, link: &Link, seen: &mut BTreeSet<TaskName>) -> Result<bool, ViewError> {
    let name = child_of(link);
    let is_loop = link.child.child_run_id.is_none();
    if !tree.task(&name).folder().is_dir() || (is_loop && !seen.insert(name.clone())) {
        return Ok(true);
    }
    let mut view = TaskView::open(tree, &name)?;
    close::close_runs(tree, &mut view)?;
    is_at_rest(tree, &view, link, seen)
}

fn is_at_rest(
    tree: &Tree,
    view: &TaskView,
    link: &Link,
    seen: &mut BTreeSet<TaskName>,
) -> Result<bool, ViewError> {
    let name = &view.name;
    if let Some(id) = &link.child.child_run_id {
        return Ok(match view.run(id) {
            Some(run) => !run.is_active(),
            // Its starter has the lock until the stream knows of the run.
            None => !files::is_locked(&tree.run(name, id).supervisor_lock()).unwrap_or(false),
        });
    }
    let driven = files::is_locked(&tree.task(name).loop_lock()).unwrap_or(true);
    if driven || starting::is_on_its_way(tree, name) || view.task().active().next().is_some() {
        return Ok(false);
    }
    for (_, link) in view.task().open_links() {
        if !is_over(tree, link, seen)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The streams of linked children, kept open by whoever looks again and again.
#[derive(Debug, Default)]
pub(crate) struct Children {
    views: BTreeMap<TaskName, TaskView>,
}

impl Children {
    /// As [`reconcile`].
    pub(crate) fn reconcile(&mut self, tree: &Tree, view: &mut TaskView) -> Result<(), ViewError> {
        let open: Vec<Link> = view.task().open_links().map(|(_, link)| link.clone()).collect();
        self.views.retain(|name, _| open.iter().any(|link| child_of(link) == *name));
        for link in open {
            // A child whose stream cannot be read is taken as one that is at work.
            if self.are_over(tree, &link).unwrap_or(false) {
                end(view, &link.child)?;
            }
        }
        Ok(())
    }

    /// As [`is_over`], with a stream that is open already.
    fn are_over(&mut self, tree: &Tree, link: &Link) -> Result<bool, ViewError> {
        let name = child_of(link);
        if !tree.task(&name).folder().is_dir() {
            return Ok(true);
        }
        let view = match self.views.entry(name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(TaskView::open(tree, &name)?),
        };
        view.refresh()?;
        close::close_dead(tree, view)?;
        is_at_rest(tree, view, link, &mut BTreeSet::from([name]))
    }
}
