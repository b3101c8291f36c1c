//! The slots of a root: locked files that say who is at work, and the tickets of those who wait (`docs/slots.md`); and
//! in the same way the places of the loops that are driven. The rules are in `run_agent_core::policy::slots`.
//!
//! Nothing here is remembered but in locks, which the kernel frees with their holder. A slot is given back by its owner;
//! what is lost in a crash is found again by looking.

mod folder;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use run_agent_core::RunId;
use run_agent_core::policy::slots::{
    Class, Place, Ticket, Vigil, ahead, free, look_again_ms, may_enter, next,
};

use self::folder::{Folder, Listing};
use crate::supervise::{os, ring};
use crate::tree::{TaskName, Tree};

/// One run's part in the limit: its slot, its place in the queue, or neither.
#[derive(Debug)]
pub(crate) struct Slots {
    folder: Folder,
    tree: Tree,
    max: u32,
    /// Written into the files that this run holds.
    who: String,
    hold: Hold,
    vigil: Vigil,
}

#[derive(Debug)]
enum Hold {
    Nothing,
    /// The lock says that whoever waits with this ticket lives.
    Ticket(Ticket, File),
    Slot(File),
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The slot is this run's.
    Entered,
    /// It has a ticket, and looks again after so long.
    Waits { ahead: usize, again: Duration },
    /// Others are looking: nothing was done.
    Busy,
}

impl Slots {
    /// `None`: nobody counts.
    pub(crate) fn of(tree: &Tree, name: &TaskName, run: &RunId, max: u32) -> Option<Self> {
        let who = format!("{}/{}/{run}\n", name.project, name.task);
        Self::new(tree, tree.layout.slots(), max, who)
    }

    /// As [`Slots::of`], for the loop of a task and the places of loops.
    pub(crate) fn of_loop(tree: &Tree, name: &TaskName, max: u32) -> Option<Self> {
        Self::new(tree, tree.layout.loops(), max, format!("{}/{}\n", name.project, name.task))
    }

    fn new(tree: &Tree, folder: PathBuf, max: u32, who: String) -> Option<Self> {
        let folder = Folder::new(folder);
        (max > 0).then(|| Self {
            folder,
            tree: tree.clone(),
            max,
            who,
            hold: Hold::Nothing,
            vigil: Vigil::default(),
        })
    }

    pub(crate) fn place(&self) -> Place {
        match self.hold {
            Hold::Nothing => Place::Nothing,
            Hold::Ticket(..) => Place::Queued,
            Hold::Slot(_) => Place::Slot,
        }
    }

    /// Takes a slot if it is this run's turn, else a ticket of this class, once.
    ///
    /// # Errors
    /// When the folder cannot be used. Then the run waits for nothing.
    pub(crate) fn look(&mut self, class: Class) -> io::Result<Look> {
        self.tree.no_link(self.folder.path()).map_err(|link| io::Error::other(link.to_string()))?;
        let Some(mutex) = self.folder.lock(MUTEX_WAIT)? else { return Ok(Look::Busy) };
        let mut listing = self.folder.tidy()?;
        let known = match &self.hold {
            Hold::Slot(_) => return Ok(Look::Entered),
            // One whose file is gone, with the folder, is nobody's.
            Hold::Ticket(ticket, _) if listing.tickets.contains(ticket) => Some(*ticket),
            Hold::Ticket(..) | Hold::Nothing => None,
        };
        let own = known.unwrap_or_else(|| next(&listing.tickets, class));
        if known.is_none() {
            self.hold = Hold::Nothing;
            listing.tickets.push(own);
            listing.tickets.sort_unstable();
        }
        if listing.asleep.remove(&own) {
            self.folder.wake(own);
        }
        let mut head = self.head(&mut listing, Some(own))?;
        let asleep = self.vigil.look(&head.entering, os::clock_ms());
        if !asleep.is_empty() {
            for ticket in asleep {
                self.folder.put_to_sleep(ticket)?;
                listing.asleep.insert(ticket);
            }
            // Given up, so that it is found again as one that nobody holds.
            head.vacant = None;
            head = self.head(&mut listing, Some(own))?;
        }
        let Head { entering, free, vacant } = head;
        let asleep = &listing.asleep;
        let awake: Vec<Ticket> = listing.tickets.iter().copied().filter(|t| !asleep.contains(t)).collect();
        let before = ahead(&awake, own);
        let looked = if may_enter(before, free) {
            let slot = match vacant {
                Some(file) => file,
                None => self.folder.new_slot(&listing)?,
            };
            note(&slot, &self.who)?;
            if known.is_some() {
                self.folder.remove(own);
            }
            self.hold = Hold::Slot(slot);
            Look::Entered
        } else {
            if known.is_none() {
                let file = self.folder.new_ticket(own)?;
                note(&file, &self.who)?;
                self.hold = Hold::Ticket(own, file);
            }
            Look::Waits { ahead: before, again: Duration::from_millis(look_again_ms(before, self.max)) }
        };
        drop(mutex);
        self.ring(&entering);
        Ok(looked)
    }

    /// Gives back the slot, or the place in the queue, and wakes who may enter instead.
    pub(crate) fn leave(&mut self) {
        match std::mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Nothing => return,
            Hold::Ticket(ticket, lock) => {
                self.folder.remove(ticket);
                drop(lock);
            }
            Hold::Slot(slot) => {
                // A file that nobody holds names nobody.
                let _ = slot.set_len(0);
                drop(slot);
            }
        }
        // What is missed here is found by those at the head, who look each second.
        if let Ok(entering) = self.who_may_enter() {
            self.ring(&entering);
        }
    }

    fn who_may_enter(&self) -> io::Result<Vec<Ticket>> {
        // Under the lock: one who has just found no free slot has made its ticket by then.
        let Some(_mutex) = self.folder.lock(MUTEX_WAIT)? else { return Ok(Vec::new()) };
        let mut listing = self.folder.tidy()?;
        if listing.tickets.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.head(&mut listing, None)?.entering)
    }

    /// Who may enter now. Dead tickets that stand before them are removed, also from the listing.
    fn head(&self, listing: &mut Listing, own: Option<Ticket>) -> io::Result<Head> {
        let (held, vacant) = self.folder.held(listing, self.max)?;
        let free = free(held, self.max);
        let (mut live, mut dead, mut entering) = (0, Vec::new(), Vec::new());
        for ticket in &listing.tickets {
            if !may_enter(live, free) {
                break;
            }
            if own == Some(*ticket) {
                live += 1;
            } else if self.folder.is_live(*ticket)? {
                if !listing.asleep.contains(ticket) {
                    live += 1;
                    entering.push(*ticket);
                }
            } else {
                dead.push(*ticket);
            }
        }
        for ticket in &dead {
            self.folder.remove(*ticket);
        }
        listing.tickets.retain(|ticket| !dead.contains(ticket));
        Ok(Head { entering, free, vacant })
    }

    fn ring(&self, entering: &[Ticket]) {
        for ticket in entering {
            // Who is missed looks again by itself.
            let _ = self.folder.owner(*ticket).and_then(|who| self.wake(&who));
        }
    }

    fn wake(&self, who: &str) -> Option<()> {
        let mut ids = who.trim_end().split('/');
        let project = run_agent_core::ProjectId::parse(ids.next()?).ok()?;
        let task = run_agent_core::TaskId::parse(ids.next()?).ok()?;
        let name = TaskName { project, task };
        match ids.next() {
            Some(run) => {
                ring(&self.tree.run(&name, &RunId::parse(run).ok()?));
            }
            // A driver watches its lock file.
            None => {
                let lock = self.tree.open(&self.tree.task(&name).loop_lock()).ok()?;
                lock.set_modified(SystemTime::now()).ok()?;
            }
        }
        Some(())
    }
}

/// The tickets in both queues of a root whose owners are dead, as far as one can see without the lock.
pub(crate) fn dead_tickets(tree: &Tree) -> Vec<PathBuf> {
    let dead = |folder: Folder| -> io::Result<Vec<PathBuf>> {
        let mut tickets = folder.list()?.tickets;
        tickets.retain(|ticket| folder.is_live(*ticket).is_ok_and(|live| !live));
        Ok(tickets.into_iter().map(|ticket| folder.ticket(ticket)).collect())
    };
    let folders = [tree.layout.slots(), tree.layout.loops()].map(Folder::new);
    folders.into_iter().flat_map(|folder| dead(folder).unwrap_or_default()).collect()
}

/// Removes a ticket whose owner is dead still.
///
/// # Errors
/// When the folder cannot be used, or others are looking all the time.
pub(crate) fn remove_dead_ticket(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().map(|folder| Folder::new(folder.to_owned())) else { return Ok(()) };
    let busy = || io::Error::new(io::ErrorKind::WouldBlock, "others hold the queue's lock");
    // Under the lock: its number may have been given again.
    let _mutex = folder.lock(MUTEX_WAIT)?.ok_or_else(busy)?;
    for ticket in folder.list()?.tickets {
        if folder.ticket(ticket) == path && !folder.is_live(ticket)? {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The head of the queue.
struct Head {
    /// Those who may enter now, but for the one that asks.
    entering: Vec<Ticket>,
    free: usize,
    /// A slot file that nobody holds, locked by this process.
    vacant: Option<File>,
}

/// How long a look waits for those of others; what it is to do is done by the next one.
const MUTEX_WAIT: Duration = Duration::from_secs(1);

fn note(mut file: &File, who: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(who.as_bytes())
}

#[cfg(test)]
mod tests;
