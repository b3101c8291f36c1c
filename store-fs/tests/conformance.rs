//! The markdown store passes the conformance suite.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::Backend;
use run_agent_core::{Store, StreamKey};
use run_agent_store_fs::FsStore;

struct Fs(tempfile::TempDir);

impl Fs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

fn open(root: &Path, options: Options) -> Arc<dyn Store> {
    Arc::new(FsStore::new(Layout::new(root.to_owned()), options))
}

fn make(root: &Path, key: &StreamKey) {
    let (folder, _) = Layout::new(root.to_owned()).stream(key);
    std::fs::create_dir_all(folder).unwrap();
}

impl Backend for Fs {
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

run_agent_core::conformance!(Fs, Fs::new);

/// A file of a bus has room for few entries, so that every case meets rotation all the time.
mod with_small_files {
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
