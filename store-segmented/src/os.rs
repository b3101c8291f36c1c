//! What the store asks of the system besides reading and writing: which file this is, which start of the machine, how to
//! sleep on a word of the shared page.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::sync::AtomicU32;

/// Device and inode.
pub(crate) type Identity = (u64, u64);

/// Opens a file of a stream. A link is not followed: it may lead out of the root. A pipe is not waited for.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let file = options.clone().custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).mode(0o600).open(path);
    file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => {
            io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link, which is not followed")
        }
        _ => error,
    })
}

pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true))
}

pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true).truncate(true))
}

pub(crate) fn identity(file: &File) -> io::Result<Identity> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok((meta.dev(), meta.ino()))
}

/// Does the path name this file?
pub(crate) fn names(path: &Path, identity: Identity) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(meta) => Ok((meta.dev(), meta.ino()) == identity),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// True while some name is left of an open file.
#[cfg(target_os = "linux")]
pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    Ok(statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK)?.stx_nlink > 0)
}

/// Only the length: asking for the change time as well makes the kernel write a fresh one at the next write.
#[cfg(target_os = "linux")]
pub(crate) fn len(file: &File) -> io::Result<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    Ok(statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::SIZE)?.stx_size)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn len(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_linked(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 0)
}

/// Syncs a folder, so that names made in it survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reserves space up to `len`, so that a full disk is met before anything is written.
#[cfg(target_os = "linux")]
pub(crate) fn reserve(file: &File, from: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    loop {
        match fallocate(file, FallocateFlags::empty(), from, len - from) {
            Err(Errno::INTR) => {}
            // Such a file system takes what fits, and says so when it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            other => return Ok(other?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn reserve(_: &File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}

/// Which start of the machine this is. Nothing that is mapped outlives it.
pub(crate) fn boot() -> [u64; 2] {
    static BOOT: OnceLock<[u64; 2]> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = fake_boot_id().unwrap_or_else(boot_id);
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

/// [`boot`] in the 16 bits that a frame has for it.
pub(crate) fn boot_tag() -> u16 {
    (boot()[0] & 0xffff) as u16
}

#[cfg(target_os = "linux")]
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> String {
    let output = std::process::Command::new("sysctl").args(["-n", "kern.boottime"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// A number that nobody can guess or has used before.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    #[cfg(target_os = "linux")]
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    #[cfg(not(target_os = "linux"))]
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Why this folder's file system cannot hold a stream that several processes write to, if it cannot.
#[cfg(target_os = "linux")]
pub(crate) fn unfit(folder: &Path) -> io::Result<Option<&'static str>> {
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

#[cfg(not(target_os = "linux"))]
pub(crate) fn unfit(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// Sleeps while the word is `seen`, at most so long. May return early.
#[cfg(target_os = "linux")]
pub(crate) fn sleep_on(word: &AtomicU32, seen: u32, timeout: Duration) {
    use rustix::thread::futex::{Flags, Timespec, wait};
    let time = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // Woken, interrupted, too late or changed already: whoever sleeps looks again.
    let _ = wait(word, Flags::empty(), seen, Some(&time));
}

#[cfg(target_os = "linux")]
pub(crate) fn wake_all(word: &AtomicU32) {
    use rustix::thread::futex::{Flags, wake};
    let _ = wake(word, Flags::empty(), i32::MAX.unsigned_abs());
}

/// Without a futex that processes share, sleeping is looking again.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sleep_on(_: &AtomicU32, _: u32, timeout: Duration) {
    std::thread::sleep(timeout.min(Duration::from_millis(2)));
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn wake_all(_: &AtomicU32) {}

/// When anything about a file last changed, in nanoseconds since 1970.
pub(crate) fn changed(file: &File) -> io::Result<i128> {
    let meta = file.metadata()?;
    Ok(i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()))
}
