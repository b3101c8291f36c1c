//! Telling one client: reading goes on aside, nothing is read before the last piece was taken, and a wait that is given
//! up for a heartbeat loses nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Step;
use crate::App;
use crate::live::Live;
use crate::sse::Source;

/// Gives what a client is told, piece by piece. It may wait for a disk.
pub(super) trait Teller: Send + 'static {
    fn next(&mut self, live: &Live) -> Step;
}

pub(super) struct Told<T> {
    app: Arc<App>,
    teller: State<T>,
    grown: watch::Receiver<u64>,
    /// For one that is to know of events, too.
    newest: Option<watch::Receiver<u64>>,
    ends: watch::Receiver<bool>,
}

enum State<T> {
    Ready(T),
    Reads(JoinHandle<(T, Step)>),
    /// It was told until then, or its reading failed.
    Waits(T, Option<Duration>),
    Over,
}

impl<T: Teller> Told<T> {
    pub(super) fn new(
        app: &Arc<App>,
        teller: T,
        grown: watch::Receiver<u64>,
        newest: Option<watch::Receiver<u64>>,
    ) -> Self {
        Self { app: app.clone(), teller: State::Ready(teller), grown, newest, ends: app.ends.subscribe() }
    }

    async fn read(&mut self) -> Option<Step> {
        if let State::Ready(_) = self.teller {
            let reader = self.app.logs.readers.clone().acquire_owned().await.ok()?;
            // Seen before it is looked at: what comes in between wakes.
            self.grown.mark_unchanged();
            if let Some(newest) = &mut self.newest {
                newest.mark_unchanged();
            }
            let State::Ready(mut teller) = std::mem::replace(&mut self.teller, State::Over) else {
                return None;
            };
            let live = self.app.live.clone();
            self.teller = State::Reads(tokio::task::spawn_blocking(move || {
                let step = teller.next(&live);
                drop(reader);
                (teller, step)
            }));
        }
        let State::Reads(reads) = &mut self.teller else { return None };
        let read = reads.await;
        self.teller = State::Over;
        let (teller, step) = read.ok()?;
        self.teller = match &step {
            Step::Text(_) => State::Ready(teller),
            Step::Last(_) => State::Over,
            Step::Wait(again) => State::Waits(teller, *again),
        };
        Some(step)
    }

    /// False when the server ends.
    async fn wait(&mut self, again: Option<Duration>) -> bool {
        let newest = async {
            match &mut self.newest {
                Some(newest) => newest.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.grown.changed() => changed.is_ok(),
            changed = newest => changed,
            () = tokio::time::sleep(again.unwrap_or(Duration::MAX)) => true,
            _ = self.ends.wait_for(|ends| *ends) => false,
        }
    }
}

impl<T: Teller> Source for Told<T> {
    async fn next(&mut self) -> Option<String> {
        loop {
            if *self.ends.borrow() {
                return None;
            }
            match &self.teller {
                State::Over => return None,
                State::Ready(_) | State::Reads(_) => match self.read().await? {
                    Step::Text(text) | Step::Last(text) => return Some(text),
                    Step::Wait(_) => {}
                },
                State::Waits(_, again) => {
                    let again = *again;
                    if !self.wait(again).await {
                        return None;
                    }
                    self.teller = match std::mem::replace(&mut self.teller, State::Over) {
                        State::Waits(teller, _) => State::Ready(teller),
                        other => other,
                    };
                }
            }
        }
    }
}
