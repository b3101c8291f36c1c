//! The doorbell: a named pipe in the run's folder. A byte in it wakes the supervisor, which then reads the stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::stat::Mode;
use run_agent_core::layout::RunPaths;

/// Makes the pipe and opens it for both ends, so that reading never finds its end.
pub(super) fn open(run: &RunPaths) -> io::Result<File> {
    let path = run.doorbell();
    match nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    OpenOptions::new().read(true).write(true).open(path)
}

/// Wakes the run's supervisor. `false`: nobody listens (yet, or any more).
pub fn ring(run: &RunPaths) -> bool {
    let bell = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(run.doorbell());
    match bell {
        // A full pipe rings already.
        Ok(mut bell) => match bell.write(b"!") {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        },
        Err(_) => false,
    }
}
