//! One task that is watched: what is new of it, whether it is done, and how it ended.

use run_agent_core::plan::reason;
use run_agent_core::world::{Change, Project, Task, TaskStatus};
use run_agent_core::{Entry, World};
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;
use run_agent_runner::{TaskView, ViewError};

use crate::context::Context;
use crate::error::{Exit, Failure};

/// A task that is watched.
pub(super) struct Watched {
    pub(super) name: TaskName,
    view: TaskView,
    /// Folds the same entries once more, since only folding tells what each of them changed.
    world: World,
    /// Its folder was deleted.
    pub(super) gone: bool,
}

/// One change, with the message that made it where one did.
pub(super) struct Happened {
    pub(super) entry: Option<Entry>,
    pub(super) change: Change,
}

impl Watched {
    pub(super) fn open(context: &Context, name: TaskName) -> Result<Self, Failure> {
        let mut view = TaskView::open(&context.tree, &name)?;
        close::close_dead(&context.tree, &mut view)?;
        view.refresh()?;
        let world = world_of(&view);
        Ok(Self { name, view, world, gone: false })
    }

    pub(super) fn task(&self) -> &Task {
        self.view.task()
    }

    pub(super) fn is_done(&self) -> bool {
        let task = self.task();
        let ended = match task.status() {
            TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Stopped => true,
            // Nothing was ever started: somebody may be about to.
            TaskStatus::Created => false,
            TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Running
            | TaskStatus::Waiting
            | TaskStatus::BackingOff => false,
        };
        self.gone || task.deleted || (ended && task.active().next().is_none() && !task.ralph.is_open())
    }

    pub(super) fn exit(&self) -> Exit {
        let task = self.task();
        match task.status() {
            TaskStatus::Completed if !self.gone => Exit::Done,
            TaskStatus::Failed if reason::is_giving_up(&task.reason()) => Exit::GaveUp,
            TaskStatus::Completed
            | TaskStatus::Failed
            | TaskStatus::Stopped
            | TaskStatus::Created
            | TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Running
            | TaskStatus::Waiting
            | TaskStatus::BackingOff => Exit::Failed,
        }
    }

    /// What is new.
    pub(super) fn look(&mut self, context: &Context) -> Result<Vec<Happened>, Failure> {
        let looked = self.view.refresh().and_then(|mut entries| {
            close::close_dead(&context.tree, &mut self.view)?;
            entries.extend(self.view.refresh()?);
            Ok(entries)
        });
        let entries = match looked {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => {
                self.gone = true;
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let key = self.name.key();
        let mut happened = Vec::new();
        for entry in entries {
            let applied = self.world.apply(&key, entry.at, &entry.message);
            for change in self.world.changes(&key, &entry.message, &applied) {
                happened.push(Happened { entry: Some(entry.clone()), change });
            }
        }
        if self.world.task(&self.name.project, &self.name.task) != Some(self.task()) {
            // The stream was replaced from outside: what it amounts to now is the news.
            self.world = world_of(&self.view);
            let row = self.task().row(&self.name.task);
            happened.push(Happened { entry: None, change: Change::Task(Box::new(row)) });
        }
        Ok(happened)
    }

    /// The loop is open, but nobody drives it: it goes on only when somebody takes it up.
    pub(super) fn is_orphaned(&self, context: &Context) -> bool {
        self.task().active().next().is_none() && self.view.is_driverless(&context.tree)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let mut row = serde_json::json!(self.task().row(&self.name.task));
        row["project_id"] = serde_json::json!(self.name.project);
        row["exit_code"] =
            if self.is_done() { serde_json::json!(self.exit().code()) } else { serde_json::Value::Null };
        row
    }
}

/// A world that holds what the view has folded.
fn world_of(view: &TaskView) -> World {
    let mut project = Project::default();
    project.tasks.insert(view.name.task.clone(), Box::new(view.task().clone()));
    let mut world = World::new();
    world.projects.insert(view.name.project.clone(), project);
    world
}

fn is_gone(error: &ViewError) -> bool {
    use run_agent_core::follow::FollowError;
    use run_agent_core::store::{OpenError, ReadError};
    matches!(
        error,
        ViewError::Follow(
            FollowError::Read(ReadError::Gone { .. }) | FollowError::Open(OpenError::NotFound { .. })
        )
    )
}
