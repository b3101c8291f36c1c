use run_agent_core::{Draft, Kind, Message, ProjectId, Timestamp};

use super::*;
use crate::scan::{self, Found, Source};

fn key() -> StreamKey {
    StreamKey::project(ProjectId::parse("p").unwrap())
}

fn entry(n: i64, body: &str) -> String {
    let ts = Timestamp::from_second(n).unwrap();
    let content = Draft::new(Kind::FACT, key().project, None, body);
    let mut out = Vec::new();
    markdown::encode(&mut out, &Message { id: MsgId::new(ts, 1, 1), ts, content });
    String::from_utf8(out).unwrap()
}

fn bodies(bytes: &[u8]) -> Vec<String> {
    let scan = scan::forward(bytes, Source::of(&key()), usize::MAX);
    let text = |found: &Found| match found {
        Found::Entry { message, .. } => message.content.body.clone(),
        Found::Damage { .. } => "<damage>".to_owned(),
    };
    scan.found.iter().map(text).collect()
}

fn check(original: &str, edited: &str) -> Checked {
    let mut checked = reseal(edited.as_bytes(), original.as_bytes(), &key());
    let before = reseal(original.as_bytes(), original.as_bytes(), &key()).findings;
    checked.findings.retain(|f| !before.iter().any(|old| old.what == f.what && old.head == f.head));
    checked
}

#[test]
fn an_entry_that_was_changed_is_sealed_again_and_the_others_stay_byte_for_byte() {
    let (one, two, three) = (entry(1, "one"), entry(2, "two\n---\nmore"), entry(3, "three"));
    let original = [one.as_str(), &two, &three].concat();
    for (from, to, wanted) in [
        ("\nthree\n", "\nTHREE\n", ["one", "two\n---\nmore", "THREE"]),
        ("\none\n", "\none\nand a half\n", ["one\nand a half", "two\n---\nmore", "three"]),
        ("\none\n", "\none\n\n", ["one\n", "two\n---\nmore", "three"]),
        ("\none\n", "\na\n---\nb\n", ["a\n---\nb", "two\n---\nmore", "three"]),
        ("\none\n", "\na\n---\n---\nb\n", ["a\n---\n---\nb", "two\n---\nmore", "three"]),
        ("\\---\nmore", "\\---\nless", ["one", "two\n---\nless", "three"]),
        ("\nthree\n", "\nthree", ["one", "two\n---\nmore", "three"]),
    ] {
        let edited = original.replace(from, to);
        let checked = check(&original, &edited);
        assert_eq!(bodies(&checked.bytes), wanted, "{from:?} to {to:?}");
        assert_eq!((checked.resealed, checked.findings), (1, vec![]), "{from:?} to {to:?}");
    }
    assert_eq!(check(&original, &original).bytes, original.as_bytes());
    assert_eq!(check(&original, &original).resealed, 0);
}

#[test]
fn fields_and_whole_entries_may_be_changed_too() {
    let original = [entry(1, "one"), entry(2, "two"), entry(3, "three")].concat();
    let edited = original.replacen("type: \"FACT\"", "type: \"DECISION\"", 1);
    let checked = check(&original, &edited);
    assert_eq!((checked.resealed, checked.findings.len()), (1, 0));
    assert!(String::from_utf8(checked.bytes).unwrap().contains("DECISION"));
    let gone = original.replace(&entry(2, "two"), "");
    let checked = check(&original, &gone);
    assert_eq!(bodies(&checked.bytes), ["one", "three"]);
    assert_eq!(checked.findings, []);
}

#[test]
fn what_the_edit_broke_is_told_with_its_line_and_what_was_broken_before_is_not() {
    let (one, two) = (entry(1, "one"), entry(2, "two"));
    let original = [one.as_str(), &two].concat();
    let no_yaml = original.replacen("type: \"FACT\"", "type: \"FACT", 1);
    let findings = check(&original, &no_yaml).findings;
    assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [1], "{findings:?}");
    let turned = [two.as_str(), &one].concat();
    let findings = check(&original, &turned).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].line, two.lines().count() + 1);

    let damaged =
        [one.as_str(), "---\nmsg_id: \"x\"\nbytes: 1\ncrc32: \"00000000\"\n---\nxy\n", &two].concat();
    let edited = damaged.replace("\ntwo\n", "\nTWO\n");
    let checked = check(&damaged, &edited);
    assert_eq!((checked.resealed, checked.findings), (1, vec![]));
    assert!(String::from_utf8(checked.bytes).unwrap().contains("00000000"), "damage is not whitewashed");
}

#[test]
fn what_another_hand_wrote_is_left_alone() {
    let foreign = "a preamble\n---\ntype: NOTE\n---\nby hand\n";
    let original = [foreign, &entry(1, "one")].concat();
    let edited = original.replace("by hand", "by another hand");
    let checked = check(&original, &edited);
    assert_eq!(String::from_utf8(checked.bytes).unwrap(), edited);
    assert_eq!((checked.resealed, checked.findings), (0, vec![]));
}
