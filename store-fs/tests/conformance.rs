//! The markdown store passes the conformance suite.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::testkit::conformance::Backend;
use run_agent_core::{Store, StreamKey};
use run_agent_store_fs::{FsStore, Options};

struct Fs(tempfile::TempDir);

impl Fs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

fn open(root: &Path) -> Arc<dyn Store> {
    Arc::new(FsStore::new(Layout::new(root.to_owned()), Options::default()))
}

impl Backend for Fs {
    fn store(&self) -> Arc<dyn Store> {
        open(self.0.path())
    }
    fn make(&self, key: &StreamKey) {
        let (folder, _) = Layout::new(self.0.path().to_owned()).stream(key);
        std::fs::create_dir_all(folder).unwrap();
    }
    fn place(&self) -> Option<String> {
        Some(self.0.path().to_str().unwrap().to_owned())
    }
    fn at(place: &str) -> Arc<dyn Store> {
        open(&PathBuf::from(place))
    }
}

run_agent_core::conformance!(Fs, Fs::new);
