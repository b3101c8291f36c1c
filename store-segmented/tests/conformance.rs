//! The segmented store passes the conformance suite, with each durability and with segments of any size.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::Backend;
use run_agent_core::{Durability, Store, StreamKey};
use run_agent_store_segmented::SegmentedStore;
use run_agent_store_shared::testkit::Forced;

/// A kind of store, in a folder of its own.
trait Flavour {
    fn options() -> Options {
        Options::default()
    }
    fn durability() -> Durability;
}

struct Place<F>(tempfile::TempDir, std::marker::PhantomData<F>);

impl<F> Place<F> {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), std::marker::PhantomData)
    }
}

fn open<F: Flavour>(root: PathBuf) -> Arc<dyn Store> {
    let store = SegmentedStore::new(Layout::new(root), F::options());
    match F::durability() {
        Durability::None => Arc::new(store),
        durability @ (Durability::Interval | Durability::Always) => {
            Arc::new(Forced { store: Arc::new(store), durability })
        }
    }
}

impl<F: Flavour> Backend for Place<F> {
    fn store(&self) -> Arc<dyn Store> {
        open::<F>(self.0.path().to_owned())
    }
    fn make(&self, key: &StreamKey) {
        let (folder, _) = Layout::new(self.0.path().to_owned()).stream(key);
        std::fs::create_dir_all(folder).unwrap();
    }
    fn place(&self) -> Option<String> {
        Some(self.0.path().to_str().unwrap().to_owned())
    }
    fn at(place: &str) -> Arc<dyn Store> {
        open::<F>(PathBuf::from(place))
    }
}

macro_rules! flavours {
    ($($(#[$doc:meta])* $name:ident: $durability:ident, $options:expr;)*) => {$(
        $(#[$doc])*
        mod $name {
            use super::*;

            struct This;

            impl Flavour for This {
                fn options() -> Options {
                    $options
                }
                fn durability() -> Durability {
                    Durability::$durability
                }
            }

            run_agent_core::conformance!(Place<This>, Place::<This>::new);
        }
    )*};
}

fn small() -> Options {
    Options { rotate_bytes: 2000, ..Options::default() }
}

flavours! {
    none: None, Options::default();
    /// A segment has room for few messages, so that every case meets rotation all the time.
    none_with_small_segments: None, small();
    interval: Interval, Options { sync_every: Duration::from_millis(2), sync_messages: 8, ..Options::default() };
    always: Always, Options::default();
    always_with_small_segments: Always, small();
}
