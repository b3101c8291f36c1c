//! Folders on their way out: put aside by one rename, so that readers see all of it or nothing, and removed afterwards.
//! What lies aside was deleted before it came there; whoever looks may remove it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use run_agent_core::layout::Layout;
use run_agent_core::{Timestamp, text};

/// How a folder is named that could only be put aside where it lay. No project, task or run begins so.
pub(crate) const BESIDE: &str = ".deleted-";

/// Renames a folder to a place of its own in the trash. `None`: it is not there.
pub(crate) fn put(layout: &Layout, folder: &Path) -> io::Result<Option<PathBuf>> {
    static SEQUENCE: AtomicU32 = AtomicU32::new(1);
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{}-{number}", text::stamp(Timestamp::now()), std::process::id());
    let trash = layout.trash();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&trash)?;
    let to = trash.join(&name);
    match std::fs::rename(folder, &to) {
        Ok(()) => Ok(Some(to)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // The project may lie on a file system of its own.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let to = folder.with_file_name(format!("{BESIDE}{name}"));
            std::fs::rename(folder, &to).map(|()| Some(to))
        }
        Err(error) => Err(error),
    }
}

/// Removes a file or folder with all that is in it. Links are removed, not followed.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    match remove(path) {
        // An agent may have left folders that not even their owner may write to.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            remove(path)
        }
        other => other,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        // Another one who tidies up was first.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(folder: &Path) {
    let _ = std::fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// The bytes of all files below a folder, as far as they can be looked at. No link is followed.
#[must_use]
pub fn size(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_aside_whole_and_is_removed_with_what_nobody_may_write_and_no_link_is_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::new(scratch.path().join("root"));
        let (folder, other) = (scratch.path().join("root/p/t"), scratch.path().join("other"));
        std::fs::create_dir_all(folder.join("sealed")).unwrap();
        std::fs::write(folder.join("sealed/file"), "12345").unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("kept"), "123").unwrap();
        std::os::unix::fs::symlink(&other, folder.join("link")).unwrap();
        std::fs::set_permissions(folder.join("sealed"), Permissions::from_mode(0o500)).unwrap();
        assert!(size(&folder) >= 5);
        let moved = put(&layout, &folder).unwrap().unwrap();
        assert!(!folder.exists() && moved.starts_with(layout.trash()));
        assert_eq!(put(&layout, &folder).unwrap(), None);
        remove_all(&moved).unwrap();
        remove_all(&moved).unwrap();
        assert!(!moved.exists() && other.join("kept").exists());
    }
}
