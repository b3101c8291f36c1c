//! Which append syncs, what a failed sync leaves, and what a system that says no leaves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Bus, draft, post, stream_at};
use run_agent_core::store::Options;
use run_agent_core::{Cursor, Durability, Stream};
use run_agent_store_shared::testkit::{self, Scene, kills, said, stopped};

fn post_with(stream: &dyn Stream, body: &str, durability: Durability) -> bool {
    stream.append(vec![draft(body)], durability).is_ok()
}

fn syncs(stream: &dyn Stream) -> u64 {
    stream.stats().unwrap().syncs
}

#[test]
fn none_never_syncs_and_always_syncs_each_time() {
    let bus = Bus::with(&[]);
    let stream = bus.open();
    for n in 1..=3 {
        post(&*stream, "none");
        assert_eq!(syncs(&*stream), n - 1);
        assert!(post_with(&*stream, "always", Durability::Always));
        assert_eq!(syncs(&*stream), n);
    }
    stream.flush().unwrap();
    assert_eq!(syncs(&*stream), 3, "nothing came since");
}

#[test]
fn interval_syncs_when_the_last_sync_is_old_or_many_messages_are_behind() {
    let options = |sync_every, sync_messages| Options { sync_every, sync_messages, ..Options::default() };
    let bus = Bus::set(&[], options(Duration::from_secs(3600), 4));
    let counts = |stream: &dyn Stream, posts: usize| -> Vec<u64> {
        let sync = |n: usize| {
            assert!(post_with(stream, &n.to_string(), Durability::Interval));
            syncs(stream)
        };
        (0..posts).map(sync).collect()
    };
    // Nothing was ever synced: the first does, and with it everything.
    assert_eq!(counts(&*bus.open(), 9), [1, 1, 1, 1, 2, 2, 2, 2, 3]);
    // The count is the stream's, not the handle's: others go on with it.
    assert_eq!(counts(&*bus.open(), 5), [0, 0, 0, 1, 1]);
    let bus = Bus::set(&[], options(Duration::ZERO, 1000));
    assert_eq!(counts(&*bus.open(), 3), [1, 2, 3], "every sync is old at once");
}

#[test]
fn many_who_wait_share_a_sync() {
    let bus = Bus::with(&["made"]);
    let total: u64 = std::thread::scope(|scope| {
        let writer = || {
            let stream = bus.open();
            for n in 0..50 {
                assert!(post_with(&*stream, &n.to_string(), Durability::Always));
            }
            syncs(&*stream)
        };
        let writers: Vec<_> = (0..8).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(bus.bodies().len(), 401);
    assert!(total < 400, "{total} syncs for 400 messages of 8 writers");
}

/// The test `name` again, as [`Bus::again`], under strace.
fn under_strace(bus: &Bus, name: &str, variable: &str, inject: &[&str]) -> Option<(String, bool)> {
    testkit::under_strace(&bus.again(name, variable), inject)
}

/// A word of the page.
fn word(bus: &Bus, at: usize) -> u64 {
    let page = std::fs::read(bus.files.join("ctl")).unwrap();
    u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
}

/// A leader is at it.
fn is_syncing(bus: &Bus) -> bool {
    word(bus, 272) > 0
}

/// What was last written again after a failed sync.
fn rescued(bus: &Bus) -> (u64, u64) {
    (word(bus, 352), word(bus, 360))
}

#[test]
fn a_failed_sync_writes_again_what_it_was_for_and_goes_on() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO";
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, Options::default());
        println!();
        for body in ["first", "second", "third"] {
            println!("said {body} {}", post_with(&*stream, body, Durability::Always));
        }
        return;
    }
    let bus = Bus::with(&["one", "two"]);
    let reader = bus.open();
    let before = reader.last(9).unwrap();
    let name = "a_failed_sync_writes_again_what_it_was_for_and_goes_on";
    let Some((text, _)) = under_strace(&bus, name, CHILD, &["inject=fdatasync:error=EIO:when=2"]) else {
        return;
    };
    assert_eq!(said(&text), ["first true", "second true", "third true"], "{text}");
    assert_eq!(bus.bodies(), ["one", "two", "first", "second", "third"]);
    assert_eq!((rescued(&bus), bus.logs().len()), ((3, 4), 2), "what was synced before stays where it is");
    assert_eq!(reader.read(before.next, 10).unwrap().entries.len(), 3, "the cursors stay true");
    assert_eq!(bus.open().verify().unwrap().damage, []);
}

#[test]
fn a_leader_that_dies_between_the_error_and_its_next_step_leaves_nothing_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_KILL";
    if let Ok(root) = std::env::var(CHILD) {
        println!("\nsaid {}", post_with(&*stream_at(&root, Options::default()), "dead", Durability::Always));
        return;
    }
    let bus = Bus::with(&["one"]);
    assert!(post_with(&*bus.open(), "two", Durability::Always));
    let name = "a_leader_that_dies_between_the_error_and_its_next_step_leaves_nothing_acknowledged";
    let rule = "inject=fdatasync:error=EIO:signal=SIGKILL:when=1";
    let Some((text, lived)) = under_strace(&bus, name, CHILD, &[rule]) else { return };
    assert!(!lived && said(&text).is_empty(), "{text}");
    let stream = bus.open();
    assert!(post_with(&*stream, "three", Durability::Always));
    assert_eq!(rescued(&bus), (2, 4), "it did not trust a sync of its own");
    assert_eq!(bus.bodies(), ["one", "two", "dead", "three"]);
    assert!(post_with(&*stream, "four", Durability::Always));
    assert_eq!(rescued(&bus), (2, 4), "what follows is synced as usual");
}

#[test]
fn a_page_lost_after_a_failed_sync_makes_no_sync_good() {
    let bus = Bus::with(&["one"]);
    assert!(post_with(&*bus.open(), "two", Durability::Always));
    bus.post("three");
    bus.lose_page();
    assert!(post_with(&*bus.open(), "four", Durability::Always));
    assert_eq!(rescued(&bus).1, 4, "what may have failed was written again");
    assert_eq!(bus.bodies(), ["one", "two", "three", "four"]);
}

#[test]
fn who_opened_a_segment_under_a_page_that_is_lost_does_not_take_it_for_the_one_that_was_written_again() {
    let bus = Bus::with(&["one"]);
    bus.open().rotate().unwrap();
    let (writer, reader) = (bus.open(), bus.open());
    post(&*writer, "two");
    assert_eq!(reader.read(Cursor::START, 9).unwrap().entries.len(), 2);
    bus.lose_page();
    assert!(post_with(&*bus.open(), "three", Durability::Always));
    assert_eq!(rescued(&bus), (1, 3), "the segment was replaced by another one with the same base");
    post(&*writer, "four");
    assert_eq!(bus.bodies(), ["one", "two", "three", "four"]);
    let page = reader.read(Cursor::new(2), 9).unwrap();
    assert_eq!((page.entries.len(), page.damage.len()), (2, 0));
}

#[test]
fn a_sync_that_fails_at_a_rotation_is_made_good_before_anything_is_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_ROTATE";
    let options = Options { rotate_bytes: 1000, ..Options::default() };
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, options);
        println!();
        for durability in [Durability::None, Durability::None, Durability::None, Durability::Always] {
            println!("said {}", post_with(&*stream, &"x".repeat(100), durability));
        }
        return;
    }
    let bus = Bus::set(&["made"], options);
    let name = "a_sync_that_fails_at_a_rotation_is_made_good_before_anything_is_acknowledged";
    let Some((text, _)) = under_strace(&bus, name, CHILD, &["inject=fdatasync:error=EIO:when=1"]) else {
        return;
    };
    assert_eq!(said(&text), ["true"; 4], "{text}");
    assert_eq!((bus.bodies().len(), rescued(&bus).0), (5, 0));
    assert!(rescued(&bus).1 >= 4);
    assert_eq!(bus.open().verify().unwrap().damage, []);
}

#[test]
fn a_leader_that_hangs_holds_nobody_up() {
    const CHILD: &str = "RUN_AGENT_TEST_SLOW_LEADER";
    if let Ok(root) = std::env::var(CHILD) {
        println!("\nsaid {}", post_with(&*stream_at(&root, Options::default()), "slow", Durability::Always));
        return;
    }
    let bus = Bus::with(&["one"]);
    let name = "a_leader_that_hangs_holds_nobody_up";
    let rule = "inject=fdatasync:delay_enter=4000000:when=1";
    let text = std::thread::scope(|scope| {
        let child = scope.spawn(|| under_strace(&bus, name, CHILD, &[rule]));
        while !child.is_finished() && !is_syncing(&bus) {
            std::thread::yield_now();
        }
        if !child.is_finished() {
            for n in 0..3 {
                assert!(post_with(&*bus.open(), &n.to_string(), Durability::Always));
            }
            assert!(!child.is_finished(), "the others came first");
        }
        child.join().unwrap()
    });
    let Some((text, _)) = text else { return };
    assert_eq!(said(&text), ["true"], "{text}");
    assert_eq!(bus.bodies(), ["one", "slow", "0", "1", "2"]);
}

#[test]
fn a_leader_that_is_stopped_in_the_middle_of_its_sync_holds_nobody_up() {
    const CHILD: &str = "RUN_AGENT_TEST_STOPPED_LEADER";
    let open = |root: &std::path::Path| stream_at(root.to_str().unwrap(), Options::default());
    if let Some(root) = Scene::is_child(CHILD) {
        return kills::post_for_ever(&*open(&root));
    }
    let bus = Bus::with(&["one"]);
    let test = "a_leader_that_is_stopped_in_the_middle_of_its_sync_holds_nobody_up";
    let scene = Scene { test, variable: CHILD, root: bus.root(), page: bus.files.join("ctl"), open };
    stopped::holds_nobody_up(&scene, || is_syncing(&bus));
}

#[test]
fn another_writers_sync_does_not_make_a_failed_one_good() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_BETWEEN";
    if let Ok(root) = std::env::var(CHILD) {
        println!(
            "\nsaid {}",
            post_with(&*stream_at(&root, Options::default()), "of the child", Durability::Always)
        );
        return;
    }
    let bus = Bus::with(&["one"]);
    let name = "another_writers_sync_does_not_make_a_failed_one_good";
    let rule = "inject=fdatasync:error=EIO:delay_enter=1000000:when=1";
    let text = std::thread::scope(|scope| {
        let child = scope.spawn(|| under_strace(&bus, name, CHILD, &[rule]));
        while !child.is_finished() && !is_syncing(&bus) {
            std::thread::yield_now();
        }
        if !child.is_finished() {
            assert!(post_with(&*bus.open(), "of another", Durability::Always));
        }
        child.join().unwrap()
    });
    let Some((text, _)) = text else { return };
    assert_eq!(said(&text), ["true"], "{text}");
    assert!(rescued(&bus).1 >= 2, "what failed was written again");
    assert_eq!(bus.bodies(), ["one", "of the child", "of another"]);
}

#[test]
fn a_sync_that_cannot_be_made_good_acknowledges_nothing_and_refuses_until_it_is_verified() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_ALL";
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, Options::default());
        println!();
        for durability in [Durability::None, Durability::Always, Durability::None] {
            println!("said {}", post_with(&*stream, "x", durability));
        }
        return;
    }
    let bus = Bus::with(&["one"]);
    let name = "a_sync_that_cannot_be_made_good_acknowledges_nothing_and_refuses_until_it_is_verified";
    let rules = ["inject=fdatasync:error=EIO", "inject=fsync:error=EIO"];
    let Some((text, _)) = under_strace(&bus, name, CHILD, &rules) else { return };
    assert_eq!(said(&text), ["true", "false", "false"], "{text}");
    let error = bus.open().append(vec![draft("no")], Durability::None);
    assert!(error.unwrap_err().to_string().contains("store verify"));
    assert_eq!(bus.bodies()[..2], ["one", "x"], "what was acknowledged is there");
    assert_eq!(bus.open().verify().unwrap().damage, []);
    bus.post("verified: it goes on");
    assert_eq!(bus.bodies().len(), 4);
}

#[test]
fn a_write_or_a_reservation_that_fails_is_an_error_and_the_next_one_goes_on() {
    const CHILD: &str = "RUN_AGENT_TEST_ENOSPC";
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, Options::default());
        println!();
        for n in 0..6 {
            let body = format!("{n}{}", " ".repeat(9000));
            match stream.append(vec![draft(&body)], Durability::None) {
                Ok(_) => println!("said {n}"),
                Err(error) => println!("said {error}: {}", std::error::Error::source(&error).unwrap()),
            }
        }
        return;
    }
    let name = "a_write_or_a_reservation_that_fails_is_an_error_and_the_next_one_goes_on";
    let all = ["0", "1", "2", "3", "4", "5"];
    for (rule, words) in [
        ("inject=pwrite64:error=ENOSPC:when=3", "No space left"),
        ("inject=pwrite64:error=EIO:when=3", "Input/output error"),
        ("inject=pwrite64:error=EINTR:when=3", ""),
        ("inject=fallocate:error=ENOSPC:when=1..2", "No space left"),
        ("inject=fallocate:error=EOPNOTSUPP", ""),
    ] {
        let bus = Bus::with(&["one"]);
        let Some((text, _)) = under_strace(&bus, name, CHILD, &[rule]) else { return };
        let said = said(&text);
        let failed: Vec<_> = said.iter().filter(|line| line.len() > 1).collect();
        assert_eq!(failed.len(), usize::from(!words.is_empty()), "{rule}: {text}");
        assert!(failed.iter().all(|line| line.contains(words)), "{rule}: {text}");
        let wanted: Vec<&str> = all.into_iter().filter(|n| said.contains(n)).collect();
        let bodies = bus.bodies();
        assert!(bodies[1..].iter().map(|body| body.trim()).eq(wanted.iter().copied()), "{rule}: {wanted:?}");
        bus.lose_page();
        assert_eq!(bus.bodies(), bodies, "{rule}");
        bus.post("after");
        assert_eq!(bus.bodies().len(), bodies.len() + 1, "{rule}");
    }
}

#[test]
fn a_limit_on_file_sizes_at_every_byte_of_a_frame_is_an_error_and_loses_nothing() {
    const CHILD: &str = "RUN_AGENT_TEST_FSIZE";
    if let Ok(spec) = std::env::var(CHILD) {
        let (root, limit) = spec.split_once('|').unwrap();
        let limit: u64 = limit.parse().unwrap();
        let stream = stream_at(root, Options { rotate_bytes: 4096, ..Options::default() });
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, limit, limit).unwrap();
        println!("\nsaid {}", post_with(&*stream, "beyond", Durability::None));
        return;
    }
    let name = "a_limit_on_file_sizes_at_every_byte_of_a_frame_is_an_error_and_loses_nothing";
    let bus = Bus::set(&["one"], Options { rotate_bytes: 4096, ..Options::default() });
    // Where nothing is reserved yet, the write itself meets the limit.
    let end = common::end_offset(&bus.files);
    let log = std::fs::OpenOptions::new().write(true).open(&bus.logs()[0]).unwrap();
    let frame = {
        let longer = Bus::with(&["one", "beyond"]);
        common::end_offset(&longer.files) - end
    };
    for limit in end..end + frame {
        log.set_len(end).unwrap();
        let output = bus.again(name, CHILD).env(CHILD, format!("{}|{limit}", bus.root().display())).output();
        let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        assert_eq!(said(&text), ["false"], "a limit of {limit}: {text}");
        assert_eq!(bus.bodies(), ["one"]);
    }
    bus.post("two");
    assert_eq!(bus.bodies(), ["one", "two"]);
}
