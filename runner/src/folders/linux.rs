//! inotify. Opening and closing a file is no event here: everybody who reads it would wake all others who watch it, who
//! read it in turn.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use super::What;

#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    /// By the system's number of the watch.
    folders: Vec<(i32, Vec<OsString>)>,
}

fn events(what: What) -> WatchFlags {
    let gone = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    let growth = gone | WatchFlags::MODIFY;
    match what {
        What::Growth => growth,
        What::Anything => {
            growth | WatchFlags::ATTRIB | WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE
        }
    }
}

impl Watches {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, folders: Vec::new() })
    }

    pub(super) fn add(&mut self, folder: &Path, names: &[&OsStr], what: What) -> io::Result<()> {
        // A folder that is watched already keeps its number, and what it is watched for.
        let number = add_watch(&self.inotify, folder, events(what) | WatchFlags::MASK_ADD)?;
        let names = names.iter().map(|name| (*name).to_owned());
        match self.folders.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.extend(names),
            None => self.folders.push((number, names.collect())),
        }
        Ok(())
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes all events that there are.
    pub(super) fn happened(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let mut concerns = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let is_named = |name: &OsStr| {
                        let folder = self.folders.iter().find(|(number, _)| *number == event.wd());
                        folder.is_some_and(|(_, names)| names.iter().any(|known| known == name))
                    };
                    // Without a name it is about the folder, or tells that events were lost.
                    concerns |=
                        name.is_none_or(is_named) || event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                }
                Err(Errno::INTR) => {}
                Err(_) => return concerns,
            }
        }
    }
}
