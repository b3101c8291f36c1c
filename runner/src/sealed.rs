//! Files that are made again when they are doubtful: a header and a content with a checksum over both
//! (`docs/formats/checkpoint.md`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files;

/// Raised when the form of these files changes.
pub(crate) const FORMAT: u32 = 1;

/// No header is longer: its longest part is a message id.
const HEADER_MAX: u64 = 4096;

/// The file's bytes.
pub(crate) fn seal(header: &impl Serialize, content: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_string(header)?;
    line.truncate(line.len().saturating_sub(1));
    line.push_str(&format!(",\"bytes\":{},\"crc32\":\"", content.len()));
    let crc = checksum(&line, content);
    let mut bytes = Vec::with_capacity(line.len() + content.len() + 16);
    bytes.extend_from_slice(line.as_bytes());
    bytes.extend_from_slice(format!("{crc:08x}\"}}\n").as_bytes());
    bytes.extend_from_slice(content);
    Ok(bytes)
}

/// Header and content of a file whose bytes are all as they were written; `None` for any other.
pub(crate) fn unseal<H: DeserializeOwned>(bytes: &[u8]) -> Option<(H, &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (line, content) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
    let (covered, crc) = line.strip_suffix("\"}").and_then(|line| line.split_at_checked(line.len() - 8))?;
    // Only the very digits that were written: a parser would take others for the same number.
    if format!("{:08x}", checksum(covered, content)) != crc {
        return None;
    }
    Some((serde_json::from_str(line).ok()?, content))
}

/// The header alone, unchecked: for whoever only asks whether a look at the rest would pay.
pub(crate) fn peek<H: DeserializeOwned>(path: &Path) -> Option<H> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(HEADER_MAX).read_to_end(&mut start).ok()?;
    let end = start.iter().position(|b| *b == b'\n')?;
    serde_json::from_slice(&start[..end]).ok()
}

/// Writes the file, and the folder for it if it is the first.
pub(crate) fn write(path: &Path, header: &impl Serialize, content: &[u8]) -> io::Result<usize> {
    let bytes = seal(header, content)?;
    match files::replace(path, &bytes, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            files::replace(path, &bytes, false)?;
        }
        other => other?,
    }
    Ok(bytes.len())
}

fn checksum(line: &str, content: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(content);
    crc.update(line.as_bytes());
    crc.update(b"\"}");
    crc.finalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let header = serde_json::json!({ "kind": "x", "n": 1 });
        let bytes = seal(&header, b"content\nand more").unwrap();
        let (back, content) = unseal::<serde_json::Value>(&bytes).unwrap();
        assert_eq!((&back["n"], &back["bytes"], content), (&1.into(), &16.into(), &b"content\nand more"[..]));
        for at in 0..bytes.len() {
            assert!(unseal::<serde_json::Value>(&bytes[..at]).is_none(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(unseal::<serde_json::Value>(&flipped).is_none(), "bit {bit} of byte {at}");
            }
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(unseal::<serde_json::Value>(&longer).is_none(), "one byte more");
    }
}
