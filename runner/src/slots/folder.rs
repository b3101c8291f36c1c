//! The folder behind the slots: names, locks, and how the files are told apart. Decides nothing.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use run_agent_core::policy::slots::{Class, Ticket, free};

use crate::files;

const SLOT: &str = "slot-";
const TICKET: &str = "ticket-";
const ASLEEP: &str = "asleep-";

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// What lies in the folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In order.
    pub(super) tickets: Vec<Ticket>,
    /// Those of them that are passed by.
    pub(super) asleep: BTreeSet<Ticket>,
    /// The numbers of the slot files, in order.
    pub(super) slots: Vec<u32>,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock under which the queue changes; `None` when others held it all the time. The folder is made where
    /// it is not there.
    pub(super) fn lock(&self, limit: Duration) -> io::Result<Option<File>> {
        let path = self.path.join("mutex");
        let file = match files::open_lock(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
                files::open_lock(&path)?
            }
            other => other?,
        };
        let deadline = Instant::now() + limit;
        let mut nap = Duration::from_micros(200);
        // Tried rather than waited for: a holder that was halted must not hold up a stop.
        while !files::try_lock(&file)? {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(20));
        }
        Ok(Some(file))
    }

    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(number) = name.strip_prefix(SLOT) {
                listing.slots.extend(number.parse::<u32>().ok());
            } else if let Some(rest) = name.strip_prefix(TICKET) {
                listing.tickets.extend(ticket(rest));
            } else if let Some(rest) = name.strip_prefix(ASLEEP) {
                listing.asleep.extend(ticket(rest));
            }
        }
        listing.tickets.sort_unstable();
        listing.slots.sort_unstable();
        Ok(listing)
    }

    /// As [`Self::list`], for one who holds the mutex: what belongs to no ticket is removed. A ticket that comes later may
    /// have the same name, and is awake.
    pub(super) fn tidy(&self) -> io::Result<Listing> {
        let mut listing = self.list()?;
        let known = &listing.tickets;
        listing.asleep.retain(|ticket| known.contains(ticket) || self.wake(*ticket));
        Ok(listing)
    }

    /// Has this ticket passed by from here on.
    pub(super) fn put_to_sleep(&self, ticket: Ticket) -> io::Result<()> {
        slot(OpenOptions::new().create(true)).open(self.asleep(ticket)).map(drop)
    }

    /// False: it is passed by no more.
    pub(super) fn wake(&self, ticket: Ticket) -> bool {
        // One that stays is removed by the next who comes to it.
        let _ = std::fs::remove_file(self.asleep(ticket));
        false
    }

    /// How many slots are held, as far as it matters to those who wait, and a file that nobody holds. Under the lock.
    pub(super) fn held(&self, listing: &Listing, max: u32) -> io::Result<(usize, Option<File>)> {
        let (mut held, mut vacant) = (0, None);
        let wanted = listing.tickets.len().max(1);
        for (n, number) in listing.slots.iter().enumerate() {
            let unknown = listing.slots.len() - n;
            if vacant.is_some() && free(held + unknown, max) >= wanted {
                return Ok((held + unknown, vacant));
            }
            if free(held, max) == 0 {
                break;
            }
            let file = match slot(OpenOptions::new().create(false)).open(self.slot(*number)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if files::try_lock(&file)? {
                vacant = vacant.or(Some(file));
            } else {
                held += 1;
            }
        }
        Ok((held, vacant))
    }

    /// A slot file more than there are, locked.
    pub(super) fn new_slot(&self, listing: &Listing) -> io::Result<File> {
        let number = (0..).zip(&listing.slots).find(|(n, there)| n != *there);
        let number = number.map_or(listing.slots.len(), |(n, _)| n as usize);
        let path = self.slot(u32::try_from(number).unwrap_or(u32::MAX));
        locked(slot(OpenOptions::new().create_new(true)).open(path)?)
    }

    /// A ticket's file, locked.
    pub(super) fn new_ticket(&self, ticket: Ticket) -> io::Result<File> {
        locked(slot(OpenOptions::new().create_new(true)).open(self.ticket(ticket))?)
    }

    /// Whether somebody waits with this ticket. Under the lock, where no ticket is half made.
    pub(super) fn is_live(&self, ticket: Ticket) -> io::Result<bool> {
        files::is_locked(&self.ticket(ticket))
    }

    pub(super) fn remove(&self, ticket: Ticket) {
        // One that stays is dead, and the next who comes to it tries again.
        let _ = std::fs::remove_file(self.ticket(ticket));
    }

    /// What its owner wrote into a ticket.
    pub(super) fn owner(&self, ticket: Ticket) -> Option<String> {
        let mut text = String::new();
        File::open(self.ticket(ticket)).ok()?.take(OWNER_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn slot(&self, number: u32) -> PathBuf {
        self.path.join(format!("{SLOT}{number}"))
    }

    pub(super) fn ticket(&self, ticket: Ticket) -> PathBuf {
        self.path.join(format!("{TICKET}{}", Name(ticket)))
    }

    fn asleep(&self, ticket: Ticket) -> PathBuf {
        self.path.join(format!("{ASLEEP}{}", Name(ticket)))
    }
}

/// A ticket, as its files are named.
struct Name(Ticket);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ticket { class, number } = self.0;
        write!(f, "{}-{number:020}", digit(class))
    }
}

/// Three names of files, at the most.
const OWNER_MAX: u64 = 1024;

fn slot(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(0o600)
}

fn locked(file: File) -> io::Result<File> {
    if files::try_lock(&file)? { Ok(file) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

fn digit(class: Class) -> u8 {
    match class {
        Class::Returning => 0,
        Class::New => 1,
    }
}

fn ticket(name: &str) -> Option<Ticket> {
    let (class, number) = name.split_once('-')?;
    let class = [Class::Returning, Class::New].into_iter().find(|c| digit(*c).to_string() == class)?;
    Some(Ticket { class, number: number.parse().ok()? })
}
