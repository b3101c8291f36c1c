//! The segmented store passes the conformance suite.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::testkit::conformance::Backend;
use run_agent_core::{Store, StreamKey};
use run_agent_store_segmented::{Options, SegmentedStore};

struct Segmented(tempfile::TempDir);

impl Segmented {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

fn open(root: &Path, options: Options) -> Arc<dyn Store> {
    Arc::new(SegmentedStore::new(Layout::new(root.to_owned()), options))
}

fn make(root: &Path, key: &StreamKey) {
    let (folder, _) = Layout::new(root.to_owned()).stream(key);
    std::fs::create_dir_all(folder).unwrap();
}

impl Backend for Segmented {
    fn store(&self) -> Arc<dyn Store> {
        open(self.0.path(), Options::default())
    }
    fn make(&self, key: &StreamKey) {
        make(self.0.path(), key);
    }
    fn place(&self) -> Option<String> {
        Some(self.0.path().to_str().unwrap().to_owned())
    }
    fn at(place: &str) -> Arc<dyn Store> {
        open(&PathBuf::from(place), Options::default())
    }
}

run_agent_core::conformance!(Segmented, Segmented::new);

/// A segment has room for few entries, so that every case meets rotation all the time.
mod with_small_segments {
    use super::*;

    struct Rotating(tempfile::TempDir);

    impl Rotating {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
    }

    fn small() -> Options {
        Options { rotate_bytes: 1000, ..Options::default() }
    }

    impl Backend for Rotating {
        fn store(&self) -> Arc<dyn Store> {
            open(self.0.path(), small())
        }
        fn make(&self, key: &StreamKey) {
            make(self.0.path(), key);
        }
        fn place(&self) -> Option<String> {
            Some(self.0.path().to_str().unwrap().to_owned())
        }
        fn at(place: &str) -> Arc<dyn Store> {
            open(&PathBuf::from(place), small())
        }
    }

    run_agent_core::conformance!(Rotating, Rotating::new);
}
