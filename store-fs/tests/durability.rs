//! Which append syncs, what a failed sync leaves, and what a system that says no leaves.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Bus, post, stream_at};
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Kind, Message, MsgId, Stream, Timestamp};
use run_agent_store_fs::markdown;
use run_agent_store_shared::testkit::{self, said, strace_is_here};

fn post_with(stream: &dyn Stream, body: &str, durability: Durability) -> bool {
    let draft = Draft::new(Kind::FACT, key().project, key().task, body);
    stream.append(vec![draft], durability).is_ok()
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
}

#[test]
fn a_file_is_synced_before_the_next_one_begins_also_with_none() {
    let options = Options { rotate_bytes: 300, ..Options::default() };
    let bus = Bus::set(&[], options.clone());
    let stream = bus.open();
    for n in 1..=4 {
        post(&*stream, &"none ".repeat(30));
        assert_eq!((syncs(&*stream), bus.archives() as u64), (n - 1, n - 1));
    }
    // Where there can be no page of the syncs, nobody is kept from posting, nor a file from ending.
    let bus = Bus::set(&[], options);
    std::fs::write(bus.root().join(".run-agent"), "in the way").unwrap();
    let stream = bus.open();
    (0..3).for_each(|_| drop(post(&*stream, &"none ".repeat(30))));
    assert_eq!((syncs(&*stream), bus.archives(), bus.bodies().len()), (0, 2, 3));
}

#[test]
fn interval_syncs_when_the_last_sync_is_old_or_many_messages_are_behind() {
    let hour = Duration::from_secs(3600);
    let options = |sync_every, sync_messages| Options { sync_every, sync_messages, ..Options::default() };
    let bus = Bus::set(&[], options(hour, 4));
    let stream = bus.open();
    // Nothing was ever synced: the first does, and with it everything.
    let counts: Vec<u64> = (0..9)
        .map(|n| {
            assert!(post_with(&*stream, &n.to_string(), Durability::Interval));
            syncs(&*stream)
        })
        .collect();
    assert_eq!(counts, [1, 1, 1, 1, 2, 2, 2, 2, 3]);
    // The count is the stream's, not the handle's: others go on with it.
    let other = bus.open();
    let counts: Vec<u64> = (0..5)
        .map(|n| {
            assert!(post_with(&*other, &n.to_string(), Durability::Interval));
            syncs(&*other)
        })
        .collect();
    assert_eq!(counts, [0, 0, 0, 1, 1]);
    let bus = Bus::set(&[], options(Duration::ZERO, 1000));
    let stream = bus.open();
    assert!((0..3).all(|n| post_with(&*stream, &n.to_string(), Durability::Interval)));
    assert_eq!(syncs(&*stream), 3, "every sync is old at once");
}

#[test]
fn flush_makes_everything_safe_once() {
    let bus = Bus::set(&["one"], Options { rotate_bytes: 100, ..Options::default() });
    let stream = bus.open();
    post(&*stream, "two");
    assert_eq!(stream.flush().unwrap(), stream.end().unwrap());
    let before = syncs(&*stream);
    assert!(before >= 2, "the archive and the file");
    assert_eq!(stream.flush().unwrap(), stream.end().unwrap());
    assert_eq!(syncs(&*stream), before, "nothing came since");
}

/// The test `name` again, as [`Bus::again`], under strace.
fn under_strace(bus: &Bus, name: &str, variable: &str, inject: &[&str]) -> Option<(String, bool)> {
    testkit::under_strace(&bus.again(name, variable), inject)
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
    let before = reader.read(Cursor::START, 10).unwrap();
    let name = "a_failed_sync_writes_again_what_it_was_for_and_goes_on";
    // The second sync of the data fails; what it was for is written again, and that can be synced.
    let Some((text, _)) = under_strace(&bus, name, CHILD, &["inject=fdatasync:error=EIO:when=2"]) else {
        return;
    };
    assert_eq!(said(&text), ["first true", "second true", "third true"], "{text}");
    assert_eq!(bus.bodies(), ["one", "two", "first", "second", "third"]);
    assert_eq!(bus.archives(), 1, "what was synced before stays where it is");
    assert_eq!(reader.read(before.next, 10).unwrap().entries.len(), 3, "the cursors stay true");
    assert_eq!(bus.open().verify().unwrap().damage, []);
}

#[test]
fn a_sync_that_fails_before_a_rotation_is_made_good_before_anything_is_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_ROTATE";
    let options = Options { rotate_bytes: 1200, ..Options::default() };
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, options);
        println!();
        // Unsynced, until the message that rotates.
        for durability in [Durability::None, Durability::None, Durability::None, Durability::Always] {
            println!("said {}", post_with(&*stream, &"x".repeat(100), durability));
        }
        return;
    }
    let bus = Bus::set(&[], options);
    let name = "a_sync_that_fails_before_a_rotation_is_made_good_before_anything_is_acknowledged";
    let Some((text, _)) = under_strace(&bus, name, CHILD, &["inject=fdatasync:error=EIO:when=1"]) else {
        return;
    };
    assert_eq!(said(&text), ["true"; 4], "{text}");
    assert_eq!(bus.bodies().len(), 4);
    let (from, to) = bus.rescued();
    assert!(from == 0 && to > 0, "{from} {to}");
    assert_eq!(bus.open().verify().unwrap().damage, []);
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
    let rule = "inject=fdatasync:error=EIO:delay_enter=700000:when=1";
    let text = std::thread::scope(|scope| {
        let child = scope.spawn(|| under_strace(&bus, name, CHILD, &[rule]));
        // While the child's sync is held up, others post and sync, and say that everything is synced.
        while !child.is_finished() && !bus.is_syncing() {
            std::thread::yield_now();
        }
        if bus.is_syncing() {
            assert!(post_with(&*bus.open(), "of another", Durability::Always));
        }
        child.join().unwrap()
    });
    let Some((text, _)) = text else { return };
    assert_eq!(said(&text), ["true"], "{text}");
    assert!(bus.rescued().1 > 0, "what failed was written again");
    assert_eq!(bus.bodies(), ["one", "of the child", "of another"]);
}

#[test]
fn a_sync_that_cannot_be_made_good_acknowledges_nothing_and_refuses_from_there_on() {
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
    let name = "a_sync_that_cannot_be_made_good_acknowledges_nothing_and_refuses_from_there_on";
    let rules = ["inject=fdatasync:error=EIO", "inject=fsync:error=EIO"];
    let Some((text, _)) = under_strace(&bus, name, CHILD, &rules) else { return };
    assert_eq!(said(&text), ["true", "false", "false"], "{text}");
    let error = bus.open().append(vec![Draft::new(Kind::FACT, key().project, None, "no")], Durability::None);
    assert!(error.unwrap_err().to_string().contains("store verify"));
    assert_eq!(&bus.bodies()[..2], ["one", "x"], "what was acknowledged is there");
    assert_eq!(bus.open().verify().unwrap().damage, []);
    bus.post("verified: it goes on");
}

#[test]
fn a_write_that_fails_is_an_error_and_the_next_one_goes_on() {
    const CHILD: &str = "RUN_AGENT_TEST_ENOSPC";
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, Options::default());
        println!();
        for n in 0..6 {
            let draft = Draft::new(Kind::FACT, key().project, key().task, n.to_string());
            match stream.append(vec![draft], Durability::None) {
                Ok(_) => println!("said {n}"),
                Err(error) => println!("said {error}: {}", std::error::Error::source(&error).unwrap()),
            }
        }
        return;
    }
    for (error, words) in [("ENOSPC", "No space left"), ("EIO", "Input/output error"), ("EINTR", "")] {
        let bus = Bus::with(&["one"]);
        let name = "a_write_that_fails_is_an_error_and_the_next_one_goes_on";
        // Only the bus: what the child says goes to a pipe.
        let path = format!("-P{}", bus.file.display());
        if !strace_is_here() {
            return;
        }
        let plain = bus.again(name, CHILD);
        let rule = format!("inject=write:error={error}:when=2+2");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", &path, "-e", "trace=write", "-e", &rule])
            .arg(plain.get_program())
            .args(plain.get_args())
            .env(CHILD, bus.root())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let posted: Vec<_> = said(&text).into_iter().filter(|line| line.parse::<u32>().is_ok()).collect();
        let refused: Vec<_> = said(&text).into_iter().filter(|line| line.parse::<u32>().is_err()).collect();
        assert_eq!(bus.bodies()[1..], posted[..], "{error}: {text}");
        assert_eq!(posted.len() + refused.len(), 6, "{error}: {text}");
        assert_eq!(refused.is_empty(), error == "EINTR", "an interrupted write is made again: {text}");
        for line in refused {
            assert!(line.contains("TASK-MESSAGE-BUS.md") && line.contains(words), "{line}");
        }
    }
}

#[test]
fn a_clock_that_was_set_back_an_hour_keeps_ids_in_order() {
    let bus = Bus::with(&["one"]);
    let hour = Timestamp::now() + Duration::from_secs(3600);
    let ahead = Message {
        id: MsgId::new(hour, 1, 1),
        ts: hour,
        content: Draft::new(Kind::FACT, key().project, key().task, "from before the clock was set back"),
    };
    let mut text = bus.text().into_bytes();
    markdown::encode(&mut text, &ahead);
    std::fs::write(&bus.file, text).unwrap();
    let next = bus.post("two").message;
    assert!(next.id > ahead.id && next.ts > ahead.ts);
    assert!(next.ts.as_nanosecond() - ahead.ts.as_nanosecond() < 1_000_000, "{} {}", next.ts, ahead.ts);
    assert_eq!(bus.bodies().len(), 3);
    // The store's clock is not held up by a sync of the future.
    let stream = bus.open();
    assert!(post_with(&*stream, "three", Durability::Interval));
    assert_eq!(syncs(&*stream), 1);
}
