use super::*;
use proptest::prelude::*;
use run_agent_core::{Link, Parent, ProjectId};

fn key() -> StreamKey {
    StreamKey::project(ProjectId::parse("p").unwrap())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(
            prop_oneof![
                Just("---"),
                Just("\\"),
                Just("\n"),
                Just("\r"),
                Just("x"),
                Just("bytes: 3"),
                Just("\0")
            ],
            0..12
        )
        .prop_map(|parts| parts.concat()),
    ]
}

fn meta() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(prop_oneof!["[a-z_]{1,8}".prop_map(String::from), text()], text(), 0..4)
}

fn message() -> impl Strategy<Value = Message> {
    let parents = proptest::collection::vec((proptest::option::of(text()), meta()), 0..3);
    let links =
        proptest::collection::vec((text(), proptest::option::of(text()), proptest::option::of(text())), 0..3);
    (text(), meta(), parents, links, proptest::option::of(text()), any::<(bool, bool)>()).prop_map(
        |(body, meta, parents, links, attachment_path, (task, run))| {
            let ts: Timestamp = "2026-11-21T09:30:15.184887Z".parse().unwrap();
            let task = task.then(|| TaskId::parse("task-20261121-093000-x").unwrap());
            let mut content = Draft::new(Kind::FACT, ProjectId::parse("p").unwrap(), task, body);
            content.run = run.then(|| RunId::parse("20261121-0930001234-67946-1").unwrap());
            content.meta = meta;
            content.parents = parents
                .into_iter()
                .map(|(kind, meta)| Parent { msg_id: MsgId::parse("MSG-1").unwrap(), kind, meta })
                .collect();
            content.links = links.into_iter().map(|(url, label, kind)| Link { url, label, kind }).collect();
            content.attachment_path = attachment_path;
            Message { id: MsgId::parse("MSG-2").unwrap(), ts, content }
        },
    )
}

proptest! {
    #[test]
    fn a_message_comes_back_from_its_entry(message in message()) {
        let mut bytes = Vec::new();
        encode(&mut bytes, &message);
        let (back, len) = decode(&bytes, &key()).unwrap();
        prop_assert_eq!(&back, &message);
        prop_assert_eq!(len, bytes.len());
    }

    #[test]
    fn the_line_parser_and_the_yaml_crate_agree(message in message()) {
        let mut entry = Vec::new();
        let len = encode(&mut entry, &message);
        let header = std::str::from_utf8(&entry[EDGE.len()..EDGE.len() + len]).unwrap();
        let by_lines = lines::parse(header, &key());
        prop_assert!(by_lines.is_some(), "the line parser does not know its own form:\n{}", header);
        prop_assert_eq!(by_lines, Some(front::by_yaml_alone(header, &key()).unwrap()));
    }

    #[test]
    fn no_line_of_a_stored_body_is_an_edge(body in text()) {
        let stored = escape(&body);
        prop_assert!(!stored.split('\n').any(|line| line.starts_with("---")));
        prop_assert_eq!(unescape(&stored), body);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes, &key());
        let _ = decode(&[EDGE, &bytes].concat(), &key());
    }
}

#[test]
fn a_key_longer_than_yaml_takes_on_one_line_is_still_yaml() {
    for len in [KEY_MAX - 2, KEY_MAX - 1, 2000] {
        let mut content = Draft::new(Kind::FACT, key().project, None, "");
        let meta = BTreeMap::from([("K".repeat(len), "v".to_owned()), ("z".to_owned(), "w".to_owned())]);
        content.parents =
            vec![Parent { msg_id: MsgId::parse("MSG-1").unwrap(), kind: None, meta: meta.clone() }];
        content.meta = meta;
        let message = Message { id: MsgId::parse("MSG-2").unwrap(), ts: Timestamp::UNIX_EPOCH, content };
        let mut entry = Vec::new();
        let header_len = encode(&mut entry, &message);
        let header = std::str::from_utf8(&entry[EDGE.len()..EDGE.len() + header_len]).unwrap();
        assert_eq!(front::by_yaml_alone(header, &key()), Ok(message.clone()), "{len} characters");
        assert_eq!(decode(&entry, &key()), Ok((message, entry.len())));
    }
}

#[test]
fn the_golden_file_is_read_and_written_byte_for_byte() {
    let golden = include_bytes!("../../../docs/formats/bus-file.golden.md");
    let key = StreamKey::project(ProjectId::parse("swarm").unwrap());
    let scan = crate::scan::forward(golden, crate::scan::Source::of(&key), 100);
    assert_eq!(scan.rest, golden.len());
    let mut again = Vec::new();
    let mut kinds = Vec::new();
    for found in scan.found {
        let crate::scan::Found::Entry { message, .. } = found else { panic!("{found:?}") };
        kinds.push(message.content.kind.to_string());
        encode(&mut again, &message);
    }
    assert_eq!(kinds, ["FACT", "QUESTION", "MY_TYPE"]);
    assert!(again == golden, "written again it differs:\n{}", String::from_utf8_lossy(&again));
}

#[test]
fn a_header_with_forms_of_another_writer_is_read_by_yaml() {
    let header = "msg_id: 'MSG-1'\nts: 2026-11-21T09:30:15Z\ntype: FACT\nproject: p\nparents:\n- MSG-0\nnew_key: [1]\nbytes: 2\n";
    let mut crc = crc32fast::Hasher::new();
    crc.update(header.as_bytes());
    crc.update(b"hi");
    let entry = format!("---\n{header}crc32: \"{:08x}\"\n---\nhi\n", crc.finalize());
    let (message, _) = decode(entry.as_bytes(), &key()).unwrap();
    assert_eq!((message.content.body.as_str(), message.content.parents.len()), ("hi", 1));
}
