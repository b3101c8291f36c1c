//! What a blocking command sleeps on: the stream, the task's folder, signals. A wake-up is a hint, and every sleep is
//! bounded.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use run_agent_core::follow::{Follow, From};

use crate::tree::{TaskName, Tree};

/// However quiet it is, whoever sleeps looks again after so long: hints may be lost, and a process that was killed
/// says nothing.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Set by whichever [`Wake`] of this process was told of it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A signal arrived that is to end this command.
pub(crate) fn interrupted_here() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// So long, when nothing has happened for a while: many who wait for long are not to wake all the time.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(4);

/// Hints from several sources.
#[derive(Debug)]
pub struct Wake {
    hints: Receiver<()>,
    hint: SyncSender<()>,
    interrupted: Arc<AtomicBool>,
    watchers: Vec<notify::RecommendedWatcher>,
    /// How often in a row it slept as long as it may, and nothing came.
    quiet: AtomicU32,
    /// Tells the threads that follow streams that nobody listens any more.
    over: Arc<AtomicBool>,
}

impl Default for Wake {
    fn default() -> Self {
        let (hint, hints) = sync_channel(1);
        Self {
            hints,
            hint,
            interrupted: Arc::default(),
            watchers: Vec::new(),
            quiet: AtomicU32::new(0),
            over: Arc::default(),
        }
    }
}

impl Wake {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on SIGINT and SIGTERM do not end this process but are told by [`Wake::interrupted`].
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn on_interrupt(&self) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let (flag, hint) = (self.interrupted.clone(), self.hint.clone());
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for _ in signals.forever() {
                INTERRUPTED.store(true, Ordering::Relaxed);
                flag.store(true, Ordering::Relaxed);
                let _ = hint.try_send(());
            }
        })?;
        Ok(())
    }

    /// From now on these signals do not end this process but arrive here, in order.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn on_signals(&self, wanted: &[i32]) -> std::io::Result<Receiver<i32>> {
        let mut signals = signal_hook::iterator::Signals::new(wanted)?;
        let (hint, (send, arrived)) = (self.hint.clone(), sync_channel(16));
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // A person who presses the key more often than that means one signal.
                let _ = send.try_send(signal);
                let _ = hint.try_send(());
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
        let Ok(mut follow) = Follow::open(tree.store.clone(), &name.key(), From::End) else { return };
        let (hint, over) = (self.hint.clone(), self.over.clone());
        let _ = std::thread::Builder::new().name("stream".to_owned()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match follow.wait(Duration::from_secs(2)) {
                    Ok(page) if page.is_empty() => {}
                    Ok(_) => {
                        let _ = hint.try_send(());
                    }
                    Err(_) => std::thread::sleep(LOOK_AGAIN),
                }
            }
        });
    }

    /// Hints when one of the named files of a folder appears, changes or vanishes. Where the system gives no watch,
    /// looking again finds it.
    pub fn watch_files(&mut self, folder: &Path, names: &'static [&'static str]) {
        let hint = self.hint.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = match &event {
                Ok(event) if event.kind.is_access() => false,
                Ok(event) => event
                    .paths
                    .iter()
                    .any(|p| p.file_name().is_some_and(|n| names.iter().any(|name| n == *name))),
                Err(_) => true,
            };
            if concerns {
                let _ = hint.try_send(());
            }
        })
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
        self.watchers.extend(watcher.ok());
    }

    /// Sleeps until a hint, at most `timeout` and at most [`LOOK_AGAIN`], or a few times that where all is quiet.
    pub fn sleep(&self, timeout: Duration) {
        let quiet = self.quiet.load(Ordering::Relaxed);
        let longest = (LOOK_AGAIN * (1 + quiet / 2)).min(LOOK_AGAIN_MAX);
        match self.hints.recv_timeout(timeout.min(longest)) {
            Ok(()) => self.quiet.store(0, Ordering::Relaxed),
            // This value holds a sender: the channel never closes.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.quiet.store(quiet.saturating_add(u32::from(timeout >= longest)), Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
