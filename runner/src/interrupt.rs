//! Waiting for others on behalf of a person, who may give it up.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Tells of the signals by which a person gives up. They end this process no more: whoever waits does.
#[derive(Debug)]
pub struct Interrupt(PipeReader);

impl Interrupt {
    /// # Errors
    /// When the system cannot tell of signals.
    pub fn listen() -> io::Result<Self> {
        let (interrupted, tells) = io::pipe()?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, tells.try_clone()?)?;
        }
        Ok(Self(interrupted))
    }
}

/// Something is to be read from it once a signal came, and it stays so: every later wait is given up, too.
impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How a wait came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Ended,
    Late,
    GivenUp,
}

/// Waits until the other end of `ended` is closed, for so long at most. Given up when something is to be read from `until`,
/// or its other end is closed.
pub(crate) fn wait(ended: &PipeReader, limit: Duration, until: Option<BorrowedFd<'_>>) -> io::Result<Waited> {
    let began = Instant::now();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(Waited::Late);
        }
        let mut fds = vec![PollFd::new(ended, PollFlags::IN)];
        fds.extend(until.iter().map(|until| PollFd::from_borrowed_fd(*until, PollFlags::IN)));
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) if fds[0].revents().is_empty() => return Ok(Waited::GivenUp),
            Ok(_) => return Ok(Waited::Ended),
            Err(error) => return Err(error.into()),
        }
    }
}
