//! What clocks, limits, faults of the system and a deletion of the whole stream do.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::{Bus, draft, post, stream_at};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use run_agent_core::layout::Layout;
use run_agent_core::store::{Options, ReadError};
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Durability, Message, MsgId, Store, Timestamp};
use run_agent_store_segmented::SegmentedStore;
use run_agent_store_shared::testkit::{denied, said, under_strace};

#[test]
fn ids_increase_after_the_clock_went_back_an_hour_in_other_handles_processes_and_segments() {
    const CHILD: &str = "RUN_AGENT_TEST_CLOCK";
    if let Ok(root) = std::env::var(CHILD) {
        post(&*stream_at(&root, Options::default()), "of another process");
        return;
    }
    let name = "ids_increase_after_the_clock_went_back_an_hour_in_other_handles_processes_and_segments";
    let bus = Bus::with(&["one"]);
    let ahead = Timestamp::now() + Duration::from_secs(3600);
    let content = draft("from before the clock was set back");
    bus.open().restore(vec![Message { id: MsgId::new(ahead, 1, 1), ts: ahead, content }]).unwrap();
    bus.post("of another handle");
    assert!(bus.again(name, CHILD).output().unwrap().status.success());
    bus.open().rotate().unwrap();
    bus.post("of another segment");
    bus.lose_page();
    bus.post("without a page");
    let page = bus.open().read(Cursor::START, 99).unwrap();
    assert_eq!((page.entries.len(), page.damage.len()), (6, 0));
    let increase = |pair: &[run_agent_core::Entry]| {
        let [before, then] = pair else { return false };
        before.message.id < then.message.id && before.message.ts < then.message.ts && before.next == then.at
    };
    assert!(page.entries.windows(2).all(increase), "{:?}", page.entries);
    assert!(page.entries[5].message.ts > ahead);
}

#[test]
fn without_descriptors_an_append_says_so_and_the_next_one_goes_on() {
    const CHILD: &str = "RUN_AGENT_TEST_EMFILE";
    if let Ok(root) = std::env::var(CHILD) {
        // Each second one begins a new segment.
        let options = Options { rotate_bytes: 200, ..Options::default() };
        let stream = stream_at(&root, options.clone());
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        println!();
        for n in 0..48 {
            // The lowest number that is free is the limit, then the ones behind it.
            let free = std::fs::File::open("/dev/null").unwrap();
            let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&free)).unwrap();
            drop(free);
            let stream = stream_at(&root, options.clone());
            setrlimit(Resource::RLIMIT_NOFILE, lowest + n % 12, hard).unwrap();
            let posted = stream.append(vec![draft("of few files")], Durability::Always);
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            match posted {
                Ok(_) => println!("said posted"),
                Err(error) => println!("said {}", denied::told(&error)),
            }
        }
        post(&*stream, "after");
        return;
    }
    let bus = Bus::with(&["one"]);
    let output = bus.again("without_descriptors_an_append_says_so_and_the_next_one_goes_on", CHILD).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let (posted, refused): (Vec<_>, Vec<_>) = said(&text).into_iter().partition(|line| *line == "posted");
    assert!(refused.len() > 1 && posted.len() > 1, "{text}");
    assert!(refused.iter().all(|line| line.contains("Too many open files")), "{text}");
    assert!(bus.logs().len() > 4, "{:?}", bus.logs());
    let bodies = bus.bodies();
    assert_eq!((bodies[0].as_str(), bodies[bodies.len() - 1].as_str()), ("one", "after"));
    // What was written before its sync failed may be there.
    assert!(bodies.len() >= 2 + posted.len(), "{bodies:?}");
    assert_eq!(bus.open().verify().unwrap().damage, []);
}

#[test]
fn a_rotation_that_fails_at_any_call_loses_nothing_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_ROTATION";
    let options = Options { rotate_bytes: 700, ..Options::default() };
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, options);
        println!();
        for n in 0..12 {
            let body = format!("{n} {}", "x".repeat(100));
            if stream.append(vec![draft(&body)], Durability::None).is_ok() {
                println!("said {n}");
            }
        }
        return;
    }
    let name = "a_rotation_that_fails_at_any_call_loses_nothing_acknowledged";
    let mut failed = 0;
    for (call, error) in [
        ("rename", "EIO"),
        ("fsync", "EIO"),
        ("fsync", "ENOSPC"),
        ("pwrite64", "ENOSPC"),
        ("fallocate", "ENOSPC"),
    ] {
        for when in 1..=4 {
            let bus = Bus::set(&["made"], options.clone());
            let rule = format!("inject={call}:error={error}:when={when}");
            let Some((text, lived)) = under_strace(&bus.again(name, CHILD), &[&rule]) else { return };
            assert!(lived, "{rule}: {text}");
            let said = said(&text);
            failed += 12 - said.len();
            let bodies = bus.bodies();
            let numbers: Vec<&str> = bodies[1..].iter().map(|body| body.split(' ').next().unwrap()).collect();
            assert_eq!(numbers, said, "{rule}");
            bus.post("after");
            assert_eq!(bus.bodies().len(), said.len() + 2, "{rule}");
            assert_eq!(bus.open().verify().unwrap().damage, [], "{rule}");
        }
    }
    assert!(failed > 4, "only {failed} appends were refused: nothing was put to the test");
}

/// Decision 83.
#[test]
fn a_stream_is_removed_as_a_whole_and_its_live_files_are_never_cut() {
    let bus = Bus::with(&["one", "two"]);
    bus.open().rotate().unwrap();
    bus.post("three");
    let store = SegmentedStore::new(Layout::new(bus.root()), Options::default());
    let (reader, writer) = (bus.open(), bus.open());
    let before = reader.read(Cursor::START, 9).unwrap();
    post(&*writer, "four");
    let files: Vec<_> = bus.logs().iter().map(|log| std::fs::File::open(log).unwrap()).collect();
    let lens: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().len()).collect();

    assert!(store.remove(&key()).unwrap());
    assert!(!store.remove(&key()).unwrap(), "there is nothing left to remove");
    assert!(!bus.files.exists());
    let still: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().len()).collect();
    assert_eq!(still, lens, "who has a file open keeps all of it");
    // Nothing is read of it any more, and nothing is made up.
    let gone = reader.read(before.next, 9).unwrap();
    assert_eq!((gone.entries.len(), gone.damage.len(), gone.next), (0, 0, before.next));

    // Another stream in its place is not taken for it.
    bus.post("another");
    assert!(matches!(reader.read(before.next, 9), Err(ReadError::Incarnation { .. })));
    assert_eq!(bus.bodies(), ["another"]);

    // With the folder of its task it is gone.
    std::fs::remove_dir_all(bus.files.parent().unwrap()).unwrap();
    assert!(matches!(reader.read(before.next, 9), Err(ReadError::Gone { .. })));
}

/// What a removal leaves that was killed in the middle: files in whatever order the system gave them.
#[test]
fn what_a_removal_leaves_that_was_killed_is_no_message_that_was_not_written_and_goes_with_the_next() {
    let full = || {
        let bus = Bus::with(&["one", "two"]);
        bus.open().rotate().unwrap();
        bus.post("three");
        bus
    };
    let names: Vec<_> = {
        let bus = full();
        std::fs::read_dir(&bus.files).unwrap().map(|name| name.unwrap().file_name()).collect()
    };
    for first in 0..names.len() {
        for count in 1..names.len() {
            let bus = full();
            for n in 0..count {
                std::fs::remove_file(bus.files.join(&names[(first + n) % names.len()])).unwrap();
            }
            if let Ok(page) = bus.open().read(Cursor::START, 9) {
                for entry in page.entries {
                    assert!(["one", "two", "three"].contains(&entry.message.content.body.as_str()));
                }
            }
            let store = SegmentedStore::new(Layout::new(bus.root()), Options::default());
            assert!(store.remove(&key()).unwrap() && !bus.files.exists());
        }
    }
}

#[test]
fn a_folder_that_is_deleted_under_readers_and_writers_is_told_by_its_name() {
    let bus = Bus::with(&[]);
    denied::folder_is_deleted(|| bus.open(), bus.files.parent().unwrap());
}

/// A rescue puts one segment into the place of many, again and again.
#[test]
fn a_check_while_segments_are_replaced_finds_no_damage() {
    const ROUNDS: usize = 15;
    const SEGMENTS: usize = 20;
    let bus = Bus::with(&["first"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            let mut checks = 0;
            while !done.load(Relaxed) {
                assert_eq!(bus.open().verify().unwrap().damage, []);
                checks += 1;
            }
            checks
        });
        let writer = bus.open();
        for _ in 0..ROUNDS {
            for _ in 0..SEGMENTS {
                writer.rotate().unwrap();
                post(&*writer, "more");
            }
            // The mark of a writer that died while it synced all of them.
            let end = writer.end().unwrap().get();
            let mark = [0, end, 1].map(u64::to_le_bytes).concat();
            let page = std::fs::File::options().write(true).open(bus.files.join("ctl")).unwrap();
            page.write_all_at(&mark, 288).unwrap();
            post(&*writer, "writes them again");
            assert_eq!(bus.logs().len(), 1, "the rescue put one segment into the place of all");
        }
        done.store(true, Relaxed);
        assert!(checks.join().unwrap() > 0);
    });
    assert_eq!(bus.bodies().len(), 1 + ROUNDS * (SEGMENTS + 1));
}
