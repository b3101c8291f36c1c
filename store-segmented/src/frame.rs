//! The frame: one message with everything that tells whether it is whole and in its place (`docs/formats/segment.md`).
//! Pure, and total on any bytes.

use jiff::Timestamp;

/// Bytes before the payload.
pub const HEADER: usize = 72;
/// The greatest payload: a body and its fields at their largest.
pub const PAYLOAD_MAX: usize = 128 * 1024;
/// The greatest frame.
pub const FRAME_MAX: usize = (HEADER + PAYLOAD_MAX + TRAILER).next_multiple_of(ALIGN);
pub const ALIGN: usize = 8;
pub const MAGIC: [u8; 4] = *b"RAFR";

const TRAILER: usize = 4;
const VERSION: u8 = 1;
const SEAL: u8 = 1;

/// Random, one a segment: no frame of another one verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub u64);

/// Which batch a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub first: u64,
    pub count: u32,
    pub nonce: u64,
}

/// What stands before the payload, but for what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub seal: bool,
    pub lsn: u64,
    /// Where in its file the frame begins.
    pub offset: u64,
    pub batch: Batch,
    pub ts: Timestamp,
    /// Everything before this was synced when the frame was written.
    pub durable: u64,
    /// Tells one start of the machine from another, as far as 16 bits do.
    pub boot: u16,
}

/// A frame that verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub head: Head,
    pub payload: &'a [u8],
    /// The length of the whole frame.
    pub len: usize,
}

/// Why there is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// It would be so long, and fewer bytes are there.
    Short { wanted: usize },
    /// Whatever follows, it is none.
    Invalid,
}

/// The length of a frame around a payload.
#[must_use]
pub const fn len_of(payload: usize) -> usize {
    (HEADER + payload + TRAILER).next_multiple_of(ALIGN)
}

/// Appends a frame to `out`. The payload has at most [`PAYLOAD_MAX`] bytes.
pub fn encode(out: &mut Vec<u8>, salt: Salt, head: &Head, payload: &[u8]) {
    let start = out.len();
    blank(out, |out| out.extend_from_slice(payload));
    fill(&mut out[start..], salt, head);
}

/// Appends a frame that lacks its head: what can be done before its place is known. `payload` appends at most
/// [`PAYLOAD_MAX`] bytes.
pub fn blank<T>(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let told = payload(out);
    let payload_len = out.len() - start - HEADER;
    let len = len_of(payload_len);
    out.resize(start + len - TRAILER, 0);
    out.extend_from_slice(&as_u32(len).to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&as_u32(payload_len).to_le_bytes());
    told
}

/// The length of the frame that begins here and was made by [`blank`].
#[must_use]
pub fn len_at(frames: &[u8]) -> usize {
    len_of(usize::try_from(u32_at(frames, 8)).unwrap_or(usize::MAX))
}

/// The number and time of the frame that begins here and was made by [`fill`].
pub(crate) fn place_of(frames: &[u8]) -> (u64, Timestamp) {
    let seconds = i64::from_le_bytes(u64_at(frames, 56).to_le_bytes());
    let nanos = i32::try_from(u32_at(frames, 52)).unwrap_or_default();
    (u64_at(frames, 16), Timestamp::new(seconds, nanos).unwrap_or_default())
}

/// Gives a frame its head. `frame` is all of what [`blank`] appended.
pub fn fill(frame: &mut [u8], salt: Salt, head: &Head) {
    let (seconds, nanos) = split(head.ts);
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(4, &[VERSION, if head.seal { SEAL } else { 0 }]);
    put(6, &head.boot.to_le_bytes());
    put(16, &head.lsn.to_le_bytes());
    put(24, &head.offset.to_le_bytes());
    put(32, &head.batch.first.to_le_bytes());
    put(40, &head.batch.nonce.to_le_bytes());
    put(48, &head.batch.count.to_le_bytes());
    put(52, &nanos.to_le_bytes());
    put(56, &seconds.to_le_bytes());
    put(64, &head.durable.to_le_bytes());
    let crc = checksum(salt, frame);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the frame at the beginning of `bytes`, which stand at `offset` in their file.
///
/// # Errors
/// When there is none.
pub fn decode(bytes: &[u8], offset: u64, salt: Salt) -> Result<Frame<'_>, Bad> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        let begins = bytes.len() < 4 || bytes[..4] == MAGIC;
        return Err(if begins { Bad::Short { wanted: HEADER } } else { Bad::Invalid });
    };
    let seal = header[5] == SEAL;
    let payload_len = usize::try_from(u32_at(header, 8)).unwrap_or(usize::MAX);
    let plausible = header[..4] == MAGIC
        && header[4] == VERSION
        && header[5] & !SEAL == 0
        && payload_len <= PAYLOAD_MAX
        && u64_at(header, 24) == offset
        && !(seal && payload_len > 0);
    if !plausible {
        return Err(Bad::Invalid);
    }
    let len = len_of(payload_len);
    let Some(whole) = bytes.get(..len) else { return Err(Bad::Short { wanted: len }) };
    if u32_at(whole, len - TRAILER) != as_u32(len) || u32_at(header, 12) != checksum(salt, whole) {
        return Err(Bad::Invalid);
    }
    let batch = Batch { first: u64_at(header, 32), nonce: u64_at(header, 40), count: u32_at(header, 48) };
    let lsn = u64_at(header, 16);
    let within = lsn.checked_sub(batch.first).is_some_and(|n| n < u64::from(batch.count));
    let nanos = i32::try_from(u32_at(header, 52)).ok().filter(|n| *n < 1_000_000_000);
    let seconds = i64::from_le_bytes(u64_at(header, 56).to_le_bytes());
    match nanos.and_then(|nanos| Timestamp::new(seconds, nanos).ok()) {
        Some(ts) if within => {
            let boot = u16::from_le_bytes([header[6], header[7]]);
            let head = Head { seal, lsn, offset, batch, ts, durable: u64_at(header, 64), boot };
            Ok(Frame { head, payload: &whole[HEADER..HEADER + payload_len], len })
        }
        Some(_) | None => Err(Bad::Invalid),
    }
}

fn checksum(salt: Salt, frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    // One run over the 20 bytes before the payload's own is cheaper than three.
    let mut lead = [0; 20];
    lead[..8].copy_from_slice(&salt.0.to_le_bytes());
    lead[8..].copy_from_slice(&frame[..12]);
    crc.update(&lead);
    crc.update(&frame[16..]);
    crc.finalize()
}

/// Seconds, and nanoseconds that count forward also before 1970.
fn split(ts: Timestamp) -> (i64, u32) {
    let (seconds, nanos) = (ts.as_second(), ts.subsec_nanosecond());
    match u32::try_from(nanos) {
        Ok(nanos) => (seconds, nanos),
        Err(_) => (seconds - 1, u32::try_from(nanos + 1_000_000_000).unwrap_or_default()),
    }
}

fn as_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = Salt(0x0123_4567_89ab_cdef);

    fn head(lsn: u64, offset: u64, ts: Timestamp) -> Head {
        let batch = Batch { first: lsn, count: 1, nonce: 77 };
        Head { seal: false, lsn, offset, batch, ts, durable: 3, boot: 5 }
    }

    fn sample(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, SALT, &head(9, 128, "2026-11-21T09:30:15.184887001Z".parse().unwrap()), payload);
        out
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let good = sample(b"some payload");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            bad.resize(FRAME_MAX, 0);
            assert_eq!(decode(&bad, 128, SALT).map(|f| f.head), Err(Bad::Invalid), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed_and_tells_how_much_is_wanted() {
        let good = sample(b"some payload");
        for len in 0..good.len() {
            let wanted = if len < HEADER { HEADER } else { good.len() };
            assert_eq!(decode(&good[..len], 128, SALT).map(|f| f.head), Err(Bad::Short { wanted }), "{len}");
        }
    }

    #[test]
    fn a_frame_of_another_place_or_segment_is_none() {
        let good = sample(b"x");
        assert!(decode(&good, 128, SALT).is_ok());
        assert_eq!(decode(&good, 136, SALT).map(|f| f.len), Err(Bad::Invalid));
        assert_eq!(decode(&good, 128, Salt(1)).map(|f| f.len), Err(Bad::Invalid));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            payload in proptest::collection::vec(any::<u8>(), 0..600),
            lsn in 0..u64::MAX / 2,
            offset: u64,
            back in 0u32..100,
            count in 100u32..200,
            nonce: u64,
            durable: u64,
            boot: u16,
            nanos in Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond(),
            behind in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let batch = Batch { first: lsn.saturating_sub(back.into()), count, nonce };
            let ts = Timestamp::from_nanosecond(nanos).unwrap();
            let head = Head { seal: payload.is_empty(), lsn, offset, batch, ts, durable, boot };
            let mut bytes = Vec::new();
            encode(&mut bytes, SALT, &head, &payload);
            let len = bytes.len();
            prop_assert_eq!(len, len_of(payload.len()));
            bytes.extend(behind);
            prop_assert_eq!(decode(&bytes, offset, SALT), Ok(Frame { head, payload: &payload, len }));
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), begins: bool) {
            if begins && bytes.len() > 8 {
                bytes[..6].copy_from_slice(b"RAFR\x01\x00");
                bytes[6..8].fill(0);
            }
            prop_assert!(decode(&bytes, 0, SALT).is_err());
        }
    }
}
