//! A shell's start-up file on the disk: found through links, replaced whole, with the mode that it had.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use run_agent_runner::files;

use super::Shell;
use crate::context::variable;
use crate::error::Failure;

pub(super) struct RcFile {
    /// As a person knows it.
    path: PathBuf,
    /// Where the bytes lie: people keep such files elsewhere and link to them.
    target: PathBuf,
}

impl RcFile {
    pub(super) fn of(shell: Shell) -> Result<Self, Failure> {
        let home = std::env::home_dir()
            .ok_or_else(|| Failure::usage("there is no home folder to look for a start-up file in"))?;
        let folder = |name: &str, otherwise: PathBuf| variable(name).map_or(otherwise, PathBuf::from);
        let path = match shell {
            Shell::Bash => home.join(".bashrc"),
            Shell::Zsh => folder("ZDOTDIR", home).join(".zshrc"),
            Shell::Fish => folder("XDG_CONFIG_HOME", home.join(".config")).join("fish/config.fish"),
        };
        let target = match fs::canonicalize(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                path.clone()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let goal = fs::read_link(&path).unwrap_or_default();
                return Err(Failure::usage(format!(
                    "{} is a link to {}, which is not there; remove the link, or make that file",
                    path.display(),
                    goal.display()
                )));
            }
            Err(error) => return Err(Failure::io(format!("cannot follow {}", path.display()), &error)),
        };
        // Reading a pipe would wait for its writer.
        if target.exists() && !target.is_file() {
            return Err(Failure::usage(format!("{} is not a regular file", path.display())));
        }
        Ok(Self { path, target })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        let mut bytes = Vec::new();
        match files::open_regular(&self.target).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io(format!("cannot read {}", self.path.display()), &error)),
        }
    }

    /// Replaces the file, or removes it.
    pub(super) fn write(&self, bytes: Option<&[u8]>) -> Result<(), Failure> {
        let done = match bytes {
            Some(bytes) => self.replace(bytes),
            None => fs::remove_file(&self.target),
        };
        done.map_err(|error| Failure::io(format!("cannot write {}", self.path.display()), &error))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.target.parent() {
            fs::create_dir_all(folder)?;
        }
        let name = self.target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.target.with_file_name(format!(".{name}.run-agent.{}", std::process::id()));
        let written =
            self.write_beside(&temporary, bytes).and_then(|()| fs::rename(&temporary, &self.target));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_beside(&self, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(temporary)?;
        if let Ok(before) = fs::metadata(&self.target) {
            let now = file.metadata()?;
            if (before.uid(), before.gid()) != (now.uid(), now.gid()) {
                std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
        }
        file.write_all(bytes)?;
        file.sync_all()
    }
}
