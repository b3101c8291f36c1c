//! What a stream looks like from outside: where it ends, read from the shared page's file without mapping it.
//!
//! A message's number and time together come only once: times increase within a stream, also when the clock steps back.
//! Where no page of this start of the machine holds, nobody has appended since it was lost, and the last segment's own
//! change time tells one such state from another.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use run_agent_core::StreamKey;
use run_agent_core::store::{ReadError, StreamVersion};

use crate::frame::u64_at;
use crate::page::{MAGIC, tail_in};
use crate::segment::{list, log_path, read_at};
use crate::{control, os};

/// What of the page is read.
const LEN: usize = 256;
/// A page that is being written is whole again at once.
const TRIES: u32 = 20;

pub(crate) fn of(folder: &Path, key: &StreamKey) -> Result<Option<StreamVersion>, ReadError> {
    let found = (|| match by_page(folder)? {
        Some(version) => Ok(Some(version)),
        None => by_segment(folder),
    })();
    match found {
        Ok(version) => Ok(version),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let place = folder.parent().unwrap_or(folder).display().to_string();
            Err(ReadError::Gone { key: key.clone(), place })
        }
        Err(source) => {
            let what = format!("{} cannot be looked at", folder.display());
            Err(ReadError::Io { key: key.clone(), what, source })
        }
    }
}

fn by_page(folder: &Path) -> io::Result<Option<StreamVersion>> {
    os::no_link(folder)?;
    let file = match os::open_to_read(&control::path(folder)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for _ in 0..TRIES {
        let mut bytes = [0; LEN];
        let have = read_at(&file, &mut bytes, 0)?;
        let boot = os::boot();
        if have < LEN || u64_at(&bytes, 0) != MAGIC || [u64_at(&bytes, 8), u64_at(&bytes, 16)] != boot {
            return Ok(None);
        }
        if let Some(tail) = tail_in(&bytes) {
            let (incarnation, last) = (u64_at(&bytes, 24), tail.ts.as_nanosecond());
            return Ok(Some(StreamVersion::new(&format!("end.{incarnation}.{}.{last}", tail.lsn))));
        }
        std::thread::yield_now();
    }
    Ok(None)
}

fn by_segment(folder: &Path) -> io::Result<Option<StreamVersion>> {
    let Some(base) = list(folder)?.pop() else {
        // Nothing was appended yet. The folder above must be there.
        folder.parent().unwrap_or(folder).metadata()?;
        return Ok(Some(StreamVersion::new("empty")));
    };
    let meta = match log_path(folder, base).metadata() {
        Ok(meta) => meta,
        // Removed while one looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let changed = format!("{}.{:09}", meta.ctime(), meta.ctime_nsec());
    Ok(Some(StreamVersion::new(&format!("segment.{base}.{}.{}.{changed}", meta.ino(), meta.len()))))
}
