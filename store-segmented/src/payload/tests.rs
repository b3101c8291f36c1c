use proptest::prelude::*;

use super::*;

fn stream() -> StreamKey {
    StreamKey::task(ProjectId::parse("p").unwrap(), TaskId::parse("task-20261121-093000-x").unwrap())
}

fn at() -> Timestamp {
    "2026-11-21T09:30:15.184887001Z".parse().unwrap()
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = encode(&mut out, &stream(), &Id::of(&message.id, message.ts), &message.content);
    assert_eq!(&out[fields..], message.content.body.as_bytes());
    out
}

fn plain(body: &str) -> Message {
    let key = stream();
    Message {
        id: MsgId::new(at(), 7, 3),
        ts: at(),
        content: Draft::new(Kind::FACT, key.project, key.task, body),
    }
}

#[test]
fn an_id_of_ours_is_two_numbers_and_any_other_is_text() {
    for (id, own) in [
        (MsgId::new(at(), 4_194_304, 123_456), true),
        (MsgId::new("2026-11-21T09:30:16Z".parse().unwrap(), 7, 3), false),
        (MsgId::parse("MSG-20261121-093015-184887001-PID007-3").unwrap(), false),
        (MsgId::parse("x-PID1-2").unwrap(), false),
    ] {
        let form = Id::of(&id, at());
        assert_eq!(matches!(form, Id::Own { .. }), own, "{id}");
        assert_eq!(form.at(at()), id);
    }
}

#[test]
fn a_field_of_a_later_version_is_passed_over_and_a_later_form_is_refused() {
    let message = plain("body");
    let mut bytes = encoded(&message);
    let end = bytes.len() - "body".len() - 1;
    bytes.splice(end..end, [12, 3, b'n', b'e', b'w', 12, 0, 200, 1, 9]);
    assert_eq!(decode(&bytes, &stream(), at()), Ok(message));
    bytes[0] = 2;
    assert_eq!(decode(&bytes, &stream(), at()), Err(Bad::Version(2)));
}

#[test]
fn a_scope_other_than_the_streams_is_kept() {
    let mut message = plain("");
    message.content.task = None;
    message.content.project = ProjectId::parse("other").unwrap();
    assert_eq!(decode(&encoded(&message), &stream(), at()), Ok(message));
}

#[test]
fn an_issue_without_an_id_is_its_own() {
    let mut message = plain("broken");
    message.content.kind = Kind::ISSUE;
    let bytes = encoded(&message);
    message.content.issue = Some(message.id.clone());
    assert_eq!(decode(&bytes, &stream(), at()), Ok(message));
}

fn any_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(".{0,6}", ".{0,200}", 0..4)
}

fn any_id() -> impl Strategy<Value = MsgId> {
    "[a-z0-9-]{1,40}".prop_map(|id| MsgId::parse(&id).unwrap())
}

prop_compose! {
    fn any_message()(
        own in any::<bool>(), id in any_id(), issue in proptest::option::of(any_id()),
        parents in proptest::collection::vec((any_id(), proptest::option::of(".{0,9}"), any_map()), 0..3),
        links in proptest::collection::vec((".{0,9}", proptest::option::of(".{0,9}"), proptest::option::of(".{0,9}")), 0..3),
        meta in any_map(), attachment_path in proptest::option::of(".{0,9}"), body in "(?s).{0,300}",
    ) -> Message {
        let mut message = plain(&body);
        if !own { message.id = id; }
        message.content.issue = issue;
        message.content.parents =
            parents.into_iter().map(|(msg_id, kind, meta)| Parent { msg_id, kind, meta }).collect();
        message.content.links = links.into_iter().map(|(url, label, kind)| Link { url, label, kind }).collect();
        message.content.meta = meta;
        message.content.attachment_path = attachment_path;
        message
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(message in any_message()) {
        prop_assert_eq!(decode(&encoded(&message), &stream(), at()), Ok(message));
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version: bool) {
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        let _ = decode(&bytes, &stream(), at());
    }

    #[test]
    fn any_changed_byte_is_survived(message in any_message(), at_byte: usize, to: u8, cut: usize) {
        let mut bytes = encoded(&message);
        let at_byte = at_byte % bytes.len();
        bytes[at_byte] = to;
        let _ = decode(&bytes, &stream(), at());
        bytes.truncate(cut % bytes.len());
        let _ = decode(&bytes, &stream(), at());
    }
}
