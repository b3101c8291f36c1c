//! What a supervisor hears from others: its doorbell, the commands of its agent that block (`docs/slots.md`), and output
//! that grows. One thread that sleeps in one `poll`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use run_agent_core::layout::RunPaths;

use super::Wake;
use crate::blocked::{BACK, BLOCKED, GO};
use crate::folders::{Folders, What};
use crate::supervise::{doorbell, os};

/// More commands of one run than any agent has; further ones block as if nobody counted.
const COMMANDS_MAX: usize = 1000;
/// The longest thing that a command says.
const LINE_MAX: usize = 16;

/// What a command said, by the number of its connection.
#[derive(Debug)]
pub(super) enum Heard {
    Blocks(u64),
    /// It waits to be let go, over this.
    Back(u64, UnixStream),
    Gone(u64),
}

/// The commands of the run that block, or wait to return.
#[derive(Debug, Default)]
pub(super) struct Commands {
    blocked: BTreeSet<u64>,
    returning: BTreeMap<u64, UnixStream>,
}

impl Commands {
    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Blocks(id) => {
                self.blocked.insert(id);
            }
            Heard::Back(id, stream) => {
                self.blocked.remove(&id);
                self.returning.insert(id, stream);
            }
            Heard::Gone(id) => {
                self.blocked.remove(&id);
                self.returning.remove(&id);
            }
        }
    }

    pub(super) fn blocked(&self) -> usize {
        self.blocked.len()
    }

    pub(super) fn returning(&self) -> usize {
        self.returning.len()
    }

    /// Answers all that wait to return.
    pub(super) fn let_go(&mut self) {
        for mut stream in std::mem::take(&mut self.returning).into_values() {
            // One that is gone needs no answer.
            let _ = stream.write_all(GO);
        }
    }
}

/// The thread that hears.
pub(super) struct Listening(Sender<Folders>);

impl Listening {
    /// From now on it tells of output that grows. Output that cannot be watched is looked at now and then.
    pub(super) fn watch_output(&self, run: &RunPaths) {
        if let Some(output) = watch_output(run)
            && self.0.send(output).is_ok()
        {
            doorbell::ring(run);
        }
    }
}

/// Starts the thread. A run whose socket cannot be made is only never told that a command blocks.
pub(super) fn listen(run: &RunPaths, send: Sender<Wake>) -> io::Result<Listening> {
    let bell = doorbell::open(run)?;
    let listener = match bind(run) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "cannot listen to commands that block");
            None
        }
    };
    let (watch, outputs) = channel();
    let (output, grown) = (None, Arc::default());
    let ears = Ears { bell, listener, outputs, output, grown, connections: Vec::new(), next: 0, send };
    std::thread::Builder::new().name("ears".to_owned()).spawn(move || ears.hear())?;
    Ok(Listening(watch))
}

fn watch_output(run: &RunPaths) -> Option<Folders> {
    let files = [run.stdout(), run.stderr()];
    let names: Vec<_> = files.iter().filter_map(|path| path.file_name()).collect();
    Folders::watched(run.folder(), &names, What::Growth)
}

fn bind(run: &RunPaths) -> io::Result<UnixListener> {
    // Of a supervisor that was lost; nobody but the holder of the run's lock listens.
    let _ = std::fs::remove_file(run.socket());
    let listener = os::near(&run.socket(), |path| UnixListener::bind(path))?;
    // The folder is its owner's alone; so is what lies in it, wherever it is copied to.
    std::fs::set_permissions(run.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Ears {
    bell: File,
    listener: Option<UnixListener>,
    /// Brings what is to be watched from now on; a ring of the bell says so.
    outputs: Receiver<Folders>,
    output: Option<Folders>,
    /// That output has grown was told, and it was not looked at since.
    grown: Arc<AtomicBool>,
    connections: Vec<Connection>,
    next: u64,
    send: Sender<Wake>,
}

struct Connection {
    id: u64,
    stream: UnixStream,
    line: Vec<u8>,
    gone: bool,
}

/// The supervisor's main thread is gone.
struct Over;

impl Ears {
    fn hear(mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Over> {
        let (bell, listener, output, connections) = {
            let mut fds = vec![wanted(self.bell.as_fd())];
            fds.extend(self.listener.as_ref().map(|listener| wanted(listener.as_fd())));
            fds.extend(self.output.as_ref().and_then(Folders::fd).map(wanted));
            fds.extend(self.connections.iter().map(|connection| wanted(connection.stream.as_fd())));
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                return Ok(());
            }
            let mut told = fds.iter().map(|fd| fd.any().unwrap_or(true));
            let mut next = |there: bool| there && told.next().unwrap_or(false);
            let one_each = (next(true), next(self.listener.is_some()), next(self.output.is_some()));
            (one_each.0, one_each.1, one_each.2, told.collect::<Vec<bool>>())
        };
        if bell {
            // The pipe is open for writing here too: it has no end.
            let _ = self.bell.read(&mut [0; 64]);
            self.output = self.outputs.try_recv().ok().or(self.output.take());
            self.tell(Wake::Bell)?;
        }
        if output
            && self.output.as_mut().is_some_and(Folders::happened)
            && !self.grown.swap(true, Ordering::Relaxed)
        {
            self.tell(Wake::Output(self.grown.clone()))?;
        }
        for (n, told) in connections.into_iter().enumerate() {
            if told {
                self.read(n)?;
            }
        }
        self.connections.retain(|connection| !connection.gone);
        if listener {
            self.accept();
        }
        Ok(())
    }

    fn tell(&self, wake: Wake) -> Result<(), Over> {
        self.send.send(wake).map_err(|_| Over)
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok((stream, _)) = listener.accept() {
            let may = self.connections.len() < COMMANDS_MAX && os::is_of_this_user(&stream);
            if may && stream.set_nonblocking(true).is_ok() {
                let (id, line) = (self.next, Vec::new());
                self.next += 1;
                self.connections.push(Connection { id, stream, line, gone: false });
            }
        }
    }

    fn read(&mut self, n: usize) -> Result<(), Over> {
        let connection = &mut self.connections[n];
        let id = connection.id;
        let mut bytes = [0; LINE_MAX];
        let heard = match connection.stream.read(&mut bytes) {
            Ok(read @ 1..) => {
                connection.line.extend_from_slice(&bytes[..read]);
                connection.heard()
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Ok(_) | Err(_) => None,
        };
        let Some(heard) = heard else {
            connection.gone = true;
            return self.tell(Wake::Command(Heard::Gone(id)));
        };
        heard.into_iter().try_for_each(|heard| self.tell(Wake::Command(heard)))
    }
}

fn wanted(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

impl Connection {
    /// The whole lines that came. `None`: it says something else than commands say.
    fn heard(&mut self) -> Option<Vec<Heard>> {
        let mut heard = Vec::new();
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            heard.push(match line.as_slice() {
                BLOCKED => Heard::Blocks(self.id),
                BACK => Heard::Back(self.id, self.stream.try_clone().ok()?),
                _ => return None,
            });
        }
        (self.line.len() < LINE_MAX).then_some(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    /// What is heard of a run in a folder whose path is longer than a socket's may be.
    fn run() -> (tempfile::TempDir, RunPaths, Receiver<Wake>) {
        let scratch = tempfile::tempdir().unwrap();
        let long = scratch.path().join("x".repeat(120)).join("y".repeat(120));
        let layout = run_agent_core::layout::Layout::new(long);
        let task = layout.task(
            &run_agent_core::ProjectId::parse("p").unwrap(),
            &run_agent_core::TaskId::parse("task-20261121-093000-x").unwrap(),
        );
        let run = task.run(&run_agent_core::RunId::parse("20261121-0930001234-1-1").unwrap());
        std::fs::create_dir_all(run.folder()).unwrap();
        let (send, wakes) = channel();
        listen(&run, send).unwrap().watch_output(&run);
        assert!(matches!(wakes.recv().unwrap(), Wake::Bell));
        (scratch, run, wakes)
    }

    fn connect(run: &RunPaths) -> UnixStream {
        os::near(&run.socket(), |path| UnixStream::connect(path)).unwrap()
    }

    fn next(wakes: &Receiver<Wake>, commands: &mut Commands) -> (usize, usize) {
        match wakes.recv().unwrap() {
            Wake::Command(heard) => commands.hear(heard),
            _ => panic!("another wake"),
        }
        (commands.blocked(), commands.returning())
    }

    #[test]
    fn a_command_is_counted_until_it_is_let_go_or_gone() {
        let (_scratch, run, wakes) = run();
        let mut commands = Commands::default();
        let (mut one, mut two) = (connect(&run), connect(&run));
        one.write_all(BLOCKED).unwrap();
        assert_eq!(next(&wakes, &mut commands), (1, 0));
        // In pieces, as a socket may bring it.
        two.write_all(&BLOCKED[..3]).unwrap();
        two.write_all(&BLOCKED[3..]).unwrap();
        assert_eq!(next(&wakes, &mut commands), (2, 0));
        drop(two);
        assert_eq!(next(&wakes, &mut commands), (1, 0));
        one.write_all(BACK).unwrap();
        assert_eq!(next(&wakes, &mut commands), (0, 1));
        commands.let_go();
        let mut answer = [0; 3];
        one.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *GO);
        drop(one);
        assert_eq!(next(&wakes, &mut commands), (0, 0), "counted once");
    }

    #[test]
    fn who_says_something_else_is_no_command() {
        let (_scratch, run, wakes) = run();
        for words in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"\n", b"back \n"]
        {
            let mut other = connect(&run);
            other.write_all(words).unwrap();
            assert_eq!(next(&wakes, &mut Commands::default()), (0, 0));
            assert_eq!(other.read(&mut [0; 8]).unwrap_or(0), 0, "the connection is closed");
        }
    }

    #[test]
    fn the_bell_is_heard_between_commands() {
        let (_scratch, run, wakes) = run();
        let mut one = connect(&run);
        assert!(doorbell::ring(&run));
        assert!(matches!(wakes.recv().unwrap(), Wake::Bell));
        one.write_all(BLOCKED).unwrap();
        assert_eq!(next(&wakes, &mut Commands::default()), (1, 0));
        drop(std::fs::metadata(run.socket()).map(|meta| {
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o600);
        }));
    }
}
