//! The checked blocks: what a stream is (`META`), and how a segment begins. Each is written twice, so that one damaged
//! copy costs nothing. Pure.

use jiff::Timestamp;
use run_agent_core::{ProjectId, StreamKey, TaskId};

use crate::frame::{Salt, u32_at, u64_at};

const VERSION: u32 = 1;
const META_MAGIC: [u8; 8] = *b"RUNAMETA";
const META_COPY: usize = 1024;
/// The length of `META`.
pub(crate) const META_LEN: u64 = 2 * META_COPY as u64;
const HEADER_MAGIC: [u8; 8] = *b"RUNASEGM";
const HEADER_COPY: usize = 64;

/// Where the first frame of a segment begins.
pub const HEADER_LEN: usize = 2 * HEADER_COPY;

/// What a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub incarnation: u64,
    pub key: StreamKey,
}

/// How a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub base: u64,
    pub salt: Salt,
    pub incarnation: u64,
    /// The stream's last time when the segment was begun.
    pub ts: Timestamp,
}

/// Writes a block twice, with magic, version and checksum.
fn seal(magic: [u8; 8], body: &[u8], copy_len: usize) -> Vec<u8> {
    let mut copy = Vec::with_capacity(2 * copy_len);
    copy.extend_from_slice(&magic);
    copy.extend_from_slice(&VERSION.to_le_bytes());
    copy.extend_from_slice(&[0; 4]);
    copy.extend_from_slice(body);
    copy.resize(copy_len, 0);
    let crc = checksum(&copy);
    copy[12..16].copy_from_slice(&crc.to_le_bytes());
    copy.extend_from_within(..);
    copy
}

fn checksum(copy: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&copy[..12]);
    crc.update(&copy[16..]);
    crc.finalize()
}

/// The copies that hold, first one first.
fn copies(bytes: &[u8], magic: [u8; 8], copy_len: usize) -> impl Iterator<Item = &[u8]> {
    bytes.chunks_exact(copy_len).take(2).filter(move |copy| {
        copy[..8] == magic && u32_at(copy, 8) == VERSION && u32_at(copy, 12) == checksum(copy)
    })
}

impl Meta {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = self.incarnation.to_le_bytes().to_vec();
        for name in [self.key.project.as_str(), self.key.task.as_ref().map_or("", TaskId::as_str)] {
            body.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
            body.extend_from_slice(name.as_bytes());
        }
        seal(META_MAGIC, &body, META_COPY)
    }

    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        copies(bytes, META_MAGIC, META_COPY).find_map(|copy| {
            let mut rest = copy.get(24..)?;
            let mut name = || {
                let (len, behind) = rest.split_first_chunk::<2>()?;
                let (name, behind) = behind.split_at_checked(u16::from_le_bytes(*len).into())?;
                rest = behind;
                std::str::from_utf8(name).ok()
            };
            let project = ProjectId::parse(name()?).ok()?;
            let task = match name()? {
                "" => None,
                task => Some(TaskId::parse(task).ok()?),
            };
            Some(Self { incarnation: u64_at(copy, 16), key: StreamKey { project, task } })
        })
    }
}

impl Header {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let nanos = self.ts.as_nanosecond();
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        let fraction = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
        let mut body = Vec::with_capacity(HEADER_COPY);
        for word in [self.base, self.salt.0, self.incarnation] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(&seconds.to_le_bytes());
        body.extend_from_slice(&fraction.to_le_bytes());
        seal(HEADER_MAGIC, &body, HEADER_COPY)
    }

    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        copies(bytes, HEADER_MAGIC, HEADER_COPY).find_map(|copy| {
            let seconds = i64::from_le_bytes(u64_at(copy, 40).to_le_bytes());
            let ts = Timestamp::new(seconds, i32::try_from(u32_at(copy, 48)).ok()?).ok()?;
            Some(Self {
                base: u64_at(copy, 16),
                salt: Salt(u64_at(copy, 24)),
                incarnation: u64_at(copy, 32),
                ts,
            })
        })
    }

    /// Which copies do not hold.
    #[must_use]
    pub fn damaged_copies(bytes: &[u8]) -> usize {
        2 - copies(bytes, HEADER_MAGIC, HEADER_COPY).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_copy_costs_nothing() {
        let ts = "2026-11-21T09:30:15.184887001Z".parse().unwrap();
        let header = Header { base: 7, salt: Salt(9), incarnation: 11, ts };
        let project = ProjectId::parse(&"p".repeat(255)).unwrap();
        let task = TaskId::parse("task-20261121-093000-x").unwrap();
        for key in [StreamKey::task(project.clone(), task), StreamKey::project(project)] {
            let meta = Meta { incarnation: 5, key };
            let bytes = meta.encode();
            assert_eq!(bytes.len(), 2 * META_COPY);
            for at in (0..2 * META_COPY).step_by(7) {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert_eq!(Meta::decode(&bad).as_ref(), Some(&meta), "byte {at}");
            }
        }
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_LEN);
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), Some(header), "bit {bit}");
            assert_eq!(Header::damaged_copies(&bad), 1);
            bad[(bit / 8) ^ HEADER_COPY] ^= 1;
            assert_eq!(Header::decode(&bad), None);
        }
        for len in 0..bytes.len() / 2 {
            assert_eq!(Header::decode(&bytes[..len]), None);
        }
    }
}
