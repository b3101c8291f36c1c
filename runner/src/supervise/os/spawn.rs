//! Starting a child with exactly the descriptors that it should have, and in the cgroup where it should be. One of the
//! two files of this crate with `unsafe` code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, WaitOptions, waitpid};

/// How far a child is taken out of its parent's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// A session of its own, without a terminal: no signal that a terminal sends reaches it.
    Session,
    /// A process group of its own, so that it can be signalled with what it starts.
    Group,
    /// Stays in its parent's session and group: what the terminal sends reaches both.
    No,
}

/// The first descriptor behind those that a child may be given.
const FIRST_FREE: RawFd = 10;

/// A child that was started.
#[derive(Debug)]
pub struct Spawned {
    /// Of the process that became the program.
    pub pid: u32,
    /// What stands behind its streams.
    pub child: Child,
    /// It is in the cgroup that was asked for.
    pub in_cgroup: bool,
}

impl Spawned {
    /// Waits until it has ended, and reaps it.
    ///
    /// # Errors
    /// When somebody else reaped it.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        // std closes its stdin before it waits.
        let status = self.child.wait();
        if !self.in_cgroup {
            return status;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        loop {
            match waitpid(pid, WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
                Ok(None) => return Err(io::ErrorKind::NotFound.into()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Starts `command` with `fds` under the numbers given, every other descriptor above stderr closed at exec, signals
/// unblocked and at their defaults; in the cgroup `into` where the kernel can do that.
///
/// # Errors
/// When the system cannot start it, or the program cannot be executed.
pub fn spawn(
    mut command: Command,
    fds: &[(BorrowedFd<'_>, RawFd)],
    detach: Detach,
    into: Option<BorrowedFd<'_>>,
) -> io::Result<Spawned> {
    let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let into = into.map(|folder| (folder.as_raw_fd(), tell.as_raw_fd()));
    // Copies far above the wanted numbers, so that moving one never overwrites another.
    let mut moves: Vec<(OwnedFd, RawFd)> = Vec::new();
    for (fd, wanted) in fds {
        debug_assert!(*wanted > 2 && *wanted < FIRST_FREE);
        moves.push((rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE)?, *wanted));
    }
    let raw: Vec<(RawFd, RawFd)> = moves.iter().map(|(fd, wanted)| (fd.as_raw_fd(), *wanted)).collect();
    let prepare = move || {
        if let Some((folder, tell)) = into {
            go_on_in_cgroup(folder, tell);
        }
        match detach {
            // SAFETY: both are async-signal-safe and take no pointers.
            Detach::Session => check(unsafe { libc::setsid() })?,
            Detach::Group => check(unsafe { libc::setpgid(0, 0) })?,
            Detach::No => {}
        }
        for signal in 1..=64 {
            // SAFETY: async-signal-safe; SIG_DFL is a valid disposition, and a signal that takes none is refused.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: both are async-signal-safe, and the set lives on this stack.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        close_at_exec(3);
        for (fd, wanted) in &raw {
            // SAFETY: async-signal-safe; the source is open: `moves` lives until the child was started.
            check(unsafe { libc::dup2(*fd, *wanted) })?;
        }
        Ok(())
    };
    // SAFETY: `prepare` calls only async-signal-safe functions and does not allocate.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    drop((moves, tell));
    let mut pid = [0; 4];
    // Empty where nobody went on in another process.
    let in_cgroup = File::from(told).read_exact(&mut pid).is_ok();
    let pid = if in_cgroup { u32::from_ne_bytes(pid) } else { child.id() };
    Ok(Spawned { pid, child, in_cgroup })
}

/// Goes on as a new child of this process's parent, which the kernel makes in the cgroup: moving a process into one waits
/// for the forks of the whole machine, which takes milliseconds. The process that std started says which one it
/// became, and ends. Where the kernel refuses, it goes on itself.
#[cfg(target_os = "linux")]
fn go_on_in_cgroup(folder: RawFd, tell: RawFd) {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: all zeros is a valid value of this plain structure: no flag, no pointer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP | libc::CLONE_PARENT as u64;
    args.cgroup = u64::try_from(folder).unwrap_or(0);
    // SAFETY: without CLONE_VM the new process has a copy of this one's memory and goes on here, as after a fork; the
    // structure lives on this stack, and its size is given.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if let Ok(pid) = u32::try_from(pid)
        && pid > 0
    {
        let pid = pid.to_ne_bytes();
        // SAFETY: write and _exit are async-signal-safe; the bytes live on this stack.
        unsafe {
            libc::write(tell, pid.as_ptr().cast(), pid.len());
            libc::_exit(0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn go_on_in_cgroup(_: RawFd, _: RawFd) {}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from `first` on to be closed at exec. std's own pipe, which tells the parent of a failed
/// exec, stays usable until then.
fn close_at_exec(first: RawFd) {
    #[cfg(target_os = "linux")]
    {
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        // SAFETY: a plain system call without pointers; an old kernel answers ENOSYS.
        let result =
            unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
        if result == 0 {
            return;
        }
    }
    // SAFETY: sysconf and fcntl are async-signal-safe and take no pointers here.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(256, 65_536);
    for fd in first..i32::try_from(limit).unwrap_or(256) {
        // SAFETY: as above; a descriptor that is not open is refused.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Takes a descriptor that the parent gave this process under a number, once.
///
/// # Errors
/// When it is not open: this process was not started as it should be.
pub fn inherited(fd: RawFd) -> io::Result<File> {
    // SAFETY: fcntl takes no pointer here; it only asks whether the number is open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the number is open, and by the protocol between parent and child nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}
