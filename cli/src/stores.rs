//! Which store holds a root's events. The one place that names the stores.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::{ProjectId, Store, StreamKey, TaskId};
use run_agent_runner::{files, migrate};
use run_agent_store_fs::FsStore;
use run_agent_store_segmented::SegmentedStore;

use crate::error::{Exit, Failure};

/// A kind of store, as `storage.backend` and `store.yaml` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Fs,
    Segmented,
}

impl Backend {
    pub(crate) const ALL: [Self; 2] = [Self::Fs, Self::Segmented];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fs => "fs",
            Self::Segmented => "segmented",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// What a new root gets where nothing says which. Debug builds take another one by `RUN_AGENT_TEST_STORE`, so that
    /// the same tests run on each store (`docs/testing.md`).
    pub(crate) fn of_new_root() -> Self {
        let said = if cfg!(debug_assertions) { std::env::var("RUN_AGENT_TEST_STORE").ok() } else { None };
        said.as_deref().and_then(Self::named).unwrap_or(Self::Fs)
    }

    pub(crate) fn open(self, layout: &Layout, options: Options) -> Arc<dyn Store> {
        match self {
            Self::Fs => Arc::new(FsStore::new(layout.clone(), options)),
            Self::Segmented => Arc::new(SegmentedStore::new(layout.clone(), options)),
        }
    }

    /// Files of this store are there for the stream.
    fn holds(self, layout: &Layout, key: &StreamKey) -> bool {
        let file = match self {
            Self::Fs => layout.bus_file(key),
            Self::Segmented => layout.segments(key).join("META"),
        };
        file.symlink_metadata().is_ok_and(|meta| meta.is_file())
    }
}

/// The store whose files lie in a root that does not say which it has: it lost its own file, or another tool made it.
/// `None`: it holds no stream.
pub(crate) fn found_in(layout: &Layout) -> Result<Option<Backend>, Failure> {
    let holds = |backend: &Backend| streams_of(layout).any(|key| backend.holds(layout, &key));
    let mut found = Backend::ALL.into_iter().filter(holds);
    let first = found.next();
    if found.next().is_none() {
        return Ok(first);
    }
    Err(Failure::usage(format!(
        "{} holds events of both stores, and {} does not say which of them count",
        layout.root().display(),
        layout.store_file().display()
    ))
    .hint("a migration keeps the old ones; write the lines `version: 1` and `backend: \"segmented\"` (or \"fs\") into that file"))
}

/// Every stream that the folders of a root may hold.
fn streams_of(layout: &Layout) -> impl Iterator<Item = StreamKey> {
    let names = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    };
    let projects = names(layout.root().to_owned()).filter_map(|name| ProjectId::parse(&name).ok());
    projects.flat_map(move |project| {
        let tasks = names(layout.project(&project)).filter_map(|name| TaskId::parse(&name).ok());
        let of_tasks: Vec<_> = tasks.map(|task| StreamKey::task(project.clone(), task)).collect();
        std::iter::once(StreamKey::project(project)).chain(of_tasks)
    })
}

/// A migration holds it alone for its last moments.
const MOVED_WITHIN: Duration = Duration::from_secs(30);
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Says to migrations that this process has the root's store open, until it ends (`docs/formats/migration.md`); to be done
/// before it is read which store that is. `false`: there is no root yet, or it may only be read, and then nobody moves it.
pub(crate) fn hold(layout: &Layout) -> Result<bool, Failure> {
    let path = layout.store_lock();
    let cannot = |e| Failure::io(format!("cannot lock {}", path.display()), &e);
    let file = match files::open_lock(&path) {
        Err(error) if may_only_read(&error) => File::open(&path),
        opened => opened,
    };
    let file = match file {
        // Never closed by hand: the lock ends with the process, and each post has a system call less.
        Ok(file) => ManuallyDrop::new(file),
        Err(error) if is_not_there(&error) || may_only_read(&error) => return Ok(false),
        Err(error) => return Err(cannot(error)),
    };
    let deadline = Instant::now() + MOVED_WITHIN;
    while !files::try_lock_shared(&file).map_err(cannot)? {
        if Instant::now() >= deadline {
            let who = migrate::holders(&path);
            return Err(Failure::new(
                Exit::Locked,
                format!("the events of this root are being moved to another store by {who}; try again"),
            ));
        }
        std::thread::sleep(TRY_AGAIN);
    }
    Ok(true)
}

fn may_only_read(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_not_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
