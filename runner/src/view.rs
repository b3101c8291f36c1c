//! A task as its stream tells it, kept current by this process, and the one way in which the runner appends: what it
//! posts is decided under the append lock, of a world that has seen everything.

use std::sync::Arc;

use run_agent_core::decide::Refusal;
use run_agent_core::event::{Event, RunStart};
use run_agent_core::follow::{Follow, FollowError, From, PAGE_ENTRIES};
use run_agent_core::store::{AppendError, Condition, Damage, Page, ReadError};
use run_agent_core::world::{Run, Task, Told};
use run_agent_core::{Cursor, Draft, Durability, Entry, RunId, Store, Stream, World};

use crate::adopt::{self, DriverLife};
use crate::below::IsLink;
use crate::checkpoint::{Checkpoint, Keeper};
use crate::tree::{TaskName, Tree};

/// A task, folded up to where this process has read.
#[derive(Debug)]
pub struct TaskView {
    pub name: TaskName,
    store: Arc<dyn Store>,
    durability: Durability,
    follow: Follow,
    world: World,
    /// The last entry that was folded in.
    last: Option<Entry>,
    keeper: Keeper,
    /// Something was passed over under the append lock that may be damage: this fold is not for others.
    incomplete: bool,
    /// Folded in, but not handed out to whoever follows the story through this view.
    unread: Vec<Entry>,
    /// What could not be read so far.
    pub damage: Vec<Damage>,
}

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error(transparent)]
    Link(#[from] IsLink),
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
    /// Folds what is there, or what came since the last checkpoint. That is history: [`TaskView::refresh`] tells only
    /// what comes after it.
    ///
    /// # Errors
    /// When the task is not there or cannot be read, or a link leads to it or its runs.
    pub fn open(tree: &Tree, name: &TaskName) -> Result<Self, ViewError> {
        tree.no_link(&tree.task(name).runs())?;
        let mut keeper = Keeper::new(&tree.layout, name);
        let key = name.key();
        let kept = keeper.load(|| tree.store.open(&key)).map_err(FollowError::from)?;
        let mut view = match kept {
            Some((checkpoint, stream)) => {
                let Checkpoint { world, damage, cursor, last } = checkpoint;
                let id = last.message.id.clone();
                let follow = Follow::resume(tree.store.clone(), stream, cursor, id);
                Self { world, damage, last: Some(last), ..Self::begin(tree, name, keeper, follow) }
            }
            None => {
                let follow = Follow::open(tree.store.clone(), &key, From::Start)?;
                Self::begin(tree, name, keeper, follow)
            }
        };
        view.fold_in(false)?;
        Ok(view)
    }

    fn begin(tree: &Tree, name: &TaskName, keeper: Keeper, follow: Follow) -> Self {
        Self {
            name: name.clone(),
            store: tree.store.clone(),
            durability: tree.durability,
            follow,
            world: World::new(),
            last: None,
            keeper,
            incomplete: false,
            unread: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// Reads what is new. Returns what was not returned before, what this view appended included.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn refresh(&mut self) -> Result<Vec<Entry>, ViewError> {
        self.fold()?;
        Ok(std::mem::take(&mut self.unread))
    }

    /// Who drives the loop. A driver posts the loop's end before it lets go of its lock: what was posted meanwhile has
    /// to be folded first, and until then it counts as alive.
    #[must_use]
    pub fn driver(&self, tree: &Tree) -> DriverLife {
        let ralph = &self.task().ralph;
        if !ralph.is_open() {
            return DriverLife::NotOpen;
        }
        let life = adopt::driver_life(tree, &self.name, ralph.driver.as_deref());
        let is_current = || self.follow.stream().end().is_ok_and(|end| end == self.follow.cursor());
        match life {
            DriverLife::Lost | DriverLife::Foreign if !is_current() => DriverLife::Alive,
            life => life,
        }
    }

    /// The loop is open, and its driver died without saying so.
    #[must_use]
    pub fn is_driverless(&self, tree: &Tree) -> bool {
        self.driver(tree) == DriverLife::Lost
    }

    /// Brings the world up to date, and leaves what is new to the next [`TaskView::refresh`].
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub fn fold(&mut self) -> Result<(), ViewError> {
        self.fold_in(true)
    }

    fn fold_in(&mut self, tell: bool) -> Result<(), ViewError> {
        loop {
            let before = self.follow.incarnation();
            let page = match self.follow.ready() {
                Ok(page) => page,
                // Replaced by one that does not hold what was read: what it holds now is what counts.
                Err(FollowError::Read(ReadError::UnknownId { .. })) => {
                    self.follow = Follow::open(self.store.clone(), &self.name.key(), From::Start)?;
                    self.forget();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if before != 0 && self.follow.incarnation() != before {
                self.fold_again(&page)?;
            }
            if page.is_empty() {
                self.keep();
                return Ok(());
            }
            self.take_in(&page);
            let is_last = page.entries.len() < PAGE_ENTRIES;
            if tell {
                self.unread.extend(page.entries);
            }
            if is_last {
                self.keep();
                return Ok(());
            }
        }
    }

    /// The stream was replaced from outside: cursors mean other places, and what stands before may have changed. The
    /// world is folded anew up to where the page begins.
    fn fold_again(&mut self, page: &Page) -> Result<(), ViewError> {
        self.forget();
        let mut at = Cursor::START;
        let until = page.entries.first().map_or(page.next, |entry| entry.at);
        loop {
            let mut history = self.follow.stream().read(at, 4096).map_err(FollowError::from)?;
            let (begins, next) = (at, history.next);
            history.entries.retain(|entry| entry.at < until);
            // What the page tells itself is not told twice.
            history.damage.retain(|damage| damage.at < until && !page.damage.contains(damage));
            self.take_in(&history);
            if next == begins || next >= until {
                return Ok(());
            }
            at = next;
        }
    }

    fn take_in(&mut self, page: &Page) {
        for entry in &page.entries {
            apply(&mut self.world, &self.name, entry);
        }
        self.damage.extend(page.damage.iter().cloned());
        if let Some(last) = page.entries.last() {
            self.last = Some(last.clone());
        }
    }

    /// Everything that was folded in is of a stream that is no more.
    fn forget(&mut self) {
        self.world = World::new();
        self.damage.clear();
        self.last = None;
        self.incomplete = false;
        self.keeper.forget();
    }

    /// At the end of the stream: a checkpoint, if it pays.
    fn keep(&mut self) {
        if !self.incomplete && self.keeper.is_due(self.task().thread.messages()) {
            self.write_checkpoint();
        }
    }

    pub(crate) fn write_checkpoint(&mut self) {
        let Some(last) = self.last.take() else { return };
        let messages = self.task().thread.messages();
        // Moved there and back, since a world may be large.
        let checkpoint = Checkpoint {
            world: std::mem::take(&mut self.world),
            damage: std::mem::take(&mut self.damage),
            cursor: self.follow.cursor(),
            last,
        };
        self.keeper.save(self.follow.incarnation(), messages, &checkpoint);
        (self.world, self.damage, self.last) = (checkpoint.world, checkpoint.damage, Some(checkpoint.last));
    }

    #[must_use]
    pub fn task(&self) -> &Task {
        // The fold makes a task for its first message; before that it is what every task is at first.
        static NEW: std::sync::LazyLock<Task> = std::sync::LazyLock::new(Task::default);
        self.world.task(&self.name.project, &self.name.task).unwrap_or(&NEW)
    }

    /// The entry at this place of what was folded in, as [`run_agent_core::world::Evidence`] names it.
    #[must_use]
    pub fn entry_at(&self, at: Cursor) -> Option<Entry> {
        let page = self.follow.stream().read(at, 1).ok()?;
        page.entries.into_iter().find(|entry| entry.at == at)
    }

    /// What the stream tells of how a run's process came to be; none of a run that never had one.
    #[must_use]
    pub fn start_of(&self, run: &RunId) -> Option<RunStart> {
        let known = self.run(run)?;
        // The fold keeps it while the run goes on.
        known.start().cloned().or_else(|| start_at(self.follow.stream().as_ref(), known))
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
            self.incomplete |= entry.at != self.follow.cursor();
            self.follow.note(&entry);
            self.last = Some(entry.clone());
            self.unread.push(entry);
        }
        let Some(entries) = appended else {
            return Ok(Proposed::Refused(refusal.unwrap_or(Refusal::Moot)));
        };
        for entry in &entries {
            self.incomplete |= entry.at != self.follow.cursor();
            self.follow.note(entry);
            apply(&mut self.world, &self.name, entry);
        }
        self.last = entries.last().cloned().or(self.last.take());
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
    pub fn run(&self, run: &RunId) -> Option<&Run> {
        self.task().runs.get(run)
    }
}

/// The start of a run that is over, from where the stream tells of it.
pub(crate) fn start_at(stream: &dyn Stream, run: &Run) -> Option<RunStart> {
    let at = run.evidence.of(Told::RunStart)?;
    let entry = stream.read(at, 1).ok()?.entries.into_iter().find(|entry| entry.at == at)?;
    match Event::read(&entry.message) {
        Ok(Event::RunStart(start)) => Some(*start),
        // Another message stands there: the stream was replaced since it was folded.
        Ok(_) | Err(_) => None,
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
