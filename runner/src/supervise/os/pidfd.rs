//! Handles on processes of which this one is no parent: waiting for their end, and asking the kernel how it was.
//! One of the two files of this crate with `unsafe` code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::ProcessId;

/// Between two looks where the kernel gives no handles.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long its parent gets to reap a process that has ended: before that the kernel does not tell how.
const REAPED_WITHIN: Duration = Duration::from_secs(2);

/// A process whose end is waited for.
#[derive(Debug)]
pub struct Watched {
    process: ProcessId,
    /// `None` on kernels before 5.3, and where a sandbox forbids it.
    handle: Option<OwnedFd>,
}

/// Opens a handle on whatever has this pid now. `Ok(None)`: nothing has.
pub(super) fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// True for an error that says that there are no handles here at all.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

impl Watched {
    /// `None`: this very process is gone.
    ///
    /// # Errors
    /// When the system gives no handle for another reason, such as too many open files.
    pub fn on(process: ProcessId) -> io::Result<Option<Self>> {
        let handle = match open(process.pid) {
            Ok(Some(handle)) => Some(handle),
            Ok(None) => return Ok(None),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(error),
        };
        // The handle pins the process: what is checked now is what is waited for.
        Ok(process.is_alive().then_some(Self { process, handle }))
    }

    /// Blocks until the process has ended. Returns its status as `waitpid` would give it, where the kernel tells.
    #[must_use]
    pub fn wait(self) -> Option<i32> {
        let Some(handle) = self.handle else {
            while self.process.is_alive() {
                std::thread::sleep(LOOK_EVERY);
            }
            return None;
        };
        while !is_ready(&handle, PollFlags::IN, None) {}
        // Reaped by its new parent, which is another process: only then does the kernel keep how it ended.
        is_ready(&handle, PollFlags::empty(), Some(REAPED_WITHIN));
        status(&handle)
    }
}

/// Waits for an event of a handle; with none asked for, for the one of having been reaped.
fn is_ready(handle: &OwnedFd, events: PollFlags, limit: Option<Duration>) -> bool {
    let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = [PollFd::new(handle, events)];
    // An interrupted wait is as one that was too short.
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// `struct pidfd_info` of the kernel, as of its first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`: how it ended, from Linux 6.15 on.
const INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: u64 = (3 << 30) | ((size_of::<Info>() as u64) << 16) | (0xff << 8) | 11;

fn status(handle: &OwnedFd) -> Option<i32> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: the request is for a structure of this size and layout, which lives on this stack; the descriptor is open.
    // A kernel that does not know the request refuses it.
    let result = unsafe { libc::ioctl(handle.as_raw_fd(), GET_INFO as _, &raw mut info) };
    (result == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_end_of_a_process_is_seen_without_reaping_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "read line; exit 7"]).stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let watched = Watched::on(ProcessId::now(child.id()).unwrap()).unwrap().unwrap();
        let waiting = std::thread::spawn(move || watched.wait());
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(7));
        // Kernels before 6.15 do not tell.
        assert!(matches!(waiting.join().unwrap(), None | Some(0x700)));
    }

    #[test]
    fn a_stranger_with_its_pid_is_not_watched() {
        let own = ProcessId::own();
        let other = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert!(Watched::on(other).unwrap().is_none());
    }
}
