//! Keeps what a power cut can take within the store's clock while a process holds a stream open: an appender syncs only
//! when it finds the last sync to be old, and the one that came last finds nothing.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use run_agent_core::store::AppendError;
use run_agent_core::{Durability, Stream, StreamKey};

use crate::tree::Tree;
use crate::wake::Wake;

/// The longest sleep: a stream that was replaced or moved is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// For one who follows the stream anyway: it says when the stream has grown.
#[derive(Debug)]
pub struct SyncClock(Option<SyncSender<()>>);

impl SyncClock {
    /// As [`keep_synced`], without a watch of its own. It ends when this is dropped.
    #[must_use]
    pub fn begin(tree: &Tree, key: &StreamKey) -> Self {
        if tree.durability != Durability::Interval {
            return Self(None);
        }
        let (tree, key, every) = (tree.clone(), key.clone(), tree.sync_every);
        let (grown, told) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new().name("sync-clock".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(every);
                // What was told of until here is synced here.
                let _ = told.try_recv();
                sync_once(&tree, &key);
                if told.recv().is_err() {
                    return;
                }
            }
        });
        Self(thread.is_ok().then_some(grown))
    }

    pub fn grown(&self) {
        // One that is told of and not synced yet is enough.
        let _ = self.0.as_ref().map(|grown| grown.try_send(()));
    }
}

/// Syncs the stream, where it is kept by the clock.
pub fn sync_once(tree: &Tree, key: &StreamKey) {
    let synced = tree.store.open(key).map(|stream| stream.flush());
    if let Ok(Err(error)) = synced {
        tracing::warn!(%key, %error, "cannot sync");
    }
}

/// Starts a thread that syncs the stream one interval after something was appended, whoever did. It ends with the
/// process, sleeps while nothing happens, and is absent where every append says itself what it survives.
pub fn keep_synced(tree: &Tree, key: &StreamKey) {
    if tree.durability != Durability::Interval {
        return;
    }
    let (tree, key, every) = (tree.clone(), key.clone(), tree.sync_every);
    // Without the thread the promise is that of a last lonely post: the system's own write-back.
    let _ = std::thread::Builder::new().name("sync-clock".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(every);
            let Ok(stream) = tree.store.open(&key) else { break };
            let wake = Wake::new();
            wake.watch_key(&tree, &key);
            let Err(error) = follow(&stream, &wake, every);
            tracing::warn!(%key, %error, "cannot sync");
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

fn follow(
    stream: &Arc<dyn Stream>,
    wake: &Wake,
    every: Duration,
) -> Result<std::convert::Infallible, AppendError> {
    loop {
        // What was hinted at until here is synced here.
        wake.take();
        stream.flush()?;
        wake.sleep_for(LOOK_AGAIN);
        std::thread::sleep(every);
    }
}
