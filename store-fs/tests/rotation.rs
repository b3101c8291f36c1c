//! Rotation under load and under kills: cursors go on, nothing is lost, nothing comes twice.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Bus, post, stream_at};
use run_agent_core::follow::{Follow, From};
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Kind, MsgId};

fn small(rotate_bytes: u64) -> Options {
    Options { rotate_bytes, ..Options::default() }
}

#[test]
fn twenty_posting_processes_and_three_followers_across_many_rotations() {
    const CHILD: &str = "RUN_AGENT_TEST_POSTS";
    const EACH: usize = 150;
    const SIZE: u64 = 64 * 1024;
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, small(SIZE));
        println!();
        for n in 0..EACH {
            let body = format!("{n} {}", "x".repeat(300));
            println!("{}.", post(&*stream, &body).message.id);
        }
        return;
    }
    let bus = Bus::set(&[], small(SIZE));
    let name = "twenty_posting_processes_and_three_followers_across_many_rotations";
    let followers: Vec<_> = (0..3)
        .map(|_| {
            let mut follow = Follow::open(bus.store.clone(), &key(), From::Start).unwrap();
            std::thread::spawn(move || {
                let deadline = Instant::now() + Duration::from_secs(120);
                let mut seen: Vec<MsgId> = Vec::new();
                while seen.len() < 20 * EACH && Instant::now() < deadline {
                    let page = follow.wait(Duration::from_secs(1)).unwrap();
                    assert_eq!(page.damage, []);
                    seen.extend(page.entries.into_iter().map(|entry| entry.message.id));
                }
                seen
            })
        })
        .collect();
    let mut children: Vec<_> = (0..20)
        .map(|_| bus.again(name, CHILD).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut acknowledged = BTreeSet::new();
    for child in &mut children {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ids = lines.map_while(Result::ok).filter_map(|line| line.strip_suffix('.').map(str::to_owned));
        acknowledged.extend(ids.filter(|id| id.starts_with("MSG-")));
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(acknowledged.len(), 20 * EACH);
    assert!(bus.archives() >= 10, "only {} rotations", bus.archives());
    for follower in followers {
        let seen = follower.join().unwrap();
        assert!(seen.is_sorted(), "in order");
        assert_eq!(seen.len(), 20 * EACH, "each once");
        assert!(seen.iter().all(|id| acknowledged.contains(id.as_str())));
    }
    let report = bus.open().verify().unwrap();
    assert_eq!((report.entries, report.damage.len()), (20 * EACH as u64, 0));
}

#[test]
fn cursors_and_ids_stay_true_across_rotation() {
    let bus = Bus::set(&["one", "two"], small(u64::MAX));
    let stream = bus.open();
    let seen = stream.end().unwrap();
    let two = stream.last(1).unwrap().entries.remove(0);
    stream.rotate().unwrap();
    assert_eq!((stream.end().unwrap(), bus.archives(), bus.text().as_str()), (seen, 1, ""));
    assert_eq!(stream.last(2).unwrap().entries.len(), 2, "the last two stand in the archive");
    stream.rotate().unwrap();
    assert_eq!(bus.archives(), 1, "an empty file is left alone");
    let three = post(&*stream, "three");
    assert_eq!(three.at, seen);
    for stream in [stream, bus.open()] {
        assert_eq!(stream.read(seen, 10).unwrap().entries.as_slice(), std::slice::from_ref(&three));
        assert_eq!(stream.read(two.at, 10).unwrap().entries, [two.clone(), three.clone()]);
        assert_eq!(stream.find(&two.message.id).unwrap(), two.next);
        assert_eq!(stream.last(2).unwrap().entries, [two.clone(), three.clone()]);
        assert_eq!(stream.stats().unwrap().files, 2);
    }
    assert_eq!(bus.bodies(), ["one", "two", "three"]);
}

#[test]
fn a_rotation_that_its_writer_did_not_live_to_finish_goes_on_as_the_same_stream() {
    for made in [false, true] {
        let bus = Bus::set(&["one", "two"], small(u64::MAX));
        let stream = bus.open();
        let seen = stream.end().unwrap();
        std::fs::rename(&bus.file, bus.file.with_extension("00000000000000000000.md")).unwrap();
        if made {
            std::fs::write(&bus.file, "").unwrap();
        }
        assert_eq!(stream.end().unwrap(), seen, "a reader sees the same end (made: {made})");
        assert!(stream.read(seen, 10).unwrap().is_empty());
        assert_eq!(stream.read(Cursor::START, 10).unwrap().entries.len(), 2);
        let three = post(&*bus.open(), "three");
        assert_eq!(three.at, seen);
        assert_eq!(stream.read(seen, 10).unwrap().entries, [three], "the same incarnation");
    }
}

#[test]
fn a_lost_lock_file_costs_neither_cursors_nor_order() {
    let bus = Bus::set(&["one", "two"], small(10));
    let before: Vec<_> = bus.open().read(Cursor::START, 10).unwrap().entries;
    std::fs::remove_file(bus.file.with_extension("lock")).unwrap();
    assert_eq!(bus.bodies(), ["one", "two"]);
    let three = bus.post("three");
    let entries = bus.open().read(Cursor::START, 10).unwrap().entries;
    assert_eq!((&entries[..2], &entries[2]), (&before[..], &three));
    assert!(three.message.id > before[1].message.id);
}

#[test]
fn an_archive_that_is_gone_is_damage_with_its_place_and_the_rest_is_read() {
    let bus = Bus::set(&["one", "two", "three"], small(10));
    let two = bus.open().read(Cursor::START, 3).unwrap().entries.remove(1);
    let path = bus.file.with_extension(format!("{:020}.md", two.at.get()));
    std::fs::remove_file(&path).unwrap();
    let page = bus.open().read(Cursor::START, 10).unwrap();
    let bodies: Vec<_> = page.entries.iter().map(|e| e.message.content.body.as_str()).collect();
    assert_eq!(bodies, ["one", "three"]);
    assert_eq!(page.damage.len(), 1);
    assert_eq!((page.damage[0].at, page.damage[0].next), (two.at, two.next));
    assert!(page.damage[0].what.contains("gone"), "{:?}", page.damage);
}

#[test]
fn a_batch_larger_than_a_file_stays_in_one() {
    let bus = Bus::set(&["one"], small(600));
    let draft = |n: usize| Draft::new(Kind::FACT, key().project, key().task, format!("{n}"));
    let entries = bus.open().append((0..20).map(draft).collect(), Durability::None).unwrap();
    assert_eq!(entries.len(), 20);
    assert_eq!(bus.archives(), 1);
    bus.post("after");
    assert_eq!((bus.archives(), bus.bodies().len()), (2, 22));
}

#[test]
fn ids_are_found_in_every_file_and_unknown_ones_are_not() {
    let bus = Bus::set(&[], small(40_000));
    let stream = bus.open();
    let entries: Vec<_> = (0..600).map(|n| post(&*stream, &format!("{n} {}", "x".repeat(500)))).collect();
    assert!(bus.archives() > 5);
    for entry in entries.iter().step_by(7) {
        assert_eq!(bus.open().find(&entry.message.id).unwrap(), entry.next);
    }
    let between = entries[300].message.id.as_str().replace("-PID", "-PIE");
    assert!(bus.open().find(&MsgId::parse(&between).unwrap()).is_err());
}
