//! The markdown codec and its scan: no bytes make them panic, places are in order and within the bytes, and what was
//! written is found again, from the start and from the middle.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use run_agent_core::{Message, StreamKey};
use run_agent_fuzz::{message, stream, text};
use run_agent_store_fs::markdown::{self, EDGE, HEADER_MAX};
use run_agent_store_fs::scan::{self, Ends, Found, Scan, Source};

/// Places to begin or end at that one input tries: all of them would take most of its time.
const PLACES: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let key = stream(1);
    check(bytes, &key);
    // A nonsense choice ends the making of a stream early; what was made until then is checked.
    let mut u = Unstructured::new(bytes);
    let _ = bus(&mut u, &key).map(|bus| check(&bus, &key));
    let mut u = Unstructured::new(bytes);
    let _ = messages(&mut u, &key).and_then(|messages| check_written(&messages, &key, &mut u));
});

/// What may stand in a bus file, in any order.
#[derive(Debug, Arbitrary)]
enum Piece {
    Written,
    /// A header of any form that is sealed, as another version may write it.
    Sealed,
    /// A written entry of which only a part is there.
    Torn,
    Text,
    Soup,
}

fn bus(u: &mut Unstructured<'_>, key: &StreamKey) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for _ in 0..u.int_in_range(1..=6)? {
        match u.arbitrary()? {
            Piece::Written => {
                markdown::encode(&mut out, &message(u, key)?);
            }
            Piece::Sealed => sealed(&mut out, &format!("{}{}", text(u)?, text(u)?), &text(u)?),
            Piece::Torn => {
                let mut entry = Vec::new();
                markdown::encode(&mut entry, &message(u, key)?);
                out.extend_from_slice(&entry[..u.int_in_range(0..=entry.len())?]);
            }
            Piece::Text => out.extend_from_slice(text(u)?.as_bytes()),
            Piece::Soup => out.extend_from_slice(u.arbitrary()?),
        }
    }
    Ok(out)
}

fn sealed(out: &mut Vec<u8>, fields: &str, body: &str) {
    let header = format!(
        "msg_id: \"m\"\nts: \"2026-11-21T09:30:15Z\"\ntype: \"FACT\"\n{fields}\nbytes: {}\n",
        body.len()
    );
    let mut crc = crc32fast::Hasher::new();
    crc.update(header.as_bytes());
    crc.update(body.as_bytes());
    out.extend_from_slice(
        format!("---\n{header}crc32: \"{:08x}\"\n---\n{body}\n", crc.finalize()).as_bytes(),
    );
}

fn messages(u: &mut Unstructured<'_>, key: &StreamKey) -> Result<Vec<Message>> {
    (0..u.int_in_range(1..=4)?).map(|_| message(u, key)).collect()
}

fn place(found: &Found) -> (usize, usize) {
    match found {
        Found::Entry { at, next, .. } | Found::Damage { at, next, .. } => (*at, *next),
    }
}

/// What holds for any bytes, whatever may follow them. What may, their length chooses: all of it would take six times as
/// long for each input.
fn check(bytes: &[u8], key: &StreamKey) {
    let ends = [Ends::Open, Ends::Settled, Ends::Sealed][bytes.len() % 3];
    let legacy = bytes.len().is_multiple_of(2).then_some(1);
    check_scan(bytes, Source { key, origin: 0, ends, legacy });
    if let Some(at) = scan::first_trusted(bytes, key) {
        markdown::decode(&bytes[at..], key).expect("what is trusted is an entry");
    }
}

fn check_scan(bytes: &[u8], source: Source<'_>) {
    let scan = scan::forward(bytes, source, usize::MAX);
    let mut end = 0;
    for found in &scan.found {
        let (at, next) = place(found);
        assert!(
            end <= at && at < next && next <= bytes.len(),
            "the stretches are in order and within the bytes"
        );
        assert!(bytes[end..at].trim_ascii().is_empty(), "only empty lines are passed over");
        end = next;
        let Found::Entry { message, .. } = found else { continue };
        if let Ok((alone, len)) = markdown::decode(&bytes[at..next], source.key) {
            assert_eq!((&alone, len), (message, next - at), "a sealed entry is the same by itself");
        }
        check_again(message, source.key);
    }
    assert!(end <= scan.rest && scan.rest <= bytes.len());
    assert!(bytes[end..scan.rest].trim_ascii().is_empty());
    for limit in [0, 1, 2] {
        let first = scan::forward(bytes, source, limit);
        assert!(scan.found.starts_with(&first.found), "a limit only stops earlier");
    }
    // Whoever goes on at a cursor finds what whoever reads on finds.
    if let Some(n) = scan.found.iter().position(|found| bytes[place(found).0..].starts_with(EDGE)) {
        let (_, from) = place(&scan.found[n]);
        let on = Source { origin: from as u64, legacy: None, ..source };
        let on = scan::forward(&bytes[from..], on, usize::MAX);
        assert_eq!((on.rest + from, on.tail), (scan.rest, scan.tail));
        let places = |found: &[Found], from| found.iter().map(|f| place(f).0 + from).collect::<Vec<_>>();
        assert_eq!(places(&on.found, from), places(&scan.found[n + 1..], 0));
    }
}

/// A message that was read is written and read again.
fn check_again(message: &Message, key: &StreamKey) {
    let mut entry = Vec::new();
    if markdown::encode(&mut entry, message) > HEADER_MAX {
        return;
    }
    assert_eq!(markdown::decode(&entry, key).as_ref(), Ok(&(message.clone(), entry.len())));
}

/// What holds for a file that nobody but the store wrote to.
fn check_written(messages: &[Message], key: &StreamKey, u: &mut Unstructured<'_>) -> Result<()> {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for message in messages {
        starts.push(bytes.len());
        markdown::encode(&mut bytes, message);
        check_again(message, key);
    }
    let Scan { found, rest, .. } = scan::forward(&bytes, Source::of(key), usize::MAX);
    assert_eq!(rest, bytes.len());
    let read: Vec<&Message> = found
        .iter()
        .map(|found| match found {
            Found::Entry { message, .. } => message,
            Found::Damage { .. } => panic!("what was written is damage: {found:?}"),
        })
        .collect();
    assert!(messages.iter().eq(read));
    // The YAML crate is the oracle for the line parser.
    for (message, at) in messages.iter().zip(&starts) {
        check_yaml(message, &bytes[at + EDGE.len()..]);
    }
    // From the middle, only true entries are found, and the first that begins there.
    for _ in 0..PLACES {
        let from = u.int_in_range(0..=bytes.len() - 1)?;
        let line = from == 0 || bytes[from - 1] == b'\n';
        let wanted = starts.iter().find(|at| **at >= from && (line || **at > from)).map(|at| at - from);
        assert_eq!(scan::first_trusted(&bytes[from..], key), wanted, "from byte {from}");
    }
    // A torn last entry is not there yet, at whatever byte it is torn.
    let last = starts[starts.len() - 1];
    for _ in 0..PLACES {
        let cut = u.int_in_range(last..=bytes.len() - 1)?;
        let scan = scan::forward(&bytes[..cut], Source::of(key), usize::MAX);
        assert_eq!((scan.rest, scan.found.len()), (last, messages.len() - 1), "cut at byte {cut}");
    }
    Ok(())
}

fn check_yaml(message: &Message, entry: &[u8]) {
    let end = entry.windows(5).position(|line| line == b"\n---\n").expect("an edge closes the header");
    let header = std::str::from_utf8(&entry[..end]).expect("a header is text");
    let yaml: serde_yaml::Value = serde_yaml::from_str(header).expect("a header is YAML");
    let text = |name: &str| yaml.get(name).and_then(serde_yaml::Value::as_str).map(str::to_owned);
    assert_eq!(text("msg_id").as_deref(), Some(message.id.as_str()));
    assert_eq!(text("type").as_deref(), Some(message.content.kind.as_str()));
    assert_eq!(text("attachment_path"), message.content.attachment_path);
    let meta = yaml.get("meta").cloned().unwrap_or_default();
    let meta: Option<std::collections::BTreeMap<String, String>> =
        serde_yaml::from_value(meta).expect("meta is a map of texts");
    assert_eq!(meta.unwrap_or_default(), message.content.meta);
}
