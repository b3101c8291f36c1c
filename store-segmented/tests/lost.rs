//! Segments that are gone or of which nothing can be read, and damage where a sync is in doubt: what is lost is told, its
//! numbers are not given again, and the stream goes on.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;

use common::Bus;
use run_agent_core::Cursor;
use run_agent_core::store::{Options, Page};

/// Several small segments.
fn rotated() -> Bus {
    let bus = Bus::set(&[], Options { rotate_bytes: 8 * 1024, ..Options::default() });
    for n in 0..60 {
        bus.post(&format!("{n} {}", "x".repeat(300)));
    }
    assert!(bus.logs().len() > 2);
    bus
}

fn all(bus: &Bus) -> Page {
    let stream = bus.open();
    let (mut all, mut from) = (Page::default(), Cursor::START);
    loop {
        let page = stream.read(from, 1000).unwrap();
        if page.next == from {
            return all;
        }
        from = page.next;
        all.entries.extend(page.entries);
        all.damage.extend(page.damage);
    }
}

fn spoil(path: &Path, at: u64, len: usize) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xa5; len], at).unwrap();
}

/// What was lost is damage with its numbers; a message that is posted comes behind it.
fn goes_on(bus: &Bus, whole: &Page, what: &str) {
    let end = whole.entries.last().unwrap().next;
    let before = all(bus);
    assert!(before.entries.len() < whole.entries.len(), "{what}: something is lost");
    assert_eq!(before.damage.len(), 1, "{what}: {:?}", before.damage);
    assert!(!bus.open().verify().unwrap().damage.is_empty(), "{what}: a check tells of it");
    let after = bus.post("after");
    assert!(after.at >= end, "{what}: {:?} was given before {end:?}", after.at);
    assert!(after.message.id > whole.entries.last().unwrap().message.id, "{what}");
    let page = all(bus);
    assert_eq!(page.entries.len(), before.entries.len() + 1, "{what}");
    assert_eq!(page.entries[..before.entries.len()], whole.entries[..before.entries.len()], "{what}");
    let lost: u64 = page.damage.iter().map(|damage| damage.next.get() - damage.at.get()).sum();
    assert!(lost >= (whole.entries.len() - before.entries.len()) as u64, "{what}: {:?}", page.damage);
    assert!(!bus.open().verify().unwrap().damage.is_empty(), "{what}: also afterwards");
    assert_eq!(bus.post("once more").at, after.next, "{what}");
}

#[test]
fn a_last_segment_that_is_gone_is_told_and_its_numbers_are_not_given_again() {
    let bus = rotated();
    let whole = all(&bus);
    std::fs::remove_file(bus.logs().pop().unwrap()).unwrap();
    goes_on(&bus, &whole, "the last segment is gone");
}

#[test]
fn all_segments_gone_are_told_by_a_check() {
    let bus = rotated();
    for log in bus.logs() {
        std::fs::remove_file(log).unwrap();
    }
    let damage = bus.open().verify().unwrap().damage;
    assert_eq!((damage.len(), damage[0].next), (1, Cursor::new(60)), "{damage:?}");
    assert_eq!(bus.post("after").at, Cursor::new(60));
}

#[test]
fn a_last_segment_without_a_header_is_told_and_the_stream_goes_on_behind_it() {
    for page in [true, false] {
        let bus = rotated();
        let whole = all(&bus);
        spoil(&bus.logs().pop().unwrap(), 0, 128);
        if !page {
            bus.lose_page();
        }
        goes_on(&bus, &whole, &format!("no header; page: {page}"));
    }
}

#[test]
fn what_the_next_append_would_set_aside_is_told_before_it_does() {
    let bus = Bus::set(&["one", "two", "three"], Options::default());
    let log = bus.logs().remove(0);
    let bytes = std::fs::read(&log).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    spoil(&log, last - 20, 4);
    bus.lose_page();
    let before = bus.open().verify().unwrap();
    assert_eq!((before.entries, before.damage.len()), (2, 1), "{:?}", before.damage);
    bus.post("after");
    let after = bus.open().verify().unwrap();
    assert_eq!((after.entries, after.damage.len()), (3, 1), "{:?}", after.damage);
    assert!(after.damage[0].place.contains(".torn-"));
}

#[test]
fn damage_where_a_sync_is_in_doubt_costs_no_other_message() {
    for damaged in [vec![10], vec![0], vec![3, 4, 5], vec![2, 18]] {
        let bus = Bus::set(&[], Options::default());
        for n in 0..20 {
            bus.post(&format!("msg number {n}"));
        }
        let log = bus.logs().remove(0);
        for n in &damaged {
            let bytes = std::fs::read(&log).unwrap();
            let text = format!("msg number {n}");
            let found = bytes.windows(text.len() + 1).position(|window| {
                window.starts_with(text.as_bytes()) && !window[text.len()].is_ascii_digit()
            });
            spoil(&log, found.unwrap() as u64, 3);
        }
        bus.lose_page();
        let first = bus.post("first after");
        assert_eq!(first.at, Cursor::new(20), "{damaged:?}");
        for synced in [false, true] {
            // Asked for again without a page, and by who wants it synced.
            let text = format!("synced: {synced}");
            let stream = bus.open();
            let draft = common::draft(&text);
            let durability = if synced {
                run_agent_core::Durability::Always
            } else {
                run_agent_core::Durability::Interval
            };
            stream.append(vec![draft], durability).unwrap();
            let page = all(&bus);
            let bodies: Vec<&str> =
                page.entries.iter().map(|entry| entry.message.content.body.as_str()).collect();
            let kept = (0..20).filter(|n| !damaged.contains(n)).map(|n| format!("msg number {n}"));
            assert!(
                kept.eq(bodies[..20 - damaged.len()].iter().map(|body| (*body).to_owned())),
                "{damaged:?}: {bodies:?}"
            );
            assert_eq!(bodies.last(), Some(&text.as_str()));
            let lost: u64 = page.damage.iter().map(|damage| damage.next.get() - damage.at.get()).sum();
            assert_eq!(lost, damaged.len() as u64, "{damaged:?}: {:?}", page.damage);
            bus.lose_page();
        }
    }
}
