//! Temporary files whose writers are dead. Only names that this tool gives: an agent's files are its own.

use std::path::{Path, PathBuf};

use super::run::is_settled;
use crate::leftovers::paths_in;
use crate::supervise::os::ProcessId;

/// What this tool replaces in a run's folder, in a task's, and in a project's.
pub(super) const OF_RUN: &[&str] = &["run-info.yaml", "prompt.md", "script.sh", "output.md"];
pub(super) const OF_TASK: &[&str] = &["TASK.md", "DONE", "TASK-MESSAGE-BUS.md"];
pub(super) const OF_PROJECT: &[&str] = &["home-folders.md", "PROJECT-MESSAGE-BUS.md"];

/// A writer is at it for much less than a minute; a pid that was used again tells nothing after an hour.
const DEAD_S: u64 = 60;
const OLD_S: u64 = 3600;

/// The stray files in a folder. `of`: the files that are replaced there; none: all are this tool's.
pub(super) fn stray(folder: &Path, of: Option<&[&str]>) -> Vec<PathBuf> {
    let mut found = paths_in(folder);
    found.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_file = || path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        match temporary(name, of) {
            Some(Temporary::Of(pid)) => {
                let dead = || ProcessId::now(pid).is_none() && is_settled(path, DEAD_S);
                is_file() && (dead() || is_settled(path, OLD_S))
            }
            Some(Temporary::Unnamed) => is_file() && is_settled(path, OLD_S),
            None => false,
        }
    });
    found
}

#[derive(Debug, PartialEq, Eq)]
enum Temporary {
    Of(u32),
    Unnamed,
}

/// `.<name>.<pid>`, `.<name>.new.<pid>`, `.<name>.edit-<pid>`, `.part-xxxxxx`.
fn temporary(name: &str, of: Option<&[&str]>) -> Option<Temporary> {
    if let Some(rest) = name.strip_prefix(".part-") {
        return (rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
            .then_some(Temporary::Unnamed);
    }
    let (stem, end) = name.strip_prefix('.')?.rsplit_once('.')?;
    let pid = end.strip_prefix("edit-").unwrap_or(end);
    let pid = pid.bytes().all(|b| b.is_ascii_digit()).then(|| pid.parse().ok())??;
    let stem = stem.strip_suffix(".new").unwrap_or(stem);
    let ours = of.is_none_or(|of| of.contains(&stem)) && !stem.is_empty();
    ours.then_some(Temporary::Of(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_this_tool_gives_are_temporary() {
        let of = Some(OF_TASK);
        assert_eq!(temporary(".DONE.17", of), Some(Temporary::Of(17)));
        assert_eq!(temporary(".TASK-MESSAGE-BUS.md.edit-17", of), Some(Temporary::Of(17)));
        assert_eq!(temporary(".store.yaml.new.17", None), Some(Temporary::Of(17)));
        assert_eq!(temporary(".part-aB3dE6", of), Some(Temporary::Unnamed));
        for other in
            ["DONE", "DONE.17", ".DONE", ".DONE.x", ".mine.17", ".DONE.", "..17", ".part-a.b", ".part-"]
        {
            assert_eq!(temporary(other, of), None, "{other}");
        }
    }
}
