//! What this store asks of the system besides what all stores do.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

pub(crate) use run_agent_store_shared::os::{
    boot, create_new, len, no_link, open, open_to_read, open_to_write, read, sleep_on, sync_folder, unfit,
};

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

/// [`boot`] in the 16 bits that a frame has for it.
pub(crate) fn boot_tag() -> u16 {
    (boot()[0] & 0xffff) as u16
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

/// When anything about a file last changed, in nanoseconds since 1970.
pub(crate) fn changed(file: &File) -> io::Result<i128> {
    let meta = file.metadata()?;
    Ok(i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()))
}
