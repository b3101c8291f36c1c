//! What the tests of the markdown store share: one bus in a folder of its own.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Entry, Kind, Store, Stream};
use run_agent_store_fs::FsStore;

#[derive(Debug)]
pub struct Bus {
    folder: tempfile::TempDir,
    pub store: Arc<FsStore>,
    pub file: PathBuf,
}

impl Bus {
    pub fn with(bodies: &[&str]) -> Self {
        Self::set(bodies, Options::default())
    }

    pub fn set(bodies: &[&str], options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        let file = layout.bus_file(&key());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let bus = Self { folder, store: Arc::new(FsStore::new(layout, options)), file };
        for body in bodies {
            bus.post(body);
        }
        bus
    }

    pub fn open(&self) -> Arc<dyn Stream> {
        self.store.open(&key()).unwrap()
    }

    pub fn post(&self, body: &str) -> Entry {
        post(&*self.open(), body)
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    /// As an editor does that writes a new file.
    pub fn replace(&self, text: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    pub fn bodies(&self) -> Vec<String> {
        let page = self.open().read(Cursor::START, 1000).unwrap();
        page.entries.into_iter().map(|e| e.message.content.body).collect()
    }

    pub fn torn(&self) -> usize {
        let names = std::fs::read_dir(self.file.parent().unwrap()).unwrap();
        names.filter(|n| n.as_ref().unwrap().file_name().to_string_lossy().contains(".torn-")).count()
    }
}

pub fn post(stream: &dyn Stream, body: &str) -> Entry {
    let draft = Draft::new(Kind::FACT, key().project, key().task, body);
    stream.append(vec![draft], Durability::None).unwrap().remove(0)
}

impl Bus {
    pub fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn archives(&self) -> usize {
        let names = std::fs::read_dir(self.file.parent().unwrap()).unwrap();
        names.filter(|n| is_archive(&n.as_ref().unwrap().file_name().to_string_lossy())).count()
    }

    /// The test `name` of this program once more, as a process of its own, told where the bus is.
    pub fn again(&self, name: &str, variable: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(variable, self.root());
        command
    }
}

impl Bus {
    /// The page of the syncs.
    pub fn page(&self) -> PathBuf {
        Layout::new(self.root()).sync_page(&key())
    }

    /// A word of it; 0 while there is none.
    pub fn word(&self, at: usize) -> u64 {
        let page = std::fs::read(self.page()).unwrap_or_default();
        page.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
    }

    /// A leader is at it, or died.
    pub fn is_syncing(&self) -> bool {
        self.word(144) > 0
    }

    /// What was last written again after a failed sync.
    pub fn rescued(&self) -> (u64, u64) {
        (self.word(224), self.word(232))
    }
}

fn is_archive(name: &str) -> bool {
    name.strip_prefix("TASK-MESSAGE-BUS.")
        .and_then(|rest| rest.strip_suffix(".md"))
        .is_some_and(|n| n.len() == 20)
}

/// The stream in another process.
pub fn stream_at(root: &str, options: Options) -> Arc<dyn Stream> {
    FsStore::new(Layout::new(root.into()), options).open(&key()).unwrap()
}
