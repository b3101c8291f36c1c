//! What damaged bytes and a dead writer's residue cost: the message that was hit, and no other.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use common::{Bus, draft, end_offset, post};
use run_agent_core::store::{Options, Page};
use run_agent_core::{Cursor, Durability, Entry, Stream};

fn all(stream: &dyn Stream) -> Page {
    stream.read(Cursor::START, usize::MAX).unwrap()
}

fn bodies(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.message.content.body.as_str()).collect()
}

fn copy(from: &Bus) -> Bus {
    let to = Bus::set(&[], from.options.clone());
    std::fs::create_dir(&to.files).unwrap();
    for name in std::fs::read_dir(&from.files).unwrap() {
        let path = name.unwrap().path();
        std::fs::copy(&path, to.files.join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn write_at(path: &Path, bytes: &[u8], at: u64) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// The bytes of a batch of three messages behind two others, and the stream without them.
fn batch() -> (Bus, Vec<u8>, u64, Vec<Entry>) {
    let bus = Bus::with(&["one", "two"]);
    let at = end_offset(&bus.files);
    let before = copy(&bus);
    let three = bus.open().append(["a", "b", "c"].map(draft).to_vec(), Durability::None).unwrap();
    let mut bytes = vec![0; usize::try_from(end_offset(&bus.files) - at).unwrap()];
    File::open(&bus.logs()[0]).unwrap().read_exact_at(&mut bytes, at).unwrap();
    (before, bytes, at, three)
}

#[test]
fn a_dead_writers_residue_of_every_length_is_never_read() {
    let (before, bytes, at, _) = batch();
    for len in 0..=bytes.len() {
        let bus = copy(&before);
        write_at(&bus.logs()[0], &bytes[..len], at);
        assert_eq!(bus.bodies(), ["one", "two"], "{len} bytes behind the end");
        // Short, so that most of the residue stays behind it.
        bus.post("");
        assert_eq!(bus.bodies(), ["one", "two", ""], "{len} bytes of residue");
        assert_eq!(bus.open().verify().unwrap().damage, []);
        bus.lose_page();
        assert_eq!(bus.bodies(), ["one", "two", ""], "{len} bytes of residue, and no page");
        bus.post("after");
        assert_eq!(bus.bodies(), ["one", "two", "", "after"], "{len} bytes of residue, and a new page");
    }
}

#[test]
fn without_a_page_whole_messages_of_a_dead_writer_count_and_all_agree_on_which() {
    let (before, bytes, at, three) = batch();
    for len in (0..=bytes.len()).step_by(3) {
        let bus = copy(&before);
        write_at(&bus.logs()[0], &bytes[..len], at);
        bus.lose_page();
        let reader = bus.open();
        let found = all(&*reader);
        assert_eq!(found.damage, []);
        assert_eq!(found.entries[2..], three[..found.entries.len() - 2], "a first part of the batch");
        bus.post("after");
        let whole = bus.bodies();
        assert_eq!(whole[..whole.len() - 1], bodies(&found), "the writer found what the reader found: {len}");
        assert_eq!(bodies(&all(&*reader)), whole);
    }
}

/// Two segments of 64 KiB and the beginning of a third.
fn filled() -> (Bus, Vec<Entry>) {
    let bus = Bus::set(&[], Options { rotate_bytes: 64 * 1024, ..Options::default() });
    let stream = bus.open();
    let mut n = 0;
    while bus.logs().len() < 3 {
        post(&*stream, &"x".repeat(n * 97 % 4000));
        n += 1;
    }
    let entries = all(&*stream).entries;
    assert_eq!(entries.len(), n);
    let lens = bus.logs().into_iter().map(|log| log.metadata().unwrap().len());
    assert!(lens.take(2).all(|len| len == 64 * 1024), "segments of 64 KiB");
    (bus, entries)
}

/// Each flipped bit costs at the most the message whose frame it is in, and is reported.
fn check_flip(stream: &Arc<dyn Stream>, entries: &[Entry], what: &str) {
    let page = all(&**stream);
    let lost: BTreeSet<u64> = page.damage.iter().flat_map(|d| d.at.get()..d.next.get()).collect();
    assert!(lost.len() <= 1, "{what}: {:?}", page.damage);
    assert!(entries.iter().filter(|entry| !lost.contains(&entry.at.get())).eq(&page.entries), "{what}");
}

/// All bits in `cargo xtask deep`, one of many otherwise.
fn step() -> usize {
    if std::env::var_os("RUN_AGENT_DEEP").is_some() { 1 } else { 499 }
}

#[test]
fn each_flipped_bit_of_a_segment_costs_at_most_its_own_message() {
    let (bus, entries) = filled();
    for (log, step) in [(&bus.logs()[0], step()), (&bus.logs()[2], step() * 9 + 1)] {
        let file = OpenOptions::new().read(true).write(true).open(log).unwrap();
        let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let mut reported = 0;
        for bit in (0..len * 8).step_by(step) {
            let (at, mut byte) = ((bit / 8) as u64, [0]);
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], at).unwrap();
            let stream = bus.open();
            check_flip(&stream, &entries, &format!("bit {bit} of {}", log.display()));
            reported += usize::from(!all(&*stream).damage.is_empty());
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(reported > 0, "flips are noticed");
    }
    assert_eq!(all(&*bus.open()).entries, entries);
}

#[test]
fn a_flipped_bit_and_no_page_cost_at_most_that_message() {
    let (bus, entries) = filled();
    let log = bus.logs().len() - 1;
    let end = usize::try_from(end_offset(&bus.files)).unwrap();
    for bit in (0..end * 8).step_by(if step() == 1 { 17 } else { 317 }) {
        let bus = copy(&bus);
        let file = OpenOptions::new().read(true).write(true).open(&bus.logs()[log]).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, (bit / 8) as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], (bit / 8) as u64).unwrap();
        bus.lose_page();
        let page = all(&*bus.open());
        let read: Vec<&Entry> = page.entries.iter().collect();
        let missing = entries.iter().filter(|entry| !read.contains(entry)).count();
        assert!(
            missing <= 1 && read.iter().all(|entry| entries.contains(entry)),
            "bit {bit}: {:?}",
            page.damage
        );
        let next = bus.post("after");
        assert!(entries[entries.len() - 1].message.id < next.message.id || missing == 1);
        let again = all(&*bus.open());
        assert_eq!((again.entries.len(), again.entries.last()), (read.len() + 1, Some(&next)), "bit {bit}");
    }
}

#[test]
fn a_segment_that_is_gone_is_damage_with_its_place_and_the_rest_is_read() {
    let (bus, entries) = filled();
    let path = bus.logs().remove(1);
    std::fs::remove_file(&path).unwrap();
    let page = all(&*bus.open());
    assert_eq!(page.damage.len(), 1, "{:?}", page.damage);
    let lost = page.damage[0].at..page.damage[0].next;
    assert!(entries.iter().filter(|entry| !lost.contains(&entry.at)).eq(&page.entries));
    assert_eq!(bus.post("after").at, entries[entries.len() - 1].next);
}

#[test]
fn an_index_that_is_gone_or_nonsense_changes_nothing() {
    let (bus, entries) = filled();
    for content in [None, Some(&b""[..]), Some(&[7; 4096])] {
        for log in bus.logs() {
            let path = log.with_extension("idx");
            let _ = std::fs::remove_file(&path);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
        }
        let stream = bus.open();
        for entry in entries.iter().step_by(11) {
            assert_eq!(bus.open().read(entry.at, 1).unwrap().entries, std::slice::from_ref(entry));
            assert_eq!(stream.find(&entry.message.id).unwrap(), entry.next);
        }
    }
}

#[test]
fn an_index_that_several_writers_made_bit_by_bit_is_the_one_that_is_made_at_once() {
    let bus = Bus::with(&[]);
    let writers = [bus.open(), bus.open()];
    let append = |writer: &Arc<dyn Stream>, sizes: std::ops::Range<usize>| {
        let batch = sizes.map(|n| draft(&"x".repeat(n * 731 % 9000))).collect();
        writer.append(batch, Durability::None).unwrap()
    };
    // Alone for a while, in turns, and with batches that pass several places at once.
    for n in 0..60 {
        append(&writers[0], n..n + 3);
    }
    for n in 0..60 {
        append(&writers[n / 2 % 2], n..n + 1 + n % 5);
    }
    append(&writers[0], 0..80);
    append(&writers[1], 0..80);
    let path = bus.logs()[0].with_extension("idx");
    let bit_by_bit = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    append(&bus.open(), 0..80);
    let at_once = std::fs::read(&path).unwrap();
    assert!(bit_by_bit.len() > 20 * 32, "{} bytes", bit_by_bit.len());
    assert_eq!(at_once.get(..bit_by_bit.len()), Some(&bit_by_bit[..]));
}

#[test]
fn a_lost_or_damaged_meta_is_made_again_and_the_cursors_stay() {
    let bus = Bus::with(&["one", "two"]);
    let stream = bus.open();
    let before = all(&*stream);
    for content in [None, Some([0u8; 3000])] {
        std::fs::remove_file(bus.files.join("META")).unwrap();
        if let Some(content) = content {
            std::fs::write(bus.files.join("META"), content).unwrap();
        }
        assert_eq!(all(&*bus.open()), before);
        bus.lose_page();
        assert_eq!(all(&*bus.open()), before);
        let fresh = bus.open();
        fresh.repair().unwrap();
        assert!(bus.files.join("META").metadata().unwrap().len() == 2048);
        assert_eq!((all(&*fresh), fresh.incarnation()), (before.clone(), stream.incarnation()));
    }
}

#[test]
fn a_page_that_is_nonsense_is_made_again() {
    let bus = Bus::with(&["one", "two"]);
    for content in [vec![], vec![0; 4096], vec![0xff; 4096], vec![1; 100]] {
        // As a whole: a page that is cut while it is mapped ends the process that looks at it.
        std::fs::write(bus.files.join("x"), &content).unwrap();
        std::fs::rename(bus.files.join("x"), bus.files.join("ctl")).unwrap();
        assert_eq!(bus.bodies()[..2], ["one", "two"]);
        bus.post("more");
    }
    assert_eq!(bus.bodies().len(), 6);
    assert!(bus.torn().is_empty());
}
