//! What one handle appends, reads and finds.

use super::*;
use crate::id::{MsgId, RunId};
use crate::message::{BODY_MAX, FIELDS_MAX, Link, Parent};
use crate::store::{AppendError, ReadError};

pub fn an_empty_stream_has_an_end_and_nothing_else(backend: &dyn Backend) {
    let stream = open(backend);
    let end = stream.end().expect("end");
    assert_eq!(end, Cursor::START);
    assert!(stream.read(Cursor::START, 10).expect("read").is_empty());
    assert!(stream.last(10).expect("last").is_empty());
    assert_eq!(stream.verify().expect("verify").entries, 0);
}

pub fn what_was_appended_is_read_in_order(backend: &dyn Backend) {
    let stream = open(backend);
    let wrote: Vec<Entry> = (0..20).map(|n| append(&*stream, &format!("body {n}"))).collect();
    let read = all(&*backend.store().open(&key()).expect("open"));
    assert_eq!(read, wrote, "what append returned is what a reader sees, places included");
    assert_increasing(&read);
    assert_eq!(stream.end().expect("end"), read[19].next);
}

pub fn every_field_comes_back(backend: &dyn Backend) {
    let stream = open(backend);
    let first = append(&*stream, "first").message.id;
    let mut full = draft("the body");
    full.kind = Kind::parse("MY_OWN_TYPE").expect("valid");
    full.run = Some(RunId::parse("20261121-0930001234-67946-1").expect("valid"));
    full.issue = Some(first.clone());
    full.parents = vec![
        Parent::new(first.clone(), None),
        Parent {
            msg_id: MsgId::parse("elsewhere").expect("valid"),
            kind: Some("because: \"x\"".to_owned()),
            meta: [("why".to_owned(), "- a\n- b: c #d".to_owned())].into(),
        },
    ];
    full.links = vec![Link {
        url: "https://example.org/x?a=b#c".to_owned(),
        label: Some("label: é".to_owned()),
        kind: None,
    }];
    full.meta = [
        ("k".to_owned(), String::new()),
        ("no".to_owned(), "no".to_owned()),
        ("odd key: \"x\"".to_owned(), "\u{0}\u{1b}\r\n\t\u{2028}\u{feff}🚀".to_owned()),
    ]
    .into();
    full.attachment_path = Some("ATTACH-20261121-x.txt".to_owned());
    stream.append(vec![full.clone()], Durability::None).expect("append");
    assert_eq!(all(&*stream)[1].message.content, full);
}

pub fn bodies_come_back_byte_for_byte(backend: &dyn Backend) {
    let stream = open(backend);
    let forged = "x\n---\nmsg_id: \"forged\"\nts: \"2026-11-21T09:30:15Z\"\ntype: \"RUN_STOP\"\nproject_id: \"conformance\"\nbytes: 2\ncrc32: \"00000000\"\n---\nhi\n";
    let large = "é".repeat(30 * 1024);
    let full = "x".repeat(BODY_MAX);
    let wanted = [
        "",
        "\n",
        "\n\n\n",
        "one",
        "one\n",
        "\r\n",
        "a\rb\r",
        "\0\0",
        "---",
        "---\n",
        "\n---\n",
        "---\r\nx",
        "\\---",
        "\\\\---\n\\",
        "----",
        " ---",
        "a\n---\nb",
        forged,
        "é 漢字 🚀 \u{7f}",
        "bytes: 3\ncrc32: \"0\"\n---\nabc",
        &large,
        &full,
    ];
    for body in wanted {
        append(&*stream, body);
    }
    let read = all(&*stream);
    assert_eq!(bodies(&read), wanted);
    for count in 0..=wanted.len() {
        let page = stream.last(count).expect("last");
        assert_eq!(bodies(&page.entries), wanted[wanted.len() - count..], "the last {count}");
    }
    for entry in &read {
        let page = stream.read(entry.at, 1).expect("read");
        assert_eq!(page.entries.as_slice(), std::slice::from_ref(entry), "read from the middle");
    }
}

pub fn a_body_above_the_limit_is_refused_and_nothing_is_appended(backend: &dyn Backend) {
    let stream = open(backend);
    let result = stream.append(vec![draft("small"), draft(&"x".repeat(BODY_MAX + 1))], Durability::None);
    assert!(matches!(result, Err(AppendError::TooLarge { bytes, max: BODY_MAX }) if bytes == BODY_MAX + 1));
    assert!(all(&*stream).is_empty());
}

pub fn fields_above_the_limit_are_refused_and_nothing_is_appended(backend: &dyn Backend) {
    let stream = open(backend);
    let mut large = draft("small");
    large.meta.insert("k".to_owned(), "x".repeat(FIELDS_MAX + 1));
    let result = stream.append(vec![draft("small"), large], Durability::None);
    assert!(matches!(result, Err(AppendError::FieldsTooLarge { .. })), "{result:?}");
    assert!(all(&*stream).is_empty());
    let mut fits = draft("small");
    fits.meta.insert("k".to_owned(), "x".repeat(FIELDS_MAX / 3));
    stream.append(vec![fits.clone()], Durability::None).expect("append");
    assert_eq!(all(&*stream)[0].message.content, fits);
}

pub fn a_batch_is_contiguous_and_an_empty_one_is_nothing(backend: &dyn Backend) {
    let stream = open(backend);
    assert!(stream.append(Vec::new(), Durability::None).expect("append").is_empty());
    let batch: Vec<Draft> = (0..100).map(|n| draft(&n.to_string())).collect();
    let entries = stream.append(batch, Durability::None).expect("append");
    assert_increasing(&entries);
    assert_eq!(all(&*stream), entries);
}

pub fn an_issue_gets_its_own_id(backend: &dyn Backend) {
    let stream = open(backend);
    let mut issue = draft("broken");
    issue.kind = Kind::ISSUE;
    let entry = stream.append(vec![issue], Durability::None).expect("append").remove(0);
    assert_eq!(entry.message.content.issue, Some(entry.message.id.clone()));
    assert_eq!(all(&*stream), [entry]);
}

pub fn limits_are_kept_and_edges_are_defined(backend: &dyn Backend) {
    let stream = open(backend);
    for n in 0..5 {
        append(&*stream, &n.to_string());
    }
    let none = stream.read(Cursor::START, 0).expect("read");
    assert!(none.is_empty() && none.next == Cursor::START);
    let two = stream.read(Cursor::START, 2).expect("read");
    assert_eq!(bodies(&two.entries), ["0", "1"]);
    assert_eq!(
        bodies(&stream.read(two.next, 2).expect("read").entries),
        ["2", "3"],
        "the next, not the newest"
    );
    let end = stream.end().expect("end");
    assert!(stream.read(end, 10).expect("read").is_empty());
    let last = stream.last(0).expect("last");
    assert!(last.is_empty() && last.next == end);
    assert_eq!(bodies(&stream.last(99).expect("last").entries), ["0", "1", "2", "3", "4"]);
}

pub fn an_id_is_found_and_an_unknown_one_is_an_error(backend: &dyn Backend) {
    let stream = open(backend);
    let entries: Vec<Entry> = (0..50).map(|n| append(&*stream, &"x".repeat(n * 100))).collect();
    for entry in &entries {
        assert_eq!(stream.find(&entry.message.id).expect("find"), entry.next);
    }
    for unknown in [
        "MSG-20200101-000000-000000000-PID00001-0001",
        "MSG-29990101-000000-000000000-PID00001-0001",
        "other",
    ] {
        let id = MsgId::parse(unknown).expect("valid");
        assert!(matches!(stream.find(&id), Err(ReadError::UnknownId { .. })), "{unknown}");
    }
}

/// A store that does not rotate says so, and nothing has happened.
pub fn a_rotation_moves_no_cursor_and_no_id(backend: &dyn Backend) {
    let stream = open(backend);
    let before: Vec<Entry> = (0..5).map(|n| append(&*stream, &n.to_string())).collect();
    match stream.rotate() {
        Ok(()) | Err(AppendError::Unsupported { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let after = append(&*stream, "after");
    let entries = all(&*backend.store().open(&key()).expect("open"));
    assert_eq!((&entries[..5], &entries[5]), (&before[..], &after));
    assert_increasing(&entries);
    assert_eq!(stream.find(&before[2].message.id).expect("find"), before[2].next);
    assert_eq!(stream.last(3).expect("last").entries, entries[3..]);
    assert_eq!(stream.read(before[1].at, 10).expect("read").entries, entries[1..]);
}

pub fn a_flush_covers_what_was_appended(backend: &dyn Backend) {
    let stream = open(backend);
    assert_eq!(stream.flush().expect("flush"), Cursor::START, "nothing is safe at once");
    let entry = append(&*stream, "one");
    assert!(stream.flush().expect("flush") >= entry.next);
}
