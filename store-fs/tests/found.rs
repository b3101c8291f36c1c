//! What was found by trying to break the store, each a test.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use common::{Bus, post};
use run_agent_core::follow::{Follow, From};
use run_agent_core::store::{Options, Page};
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Kind, Timestamp};

fn bodies(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.message.content.body.as_str()).collect()
}

/// As a file that nobody has touched for an hour.
fn settle(bus: &Bus, text: &[u8]) {
    std::fs::write(&bus.file, text).unwrap();
    let file = std::fs::File::options().write(true).open(&bus.file).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

#[test]
fn the_last_entries_are_each_once_while_files_are_rotated() {
    let bus = Bus::set(&["first"], Options { rotate_bytes: 1200, ..Options::default() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stream = bus.open();
            for n in 0..1500 {
                post(&*stream, &n.to_string());
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            let page = bus.open().last(20).unwrap();
            let ids: Vec<_> = page.entries.iter().map(|entry| &entry.message.id).collect();
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", bodies(&page));
        }
    });
}

#[test]
fn a_follower_loses_nothing_when_many_files_come_and_go_at_once() {
    let bus = Bus::set(&["first"], Options { rotate_bytes: 800, ..Options::default() });
    let mut follow = Follow::open(bus.store.clone(), &key(), From::Start).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let stream = bus.open();
                for n in 0..700 {
                    post(&*stream, &n.to_string());
                }
            });
        }
        let mut seen = 0;
        while seen < 2101 {
            let page = follow.wait(Duration::from_secs(10)).unwrap();
            assert_eq!(page.damage, []);
            seen += page.entries.len();
        }
    });
    assert!(follow.ready().unwrap().is_empty());
}

#[test]
fn a_bus_that_was_deleted_and_written_anew_is_another_stream() {
    let bus = Bus::with(&["one", "two"]);
    let mut follow = Follow::open(bus.store.clone(), &key(), From::Start).unwrap();
    assert_eq!(follow.ready().unwrap().entries.len(), 2);
    let other = Bus::with(&["X1", "X2", "X3", "X4", "X5"]);
    std::fs::remove_file(&bus.file).unwrap();
    std::fs::write(&bus.file, other.text()).unwrap();
    // Whoever follows is told that what it read last is not there, and is not handed something from the middle.
    assert!(follow.ready().is_err());
    assert_eq!(bus.bodies(), ["X1", "X2", "X3", "X4", "X5"]);
}

#[test]
fn a_bus_file_that_was_deleted_is_told_by_a_check() {
    let bus = Bus::set(&[], Options { rotate_bytes: 1200, ..Options::default() });
    assert_eq!(bus.open().verify().unwrap().damage, []);
    for n in 0..20 {
        bus.post(&n.to_string());
        assert_eq!(bus.open().verify().unwrap().damage, [], "rotated or not");
    }
    std::fs::remove_file(&bus.file).unwrap();
    let damage = bus.open().verify().unwrap().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert!(damage[0].what.starts_with("it was cut short by"), "{damage:?}");
}

#[test]
fn an_entry_by_hand_is_not_taken_for_another_that_comes_to_stand_in_its_place() {
    let bus = Bus::with(&["ours"]);
    let by_hand = |body: &str| format!("---\ntype: USER\n---\n{body}\n\n");
    let head = bus.text();
    let before = head.clone() + &by_hand("by hand one") + &by_hand("by hand two");
    settle(&bus, before.as_bytes());
    let mut follow = Follow::open(bus.store.clone(), &key(), From::Start).unwrap();
    assert_eq!(bodies(&follow.ready().unwrap()), ["ours", "by hand one", "by hand two"]);
    bus.replace(&(head + &by_hand("by hand two") + &by_hand("by hand six")));
    bus.post("after");
    assert!(follow.ready().is_err(), "what was read last is not where it was");
}

#[test]
fn a_long_rule_of_names_at_the_end_of_a_look_is_read_the_same_by_every_reader() {
    let bus = Bus::with(&[]);
    let entry = |n: usize, body: &str| format!("---\nmsg_id: M-{n:06}\ntype: INFO\n---\n{body}\n\n");
    let mut text = String::new();
    let mut n = 0;
    while text.len() < 400_000 {
        // A line drawn by a person, and behind it words that look like the beginning of a header.
        text += &entry(n, "before\n---\ntype: five of them\nand prose");
        n += 1;
    }
    settle(&bus, text.as_bytes());
    let all = bus.open().read(Cursor::START, usize::MAX).unwrap();
    assert_eq!((all.entries.len(), all.damage.len()), (n, 0));
    let mut from = Cursor::START;
    let mut count = 0;
    loop {
        let page = bus.open().read(from, 7).unwrap();
        if page.next == from {
            break;
        }
        count += page.entries.len();
        from = page.next;
    }
    assert_eq!(count, n, "by small pages the same");
}

#[test]
fn a_header_of_a_person_may_end_its_lines_as_it_likes_and_begin_with_any_name() {
    for (text, wanted) in [
        ("---\ntype: USER\n---\r\nmixed\r\n", "mixed"),
        ("---\ntitle: a plan\ntype: USER\n---\nnamed\n", "named"),
        ("---\n# a comment\ntype: USER\n---\ncommented\n", "commented"),
        ("---\ntype: USER\n---\nmsg_id: is what they call it\n", "msg_id: is what they call it"),
    ] {
        let bus = Bus::with(&["one"]);
        let both = bus.text() + text;
        settle(&bus, both.as_bytes());
        assert_eq!(bus.bodies(), ["one", wanted]);
        bus.post("two");
        assert_eq!((bus.bodies(), bus.torn()), (vec!["one".into(), wanted.into(), "two".to_owned()], 0));
    }
}

#[test]
fn a_byte_order_mark_hides_nothing() {
    for first in ["---\ntype: USER\n---\nhello\n", "[2026-02-05 10:00:00] FACT: hello\n"] {
        let bus = Bus::with(&[]);
        settle(&bus, format!("\u{feff}{first}").as_bytes());
        assert_eq!(bus.bodies(), ["hello"]);
    }
}

#[test]
fn a_header_that_would_grow_when_it_is_read_is_damage_and_the_rest_goes_on() {
    let bomb = format!(
        "---\ntype: FACT\nx: &a [{}]\ny: [{}]\n---\nboom\n\n",
        "z, ".repeat(9000),
        "*a, ".repeat(9000)
    );
    let wide = format!("---\r\ntype: FACT\r\nx: {}\r\n---\r\nwide\r\n\r\n", "[".repeat(300_000));
    for header in [bomb, wide] {
        let bus = Bus::with(&["one"]);
        let text = bus.text() + &header + "---\ntype: USER\n---\nbehind\n";
        settle(&bus, text.as_bytes());
        bus.post("two");
        let page = bus.open().read(Cursor::START, 10).unwrap();
        assert_eq!(bodies(&page), ["one", "behind", "two"]);
        assert_eq!(page.damage.len(), 1, "{:?}", page.damage);
    }
}

#[test]
fn an_id_by_hand_of_a_far_day_does_not_move_the_clock() {
    let bus = Bus::with(&["one"]);
    let text =
        bus.text() + "---\nmsg_id: MSG-99991231-235959-000000001-PID00001-0001\ntype: USER\n---\nfar\n";
    settle(&bus, text.as_bytes());
    let two = bus.post("two").message;
    assert!(two.ts <= Timestamp::now());
    assert_eq!(bus.bodies(), ["one", "far", "two"]);
}

#[test]
fn many_lines_of_the_oldest_form_are_read_page_by_page() {
    let bus = Bus::with(&[]);
    let text: String = (0..60_000).map(|n| format!("[2026-02-05 10:00:00] FACT: line {n}\n")).collect();
    settle(&bus, text.as_bytes());
    let stream = bus.open();
    let mut from = Cursor::START;
    let mut count = 0;
    loop {
        let page = stream.read(from, 500).unwrap();
        if page.next == from {
            break;
        }
        for entry in &page.entries {
            count += 1;
            assert_eq!(entry.message.id.as_str(), format!("LEGACY-LINE-{count:09}"));
        }
        from = page.next;
    }
    assert_eq!(count, 60_000);
}

#[test]
fn a_lock_that_is_a_link_is_not_written_through() {
    let bus = Bus::set(&["first"], Options::default());
    let outside = bus.file.with_file_name("outside");
    std::fs::write(&outside, "somebody's").unwrap();
    let lock = bus.file.with_extension("lock");
    std::fs::remove_file(&lock).unwrap();
    symlink(&outside, &lock).unwrap();
    let draft = Draft::new(Kind::FACT, key().project, key().task, "no");
    let error = bus.open().append(vec![draft], Durability::None).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("symbolic link"), "{error}: {cause}");
    assert!(bus.open().last(5).is_err());
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "somebody's");
}

#[test]
fn a_bus_that_is_a_link_is_not_followed_out_of_the_root() {
    let bus = Bus::with(&["one"]);
    let outside = bus.root().join("outside.md");
    std::fs::write(&outside, "secret\n").unwrap();
    std::fs::remove_file(&bus.file).unwrap();
    symlink(&outside, &bus.file).unwrap();
    let draft = Draft::new(Kind::FACT, key().project, key().task, "no");
    let error = bus.open().append(vec![draft], Durability::None).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("symbolic link"), "{error}: {cause}");
    assert!(bus.open().read(Cursor::START, 10).is_err());
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret\n");
}

#[test]
fn mixed_durabilities_leave_nothing_unsynced_behind_what_is_called_synced() {
    let options = Options { rotate_bytes: 1500, sync_every: Duration::from_secs(3600), ..Options::default() };
    let bus = Bus::set(&[], options);
    let stream = bus.open();
    let post_as = |durability| {
        let draft = Draft::new(Kind::FACT, key().project, key().task, "x");
        stream.append(vec![draft], durability).unwrap();
    };
    post_as(Durability::Interval);
    (0..25).for_each(|_| post_as(Durability::None));
    assert!(bus.archives() > 1);
    post_as(Durability::Always);
    let syncs = stream.stats().unwrap().syncs;
    assert!(syncs > bus.archives() as u64, "{syncs} syncs: every archive, and the file");
    assert_eq!(stream.flush().unwrap(), stream.end().unwrap());
    assert_eq!(stream.stats().unwrap().syncs, syncs, "nothing was left for the flush");
}

#[test]
fn a_limit_on_file_sizes_is_an_error_also_where_its_signal_is_not_ignored() {
    const CHILD: &str = "RUN_AGENT_TEST_XFSZ";
    if let Ok(root) = std::env::var(CHILD) {
        let stream = common::stream_at(&root, Options::default());
        let draft = || Draft::new(Kind::FACT, key().project, key().task, "x".repeat(4000));
        let errors = (0..5).filter(|_| stream.append(vec![draft()], Durability::None).is_err()).count();
        println!("\nsaid {errors}");
        return;
    }
    let bus = Bus::with(&["one"]);
    let name = "a_limit_on_file_sizes_is_an_error_also_where_its_signal_is_not_ignored";
    let exe = std::env::current_exe().unwrap();
    let script = format!("ulimit -f 8; exec '{}' --exact {name} --nocapture", exe.display());
    let output =
        std::process::Command::new("sh").args(["-c", &script]).env(CHILD, bus.root()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.lines().any(|line| line.starts_with("said ") && line != "said 0"), "{text}");
}

#[test]
fn a_bus_of_which_only_the_lock_file_came_to_the_disk_is_empty() {
    let bus = Bus::with(&["one", "two"]);
    std::fs::remove_file(&bus.file).unwrap();
    let stream = bus.open();
    for _ in 0..2 {
        assert_eq!(stream.read(Cursor::START, 10).unwrap().entries, []);
        assert_eq!(stream.end().unwrap(), Cursor::START);
    }
    let report = stream.verify().unwrap();
    // Whether somebody deleted it, or the power went first, is not known: a check tells of it.
    assert_eq!((report.entries, report.damage.len()), (0, 1));
    post(&*stream, "three");
    assert_eq!((bus.bodies(), stream.verify().unwrap().damage), (vec!["three".to_owned()], vec![]));
}

#[test]
fn a_length_that_came_to_the_disk_without_its_bytes_leaves_no_damage() {
    // All of the second one is missing, most of it, its body, its end.
    for missing in [usize::MAX, 200, 30, 5] {
        let bus = Bus::with(&["one", "two"]);
        let second = bus.text().rfind("---\nmsg_id").unwrap();
        let mut bytes = bus.text().into_bytes();
        let kept = bytes.len().saturating_sub(missing).max(second);
        bytes[kept..].fill(0);
        std::fs::write(&bus.file, bytes).unwrap();
        bus.post("after");
        assert_eq!(bus.bodies(), ["one", "after"], "{missing}");
        assert_eq!(bus.open().verify().unwrap().damage, [], "{missing}");
        assert_eq!(bus.torn(), 1, "the bytes are kept");
    }
}
