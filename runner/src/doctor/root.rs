//! The root's own folder, what lies in it beside the projects, and what the system allows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use run_agent_core::layout::OWN_FOLDER;
use run_agent_core::{ProjectId, TaskId};
use rustix::process::{Resource, getrlimit};

use super::finding::Finding;
use super::run::is_settled;
use super::stray::{self, stray};
use crate::leftovers::{self, paths_in};
use crate::slots;
use crate::supervise::os::{self, LowLimit};
use crate::tree::Tree;

/// What a ticket's owner takes from the file to its lock.
const TICKET_S: u64 = 10;

/// What is wrong with the root, its projects' streams and tasks excepted.
pub(super) fn look_at_root(tree: &Tree) -> Vec<Finding> {
    let root = tree.layout.root();
    let mut found = Vec::new();
    if let Ok(meta) = root.metadata() {
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            found.push(Finding::RootOpenToOthers { path: root.to_owned(), mode });
        }
    }
    found.extend(links(root, |name| ProjectId::parse(name).is_ok()));
    let own = root.join(OWN_FOLDER);
    let mut folders = vec![own, tree.layout.rosters(), tree.layout.versions()];
    folders.extend(paths_in(&tree.layout.checkpoints()));
    found.extend(
        folders.iter().flat_map(|folder| stray(folder, None)).map(|path| Finding::StrayFile { path }),
    );
    let config = stray(root, Some(&["config.hcl"]));
    found.extend(config.into_iter().map(|path| Finding::StrayFile { path }));
    found.extend(leftovers::in_trash(tree).into_iter().map(|path| Finding::StrayTrash { path }));
    let caches = leftovers::stale_caches(tree, true);
    found.extend(caches.into_iter().map(|cache| Finding::StaleCache { path: cache.path, why: cache.why }));
    let mut tickets = slots::dead_tickets(tree);
    // One that is being made is not locked yet.
    tickets.retain(|path| is_settled(path, TICKET_S));
    found.extend(tickets.into_iter().map(|path| Finding::DeadTicket { path }));
    found
}

/// What is wrong with a project's folder, its stream and tasks excepted.
pub(super) fn look_at_project(tree: &Tree, project: &ProjectId) -> Vec<Finding> {
    let folder = tree.layout.project(project);
    let mut found = links(&folder, |name| TaskId::parse(name).is_ok());
    found.extend(leftovers::beside(&folder).into_iter().map(|path| Finding::StrayTrash { path }));
    let strays = stray(&folder, Some(stray::OF_PROJECT));
    found.extend(strays.into_iter().map(|path| Finding::StrayFile { path }));
    found
}

/// Links where projects or tasks are looked for.
fn links(folder: &Path, is_ours: impl Fn(&str) -> bool) -> Vec<Finding> {
    let is_link = |path: &PathBuf| {
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(&is_ours);
        named && path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
    };
    paths_in(folder).into_iter().filter(is_link).map(|path| Finding::Link { path }).collect()
}

/// Enough for a swarm of the default size, each of whose processes follows some streams.
const OPEN_FILES: u64 = 1024;

/// What the system allows, where that is little.
pub(super) fn look_at_system() -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < OPEN_FILES) {
        found.push(Finding::FewOpenFiles { limit, wanted: OPEN_FILES });
    }
    for LowLimit { path, limit, wanted } in os::low_watch_limits() {
        found.push(Finding::FewWatches { path, limit, wanted });
    }
    found.extend(os::ended_at_logout().map(|user| Finding::NoLinger { user }));
    found
}
