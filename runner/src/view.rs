//! A task as its stream tells it, kept current by this process, and the one way in which the runner appends: what it
//! posts is decided under the append lock, of a world that has seen everything.

use std::time::Duration;

use run_agent_core::decide::Refusal;
use run_agent_core::follow::{Follow, FollowError, From};
use run_agent_core::store::{AppendError, Condition, Damage, Page};
use run_agent_core::world::Task;
use run_agent_core::{Draft, Durability, Entry, RunId, World};

use crate::tree::{TaskName, Tree};

/// A task, folded up to where this process has read.
#[derive(Debug)]
pub struct TaskView {
    pub name: TaskName,
    follow: Follow,
    world: World,
    /// Folded in, but not handed out to whoever follows the story through this view.
    unread: Vec<Entry>,
    /// What could not be read so far.
    pub damage: Vec<Damage>,
}

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What became of a conditional append.
#[derive(Debug)]
pub enum Proposed {
    Appended(Vec<Entry>),
    Refused(Refusal),
}

impl TaskView {
    /// # Errors
    /// When the task is not there or cannot be read.
    pub fn open(tree: &Tree, name: &TaskName) -> Result<Self, ViewError> {
        let follow = Follow::open(tree.store.clone(), &name.key(), From::Start)?;
        let mut view =
            Self { name: name.clone(), follow, world: World::new(), unread: Vec::new(), damage: Vec::new() };
        view.fold()?;
        Ok(view)
    }

    /// Reads what is new. Returns what was not returned before, what this view appended included.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn refresh(&mut self) -> Result<Vec<Entry>, ViewError> {
        self.fold()?;
        Ok(std::mem::take(&mut self.unread))
    }

    fn fold(&mut self) -> Result<(), ViewError> {
        loop {
            let page = self.follow.ready()?;
            if page.is_empty() {
                return Ok(());
            }
            self.take_in(page);
        }
    }

    fn take_in(&mut self, page: Page) {
        for entry in &page.entries {
            apply(&mut self.world, &self.name, entry);
        }
        self.damage.extend(page.damage);
        self.unread.extend(page.entries);
    }

    /// As [`TaskView::refresh`], but sleeps up to `timeout` when nothing is new.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn wait(&mut self, timeout: Duration) -> Result<Vec<Entry>, ViewError> {
        self.fold()?;
        if self.unread.is_empty() {
            let page = self.follow.wait(timeout)?;
            self.take_in(page);
        }
        self.refresh()
    }

    #[must_use]
    pub fn task(&self) -> &Task {
        // The fold makes a task for its first message; before that it is what every task is at first.
        static NEW: std::sync::LazyLock<Task> = std::sync::LazyLock::new(Task::default);
        self.world.task(&self.name.project, &self.name.task).unwrap_or(&NEW)
    }

    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Appends `batch` if `decide` still allows it when everything that was appended before is folded in.
    ///
    /// # Errors
    /// When the stream cannot be read or written. A refusal is not an error.
    pub fn propose(
        &mut self,
        batch: Vec<Draft>,
        decide: impl Fn(&Task) -> Result<(), Refusal>,
    ) -> Result<Proposed, ViewError> {
        self.fold()?;
        let cursor = self.follow.cursor();
        let stream = self.follow.stream().clone();
        let mut gate = Gate {
            name: &self.name,
            world: &mut self.world,
            decide: &decide,
            refusal: None,
            seen: Vec::new(),
        };
        let appended = stream.append_if(cursor, &mut gate, batch, Durability::None)?;
        let Gate { refusal, seen, .. } = gate;
        for entry in seen {
            self.follow.note(&entry);
            self.unread.push(entry);
        }
        let Some(entries) = appended else {
            return Ok(Proposed::Refused(refusal.unwrap_or(Refusal::LoopNotOpen)));
        };
        for entry in &entries {
            self.follow.note(entry);
            apply(&mut self.world, &self.name, entry);
        }
        self.unread.extend(entries.iter().cloned());
        Ok(Proposed::Appended(entries))
    }

    /// Appends without a condition: what people, agents and warnings say.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn post(&mut self, batch: Vec<Draft>) -> Result<Vec<Entry>, ViewError> {
        Ok(self.follow.stream().append(batch, Durability::None)?)
    }

    /// The run's full row for people, if the stream knows it.
    #[must_use]
    pub fn run(&self, run: &RunId) -> Option<&run_agent_core::world::Run> {
        self.task().runs.get(run)
    }
}

fn apply(world: &mut World, name: &TaskName, entry: &Entry) {
    // What the world passes over is for `why` and the server to tell; the runner acts on what it amounts to.
    let _ = world.apply(&name.key(), entry.at, &entry.message);
}

struct Gate<'a> {
    name: &'a TaskName,
    world: &'a mut World,
    decide: &'a dyn Fn(&Task) -> Result<(), Refusal>,
    refusal: Option<Refusal>,
    seen: Vec<Entry>,
}

impl Condition for Gate<'_> {
    fn see(&mut self, entry: &Entry) {
        apply(self.world, self.name, entry);
        self.seen.push(entry.clone());
    }

    fn agrees(&mut self) -> bool {
        let fresh = Task::default();
        let task = self.world.task(&self.name.project, &self.name.task).unwrap_or(&fresh);
        self.refusal = (self.decide)(task).err();
        self.refusal.is_none()
    }
}
