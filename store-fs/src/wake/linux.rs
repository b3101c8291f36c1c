//! inotify, read by whoever waits. Opening a file is no event here: every reader of a stream opens it, and each would
//! wake all others, who open it in turn. (The `notify` crate always asks for those events, and needs a thread a watch.)

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    name: OsString,
}

impl Watch {
    pub(super) fn new(folder: &Path, name: &OsStr) -> io::Result<Self> {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        add_watch(&inotify, folder, changes)?;
        Ok(Self { inotify, name: name.to_owned() })
    }

    /// Sleeps until something happens to the file, at most so long.
    pub(super) fn sleep(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.happened() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Rounded up: the last part of a millisecond would be a busy loop.
            let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            // An interrupted sleep is over: a wake-up is a hint.
            if poll(&mut fds, left).is_err() {
                return;
            }
        }
    }

    /// Takes all events that there are.
    fn happened(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let mut concerns = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    // Without a name it is about the folder, or tells that events were lost.
                    concerns |= name.is_none_or(|name| name == self.name)
                        || event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                }
                Err(Errno::INTR) => {}
                Err(_) => return concerns,
            }
        }
    }
}
