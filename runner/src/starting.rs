//! Who is about to start something in a task says so by a lock, so that a stop which finds nothing yet is one all the same
//! (`docs/supervision.md`, "A start on its way"). The lock is a shared one on the task's folder itself: any number
//! may start something, and the kernel frees it with its holder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::files;
use crate::supervise::os;
use crate::tree::{TaskName, Tree};

/// A start on its way. Held from before anybody can see it coming until the stream tells of it, or it is given up.
#[derive(Debug)]
pub struct Starting(File);

impl Starting {
    /// # Errors
    /// When the task's folder cannot be opened.
    pub fn begin(tree: &Tree, name: &TaskName) -> io::Result<Self> {
        let folder = open(tree, name)?;
        let deadline = Instant::now() + LOOKED_AT_MAX;
        // Held otherwise only for the moment of a look. One who looks and was halted there holds nobody up for long.
        while !files::try_lock_shared(&folder)? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self(folder))
    }

    /// Takes over what the process that started this one has begun; `None` where it has begun nothing.
    #[must_use]
    pub fn inherited(fd: i32) -> Option<Self> {
        os::inherited(fd).map(Self).ok()
    }

    /// The stream tells of it, or nothing came of it: from here on a stop finds what there is.
    pub fn is_known(&self) {
        // What fails here is freed with the process.
        let _ = self.0.unlock();
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Is anybody about to start something in this task? Without a folder nobody is.
pub(crate) fn is_on_its_way(tree: &Tree, name: &TaskName) -> bool {
    let Ok(folder) = open(tree, name) else { return false };
    // A lock that is ours alone for a moment: nobody holds it. Two who look at once look again.
    for _ in 0..LOOKS_MAX {
        if files::try_lock(&folder).unwrap_or(true) {
            return false;
        }
        if files::try_lock_shared(&folder).unwrap_or(false) {
            // Of one who only looked, like this, nothing is left now.
            let _ = folder.unlock();
            return !files::try_lock(&folder).unwrap_or(false);
        }
        std::thread::yield_now();
    }
    true
}

fn open(tree: &Tree, name: &TaskName) -> io::Result<File> {
    let path = tree.task(name).folder().to_owned();
    tree.no_link(&path).map_err(|link| io::Error::other(link.to_string()))?;
    File::open(path)
}

const LOOKED_AT_MAX: Duration = Duration::from_secs(1);
const LOOKS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use run_agent_core::layout::Layout;
    use run_agent_core::testkit::MemoryStore;
    use run_agent_core::{Durability, ProjectId, TaskId};

    #[test]
    fn a_start_is_on_its_way_until_the_last_who_began_one_is_through() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree {
            layout: Layout::new(root.path().to_owned()),
            store: Arc::new(MemoryStore::new()),
            durability: Durability::None,
            sync_every: Duration::from_millis(200),
        };
        let name = TaskName {
            project: ProjectId::parse("p").unwrap(),
            task: TaskId::parse("task-20261121-093000-t").unwrap(),
        };
        assert!(!is_on_its_way(&tree, &name), "there is no folder");
        std::fs::create_dir_all(tree.task(&name).folder()).unwrap();
        assert!(!is_on_its_way(&tree, &name));
        let (one, two) = (Starting::begin(&tree, &name).unwrap(), Starting::begin(&tree, &name).unwrap());
        assert!(is_on_its_way(&tree, &name));
        one.is_known();
        assert!(is_on_its_way(&tree, &name));
        drop(two);
        assert!(!is_on_its_way(&tree, &name));
    }
}
