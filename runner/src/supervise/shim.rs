//! The exec shim: the agent's process before it is the agent. It waits until it is let go, so that its identity is
//! recorded before anything of the agent's runs; if its supervisor dies first, it ends without exec.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::os;

/// The descriptor of the shim's end of the socket.
pub(super) const SOCKET_FD: i32 = 3;
/// What lets it go.
pub(super) const GO: u8 = b'g';
/// The exit code of a shim that was not let go, or whose program cannot be executed.
const NOT_EXECUTED: i32 = 126;

/// The hidden subcommand's whole work. Returns only when the agent was not executed.
#[must_use]
pub fn run(argv: &[String]) -> i32 {
    let Some((program, args)) = argv.split_first() else { return NOT_EXECUTED };
    let Ok(socket) = os::inherited(SOCKET_FD) else { return NOT_EXECUTED };
    let mut socket = UnixStream::from(std::os::fd::OwnedFd::from(socket));
    let mut byte = [0];
    loop {
        match socket.read(&mut byte) {
            Ok(1) if byte[0] == GO => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The supervisor is gone, or took the start back.
            _ => return NOT_EXECUTED,
        }
    }
    // The socket closes at exec: its end tells the supervisor that the agent runs.
    let error = Command::new(program).args(args).exec();
    let _ = socket.write_all(format!("{program}: {error}").as_bytes());
    NOT_EXECUTED
}
