//! The one rule for links (spec, section 2): the root itself may be reached by a link, and nothing below it is. An agent
//! can leave a link anywhere in its folders; followed, it would show or change what is no part of the root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};

use crate::files;

/// What lies below the root is a link.
#[derive(Debug, thiserror::Error)]
#[error("{path} is a link, and links below the storage folder are not followed")]
pub struct IsLink {
    path: String,
}

impl IsLink {
    fn new(path: &Path) -> Self {
        Self { path: path.display().to_string() }
    }

    /// The link because of which a file was not opened.
    #[must_use]
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Refuses a path on which a link lies. What is not there is none.
///
/// # Errors
/// With the first link.
pub(crate) fn no_link(root: &Path, path: &Path) -> Result<(), IsLink> {
    let mut at = root.to_owned();
    for name in names(root, path) {
        at.push(name);
        match at.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => return Err(IsLink::new(&at)),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Opens a regular file to read it, folder by folder: no link can be put in between a look and the opening.
///
/// # Errors
/// [`IsLink`] where one is met, and as [`files::open_regular`].
pub(crate) fn open(root: &Path, path: &Path) -> io::Result<File> {
    let mut names: Vec<&Path> = names(root, path).collect();
    let Some(last) = names.pop() else { return files::open_regular(path) };
    let mut at = PathBuf::from(root);
    let mut folder = OwnedFd::from(File::open(root)?);
    for name in names {
        folder = step(&folder, &mut at, name, OFlags::DIRECTORY)?;
    }
    files::regular(File::from(step(&folder, &mut at, last, OFlags::NONBLOCK)?))
}

fn step(folder: &OwnedFd, at: &mut PathBuf, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    at.push(name);
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map_err(|error| {
        // Systems tell of a link by different errors.
        let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_link = found.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
        if is_link { io::Error::new(io::ErrorKind::InvalidInput, IsLink::new(at)) } else { error.into() }
    })
}

/// The names on the way from the root. A path that does not begin with the root was not made by [`Layout`]; it is taken
/// as it is.
///
/// [`Layout`]: run_agent_core::layout::Layout
fn names<'a>(root: &Path, path: &'a Path) -> impl Iterator<Item = &'a Path> {
    let inside = path.strip_prefix(root).unwrap_or(Path::new(""));
    inside
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|part| Path::new(part.as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_refused_wherever_it_lies_below_the_root_and_not_above() {
        let scratch = tempfile::tempdir().unwrap();
        let real = scratch.path().join("real");
        std::fs::create_dir_all(real.join("p/t")).unwrap();
        std::fs::write(real.join("p/t/file"), "text").unwrap();
        let root = scratch.path().join("root");
        symlink(&real, &root).unwrap();
        let mut text = String::new();
        open(&root, &root.join("p/t/file")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        no_link(&root, &root.join("p/t/file")).unwrap();
        no_link(&root, &root.join("p/none/file")).unwrap();
        symlink(real.join("p"), real.join("q")).unwrap();
        symlink(real.join("p/t/file"), real.join("p/t/link")).unwrap();
        symlink(real.join("nowhere"), real.join("p/t/dangling")).unwrap();
        for bad in ["q/t/file", "p/t/link", "p/t/dangling"] {
            let path = root.join(bad);
            assert!(no_link(&root, &path).is_err(), "{bad}");
            assert!(IsLink::behind(&open(&root, &path).unwrap_err()).is_some(), "{bad}");
        }
        let missing = open(&root, &root.join("p/none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(open(&root, &root.join("p/t")).is_err(), "a folder is no regular file");
    }
}
