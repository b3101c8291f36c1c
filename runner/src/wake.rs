//! What a blocking command sleeps on: streams, files, signals, in one `poll`. A wake-up is a hint, and every sleep is
//! bounded.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use run_agent_core::StreamKey;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::folders::{Folders, What};
use crate::tree::{TaskName, Tree};

/// However quiet it is, whoever sleeps looks again after so long: hints may be lost, and a process that was killed
/// says nothing.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Set by whichever [`Wake`] of this process was told of it.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// A signal arrived that is to end this command.
pub(crate) fn interrupted_here() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// So long, when nothing has happened for a while: many who wait for long are not to wake all the time.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(4);

/// The same where an end is waited for, of which the system tells for certain.
const LOOK_AGAIN_AT_END: Duration = Duration::from_secs(30);

/// How soon a thread that follows a stream sees that nobody listens any more.
const FOLLOW_AGAIN: Duration = Duration::from_secs(2);

/// Hints from several sources.
#[derive(Debug, Default)]
pub struct Wake {
    /// Made for the first source that is no file.
    bell: OnceCell<(OwnedFd, Arc<OwnedFd>)>,
    folders: RefCell<Folders>,
    interrupted: Arc<AtomicBool>,
    /// Of a process whose end is waited for: nothing is read, and its end is the hint.
    end: RefCell<Option<OwnedFd>>,
    /// How often in a row it slept as long as it may, and nothing came.
    quiet: Cell<u32>,
    /// Tells the threads that follow streams that nobody listens any more.
    over: Arc<AtomicBool>,
}

/// A pipe in which a byte is a hint. Neither end ever blocks.
pub(crate) fn bell() -> std::io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// Takes all hints that there are. False: there was none.
pub(crate) fn drain(bell: BorrowedFd<'_>) -> bool {
    let mut told = false;
    while rustix::io::read(bell, &mut [0; 64]).is_ok_and(|read| read > 0) {
        told = true;
    }
    told
}

impl Wake {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn rings(&self) -> std::io::Result<&Arc<OwnedFd>> {
        if let Some((_, ring)) = self.bell.get() {
            return Ok(ring);
        }
        let (told, ring) = bell()?;
        Ok(&self.bell.get_or_init(|| (told, Arc::new(ring))).1)
    }

    /// From now on SIGINT and SIGTERM do not end this process but are told by [`Wake::interrupted`].
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn on_interrupt(&self) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let ring = self.rings()?;
        for signal in [SIGINT, SIGTERM] {
            // In this order: whoever is woken finds it said.
            signal_hook::flag::register(signal, INTERRUPTED.clone())?;
            signal_hook::flag::register(signal, self.interrupted.clone())?;
            signal_hook::low_level::pipe::register(signal, ring.try_clone()?)?;
        }
        Ok(())
    }

    /// From now on these signals do not end this process but arrive here, in order.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn on_signals(&self, wanted: &[i32]) -> std::io::Result<Receiver<i32>> {
        let mut signals = signal_hook::iterator::Signals::new(wanted)?;
        let (ring, (send, arrived)) = (self.rings()?.clone(), sync_channel(16));
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // A person who presses the key more often than that means one signal.
                let _ = send.try_send(signal);
                hint(&ring);
            }
        })?;
        Ok(arrived)
    }

    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Hints when the task's stream grows.
    pub fn watch_stream(&self, tree: &Tree, name: &TaskName) {
        let key = name.key();
        let file = tree.store.watched_file(&key);
        match file.as_ref().and_then(|file| file.parent().zip(file.file_name())) {
            Some((folder, file)) => {
                self.folders.borrow_mut().watch_later(folder, &[file], What::Anything);
            }
            None => self.follow(tree, &key),
        }
    }

    /// As [`Wake::watch_stream`], for one who sleeps for long: watched from the beginning.
    pub(crate) fn watch_key(&self, tree: &Tree, key: &StreamKey) {
        let file = tree.store.watched_file(key);
        match file.as_ref().and_then(|file| file.parent().zip(file.file_name())) {
            Some((folder, file)) => self.folders.borrow_mut().watch(folder, &[file], What::Anything),
            None => self.follow(tree, key),
        }
    }

    /// Where no file tells of appends, a thread waits for them. It reads none of them: whoever is woken does.
    fn follow(&self, tree: &Tree, key: &StreamKey) {
        let (store, key) = (tree.store.clone(), key.clone());
        let at_end = move || {
            let stream = store.open(&key).ok()?;
            let end = stream.end().ok()?;
            Some((stream, end))
        };
        // The end as it is now: what comes while the thread is made is told of.
        let Some((mut stream, mut end)) = at_end() else { return };
        let Ok(ring) = self.rings().cloned() else { return };
        let over = self.over.clone();
        let _ = std::thread::Builder::new().name("stream".to_owned()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match stream.wait(end, FOLLOW_AGAIN).and_then(|()| stream.end()) {
                    Ok(now) if now == end => {}
                    Ok(now) => {
                        end = now;
                        hint(&ring);
                    }
                    Err(_) => {
                        std::thread::sleep(LOOK_AGAIN);
                        // It was replaced, or cannot be read: that is a hint, too.
                        if let Some(again) = at_end() {
                            (stream, end) = again;
                        }
                        hint(&ring);
                    }
                }
            }
        });
    }

    /// Hints when one of the named files of a folder appears, changes or vanishes.
    pub fn watch_files(&self, folder: &Path, names: &[&str]) {
        let names: Vec<&OsStr> = names.iter().map(OsStr::new).collect();
        self.folders.borrow_mut().watch_later(folder, &names, What::Anything);
    }

    /// Hints when the other end of this pipe is closed: its process is gone, whatever became of it.
    pub fn watch_end(&self, pipe: OwnedFd) {
        self.end.replace(Some(pipe));
    }

    /// True where an end is waited for that has not come.
    #[must_use]
    pub(crate) fn waits_for_end(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Sleeps until a hint, at most `timeout` and at most [`LOOK_AGAIN`], or a few times that where all is quiet.
    pub fn sleep(&self, timeout: Duration) {
        let quiet = self.quiet.get();
        let max = if self.waits_for_end() { LOOK_AGAIN_AT_END } else { LOOK_AGAIN_MAX };
        let longest = (LOOK_AGAIN * (1 + quiet / 2)).min(max);
        if self.sleep_for(timeout.min(longest)) {
            self.quiet.set(0);
        } else {
            self.quiet.set(quiet.saturating_add(u32::from(timeout >= longest)));
        }
    }

    /// Sleeps until a hint, at most so long. False: none came.
    pub(crate) fn sleep_for(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.take() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let folders = self.folders.borrow();
            let nap = folders.nap().map_or(left, |nap| nap.min(left));
            // Rounded up: the last part of a millisecond would be a busy loop.
            let nap = PollTimeout::try_from(nap + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let bell = self.bell.get().map(|(told, _)| told.as_fd());
            let end = self.end.borrow();
            let fds = end.iter().map(AsFd::as_fd).chain(bell).chain(folders.fd());
            let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            // An interrupted sleep is over: a signal is a hint.
            if poll(&mut fds, nap).is_err() {
                return true;
            }
            let ended = end.is_some() && fds.first().and_then(PollFd::any) == Some(true);
            drop(fds);
            drop(end);
            if ended {
                self.end.replace(None);
                return true;
            }
        }
    }

    /// Takes all hints that there are. False: there was none.
    pub(crate) fn take(&self) -> bool {
        let rung = self.bell.get().is_some_and(|(told, _)| drain(told.as_fd()));
        self.folders.borrow_mut().happened() || rung
    }
}

fn hint(ring: &OwnedFd) {
    // A full pipe holds a hint already.
    let _ = rustix::io::write(ring, b"!");
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use run_agent_core::layout::Layout;
    use run_agent_core::store::Options;
    use run_agent_core::{Draft, Durability, Kind, ProjectId, TaskId};
    use run_agent_store_fs::FsStore;
    use run_agent_store_segmented::SegmentedStore;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn tree(store: impl run_agent_core::Store + 'static, layout: Layout) -> Tree {
        let durability = Durability::None;
        Tree { layout, store: Arc::new(store), durability, sync_every: Duration::ZERO }
    }

    fn post(tree: &Tree, name: &TaskName, body: &str) {
        let draft = Draft::new(Kind::FACT, name.project.clone(), Some(name.task.clone()), body);
        // A handle of its own, as another process has it.
        tree.store.open(&name.key()).unwrap().append(vec![draft], Durability::None).unwrap();
    }

    #[test]
    fn whoever_sleeps_on_a_stream_is_woken_by_an_append_in_each_store() {
        let folder = tempfile::tempdir().unwrap();
        let layout = |name: &str| Layout::new(folder.path().join(name));
        let trees = [
            tree(FsStore::new(layout("fs"), Options::default()), layout("fs")),
            tree(SegmentedStore::new(layout("segmented"), Options::default()), layout("segmented")),
        ];
        let project = ProjectId::parse("p").unwrap();
        let task = TaskId::parse("task-20261121-093000-sleep").unwrap();
        let name = TaskName { project, task };
        for tree in trees {
            std::fs::create_dir_all(tree.task(&name).folder()).unwrap();
            // Before there is anything, and with a page to sleep on.
            for n in 0..4 {
                let wake = Wake::new();
                wake.watch_stream(&tree, &name);
                let (poster, who) = (tree.clone(), name.clone());
                let poster = std::thread::spawn(move || post(&poster, &who, &n.to_string()));
                assert!(wake.sleep_for(LONG), "{n}: {tree:?}");
                poster.join().unwrap();
            }
        }
    }

    #[test]
    fn whoever_sleeps_on_segments_is_woken_though_the_page_was_lost() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        let tree = tree(SegmentedStore::new(layout.clone(), Options::default()), layout);
        let project = ProjectId::parse("p").unwrap();
        let name = TaskName { project, task: TaskId::parse("task-20261121-093000-lost").unwrap() };
        std::fs::create_dir_all(tree.task(&name).folder()).unwrap();
        post(&tree, &name, "one");
        let wake = Wake::new();
        wake.watch_stream(&tree, &name);
        std::fs::remove_file(tree.store.place(&name.key()).join("ctl")).unwrap();
        post(&tree, &name, "two");
        assert!(wake.sleep_for(LONG));
    }
}
