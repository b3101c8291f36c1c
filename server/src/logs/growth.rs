//! One look at the files of each run that anybody follows, however many do. Nobody follows: nothing is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use run_agent_core::world::RunStatus;
use tokio::sync::watch;

use super::Name;
use super::file::which;
use crate::files;
use crate::live::Live;

const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Growth {
    live: Arc<Live>,
    watched: Mutex<Watched>,
    /// Counts changes of all runs that are watched.
    all: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Watched {
    runs: HashMap<Name, Seen>,
    /// A task looks at them.
    is_looked_at: bool,
}

#[derive(Debug)]
struct Seen {
    look: Look,
    /// Counts changes of this run.
    changes: watch::Sender<u64>,
}

/// Which files there are and how long they are, and whether the run goes on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    files: Vec<Option<(u64, u64)>>,
    status: Option<RunStatus>,
}

impl Growth {
    pub(super) fn new(live: Arc<Live>) -> Arc<Self> {
        Arc::new(Self { live, watched: Mutex::default(), all: watch::Sender::new(0) })
    }

    /// To be woken when a run that anybody watches changes.
    pub(super) fn watch_all(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }

    /// To be woken when the run changes.
    pub(super) fn watch(self: &Arc<Self>, name: &Name) -> watch::Receiver<u64> {
        let mut watched = self.watched();
        let seen = watched.runs.entry(name.clone());
        let seen = seen.or_insert_with(|| Seen { look: Look::default(), changes: watch::Sender::new(0) });
        let changes = seen.changes.subscribe();
        if !std::mem::replace(&mut watched.is_looked_at, true) {
            tokio::spawn(self.clone().look());
        }
        changes
    }

    /// Looks for as long as anybody watches.
    async fn look(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let growth = self.clone();
            // A thread that cannot be had now is had at the next look.
            if let Ok(false) = tokio::task::spawn_blocking(move || growth.look_once()).await {
                return;
            }
        }
    }

    /// False when there was nobody.
    fn look_once(&self) -> bool {
        let names: Vec<Name> = {
            let mut watched = self.watched();
            watched.runs.retain(|_, seen| seen.changes.receiver_count() > 0);
            watched.is_looked_at = !watched.runs.is_empty();
            watched.runs.keys().cloned().collect()
        };
        let mut changed = false;
        for name in &names {
            let look = self.look_at(name);
            if let Some(seen) = self.watched().runs.get_mut(name)
                && seen.look != look
            {
                seen.look = look;
                seen.changes.send_modify(|changes| *changes += 1);
                changed = true;
            }
        }
        if changed {
            self.all.send_modify(|changes| *changes += 1);
        }
        !names.is_empty()
    }

    fn look_at(&self, name: &Name) -> Look {
        let paths = name.paths(&self.live);
        let of =
            |path: std::path::PathBuf| path.symlink_metadata().ok().map(|meta| (which(&meta), meta.len()));
        let named = files::of_run(&paths).map(|(_, _, path)| path);
        let files = named.into_iter().chain([paths.marks()]).map(of).collect();
        let state = self.live.state();
        let run = state.task(&name.project, &name.task).and_then(|task| task.runs.get(&name.run));
        Look { files, status: run.map(run_agent_core::world::Run::status) }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
