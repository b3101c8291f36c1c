//! What a task's whole tree has used: its own runs, and what they started in other tasks of the project.

use std::collections::{BTreeMap, BTreeSet};

use run_agent_core::cause::Cause;
use run_agent_core::event::{Event, LoopBudget, Stopping};
use run_agent_core::policy::budget::Spent;
use run_agent_core::world::{Link, Task};
use run_agent_core::{Kind, RunId};

use super::{DriveError, Driver};
use crate::link::child_of;
use crate::tree::{TaskName, Tree};
use crate::view::TaskView;

/// The streams of other tasks, kept open from look to look.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    views: BTreeMap<TaskName, TaskView>,
}

impl Ledger {
    /// What cannot be read now counts with the next look.
    pub(super) fn spent(&mut self, tree: &Tree, view: &TaskView) -> Spent {
        let mut runs: BTreeMap<TaskName, BTreeSet<RunId>> = BTreeMap::new();
        let mut links: Vec<Link> = view.task().links.values().cloned().collect();
        while let Some(link) = links.pop() {
            let name = child_of(&link);
            if name == view.name {
                continue;
            }
            let Some(task) = self.task(tree, &name) else { continue };
            let linked = match &link.child.child_run_id {
                Some(run) => task.with_descendants(run),
                // Of a loop, what it did before it was linked is somebody else's.
                None => task
                    .runs
                    .iter()
                    .filter(|(_, run)| run.made >= link.since)
                    .map(|(id, _)| id.clone())
                    .collect(),
            };
            let known = runs.entry(name).or_default();
            let new: Vec<RunId> = linked.into_iter().filter(|id| known.insert(id.clone())).collect();
            let by = |link: &&Link| link.parent.as_ref().is_some_and(|parent| new.contains(parent));
            links.extend(task.links.values().filter(by).cloned());
        }
        let of_runs = runs.iter().filter_map(|(name, runs)| Some((self.views.get(name)?.task(), runs)));
        let used = of_runs.flat_map(|(task, runs)| runs.iter().filter_map(|id| task.runs.get(id)));
        used.fold(Spent::of(&view.task().usage), |sum, run| sum.plus(Spent::of(&run.usage)))
    }

    fn task(&mut self, tree: &Tree, name: &TaskName) -> Option<&Task> {
        if !self.views.contains_key(name) {
            self.views.insert(name.clone(), TaskView::open(tree, name).ok()?);
        }
        let view = self.views.get_mut(name)?;
        let _ = view.refresh();
        Some(view.task())
    }
}

impl Driver<'_> {
    pub(super) fn tell_budget(&mut self, budget: LoopBudget) -> Result<(), DriveError> {
        let cost = budget.cost_usd.filter(|cost| cost.micros > 0);
        let cost = cost.map(|cost| format!(" and {cost} USD")).unwrap_or_default();
        let used = match budget.percent {
            100 => "the budget is used up".to_owned(),
            percent => format!("{percent} % of the budget are used"),
        };
        let line = format!("{used}: {} tokens{cost} ({})", budget.tokens, budget.limit);
        let cause = Cause::Limit(budget.limit.clone());
        if let Some(entry) = self.post_while_open(Event::LoopBudget(budget), &cause, &line)? {
            self.tell(Kind::WARNING, &entry.message, line)?;
        }
        Ok(())
    }

    /// As a person's stop, in the name of the limit: what runs reads it in the stream.
    pub(super) fn stop_for_budget(&mut self, limit: &str) -> Result<(), DriveError> {
        let grace_ms = u64::try_from(self.what.grace.as_millis()).unwrap_or(u64::MAX);
        let stopping = Stopping { by: limit.to_owned(), grace_ms, keep_children: false };
        let line = format!("everything that runs is stopped: {limit}");
        self.post_while_open(Event::LoopStopping(stopping), &Cause::Limit(limit.to_owned()), &line)?;
        Ok(())
    }
}
