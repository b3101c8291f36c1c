//! The sparse offset index of a segment: derived, disposable, and checked where it is used. What is missing in it costs a
//! longer walk and nothing else.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;

use crate::frame::{Salt, u32_at, u64_at};
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
    let bytes = std::fs::read(index_path(folder, segment.base())).unwrap_or_default();
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

/// Adds what is missing up to byte `end`, for who holds the append lock.
pub(crate) fn complete(folder: &Path, segment: &Segment, end: u64) -> io::Result<()> {
    let anchors = read(folder, segment);
    let last = find(&anchors, segment, |anchor| anchor.offset < end)?;
    let have = anchors.iter().rposition(|anchor| *anchor == last).map_or(0, |n| n + 1);
    let mut more = Vec::new();
    let (mut at, mut indexed) = (last.offset, last.offset);
    let mut walk = segment.walk(end, WIDE);
    while let Some(frame) = walk.frame_at(at)? {
        if at >= indexed + STRIDE {
            let anchor = Anchor { lsn: frame.head.lsn, offset: at, nanos: nanos(frame.head.ts) };
            more.extend_from_slice(&anchor.encode(segment.salt()));
            indexed = at;
        }
        at += frame.len as u64;
    }
    let mut options = std::fs::OpenOptions::new();
    let file = os::open(&index_path(folder, segment.base()), options.write(true).create(true))?;
    let kept = (have * ENTRY) as u64;
    if os::len(&file)? != kept {
        // Damaged, or ahead of the end: what holds is written anew.
        file.set_len(0)?;
        more.splice(0..0, anchors[..have].iter().flat_map(|anchor| anchor.encode(segment.salt())));
        return file.write_all_at(&more, 0);
    }
    file.write_all_at(&more, kept)
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
