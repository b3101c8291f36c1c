//! A new file that nobody sees before it is whole: until it is placed it has no name where the system allows that, so
//! that a process that is killed in the middle leaves nothing behind.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::supervise::os::unnamed;

/// A file in the making, in the folder that it is placed in.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    /// Its name meanwhile, where it has to have one.
    name: Option<tempfile::TempPath>,
}

impl NewFile {
    /// # Errors
    /// When the folder cannot be written.
    pub fn in_folder(folder: &Path, mode: u32) -> io::Result<Self> {
        if let Some(file) = unnamed::make(folder, mode)? {
            return Ok(Self { file, name: None });
        }
        let made = tempfile::Builder::new()
            .prefix(".part-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        let (file, name) = made.into_parts();
        Ok(Self { file, name: Some(name) })
    }

    /// Gives it its name. `sync` makes content and name survive a power cut.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name is taken: nothing is overwritten.
    pub fn place(self, path: &Path, sync: bool) -> io::Result<()> {
        self.finish(path, sync, |file, name| match name {
            Some(name) => name.persist_noclobber(path).map_err(|e| e.error),
            None => unnamed::link(file, path),
        })
    }

    /// As [`NewFile::place`], but a file of that name is replaced in one step.
    ///
    /// # Errors
    /// When the system fails.
    pub fn replace(self, path: &Path, sync: bool) -> io::Result<()> {
        self.finish(path, sync, |file, name| match name {
            Some(name) => name.persist(path).map_err(|e| e.error),
            None => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
                match std::fs::remove_file(&beside) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Err(_) | Ok(()) => {}
                }
                unnamed::link(file, &beside)?;
                std::fs::rename(&beside, path)
            }
        })
    }

    fn finish(
        self,
        path: &Path,
        sync: bool,
        name_it: impl FnOnce(&File, Option<tempfile::TempPath>) -> io::Result<()>,
    ) -> io::Result<()> {
        if sync {
            self.file.sync_all()?;
        }
        name_it(&self.file, self.name)?;
        if sync { File::open(folder_of(path))?.sync_all() } else { Ok(()) }
    }
}

/// The folder in which `path` names a file.
#[must_use]
pub fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_not_placed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NewFile::in_folder(folder.path(), 0o600).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn placing_never_overwrites_and_replacing_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let make = |text: &str| {
            let mut file = NewFile::in_folder(folder.path(), 0o600).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        make("one").place(&path, true).unwrap();
        assert_eq!(make("two").place(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        make("three").replace(&path, true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(names(folder.path()), ["x"]);
    }
}
