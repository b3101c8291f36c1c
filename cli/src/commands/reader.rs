//! Whoever reads this command's stdout. A command that waits for news has nothing to write, so a pipe whose reader went
//! away would tell it nothing.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::Failure;

/// Ends a command whose reader went away as quietly as a write would.
pub(crate) fn still_there() -> Result<(), Failure> {
    let stdout = std::io::stdout();
    let mut asked = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    // Errors and hang-ups are told unasked.
    let told = poll(&mut asked, PollTimeout::ZERO);
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    let is_gone = told.is_ok() && asked[0].revents().is_some_and(|events| events.intersects(gone));
    if is_gone { Err(Failure::quiet()) } else { Ok(()) }
}
