//! Starting a child with exactly the descriptors that it should have, in the cgroup where it should be, and held back
//! before its program until it is let go where that is asked for. One of the two files of this crate with `unsafe` code.
//!
//! std can neither make a process in a cgroup nor hold one back, and a program that did the holding would be executed
//! for nothing: to execute one costs as much processor time as all else that a start needs.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

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

/// What is started, and with what.
#[derive(Debug)]
pub struct Start<'a> {
    /// Program, arguments, environment and working directory; its streams are not looked at.
    pub command: &'a Command,
    /// stdin, stdout and stderr; without them, those of this process.
    pub streams: Option<[BorrowedFd<'a>; 3]>,
    /// More descriptors, under the numbers from 3 on. Every other one is closed.
    pub fds: &'a [BorrowedFd<'a>],
    pub detach: Detach,
    /// The folder of the cgroup that it is made in, where the kernel can do that.
    pub into: Option<BorrowedFd<'a>>,
}

/// A child that was started.
#[derive(Debug)]
pub struct Spawned {
    pub pid: u32,
    /// It is in the cgroup that was asked for.
    pub in_cgroup: bool,
}

/// A child that waits to be let go. It ends without its program when this is dropped, or this process dies.
#[derive(Debug)]
pub struct Gate {
    socket: UnixStream,
    program: PathBuf,
    folder: PathBuf,
}

/// Why a child did not become its program.
#[derive(Debug, thiserror::Error)]
pub enum NotExecuted {
    #[error("cannot start in {}: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error("cannot execute {}: {error}", program.display())]
    Program { program: PathBuf, error: io::Error },
    #[error("cannot make the new process: {0}")]
    Process(#[from] io::Error),
    #[error("the new process is gone")]
    Gone,
}

/// What lets it go.
const GO: u8 = b'g';
/// What a child says before the error's number: what it could not do.
const FOLDER: u8 = b'f';
const PROGRAM: u8 = b'p';
const PROCESS: u8 = b'q';
/// How long a program may take to be executed.
const EXECUTED_WITHIN: Duration = Duration::from_secs(60);
/// The exit code of a child that was not let go, or whose program cannot be executed.
const NOT_EXECUTED: i32 = 126;
/// The first descriptor behind those that a child may be given.
const FIRST_FREE: RawFd = 10;
/// Besides the streams and the socket.
const FDS_MAX: usize = 6;

impl Spawned {
    /// Waits until it has ended, and reaps it.
    ///
    /// # Errors
    /// When somebody else reaped it.
    pub fn wait(self) -> io::Result<ExitStatus> {
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

impl Gate {
    /// Lets the child go, and waits until it has become its program.
    ///
    /// # Errors
    /// When it did not become it.
    pub fn let_go(mut self) -> Result<(), NotExecuted> {
        // One that is halted just now is not waited for without end.
        let _ = self.socket.set_read_timeout(Some(EXECUTED_WITHIN));
        let sent = self.socket.write_all(&[GO]);
        let mut said = Vec::new();
        // A child that failed before may have closed its end already: what it said comes first.
        let _ = self.socket.read_to_end(&mut said);
        let Some((step, error)) = said.split_first() else { return sent.map_err(|_| NotExecuted::Gone) };
        let number = error.try_into().map_or(libc::EIO, i32::from_ne_bytes);
        let error = io::Error::from_raw_os_error(number);
        Err(match *step {
            FOLDER => NotExecuted::Folder { folder: self.folder, error },
            PROGRAM => NotExecuted::Program { program: self.program, error },
            _ => NotExecuted::Process(error),
        })
    }
}

/// Starts a child, with signals unblocked and at their defaults. It has become its program when this returns.
///
/// # Errors
/// When the system cannot start it, or the program cannot be executed.
pub fn spawn(start: &Start<'_>) -> Result<Spawned, NotExecuted> {
    let (spawned, gate) = spawn_held(start)?;
    match gate.let_go() {
        Ok(()) => Ok(spawned),
        Err(error) => {
            let _ = spawned.wait();
            Err(error)
        }
    }
}

/// As [`spawn`], but the child waits before its program until it is let go. Until then it holds no descriptor of this
/// process's but its own.
///
/// # Errors
/// When the system cannot start it.
pub fn spawn_held(start: &Start<'_>) -> io::Result<(Spawned, Gate)> {
    let (ours, theirs) = UnixStream::pair()?;
    let plan = Plan::of(start, theirs.as_fd())?;
    let quiet = block_signals()?;
    let made = start.into.and_then(|folder| fork_into(folder.as_raw_fd()));
    let in_cgroup = made.is_some();
    let made = made.map_or_else(fork, Ok);
    if let Ok(0) = made {
        plan.become_program();
    }
    unblock_signals(&quiet);
    let pid = u32::try_from(made?).map_err(io::Error::other)?;
    let program = PathBuf::from(start.command.get_program());
    let folder = start.command.get_current_dir().map(PathBuf::from).unwrap_or_default();
    Ok((Spawned { pid, in_cgroup }, Gate { socket: ours, program, folder }))
}

/// All that the child needs, made before it is: between fork and exec nothing may be allocated.
struct Plan {
    /// The pointers point into these.
    _words: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    folder: Option<CString>,
    detach: Detach,
    /// Copies far above the wanted numbers, so that moving one never overwrites another.
    streams: Option<[OwnedFd; 3]>,
    fds: Vec<OwnedFd>,
    socket: OwnedFd,
}

impl Plan {
    fn of(start: &Start<'_>, socket: BorrowedFd<'_>) -> io::Result<Self> {
        let command = start.command;
        if start.fds.len() > FDS_MAX {
            return Err(io::Error::other("more descriptors than a child has numbers for"));
        }
        let word = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let argv = std::iter::once(command.get_program()).chain(command.get_args());
        let mut words = argv.map(word).collect::<Result<Vec<_>, _>>()?;
        let arguments = words.len();
        for pair in environment(command) {
            words.push(CString::new(pair)?);
        }
        let pointers = |words: &[CString]| {
            words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE);
        let streams = match start.streams {
            Some([input, output, error]) => Some([copy(input)?, copy(output)?, copy(error)?]),
            None => None,
        };
        Ok(Self {
            argv: pointers(&words[..arguments]),
            envp: pointers(&words[arguments..]),
            folder: command.get_current_dir().map(|folder| word(folder.as_os_str())).transpose()?,
            detach: start.detach,
            streams,
            fds: start.fds.iter().map(|fd| copy(*fd)).collect::<Result<_, _>>()?,
            socket: copy(socket)?,
            _words: words,
        })
    }

    /// The child's whole life before its program. Only what is async-signal-safe is called here: other threads of the
    /// parent may have held any lock when it was copied.
    fn become_program(&self) -> ! {
        let mut socket = self.socket.as_raw_fd();
        let failed = match self.prepare(&mut socket) {
            Ok(()) if is_let_go(socket) => Some((PROGRAM, self.execute())),
            // Nobody is there to be told.
            Ok(()) => None,
            Err(failed) => Some(failed),
        };
        // SAFETY: write and _exit are async-signal-safe; the bytes live on this stack.
        unsafe {
            if let Some((step, error)) = failed {
                let [a, b, c, d] = error.to_ne_bytes();
                let bytes = [step, a, b, c, d];
                libc::write(socket, bytes.as_ptr().cast(), bytes.len());
            }
            libc::_exit(NOT_EXECUTED)
        }
    }

    /// The error is what it could not do, and the system's number of why.
    fn prepare(&self, socket: &mut RawFd) -> Result<(), (u8, i32)> {
        let check = |result: libc::c_int| match result {
            0.. => Ok(result),
            _ => Err((PROCESS, last_error())),
        };
        match self.detach {
            // SAFETY: both are async-signal-safe and take no pointers.
            Detach::Session => check(unsafe { libc::setsid() })?,
            Detach::Group => check(unsafe { libc::setpgid(0, 0) })?,
            Detach::No => 0,
        };
        if let Some(folder) = &self.folder {
            // SAFETY: async-signal-safe; the text ends with NUL and lives as long as the plan.
            check(unsafe { libc::chdir(folder.as_ptr()) }).map_err(|(_, error)| (FOLDER, error))?;
        }
        let streams = self.streams.iter().flatten().zip(0..);
        let mut free = 3;
        for (fd, wanted) in streams.chain(self.fds.iter().zip(3..)) {
            // SAFETY: async-signal-safe; the source is open: the plan holds it.
            check(unsafe { libc::dup2(fd.as_raw_fd(), wanted) })?;
            free = free.max(wanted + 1);
        }
        // SAFETY: as above. The copy closes at exec: its end is what tells of it.
        *socket = check(unsafe { libc::dup2(*socket, free) })?;
        // SAFETY: fcntl takes no pointer here.
        check(unsafe { libc::fcntl(free, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        close_from(free + 1);
        defaults();
        Ok(())
    }

    /// Returns only when the program cannot be executed.
    fn execute(&self) -> i32 {
        // SAFETY: both lists end with a null pointer, and what they point to lives as long as the plan. The program is
        // looked for in the PATH of the environment that it gets; this process has one thread, which reads no other.
        unsafe {
            *environ() = self.envp.as_ptr();
            libc::execvp(self.argv[0], self.argv.as_ptr());
        }
        last_error()
    }
}

/// `NAME=value` of every variable that the command is to have: this process's, with the command's changes.
fn environment(command: &Command) -> Vec<Vec<u8>> {
    let mut all: std::collections::BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.insert(name.to_owned(), value.to_owned()),
            None => all.remove(name),
        };
    }
    all.into_iter().map(|(name, value)| [name.into_vec(), value.into_vec()].join(&b'=')).collect()
}

/// Where the system keeps this process's environment.
#[cfg(target_vendor = "apple")]
fn environ() -> *mut *const *const libc::c_char {
    // SAFETY: a plain call that gives the address of a variable.
    unsafe { libc::_NSGetEnviron().cast() }
}

#[cfg(not(target_vendor = "apple"))]
fn environ() -> *mut *const *const libc::c_char {
    unsafe extern "C" {
        static mut environ: *const *const libc::c_char;
    }
    &raw mut environ
}

/// Waits for the word. False: it does not come.
fn is_let_go(socket: RawFd) -> bool {
    let mut word = 0_u8;
    loop {
        // SAFETY: async-signal-safe; the byte lives on this stack.
        match unsafe { libc::read(socket, (&raw mut word).cast(), 1) } {
            1 => return word == GO,
            -1 if last_error() == libc::EINTR => {}
            _ => return false,
        }
    }
}

/// Every signal unblocked and at its default: an agent is not to inherit what this program does with them.
fn defaults() {
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
}

/// No handler of this program's may run in the child: it would tell this process of what the child was sent.
fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets live on this stack; all zeros is a valid value of this plain structure.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) {
            0 => Ok(before),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn unblock_signals(before: &libc::sigset_t) {
    // SAFETY: the set is one that the system gave.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// A copy of this process: 0 in the copy.
fn fork() -> io::Result<libc::pid_t> {
    // SAFETY: the copy calls only what is async-signal-safe, and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// As [`fork`], with the copy in the cgroup from its beginning: moving a process into one waits for the forks of the
/// whole machine, which takes milliseconds. `None` where the kernel refuses.
#[cfg(target_os = "linux")]
fn fork_into(folder: RawFd) -> Option<libc::pid_t> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: all zeros is a valid value of this plain structure: no flag, no pointer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = u64::try_from(folder).ok()?;
    // SAFETY: without CLONE_VM the new process has a copy of this one's memory and goes on here, as after a fork; the
    // structure lives on this stack, and its size is given. As in `fork`, the copy never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    libc::pid_t::try_from(pid).ok().filter(|pid| *pid >= 0)
}

#[cfg(not(target_os = "linux"))]
fn fork_into(_: RawFd) -> Option<libc::pid_t> {
    None
}

fn last_error() -> i32 {
    // It reads a variable of this thread's, and allocates nothing.
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Closes every descriptor from `first` on.
fn close_from(first: RawFd) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a plain system call without pointers; an old kernel answers ENOSYS.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
        if result == 0 {
            return;
        }
    }
    // SAFETY: sysconf is async-signal-safe.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(256, 65_536);
    for fd in first..i32::try_from(limit).unwrap_or(256) {
        // SAFETY: as above; a descriptor that is not open is refused.
        unsafe { libc::close(fd) };
    }
}

/// Takes a descriptor that the parent gave this process under a number, once.
///
/// # Errors
/// When it is not open: this process was not started as it should be.
pub fn inherited(fd: RawFd) -> io::Result<File> {
    // SAFETY: fcntl takes no pointer here; it only asks whether the number is open.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and by the protocol between parent and child nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}
