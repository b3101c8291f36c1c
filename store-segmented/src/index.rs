//! The sparse offset index of a segment: derived, disposable, and checked where it is used. What is missing in it costs a
//! longer walk and nothing else.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;

use crate::frame::{self, Salt, u32_at, u64_at};
use crate::os;
use crate::segment::{FIRST, Segment, WIDE, index_path};

/// Bytes of a segment for each of which there is an entry.
pub(crate) const STRIDE: u64 = 64 * 1024;
const ENTRY: usize = 32;

/// A frame whose place is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) lsn: u64,
    pub(crate) offset: u64,
    pub(crate) nanos: i64,
}

/// Nanoseconds since 1970, as far as 64 bits go.
pub(crate) fn nanos(ts: Timestamp) -> i64 {
    let nanos = ts.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

impl Anchor {
    pub(crate) fn encode(&self, salt: Salt) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&self.lsn.to_le_bytes());
        entry[8..16].copy_from_slice(&self.offset.to_le_bytes());
        entry[16..24].copy_from_slice(&self.nanos.to_le_bytes());
        let crc = checksum(salt, &entry[..24]);
        entry[24..28].copy_from_slice(&crc.to_le_bytes());
        entry
    }

    fn decode(entry: &[u8], salt: Salt) -> Option<Self> {
        (u32_at(entry, 24) == checksum(salt, &entry[..24])).then(|| Self {
            lsn: u64_at(entry, 0),
            offset: u64_at(entry, 8),
            nanos: i64::from_le_bytes(u64_at(entry, 16).to_le_bytes()),
        })
    }
}

fn checksum(salt: Salt, entry: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.0.to_le_bytes());
    crc.update(entry);
    crc.finalize()
}

/// The entries that hold, in order. An index that cannot be read is an empty one.
pub(crate) fn read(folder: &Path, segment: &Segment) -> Vec<Anchor> {
    let most = |len| (len / STRIDE + 1) * ENTRY as u64;
    let bytes = segment.len().and_then(|len| os::read(&index_path(folder, segment.base()), most(len)));
    let bytes = bytes.unwrap_or_default();
    let mut anchors: Vec<Anchor> = Vec::with_capacity(bytes.len() / ENTRY);
    for entry in bytes.chunks_exact(ENTRY) {
        if let Some(anchor) = Anchor::decode(entry, segment.salt())
            && anchors.last().is_none_or(|last| last.lsn < anchor.lsn && last.offset < anchor.offset)
        {
            anchors.push(anchor);
        }
    }
    anchors
}

/// The last anchor of which `before` holds and whose frame verifies, or the segment's beginning.
pub(crate) fn find(
    anchors: &[Anchor],
    segment: &Segment,
    before: impl Fn(&Anchor) -> bool,
) -> io::Result<Anchor> {
    let upto = anchors.partition_point(before);
    for anchor in anchors[..upto].iter().rev() {
        let frame = segment.walk(u64::MAX, 4096).frame_at(anchor.offset)?.map(|frame| frame.head.lsn);
        if frame == Some(anchor.lsn) {
            return Ok(*anchor);
        }
    }
    Ok(Anchor { lsn: segment.base(), offset: FIRST, nanos: nanos(segment.header.ts) })
}

/// Up to where a handle has seen the index of a segment complete: spares it to read both again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Indexed {
    salt: Salt,
    last: Anchor,
    /// Of the index.
    len: u64,
    /// A frame begins here, or will: all before it are in the index as far as they belong there.
    upto: u64,
}

/// Adds what is missing up to the end of `own`, the frames that the caller wrote at byte `at`, for who holds the append
/// lock.
pub(crate) fn complete(
    folder: &Path,
    segment: &Segment,
    own: &[u8],
    at: u64,
    known: &mut Option<Indexed>,
) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = os::open(&index_path(folder, segment.base()), options.write(true).create(true))?;
    let len = os::len(&file)?;
    let same = |known: &Indexed| (known.salt, known.len) == (segment.salt(), len) && known.upto <= at;
    let mut more = Vec::new();
    let mut indexed = match known.take().filter(same) {
        Some(known) => known,
        None => {
            let anchors = read(folder, segment);
            let last = find(&anchors, segment, |anchor| anchor.offset < at)?;
            let have = anchors.iter().rposition(|anchor| *anchor == last).map_or(0, |n| n + 1);
            let mut indexed =
                Indexed { salt: segment.salt(), last, len: (have * ENTRY) as u64, upto: last.offset };
            if len != indexed.len {
                // Damaged, or ahead of the end: what holds is written anew.
                file.set_len(0)?;
                more.extend(anchors[..have].iter().flat_map(|anchor| anchor.encode(segment.salt())));
                indexed.len = 0;
            }
            indexed
        }
    };
    let mut walk = segment.walk(at, WIDE);
    while indexed.upto < at
        && let Some(frame) = walk.frame_at(indexed.upto)?
    {
        indexed.pass(&mut more, frame.len, || (frame.head.lsn, frame.head.ts));
    }
    // Behind damage it goes on with what is known to be whole.
    indexed.upto = at;
    let mut rest = own;
    while !rest.is_empty() {
        let len = frame::len_at(rest);
        indexed.pass(&mut more, len, || frame::place_of(rest));
        rest = rest.get(len..).unwrap_or_default();
    }
    file.write_all_at(&more, indexed.len)?;
    indexed.len += more.len() as u64;
    *known = Some(indexed);
    Ok(())
}

impl Indexed {
    /// One frame, with an entry if it is far enough behind the last that has one.
    fn pass(&mut self, more: &mut Vec<u8>, len: usize, head: impl FnOnce() -> (u64, Timestamp)) {
        if self.upto >= self.last.offset + STRIDE {
            let (lsn, ts) = head();
            self.last = Anchor { lsn, offset: self.upto, nanos: nanos(ts) };
            more.extend_from_slice(&self.last.encode(self.salt));
        }
        self.upto += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_a_changed_one_or_one_of_another_segment_does_not() {
        let anchor = Anchor { lsn: 5, offset: 4096, nanos: -7 };
        let entry = anchor.encode(Salt(3));
        assert_eq!(Anchor::decode(&entry, Salt(3)), Some(anchor));
        assert_eq!(Anchor::decode(&entry, Salt(4)), None);
        for bit in 0..28 * 8 {
            let mut bad = entry;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Anchor::decode(&bad, Salt(3)), None);
        }
    }
}
