//! What nobody needs any more: folders that were put aside, caches of what is gone. `gc` removes it, `doctor` tells of it.

use std::path::{Path, PathBuf};

use run_agent_core::{ProjectId, TaskId};

use crate::aside::BESIDE;
use crate::sealed;
use crate::tree::Tree;

/// A cache that is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleCache {
    pub path: PathBuf,
    pub why: &'static str,
}

/// What lies in the trash.
#[must_use]
pub fn in_trash(tree: &Tree) -> Vec<PathBuf> {
    paths_in(&tree.layout.trash())
}

/// Folders that could only be put aside where they lay.
#[must_use]
pub fn beside(folder: &Path) -> Vec<PathBuf> {
    let mut found = paths_in(folder);
    found.retain(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(BESIDE.as_bytes()))
    });
    found
}

/// Checkpoints, pages of syncs and rosters of what is gone; with `read`, also those that are damaged.
#[must_use]
pub fn stale_caches(tree: &Tree, read: bool) -> Vec<StaleCache> {
    let mut found = Vec::new();
    let mut stale = |path: PathBuf, why| found.push(StaleCache { path, why });
    let is_project = |name: &str| {
        let project = ProjectId::parse(name).ok()?;
        tree.layout.project(&project).is_dir().then_some(project)
    };
    let (checkpoints, pages) = (tree.layout.checkpoints(), tree.layout.sync_pages());
    for folder in paths_in(&checkpoints).into_iter().chain(paths_in(&pages)) {
        let Some(project) = named(&folder, is_project) else {
            stale(folder, "the project is gone");
            continue;
        };
        for path in paths_in(&folder) {
            let task = |name: &str| {
                // A page that its maker did not live to put in its place.
                let task = TaskId::parse(name.strip_suffix(".new").unwrap_or(name)).ok()?;
                Some(tree.layout.task(&project, &task))
            };
            match name_of(&path).and_then(task) {
                // Temporary files have their own rule; a project's own page goes with the project.
                None => {}
                Some(task) if !task.folder().is_dir() => stale(path, "the task is gone"),
                // A damaged page is made anew by whoever needs it.
                Some(_) if read && path.starts_with(&checkpoints) && is_damaged(&path) => {
                    stale(path, "it is damaged");
                }
                Some(_) => {}
            }
        }
    }
    for path in paths_in(&tree.layout.rosters()) {
        match name_of(&path) {
            Some(name) if ProjectId::parse(name).is_ok() && is_project(name).is_none() => {
                stale(path, "the project is gone");
            }
            Some(name) if read && ProjectId::parse(name).is_ok() && is_damaged(&path) => {
                stale(path, "it is damaged");
            }
            Some(_) | None => {}
        }
    }
    found
}

/// One that was written by another version is whole, and is dropped by whoever reads it.
fn is_damaged(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| sealed::unseal::<serde_json::Value>(&bytes).is_none())
}

fn named<T>(path: &Path, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    name_of(path).and_then(parse)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// What lies in a folder, in order of name; nothing where it cannot be read.
pub(crate) fn paths_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use run_agent_core::Durability;
    use run_agent_core::layout::Layout;
    use run_agent_core::testkit::MemoryStore;

    use super::*;

    #[test]
    fn a_page_of_syncs_is_of_no_use_without_its_task_and_never_read() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree {
            layout: Layout::new(root.path().to_owned()),
            store: Arc::new(MemoryStore::new()),
            durability: Durability::None,
            sync_every: Duration::from_millis(200),
        };
        let make = |path: &str| {
            let path = tree.layout.sync_pages().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "no page at all").unwrap();
        };
        let (there, gone) = ("task-20261121-093000-there", "task-20261121-093000-gone");
        std::fs::create_dir_all(root.path().join("p").join(there)).unwrap();
        for page in ["project", there, gone, &format!("{gone}.new")] {
            make(&format!("p/{page}"));
        }
        make("gone/project");
        let stale: Vec<String> = stale_caches(&tree, true)
            .iter()
            .map(|cache| {
                cache.path.strip_prefix(tree.layout.sync_pages()).unwrap().to_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(stale, ["gone".to_owned(), format!("p/{gone}"), format!("p/{gone}.new")]);
    }
}
