//! A command of an agent's that waits for somebody else: meanwhile its run counts as waiting, and gives its slot back
//! (`docs/slots.md`). Each command that blocks holds one [`Blocked`] for as long as it does.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failpoint;
use crate::supervise::os;
use crate::wake;

/// What is said over the socket.
pub(crate) const BLOCKED: &[u8] = b"blocked\n";
pub(crate) const BACK: &[u8] = b"back\n";
pub(crate) const GO: &[u8] = b"go\n";

/// A lost hint of a signal is made good after so many milliseconds.
const LOOK_AGAIN_MS: u16 = 1000;

/// While this lives, the calling run counts as waiting. Dropping it returns when the run holds a slot again, or when
/// there is nobody left to ask.
#[derive(Debug)]
#[must_use = "the run counts as waiting for as long as this lives"]
pub struct Blocked {
    supervisor: Option<UnixStream>,
}

impl Blocked {
    /// `socket` is that of the run that calls; a person has none. Where no supervisor listens the command blocks as if
    /// nobody counted.
    pub fn begin(socket: Option<&Path>) -> Self {
        let supervisor = socket.and_then(|socket| call(socket).ok());
        failpoint::here("blocked.said");
        Self { supervisor }
    }
}

fn call(socket: &Path) -> io::Result<UnixStream> {
    let mut supervisor = os::near(socket, |path| UnixStream::connect(path))?;
    supervisor.write_all(BLOCKED)?;
    Ok(supervisor)
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        if supervisor.write_all(BACK).is_ok() {
            failpoint::here("blocked.back");
            // Whatever it fails of, the command goes on: it has done its work.
            let _ = wait_for_go(supervisor);
        }
    }
}

/// Returns at an answer, at the supervisor's end, or at a signal that is to end this command.
fn wait_for_go(mut supervisor: UnixStream) -> io::Result<()> {
    let (signals, signalled) = UnixStream::pair()?;
    let mut handlers = Vec::new();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        handlers.push(signal_hook::low_level::pipe::register(signal, signalled.try_clone()?)?);
    }
    while !wake::interrupted_here() {
        let mut fds = [supervisor.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::from(LOOK_AGAIN_MS)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) if fds[1].any() == Some(true) => break,
            Ok(_) => {
                let _ = supervisor.read(&mut [0; 8])?;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    for handler in handlers {
        signal_hook::low_level::unregister(handler);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_command_without_a_supervisor_goes_on() {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("s");
        drop(Blocked::begin(None));
        drop(Blocked::begin(Some(&socket)));
        drop(UnixListener::bind(&socket).unwrap());
        drop(Blocked::begin(Some(&socket)));
    }

    #[test]
    fn a_command_whose_supervisor_dies_while_it_waits_to_return_goes_on() {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let blocked = Blocked::begin(Some(&socket));
        let (mut connection, _) = listener.accept().unwrap();
        let mut said = [0; BLOCKED.len()];
        connection.read_exact(&mut said).unwrap();
        assert_eq!(said, *BLOCKED);
        let command = std::thread::spawn(move || drop(blocked));
        let mut said = [0; BACK.len()];
        connection.read_exact(&mut said).unwrap();
        assert_eq!(said, *BACK);
        assert!(!command.is_finished(), "nobody has let it go");
        drop(connection);
        command.join().unwrap();
    }

    #[test]
    fn a_command_returns_when_it_is_let_go() {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let blocked = Blocked::begin(Some(&socket));
        let (mut connection, _) = listener.accept().unwrap();
        let command = std::thread::spawn(move || drop(blocked));
        let mut said = [0; BLOCKED.len() + BACK.len()];
        connection.read_exact(&mut said).unwrap();
        connection.write_all(GO).unwrap();
        command.join().unwrap();
    }
}
