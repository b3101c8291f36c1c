//! The bytes of a segment are those of `docs/formats/segment.golden.hex`, written and read.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use run_agent_core::{
    Draft, Kind, Link, Message, MsgId, Parent, ProjectId, RunId, StreamKey, TaskId, Timestamp,
};
use run_agent_store_segmented::block::{HEADER_LEN, Header};
use run_agent_store_segmented::frame::{self, Batch, Head, Salt};
use run_agent_store_segmented::payload::{self, Id};

const SALT: Salt = Salt(0x1122_3344_5566_7788);

fn key() -> StreamKey {
    let task = TaskId::parse("task-20261121-093000-fix-login").unwrap();
    StreamKey::task(ProjectId::parse("swarm").unwrap(), task)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// One message with few fields, one with all of them, one of another writer.
fn messages() -> Vec<Message> {
    let key = key();
    let draft = |kind, body| Draft::new(kind, key.project.clone(), key.task.clone(), body);
    let first = at("2026-11-21T09:30:15.184887Z");
    let id = MsgId::new(first, 67946, 1);
    let mut fact = draft(Kind::FACT, "The login page sends the token in the URL.\n---\nx\n");
    fact.run = Some(RunId::parse("20261121-0930001234-67946-1").unwrap());
    fact.meta = [("source".to_owned(), "agent".to_owned())].into();
    let mut question = draft(Kind::parse("MY_TYPE").unwrap(), "é 漢");
    question.issue = Some(id.clone());
    question.parents = vec![
        Parent::new(id.clone(), None),
        Parent {
            msg_id: id.clone(),
            kind: Some("about".to_owned()),
            meta: [("odd key".to_owned(), "a\tb".to_owned())].into(),
        },
    ];
    let label = Some("the \"report\"".to_owned());
    question.links = vec![Link { url: "https://example.org/x?a=b".to_owned(), label, kind: None }];
    question.meta = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into();
    question.attachment_path = Some("ATTACH-20261121-093016-log.txt".to_owned());
    let mut other = Draft::new(Kind::ISSUE, ProjectId::parse("elsewhere").unwrap(), None, "broken");
    let foreign = MsgId::parse("HAND-00000000000000000042-1c291ca3").unwrap();
    other.issue = Some(foreign.clone());
    vec![
        Message { id, ts: first, content: fact },
        Message {
            id: MsgId::new(at("2026-11-21T09:30:16Z"), 7, 2),
            ts: at("2026-11-21T09:30:16Z"),
            content: question,
        },
        Message { id: foreign, ts: at("1969-12-31T23:59:59.5Z"), content: other },
    ]
}

/// A batch of two, another message, and the seal.
fn segment() -> Vec<u8> {
    let header =
        Header { base: 40, salt: SALT, incarnation: 0x18a7_0000_0000_0001, ts: at("2026-11-21T09:30:00Z") };
    let mut bytes = header.encode();
    for (n, message) in messages().iter().enumerate() {
        let lsn = 40 + n as u64;
        let batch = match n {
            0 | 1 => Batch { first: 40, count: 2, nonce: 0xaaaa },
            _ => Batch { first: lsn, count: 1, nonce: 0xbbbb },
        };
        let mut payload = Vec::new();
        payload::encode(&mut payload, &key(), &Id::of(&message.id, message.ts), &message.content);
        let head = Head {
            seal: false,
            lsn,
            offset: bytes.len() as u64,
            batch,
            ts: message.ts,
            durable: 39,
            boot: 0xb007,
        };
        frame::encode(&mut bytes, SALT, &head, &payload);
    }
    let batch = Batch { first: 43, count: 1, nonce: 0 };
    let ts = at("2026-11-21T09:30:17Z");
    let seal = Head { seal: true, lsn: 43, offset: bytes.len() as u64, batch, ts, durable: 43, boot: 0xb007 };
    frame::encode(&mut bytes, SALT, &seal, &[]);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (n, line) in bytes.chunks(16).enumerate() {
        write!(text, "{:04x} ", n * 16).unwrap();
        for byte in line {
            write!(text, " {byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn a_segment_is_written_as_the_golden_file_says() {
    let golden = include_str!("../../docs/formats/segment.golden.hex");
    let written = hex(&segment());
    assert_eq!(written, golden, "the bytes of a segment; those written are\n{written}");
}

#[test]
fn the_golden_file_is_read() {
    let golden = include_str!("../../docs/formats/segment.golden.hex");
    let bytes: Vec<u8> = golden
        .lines()
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let header = Header::decode(&bytes).unwrap();
    assert_eq!((header.base, header.salt), (40, SALT));
    let (mut at, mut read) = (HEADER_LEN, Vec::new());
    loop {
        let frame = frame::decode(&bytes[at..], at as u64, SALT).unwrap();
        at += frame.len;
        if frame.head.seal {
            break;
        }
        read.push(payload::decode(frame.payload, &key(), frame.head.ts).unwrap());
    }
    assert_eq!((read, at), (messages(), bytes.len()));
}
