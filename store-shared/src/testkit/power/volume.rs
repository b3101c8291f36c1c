//! An ext4 file system in a file, mounted on a loop device. It is mounted in a mount namespace of its own: with the last
//! process in there go mount and device, however that process ends.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const IMAGE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Volume {
    image: PathBuf,
    pub(super) at: PathBuf,
    mounted: bool,
}

fn run(command: &mut Command) -> io::Result<()> {
    let done = command.stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    Err(io::Error::other(format!("{command:?}: {said}")))
}

/// Why nothing of this is possible here, if it is not.
pub(super) fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root may mount an image".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    let missing = |(name, argument): &(&str, &str)| {
        run(Command::new(name).arg(argument)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let tools =
        [("unshare", "--version"), ("mount", "--version"), ("umount", "--version"), ("mkfs.ext4", "-V")];
    tools.iter().find(|tool| missing(tool)).map(|(name, _)| format!("{name} is not installed"))
}

/// The same program in a mount namespace of its own.
pub(super) fn apart(plain: &Command) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(plain.get_program())
        .args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

impl Volume {
    /// Makes it in this folder, and mounts it.
    pub(super) fn make(folder: &Path) -> io::Result<Self> {
        let (image, at) = (folder.join("image"), folder.join("mounted"));
        std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
        std::fs::create_dir(&at)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&image))?;
        let mut volume = Self { image, at, mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    pub(super) fn mount(&mut self) -> io::Result<()> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.at))?;
        self.mounted = true;
        Ok(())
    }

    pub(super) fn unmount(&mut self) -> io::Result<()> {
        run(Command::new("umount").arg(&self.at))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
    }
}
