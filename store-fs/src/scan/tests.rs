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
        let scan = forward(&bytes, Source::of(&key()), 10);
        assert_eq!((bodies(&scan), scan.rest), (vec!["one".to_owned()], first.len()), "cut at {cut}");
    }
}

#[test]
fn a_torn_entry_in_the_middle_costs_itself_and_what_shares_its_last_line() {
    let (first, second, rest) =
        (entry(1, "one"), entry(2, "two"), [entry(3, "three"), entry(4, "four")].concat());
    for cut in 1..second.len() {
        let bytes = [first.as_slice(), &second[..cut], &rest].concat();
        let scan = forward(&bytes, Source::of(&key()), 10);
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
            let found = bodies(&forward(&flipped, Source::of(&key()), 10));
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
    let parts: Vec<Vec<u8>> = bodies_posted.iter().enumerate().map(|(n, b)| entry(n as i64 + 1, b)).collect();
    let bytes = parts.concat();
    let mut starts = vec![0];
    for part in &parts {
        starts.push(starts.last().unwrap() + part.len());
    }
    for from in 0..bytes.len() {
        match first_trusted(&bytes[from..], &key()) {
            Some(at) => {
                assert!(
                    starts.contains(&(from + at)),
                    "from {from}: an entry inside a body at {}",
                    from + at
                );
            }
            None => assert!(from > starts[parts.len() - 1], "from {from}: nothing found"),
        }
    }
}
