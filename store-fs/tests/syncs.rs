//! Syncs that appenders share: how many there are, and what the page says, loses and does not survive.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Child, Stdio};

use common::{Bus, post, stream_at};
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Draft, Durability, Kind, Stream};
use run_agent_store_shared::testkit::{Scene, kills, said, stopped, under_strace};

fn sync(stream: &dyn Stream, body: &str) -> bool {
    let draft = Draft::new(Kind::FACT, key().project, key().task, body);
    stream.append(vec![draft], Durability::Always).is_ok()
}

fn syncs(stream: &dyn Stream) -> u64 {
    stream.stats().unwrap().syncs
}

/// Runs the test again as a child that posts one message, and says whether it was acknowledged.
fn posts_as_child(variable: &str, body: &str) -> bool {
    let Ok(root) = std::env::var(variable) else { return false };
    println!("\nsaid {}", sync(&*stream_at(&root, Options::default()), body));
    true
}

#[test]
fn who_asks_for_no_sync_makes_no_page() {
    let bus = Bus::with(&["one"]);
    bus.post("two");
    bus.post("three");
    assert!(!bus.page().exists());
    assert!(sync(&*bus.open(), "four") && bus.page().exists());
}

#[test]
fn processes_that_wait_share_a_sync() {
    const CHILD: &str = "RUN_AGENT_TEST_SHARE";
    const POSTS: u64 = 60;
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, Options { rotate_bytes: 20_000, ..Options::default() });
        assert!((0..POSTS).all(|n| sync(&*stream, &n.to_string())));
        println!("\nsaid {}", syncs(&*stream));
        return;
    }
    let bus = Bus::with(&["made"]);
    let child = || bus.again("processes_that_wait_share_a_sync", CHILD).stdout(Stdio::piped()).spawn();
    let children: Vec<Child> = (0..8).map(|_| child().unwrap()).collect();
    let mut total = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        total += said(&text)[0].parse::<u64>().unwrap();
    }
    assert_eq!(bus.bodies().len() as u64, 1 + 8 * POSTS);
    assert!(bus.archives() > 1, "it was rotated meanwhile");
    assert!(total < 8 * POSTS, "{total} syncs for {} messages", 8 * POSTS);
}

#[test]
fn threads_of_one_handle_share_a_sync() {
    let bus = Bus::with(&["made"]);
    let stream = bus.open();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!((0..50).all(|n| sync(&*stream, &n.to_string()))));
        }
    });
    assert_eq!(bus.bodies().len(), 401);
    assert!(syncs(&*stream) < 400, "{} syncs for 400 messages", syncs(&*stream));
}

#[test]
fn a_leader_that_dies_between_the_error_and_its_next_step_leaves_nothing_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_KILL";
    if posts_as_child(CHILD, "dead") {
        return;
    }
    let bus = Bus::with(&["one"]);
    assert!(sync(&*bus.open(), "two"));
    let synced = bus.open().end().unwrap().get();
    let name = "a_leader_that_dies_between_the_error_and_its_next_step_leaves_nothing_acknowledged";
    let rule = "inject=fdatasync:error=EIO:signal=SIGKILL:when=1";
    let Some((text, lived)) = under_strace(&bus.again(name, CHILD), &[rule]) else { return };
    assert!(!lived && said(&text).is_empty(), "{text}");
    assert!(bus.is_syncing(), "its mark tells of it");
    let stream = bus.open();
    assert!(sync(&*stream, "three"));
    let rescued = (synced, stream.end().unwrap().get());
    assert_eq!(bus.rescued(), rescued, "it did not trust a sync of its own");
    assert_eq!(bus.bodies(), ["one", "two", "dead", "three"]);
    assert!(sync(&*stream, "four"));
    assert_eq!(bus.rescued(), rescued, "what follows is synced as usual");
    assert_eq!(bus.open().verify().unwrap().damage, []);
}

#[test]
fn a_leader_that_hangs_holds_nobody_up() {
    const CHILD: &str = "RUN_AGENT_TEST_SLOW_LEADER";
    if posts_as_child(CHILD, "slow") {
        return;
    }
    let bus = Bus::with(&["one"]);
    let name = "a_leader_that_hangs_holds_nobody_up";
    let rule = "inject=fdatasync:delay_enter=4000000:when=1";
    let text = std::thread::scope(|scope| {
        let child = scope.spawn(|| under_strace(&bus.again(name, CHILD), &[rule]));
        while !child.is_finished() && !bus.is_syncing() {
            std::thread::yield_now();
        }
        if !child.is_finished() {
            assert!((0..3).all(|n| sync(&*bus.open(), &n.to_string())));
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
    let scene = Scene { test, variable: CHILD, root: bus.root(), page: bus.page(), open };
    stopped::holds_nobody_up(&scene, || bus.is_syncing());
}

#[test]
fn a_sync_that_fails_at_a_rotation_and_cannot_be_made_good_refuses_all_that_follows() {
    const CHILD: &str = "RUN_AGENT_TEST_EIO_ROTATE_ALL";
    let options = Options { rotate_bytes: 400, ..Options::default() };
    if let Ok(root) = std::env::var(CHILD) {
        let stream = stream_at(&root, options);
        println!();
        for durability in [Durability::None, Durability::Always, Durability::None] {
            let draft = Draft::new(Kind::FACT, key().project, key().task, "x");
            println!("said {}", stream.append(vec![draft], durability).is_ok());
        }
        return;
    }
    let bus = Bus::set(&[], options);
    let name = "a_sync_that_fails_at_a_rotation_and_cannot_be_made_good_refuses_all_that_follows";
    let rules = ["inject=fdatasync:error=EIO", "inject=fsync:error=EIO"];
    let Some((text, _)) = under_strace(&bus.again(name, CHILD), &rules) else { return };
    assert_eq!(said(&text), ["true", "false", "false"], "{text}");
    assert_eq!(bus.bodies(), ["x"]);
    assert_eq!(bus.open().verify().unwrap().damage, []);
    assert!(sync(&*bus.open(), "verified: it goes on"));
}

#[test]
fn a_page_that_was_deleted_makes_no_sync_good() {
    let bus = Bus::with(&["one"]);
    assert!(sync(&*bus.open(), "two"));
    bus.post("three");
    std::fs::remove_file(bus.page()).unwrap();
    assert!(sync(&*bus.open(), "four"));
    assert_eq!(bus.rescued().1, bus.open().end().unwrap().get(), "what may have failed was written again");
    assert_eq!(bus.bodies(), ["one", "two", "three", "four"]);
}

#[test]
fn a_page_of_another_start_of_the_machine_says_nothing_and_costs_nothing() {
    const CHILD: &str = "RUN_AGENT_TEST_BOOT";
    if posts_as_child(CHILD, "of another start") {
        return;
    }
    let bus = Bus::with(&["one"]);
    // A leader that died with its machine.
    let name = "a_page_of_another_start_of_the_machine_says_nothing_and_costs_nothing";
    let rule = "inject=fdatasync:error=EIO:signal=SIGKILL:when=1";
    let mut child = bus.again(name, CHILD);
    child.env("RUN_AGENT_FAKE_BOOT_ID", "an earlier one");
    let Some((_, lived)) = under_strace(&child, &[rule]) else { return };
    assert!(!lived && bus.is_syncing());
    assert!(sync(&*bus.open(), "two"));
    assert_eq!((bus.rescued(), bus.archives()), ((0, 0), 0), "nothing was written again");
    assert_eq!(bus.word(128), bus.open().end().unwrap().get(), "and everything is synced");
}

#[test]
fn a_bus_that_is_replaced_while_its_page_stays_begins_a_page_of_its_own() {
    let bus = Bus::with(&["one"]);
    let stream = bus.open();
    assert!(sync(&*stream, "two"));
    let (text, before) = (bus.text(), bus.word(24));
    bus.replace(&format!("---\ntype: USER\n---\nput in front\n\n{text}"));
    assert!(sync(&*stream, "three"));
    assert_ne!(bus.word(24), before, "of another incarnation");
    assert_eq!((bus.word(128), bus.rescued()), (bus.open().end().unwrap().get(), (0, 0)));
    assert_eq!(bus.bodies(), ["put in front", "one", "two", "three"]);
}

#[test]
fn a_page_that_was_cut_short_is_made_anew() {
    let bus = Bus::with(&["one"]);
    let stream = bus.open();
    assert!(sync(&*stream, "two"));
    std::fs::remove_file(bus.page()).unwrap();
    std::fs::write(bus.page(), [7; 100]).unwrap();
    assert!(sync(&*stream, "three") && sync(&*bus.open(), "four"));
    assert_eq!(bus.bodies(), ["one", "two", "three", "four"]);
    assert_eq!(bus.word(128), bus.open().end().unwrap().get());
}

#[test]
fn where_no_page_can_be_made_nothing_is_written_that_could_not_be_promised() {
    let bus = Bus::with(&["one"]);
    let folder = bus.root().join(".run-agent");
    std::fs::write(&folder, "a file in the way").unwrap();
    let draft = || Draft::new(Kind::FACT, key().project, key().task, "no");
    let error = bus.open().append(vec![draft()], Durability::Always).unwrap_err().to_string();
    assert!(
        error.contains("cannot be synced without a page at ") && error.contains(".run-agent/sync/"),
        "{error}"
    );
    assert!(bus.open().flush().is_err());
    assert_eq!(bus.bodies(), ["one"]);
    post(&*bus.open(), "without a sync");
    std::fs::remove_file(folder).unwrap();
    assert!(sync(&*bus.open(), "two"));
    assert_eq!(bus.rescued(), (0, 0), "nobody had synced");
}
