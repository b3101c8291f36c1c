//! Where in a stretch of bytes are entries, and where is damage? Pure: the caller reads the bytes and says whether
//! more may follow.

use run_agent_core::{Message, StreamKey};

use crate::markdown::{self, DecodeError, EDGE};

/// One thing found in the bytes. Offsets count from their beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Entry {
        at: usize,
        next: usize,
        message: Box<Message>,
    },
    /// What stands here can never become an entry; `next` is where reading goes on.
    Damage {
        at: usize,
        next: usize,
        what: DecodeError,
    },
}

/// What a scan of bytes came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    pub found: Vec<Found>,
    /// Where the bytes stop being decided: an incomplete entry, or their end.
    pub rest: usize,
}

/// Scans from an edge: the file's start, or a cursor. At most `limit` entries. What is incomplete at the end of the
/// bytes is left for a later look.
#[must_use]
pub fn forward(bytes: &[u8], key: &StreamKey, limit: usize) -> Scan {
    let mut scan = Scan::default();
    let mut entries = 0;
    while scan.rest < bytes.len() && entries < limit {
        let at = scan.rest;
        match markdown::decode(&bytes[at..], key) {
            Ok((message, len)) => {
                entries += 1;
                scan.rest = at + len;
                scan.found.push(Found::Entry { at, next: scan.rest, message: Box::new(message) });
            }
            Err(what) => match resynchronise(bytes, at, key) {
                Some(next) => {
                    scan.rest = next;
                    scan.found.push(Found::Damage { at, next, what });
                }
                // Nothing behind it can be trusted yet: it may still grow.
                None => break,
            },
        }
    }
    scan
}

/// The first place behind `at` where an entry can be trusted that is reached from nowhere else.
fn resynchronise(bytes: &[u8], at: usize, key: &StreamKey) -> Option<usize> {
    edges(bytes, at + 1).find(|edge| is_trusted(&bytes[*edge..], key))
}

/// Finds a first trusted entry in bytes that begin anywhere in a file.
#[must_use]
pub fn first_trusted(bytes: &[u8], key: &StreamKey) -> Option<usize> {
    edges(bytes, 0).find(|edge| is_trusted(&bytes[*edge..], key))
}

/// True when a whole entry stands here that verifies, and behind it the end or another edge.
fn is_trusted(bytes: &[u8], key: &StreamKey) -> bool {
    match markdown::decode(bytes, key) {
        Ok((_, len)) => {
            bytes.len() == len || bytes[len..].starts_with(EDGE) || EDGE.starts_with(&bytes[len..])
        }
        Err(_) => false,
    }
}

/// The places of all lines `---` from `from` on. The beginning of the bytes counts as a line's beginning only where
/// the caller starts at it.
fn edges(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> + '_ {
    let mut at = from;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..)?;
            let here = at;
            if rest.starts_with(EDGE) && (here == 0 || bytes[here - 1] == b'\n') {
                at += EDGE.len();
                return Some(here);
            }
            at += rest.iter().position(|b| *b == b'\n')? + 1;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use run_agent_core::{Draft, Kind, MsgId, ProjectId, Timestamp};

    fn key() -> StreamKey {
        StreamKey::project(ProjectId::parse("p").unwrap())
    }

    fn entry(n: i64, body: &str) -> Vec<u8> {
        let ts = Timestamp::from_second(n).unwrap();
        let content = Draft::new(Kind::FACT, key().project, None, body);
        let mut out = Vec::new();
        markdown::encode(&mut out, &Message { id: MsgId::new(ts, 1, 1), ts, content });
        out
    }

    fn bodies(scan: &Scan) -> Vec<String> {
        scan.found
            .iter()
            .map(|f| match f {
                Found::Entry { message, .. } => message.content.body.clone(),
                Found::Damage { .. } => "<damage>".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_torn_tail_at_every_byte_is_not_there_yet() {
        let first = entry(1, "one");
        let second = entry(2, "two\n---\nthree");
        for cut in 0..second.len() {
            let bytes = [first.as_slice(), &second[..cut]].concat();
            let scan = forward(&bytes, &key(), 10);
            assert_eq!((bodies(&scan), scan.rest), (vec!["one".to_owned()], first.len()), "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_entry_in_the_middle_costs_itself_and_what_shares_its_last_line() {
        let (first, second, rest) =
            (entry(1, "one"), entry(2, "two"), [entry(3, "three"), entry(4, "four")].concat());
        for cut in 1..second.len() {
            let bytes = [first.as_slice(), &second[..cut], &rest].concat();
            let scan = forward(&bytes, &key(), 10);
            let found = bodies(&scan);
            let own_line = second[cut - 1] == b'\n';
            let wanted: &[&str] =
                if own_line { &["one", "<damage>", "three", "four"] } else { &["one", "<damage>", "four"] };
            assert_eq!(
                (found, scan.rest),
                (wanted.iter().map(|s| (*s).to_owned()).collect(), bytes.len()),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_what_stands_around_is_read() {
        let parts = [entry(1, "one"), entry(2, "two"), entry(3, "three"), entry(4, "four")];
        let bytes = parts.concat();
        let (from, to) = (parts[0].len(), parts[0].len() + parts[1].len());
        for at in from..to {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let found = bodies(&forward(&flipped, &key(), 10));
                // The newline that ends an entry is what makes the next one's edge a line of its own.
                let wanted: &[&str] = if at == to - 1 {
                    &["one", "<damage>", "four"]
                } else {
                    &["one", "<damage>", "three", "four"]
                };
                assert_eq!(found, wanted, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_start_anywhere_finds_only_true_entries() {
        let forged = String::from_utf8(entry(9, "forged")).unwrap();
        let bare = forged.trim_start_matches("---\n").to_owned();
        let bodies_posted = ["a".to_owned(), forged.clone(), format!("x\n{forged}"), bare, "b".to_owned()];
        let parts: Vec<Vec<u8>> =
            bodies_posted.iter().enumerate().map(|(n, b)| entry(n as i64 + 1, b)).collect();
        let bytes = parts.concat();
        let mut starts = vec![0];
        for part in &parts {
            starts.push(starts.last().unwrap() + part.len());
        }
        for from in 0..bytes.len() {
            match first_trusted(&bytes[from..], &key()) {
                Some(at) => assert!(
                    starts.contains(&(from + at)),
                    "from {from}: an entry inside a body at {}",
                    from + at
                ),
                None => assert!(from > starts[parts.len() - 1], "from {from}: nothing found"),
            }
        }
    }
}
