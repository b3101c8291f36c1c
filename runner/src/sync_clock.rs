//! Keeps what a power cut can take within the store's clock while a process holds a stream open: an appender syncs only
//! when it finds the last sync to be old, and the one that came last finds nothing.

use std::sync::Arc;
use std::time::Duration;

use run_agent_core::store::AppendError;
use run_agent_core::{Durability, Stream, StreamKey};

use crate::tree::Tree;
use crate::wake::Wake;

/// The longest sleep: a stream that was replaced or moved is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

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
