//! What the tests of the segmented store share: one stream in a folder of its own.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Entry, Kind, Store, Stream};
use run_agent_store_segmented::SegmentedStore;

#[derive(Debug)]
pub struct Bus {
    folder: tempfile::TempDir,
    pub options: Options,
    /// Where the segments lie.
    pub files: PathBuf,
}

impl Bus {
    pub fn with(bodies: &[&str]) -> Self {
        Self::set(bodies, Options::default())
    }

    pub fn set(bodies: &[&str], options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = Layout::new(folder.path().to_owned()).segments(&key());
        std::fs::create_dir_all(files.parent().unwrap()).unwrap();
        let bus = Self { folder, options, files };
        for body in bodies {
            bus.post(body);
        }
        bus
    }

    /// A handle of its own, as another process has it.
    pub fn open(&self) -> Arc<dyn Stream> {
        stream_at(self.root().to_str().unwrap(), self.options.clone())
    }

    pub fn post(&self, body: &str) -> Entry {
        post(&*self.open(), body)
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn bodies(&self) -> Vec<String> {
        let page = self.open().read(Cursor::START, usize::MAX).unwrap();
        assert_eq!(page.damage, []);
        page.entries.into_iter().map(|entry| entry.message.content.body).collect()
    }

    /// The segments' files, in order.
    pub fn logs(&self) -> Vec<PathBuf> {
        self.named(|name| name.ends_with(".log"))
    }

    pub fn torn(&self) -> Vec<PathBuf> {
        self.named(|name| name.contains(".torn-"))
    }

    fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let names = std::fs::read_dir(&self.files).into_iter().flatten().map(|name| name.unwrap().path());
        let mut found: Vec<PathBuf> =
            names.filter(|path| wanted(&path.file_name().unwrap().to_string_lossy())).collect();
        found.sort();
        found
    }

    /// The page is gone, as when somebody deletes it.
    pub fn lose_page(&self) {
        std::fs::remove_file(self.files.join("ctl")).unwrap();
    }

    /// The test `name` of this program once more, as a process of its own, told where the stream is.
    pub fn again(&self, name: &str, variable: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(variable, self.root());
        command
    }
}

pub fn draft(body: &str) -> Draft {
    Draft::new(Kind::FACT, key().project, key().task, body)
}

pub fn post(stream: &dyn Stream, body: &str) -> Entry {
    stream.append(vec![draft(body)], Durability::None).unwrap().remove(0)
}

/// The stream in another process.
pub fn stream_at(root: &str, options: Options) -> Arc<dyn Stream> {
    SegmentedStore::new(Layout::new(root.into()), options).open(&key()).unwrap()
}

/// Where the published end of the last segment is.
pub fn end_offset(files: &Path) -> u64 {
    let page = std::fs::read(files.join("ctl")).unwrap();
    let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
    word(128 + 64 * (word(64) & 1) as usize + 16)
}
