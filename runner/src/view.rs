//! A task as its stream tells it, kept current by this process, and the one way in which the runner appends: what it
//! posts is decided under the append lock, of a world that has seen everything.

use std::sync::Arc;

use run_agent_core::decide::Refusal;
use run_agent_core::follow::{Follow, FollowError, From};
use run_agent_core::store::{AppendError, Condition, Damage, Page, ReadError};
use run_agent_core::world::Task;
use run_agent_core::{Cursor, Draft, Durability, Entry, RunId, Store, World};

use crate::tree::{TaskName, Tree};

/// A task, folded up to where this process has read.
#[derive(Debug)]
pub struct TaskView {
    pub name: TaskName,
    store: Arc<dyn Store>,
    durability: Durability,
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
        let mut view = Self {
            name: name.clone(),
            store: tree.store.clone(),
            durability: tree.durability,
            follow,
            world: World::new(),
            unread: Vec::new(),
            damage: Vec::new(),
        };
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

    /// Brings the world up to date, and leaves what is new to the next [`TaskView::refresh`].
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn fold(&mut self) -> Result<(), ViewError> {
        loop {
            let before = self.follow.incarnation();
            let page = match self.follow.ready() {
                Ok(page) => page,
                // Replaced by one that does not hold what was read: what it holds now is what counts.
                Err(FollowError::Read(ReadError::UnknownId { .. })) => {
                    self.follow = Follow::open(self.store.clone(), &self.name.key(), From::Start)?;
                    self.world = World::new();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if before != 0 && self.follow.incarnation() != before {
                self.fold_again(&page)?;
            }
            if page.is_empty() {
                return Ok(());
            }
            self.take_in(page);
        }
    }

    /// The stream was replaced from outside: cursors mean other places, and what stands before may have changed. The
    /// world is folded anew up to where the page begins.
    fn fold_again(&mut self, page: &Page) -> Result<(), ViewError> {
        self.world = World::new();
        let mut at = Cursor::START;
        let until = page.entries.first().map_or(page.next, |entry| entry.at);
        loop {
            let history = self.follow.stream().read(at, 4096).map_err(FollowError::from)?;
            for entry in history.entries.iter().take_while(|entry| entry.at < until) {
                apply(&mut self.world, &self.name, entry);
            }
            if history.next == at || history.next >= until {
                return Ok(());
            }
            at = history.next;
        }
    }

    fn take_in(&mut self, page: Page) {
        for entry in &page.entries {
            apply(&mut self.world, &self.name, entry);
        }
        self.damage.extend(page.damage);
        self.unread.extend(page.entries);
    }

    #[must_use]
    pub fn task(&self) -> &Task {
        // The fold makes a task for its first message; before that it is what every task is at first.
        static NEW: std::sync::LazyLock<Task> = std::sync::LazyLock::new(Task::default);
        self.world.task(&self.name.project, &self.name.task).unwrap_or(&NEW)
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
        let mut stream = self.follow.stream().clone();
        let mut gate = Gate {
            name: &self.name,
            world: &mut self.world,
            decide: &decide,
            refusal: None,
            seen: Vec::new(),
        };
        let mut tries = 0;
        let appended = loop {
            match stream.append_if(self.follow.cursor(), &mut gate, batch.clone(), self.durability) {
                // The stream was replaced between the look and the append: look again.
                Err(AppendError::Read { source: ReadError::Incarnation { .. }, .. }) if tries < 10 => {
                    tries += 1;
                    self.fold()?;
                    stream = self.follow.stream().clone();
                    gate = Gate {
                        name: &self.name,
                        world: &mut self.world,
                        decide: &decide,
                        refusal: None,
                        seen: Vec::new(),
                    };
                }
                other => break other?,
            }
        };
        let Gate { refusal, seen, .. } = gate;
        for entry in seen {
            self.follow.note(&entry);
            self.unread.push(entry);
        }
        let Some(entries) = appended else {
            return Ok(Proposed::Refused(refusal.unwrap_or(Refusal::Moot)));
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
        Ok(self.follow.stream().append(batch, self.durability)?)
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
