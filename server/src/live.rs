//! What is known of all streams of a root, kept current by one thread that folds what is new (`docs/server.md`).
//!
//! | question | file |
//! | --- | --- |
//! | what is known, and in which order is it listed? | `state` |
//! | how is a stream folded, from where it was left? | `fold` |
//! | when is which stream looked at? | `follow` |
//! | what of it outlives the process? | `kept` |
//! | how does what was folded reach clients? | [`ring`] |

mod fold;
mod follow;
mod kept;
pub mod ring;
mod state;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::OpenError;
use run_agent_core::{ProjectId, Store, Stream, StreamKey};
use tokio::sync::watch;

use self::ring::Ring;
pub use self::state::{Place, Size, State};
use crate::work::Work;

/// Streams that are kept open between two looks.
const OPEN_MAX: usize = 64;

#[derive(Debug)]
pub struct Live {
    pub layout: Layout,
    pub store: Arc<dyn Store>,
    pub work: Arc<dyn Work>,
    state: RwLock<State>,
    pub ring: Ring,
    /// The streams that were folded last, newest last.
    open: Mutex<Vec<(StreamKey, Arc<dyn Stream>)>>,
    /// Which streams a ring of the doorbell may mean, by its counter.
    counters: Mutex<HashMap<usize, Vec<StreamKey>>>,
    /// Streams that somebody wants looked at.
    wanted: Mutex<Vec<StreamKey>>,
    /// True once everything that is there was folded.
    ready: watch::Sender<bool>,
    stops: AtomicBool,
    folded: AtomicU64,
}

impl Live {
    #[must_use]
    pub fn new(layout: Layout, store: Arc<dyn Store>, work: Arc<dyn Work>) -> Arc<Self> {
        Arc::new(Self {
            layout,
            store,
            work,
            state: RwLock::default(),
            ring: Ring::new(),
            open: Mutex::default(),
            counters: Mutex::default(),
            wanted: Mutex::default(),
            ready: watch::Sender::new(false),
            stops: AtomicBool::new(false),
            folded: AtomicU64::new(0),
        })
    }

    /// What is known now. To be held for moments only: folding waits for it.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once everything that was there at the start is known.
    pub async fn ready(&self) {
        // The sender lives as long as this.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Returns once this is so, or when the time is up.
    pub async fn wait_until(&self, within: Duration, is: impl Fn(&State) -> bool) {
        let deadline = tokio::time::Instant::now() + within;
        let mut newest = self.ring.watch();
        loop {
            let _ = newest.borrow_and_update();
            if is(&self.state()) {
                return;
            }
            if !matches!(tokio::time::timeout_at(deadline, newest.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// How many entries were folded since the start.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.folded.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The stream, opened anew or kept open from the last look.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn stream(&self, key: &StreamKey) -> Result<Arc<dyn Stream>, OpenError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| known == key) {
            let kept = open.remove(at);
            let stream = kept.1.clone();
            open.push(kept);
            return Ok(stream);
        }
        drop(open);
        let stream = self.store.open(key)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((key.clone(), stream.clone()));
        Ok(stream)
    }

    /// What the streams of a project take on the disk together. One that was folded since it was last asked for is looked
    /// at for that.
    #[must_use]
    pub fn size(&self, project: &ProjectId) -> Size {
        let (mut sum, mut unknown) = (Size::default(), Vec::new());
        let mut add = |size: Size| {
            sum.files += size.files;
            sum.bytes += size.bytes;
        };
        for (key, place) in self.state().places(project) {
            match place.size {
                Some(size) => add(size),
                None => unknown.push((key.clone(), place.cursor)),
            }
        }
        for (key, cursor) in unknown {
            let Some(stats) = self.store.open(&key).ok().and_then(|stream| stream.stats().ok()) else {
                continue;
            };
            let size = Size { files: stats.files, bytes: stats.bytes };
            self.state.write().unwrap_or_else(PoisonError::into_inner).note_size(&key, cursor, size);
            add(size);
        }
        sum
    }

    /// Has a stream looked at again, soon: something was done to it that rings no bell.
    pub fn look_at(&self, key: StreamKey) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        self.work.wake();
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<usize, Vec<StreamKey>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_stream(&self, key: &StreamKey) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != key);
    }
}
