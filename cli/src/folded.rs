//! One task that is folded on while somebody looks: what each entry changes, whether the task is done, how it ended.

use run_agent_core::plan::reason;
use run_agent_core::world::{Change, Project, Task, TaskStatus};
use run_agent_core::{Entry, World};
use run_agent_runner::tree::TaskName;

use crate::error::Exit;

/// A task that is looked at.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) name: TaskName,
    world: World,
    /// It was deleted.
    pub(crate) gone: bool,
}

/// What came of a task, with the entry that told it where one did.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) entry: Option<Entry>,
    pub(crate) changes: Vec<Change>,
}

impl Folded {
    pub(crate) fn new(name: TaskName, task: Task) -> Self {
        let world = world_of(&name, task);
        Self { name, world, gone: false }
    }

    pub(crate) fn task(&self) -> &Task {
        // The fold makes a task for its first message; before that it is what every task is at first.
        static NEW: std::sync::LazyLock<Task> = std::sync::LazyLock::new(Task::default);
        self.world.task(&self.name.project, &self.name.task).unwrap_or(&NEW)
    }

    pub(crate) fn apply(&mut self, entry: Entry) -> News {
        let key = self.name.key();
        let applied = self.world.apply(&key, entry.at, &entry.message);
        let changes = self.world.changes(&key, &entry.message, &applied);
        News { entry: Some(entry), changes }
    }

    /// The stream was replaced from outside: what it amounts to now is the news.
    pub(crate) fn replace(&mut self, task: Task) -> News {
        self.world = world_of(&self.name, task);
        let row = self.task().row(&self.name.task);
        News { entry: None, changes: vec![Change::Task(Box::new(row))] }
    }

    pub(crate) fn is_done(&self) -> bool {
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
        self.gone || task.deleted || (ended && !self.is_active())
    }

    /// A run of it, or its loop, has not ended.
    pub(crate) fn is_active(&self) -> bool {
        let task = self.task();
        task.ralph.is_open() || task.active().next().is_some()
    }

    pub(crate) fn exit(&self) -> Exit {
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

    pub(crate) fn json(&self) -> serde_json::Value {
        let mut row = serde_json::json!(self.task().row(&self.name.task));
        row["project_id"] = serde_json::json!(self.name.project);
        row["exit_code"] =
            if self.is_done() { serde_json::json!(self.exit().code()) } else { serde_json::Value::Null };
        row
    }
}

/// A world that holds this task, and nothing else.
fn world_of(name: &TaskName, task: Task) -> World {
    let mut project = Project::default();
    project.tasks.insert(name.task.clone(), Box::new(task));
    let mut world = World::new();
    world.projects.insert(name.project.clone(), project);
    world
}
