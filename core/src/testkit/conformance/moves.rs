//! What a migration asks of a store.

use jiff::Timestamp;

use super::*;
use crate::id::MsgId;
use crate::message::{Link, Message, Parent};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a valid time")
}

fn message(id: MsgId, ts: Timestamp, body: &str) -> Message {
    Message { id, ts, content: draft(body) }
}

/// Messages as another store may have them: of this tool and of others, by hand, with times that step back.
fn foreign() -> Vec<Message> {
    let own = |second, sequence| MsgId::new(at(second), 4_194_304, sequence);
    let by_hand = |text: &str| MsgId::parse(text).expect("a valid id");
    let mut full = message(own(1_767_225_601, 7), at(1_767_225_601), "one\n---\ntwo");
    full.content.parents = vec![Parent::new(own(1_767_225_600, 1), Some("answers"))];
    full.content.links = vec![Link { url: "https://x".to_owned(), label: None, kind: Some("k".to_owned()) }];
    full.content.meta.insert("k".to_owned(), "v\n".to_owned());
    full.content.attachment_path = Some("ATTACH-x.txt".to_owned());
    let mut issue = message(own(1_767_225_602, 1), at(1_767_225_602), "an issue");
    issue.content.kind = Kind::ISSUE;
    issue.content.issue = Some(issue.id.clone());
    vec![
        message(own(1_767_225_600, 1), at(1_767_225_600), "first"),
        full,
        issue,
        message(by_hand("by-hand-1"), at(1_600_000_000), "of long ago"),
        message(by_hand("MSG-of-another-tool"), at(1_767_225_603), ""),
        // Its time is not the one that its id says.
        message(own(1_767_225_604, 9_999_999), at(1_767_225_605), "two times"),
        message(own(1_767_225_606, 2), at(1_767_225_606), &"x".repeat(60_000)),
    ]
}

fn messages(stream: &dyn Stream) -> Vec<Message> {
    all(stream).into_iter().map(|entry| entry.message).collect()
}

pub fn what_is_restored_keeps_its_ids_and_times(backend: &dyn Backend) {
    let stream = open(backend);
    let wanted = foreign();
    stream.restore(Vec::new()).expect("restore nothing");
    stream.restore(wanted[..3].to_vec()).expect("restore");
    stream.restore(wanted[3..].to_vec()).expect("restore");
    stream.flush().expect("flush");
    let other = backend.store().open(&key()).expect("open");
    assert_eq!(messages(&*stream), wanted);
    assert_eq!(messages(&*other), wanted, "by another handle");
    let entries = all(&*other);
    for entry in &entries {
        assert_eq!(other.find(&entry.message.id).expect("find"), entry.next, "{}", entry.message.id);
    }
    let last = other.last(3).expect("last").entries;
    assert_eq!(last, entries[wanted.len() - 3..]);
    assert_eq!(stream.verify().expect("verify").damage, []);
}

pub fn ids_come_behind_what_was_restored(backend: &dyn Backend) {
    let stream = open(backend);
    // Of a clock that is ahead of this one.
    let ahead = Timestamp::from_second(Timestamp::now().as_second() + 3600).expect("a valid time");
    let newest = MsgId::new(ahead, 1, 1);
    let by_hand = MsgId::parse("zzz-by-hand").expect("a valid id");
    let batch = vec![
        message(newest.clone(), ahead, "ahead"),
        message(MsgId::new(at(1_767_225_600), 1, 1), at(1_767_225_600), "before"),
        message(by_hand, at(1_767_225_600), "by hand"),
    ];
    stream.restore(batch).expect("restore");
    for (stream, body) in [(stream, "same handle"), (backend.store().open(&key()).expect("open"), "another")]
    {
        append(&*stream, body);
        let last = stream.last(2).expect("last").entries;
        assert!(last[1].message.id > newest, "{:?}", last[1].message.id);
        assert!(last[1].message.content.body == body);
    }
    let ids: Vec<MsgId> = messages(&*open(backend)).into_iter().map(|message| message.id).collect();
    assert!(ids[3] < ids[4], "{ids:?}");
}

pub fn what_is_removed_is_gone_and_nothing_else(backend: &dyn Backend) {
    let other = StreamKey::project(key().project);
    backend.make(&other);
    append(&*open(backend), "of the task");
    let kept = backend.store().open(&other).expect("open");
    let draft = Draft::new(Kind::FACT, other.project.clone(), None, "of the project");
    kept.append(vec![draft], Durability::None).expect("append");
    kept.rotate().ok();
    let store = backend.store();
    assert!(store.remove(&key()).expect("remove"));
    assert!(!store.remove(&key()).expect("remove"), "there is nothing any more");
    assert!(all(&*backend.store().open(&key()).expect("open")).is_empty());
    assert_eq!(all(&*backend.store().open(&other).expect("open")).len(), 1);
    append(&*open(backend), "anew");
    assert_eq!(bodies(&all(&*open(backend))), ["anew"]);
}
