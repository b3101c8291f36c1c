//! What the stores ask of the system besides reading and writing: which file this is, which start of the machine, how to
//! sleep on a word of the shared page. On Linux only what is compared is asked of a file: asking for the change time as
//! well makes the kernel write a fresh one at the next write, which costs more than the write itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::sync::AtomicU32;

/// Device and inode.
pub type Identity = (u64, u64);

/// Opens a file of a stream. A link is not followed: it may lead out of the root. A pipe is not waited for.
///
/// # Errors
/// As opening any file; a link has words of its own.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let file = options.clone().custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).mode(0o600).open(path);
    file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => is_link(),
        _ => error,
    })
}

/// Refuses a folder of a stream that is a link, as [`open`] refuses a file; whatever else it is, others tell.
///
/// # Errors
/// When it is a link.
pub fn no_link(folder: &Path) -> io::Result<()> {
    if folder.is_symlink() { Err(is_link()) } else { Ok(()) }
}

fn is_link() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link, which is not followed")
}

/// # Errors
/// As [`open`].
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Reads a file of a stream, at most so many bytes of it.
///
/// # Errors
/// As [`open`], and when it is not a regular file.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_to_read(path)?;
    identity(&file)?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// # Errors
/// As [`open`].
pub fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true))
}

/// # Errors
/// As [`open`].
pub fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(true))
}

/// Syncs a folder, so that names made in it survive a power cut.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

    use super::{AtomicU32, Duration, File, Identity, Path, io};

    fn look(file: &File, asked: StatxFlags) -> io::Result<Statx> {
        Ok(statx(file, "", AtFlags::EMPTY_PATH, asked)?)
    }

    fn identity_in(seen: &Statx) -> Identity {
        (u64::from(seen.stx_dev_major) << 32 | u64::from(seen.stx_dev_minor), seen.stx_ino)
    }

    /// # Errors
    /// When the file cannot be looked at, or is not a regular one.
    pub fn identity(file: &File) -> io::Result<Identity> {
        let seen = look(file, StatxFlags::INO.union(StatxFlags::TYPE))?;
        super::must_be_regular(FileType::from_raw_mode(seen.stx_mode.into()).is_file())?;
        Ok(identity_in(&seen))
    }

    pub(super) fn identity_of(path: &Path) -> io::Result<Identity> {
        Ok(identity_in(&statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO)?))
    }

    /// True while some name is left of an open file.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn is_linked(file: &File) -> io::Result<bool> {
        Ok(look(file, StatxFlags::NLINK)?.stx_nlink > 0)
    }

    /// # Errors
    /// When the file cannot be looked at.
    pub fn len(file: &File) -> io::Result<u64> {
        Ok(look(file, StatxFlags::SIZE)?.stx_size)
    }

    pub(super) fn boot_id() -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// Why this folder's file system cannot hold a page that several processes map, if it cannot.
    ///
    /// # Errors
    /// When the system does not tell what it is.
    pub fn unfit(folder: &Path) -> io::Result<Option<&'static str>> {
        // Kinds whose locks and maps are not shared between the machines that mount them.
        const KINDS: [(u32, &str); 8] = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x0102_1997, "9P"),
            (0x00c3_6400, "Ceph"),
            (0x5346_414f, "AFS"),
            (0x0bd0_0bd0, "Lustre"),
        ];
        let kind = rustix::fs::statfs(folder)?.f_type;
        Ok(KINDS
            .iter()
            .find(|(magic, _)| i128::from(kind) & 0xffff_ffff == i128::from(*magic))
            .map(|(_, name)| *name))
    }

    /// Sleeps while the word is `seen`, at most so long. May return early.
    pub fn sleep_on(word: &AtomicU32, seen: u32, timeout: Duration) {
        use rustix::thread::futex::{Flags, Timespec, wait};
        let time = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // Woken, interrupted, too late or changed already: whoever sleeps looks again.
        let _ = wait(word, Flags::empty(), seen, Some(&time));
    }

    pub fn wake_all(word: &AtomicU32) {
        use rustix::thread::futex::{Flags, wake};
        let _ = wake(word, Flags::empty(), i32::MAX.unsigned_abs());
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::unix::fs::MetadataExt;

    use super::{AtomicU32, Duration, File, Identity, Path, io};

    /// # Errors
    /// When the file cannot be looked at, or is not a regular one.
    pub fn identity(file: &File) -> io::Result<Identity> {
        let meta = file.metadata()?;
        super::must_be_regular(meta.is_file())?;
        Ok((meta.dev(), meta.ino()))
    }

    pub(super) fn identity_of(path: &Path) -> io::Result<Identity> {
        let meta = path.symlink_metadata()?;
        Ok((meta.dev(), meta.ino()))
    }

    /// True while some name is left of an open file.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn is_linked(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 0)
    }

    /// # Errors
    /// When the file cannot be looked at.
    pub fn len(file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    pub(super) fn boot_id() -> String {
        let output = std::process::Command::new("sysctl").args(["-n", "kern.boottime"]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Nothing is known of it here.
    ///
    /// # Errors
    /// None.
    pub fn unfit(_: &Path) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    /// Without a futex that processes share, sleeping is looking again.
    pub fn sleep_on(_: &AtomicU32, _: u32, timeout: Duration) {
        std::thread::sleep(timeout.min(Duration::from_millis(2)));
    }

    pub fn wake_all(_: &AtomicU32) {}
}

pub use system::{identity, is_linked, len, sleep_on, unfit, wake_all};

fn must_be_regular(is_file: bool) -> io::Result<()> {
    if is_file {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Does the path name this file?
///
/// # Errors
/// When the path cannot be looked at.
pub fn names(path: &Path, identity: Identity) -> io::Result<bool> {
    match system::identity_of(path) {
        Ok(named) => Ok(named == identity),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which start of the machine this is. Nothing that is mapped outlives it.
pub fn boot() -> [u64; 2] {
    static BOOT: OnceLock<[u64; 2]> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = fake_boot_id().unwrap_or_else(system::boot_id);
        let half = |salt: u8| {
            let sum = |part: u8| u64::from(crc32fast::hash(&[&[salt, part], id.as_bytes()].concat()));
            sum(0) << 32 | sum(1)
        };
        [half(0), half(1)]
    })
}

/// Debug builds can be made to believe that the machine was started anew (`docs/testing.md`).
fn fake_boot_id() -> Option<String> {
    if cfg!(debug_assertions) { std::env::var("RUN_AGENT_FAKE_BOOT_ID").ok() } else { None }
}
