//! What happens to a bus from outside: edited, cut, replaced, deleted, torn. Nothing acknowledged that still stands
//! there is lost, and nobody acts on a stream that is another one by now.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::time::Duration;

use run_agent_core::follow::{Follow, From};
use run_agent_core::layout::Layout;
use run_agent_core::store::{AppendError, Condition, Options, ReadError};
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Draft, Durability, Entry, Kind, Store};
use run_agent_store_fs::FsStore;

use common::{Bus, post};

struct Always;

impl Condition for Always {
    fn see(&mut self, _: &Entry) {}
    fn agrees(&mut self) -> bool {
        true
    }
}

struct Never;

impl Condition for Never {
    fn see(&mut self, _: &Entry) {}
    fn agrees(&mut self) -> bool {
        false
    }
}

#[test]
fn a_condition_is_never_asked_about_a_stream_that_was_replaced() {
    let bus = Bus::with(&["one", "two", "three"]);
    let stream = bus.open();
    let seen = stream.end().unwrap();
    let first = bus
        .text()
        .find("---\nmsg_id")
        .map(|_| bus.text()[..bus.text().len() / 2].rfind("\n---\nmsg_id").unwrap() + 1)
        .unwrap();
    bus.replace(&bus.text()[..first]);
    for _ in 0..2 {
        let draft = Draft::new(Kind::FACT, key().project, key().task, "no");
        let result = stream.append_if(seen, &mut Always, vec![draft], Durability::None);
        assert!(
            matches!(result, Err(AppendError::Read { source: ReadError::Incarnation { .. }, .. })),
            "{result:?}"
        );
    }
    assert!(matches!(stream.read(seen, 10), Err(ReadError::Incarnation { .. })));
    assert!(!bus.bodies().contains(&"no".to_owned()));
}

#[test]
fn a_bus_and_its_lock_that_are_both_gone_are_another_stream() {
    let bus = Bus::with(&["one", "two"]);
    let stream = bus.open();
    let seen = stream.end().unwrap();
    std::fs::remove_file(&bus.file).unwrap();
    std::fs::remove_file(bus.file.with_extension("lock")).unwrap();
    bus.post("new");
    let draft = Draft::new(Kind::FACT, key().project, key().task, "no");
    assert!(stream.append_if(seen, &mut Always, vec![draft], Durability::None).is_err());
    assert_eq!(bus.bodies(), ["new"]);
}

#[test]
fn an_edit_in_place_costs_only_what_was_edited() {
    let bus = Bus::with(&["one", "two", "three"]);
    let longer = bus.text().replace("\none\n", "\none, longer\n");
    std::fs::write(&bus.file, longer).unwrap();
    bus.post("four");
    assert_eq!(bus.bodies(), ["two", "three", "four"]);
    assert_eq!(bus.torn(), 0, "nothing was cut off");
    let page = bus.open().read(Cursor::START, 10).unwrap();
    assert_eq!(page.damage.len(), 1);
    assert!(page.damage[0].place.ends_with("at byte 0"), "{:?}", page.damage);
}

#[test]
fn a_last_entry_that_was_edited_stays_where_it_is() {
    let bus = Bus::with(&["one", "two"]);
    bus.replace(&bus.text().replace("\ntwo\n", "\ntwa\n"));
    bus.post("three");
    assert_eq!((bus.bodies(), bus.torn()), (vec!["one".to_owned(), "three".to_owned()], 0));
    assert!(bus.text().contains("\ntwa\n"));
}

#[test]
fn a_long_stretch_of_something_else_hides_nothing_behind_it() {
    let bus = Bus::with(&["one"]);
    let entry = bus.text();
    let mut file = std::fs::OpenOptions::new().append(true).open(&bus.file).unwrap();
    file.write_all("something else\n".repeat(150_000).as_bytes()).unwrap();
    file.write_all(entry.as_bytes()).unwrap();
    bus.post("two");
    assert_eq!((bus.bodies(), bus.torn()), (vec!["one".to_owned(), "one".to_owned(), "two".to_owned()], 0));
}

#[test]
fn a_torn_tail_of_every_length_is_kept_aside_and_nothing_else_is_lost() {
    let whole = Bus::with(&["one", "two\n---\nthree"]);
    let text = whole.text();
    let second = text.rfind("\n---\nmsg_id").unwrap() + 1;
    for cut in second + 1..text.len() {
        let bus = Bus::with(&["one"]);
        let first = bus.text();
        let mut file = std::fs::OpenOptions::new().append(true).open(&bus.file).unwrap();
        file.write_all(&text.as_bytes()[second..cut]).unwrap();
        assert_eq!(bus.bodies(), ["one"], "cut at {cut}: a reader stops before it");
        bus.post("after");
        assert_eq!(
            (bus.bodies(), bus.torn()),
            (vec!["one".to_owned(), "after".to_owned()], 1),
            "cut at {cut}"
        );
        assert!(bus.text().starts_with(&first));
    }
}

#[test]
fn a_tail_by_hand_without_a_newline_does_not_swallow_the_next_entry() {
    let bus = Bus::with(&["one"]);
    let mut file = std::fs::OpenOptions::new().append(true).open(&bus.file).unwrap();
    file.write_all(b"a note by hand, no newline").unwrap();
    // Also for who only asks: twice, refused and agreed, through the handle that finds it.
    let stream = bus.open();
    let draft = |body: &str| vec![Draft::new(Kind::FACT, key().project, key().task, body)];
    for _ in 0..2 {
        let seen = bus.open().end().unwrap();
        assert!(bus.open().append_if(seen, &mut Never, draft("no"), Durability::None).unwrap().is_none());
    }
    let seen = stream.end().unwrap();
    assert!(stream.append_if(seen, &mut Always, draft("asked"), Durability::None).unwrap().is_some());
    let entry = bus.post("two");
    assert_eq!(bus.bodies(), ["one", "asked", "two"]);
    let stream = bus.open();
    assert_eq!(stream.read(entry.at, 1).unwrap().entries, [entry]);
}

#[test]
fn a_follower_goes_on_behind_its_last_message_when_the_bus_is_replaced() {
    let bus = Bus::with(&["one", "two", "three"]);
    for from in [From::Start, From::End, From::Last(2)] {
        let mut follow = Follow::open(bus.store.clone(), &key(), from.clone()).unwrap();
        while !follow.ready().unwrap().is_empty() {}
        bus.replace(&bus.text().replacen('\n', "\n\n", 0));
        let body = format!("news for {from:?}");
        bus.post(&body);
        let page = follow.wait(Duration::from_secs(10)).unwrap();
        let seen: Vec<_> = page.entries.iter().map(|e| e.message.content.body.as_str()).collect();
        assert_eq!(seen, [body.as_str()], "neither old messages again nor a new one lost");
    }
}

#[test]
fn a_lock_that_is_deleted_under_a_writer_is_made_again() {
    let bus = Bus::with(&["one"]);
    let stream = bus.open();
    post(&*stream, "two");
    std::fs::remove_file(bus.file.with_extension("lock")).unwrap();
    post(&*stream, "three");
    post(&*bus.open(), "four");
    assert_eq!(bus.bodies(), ["one", "two", "three", "four"]);
}

#[test]
fn a_full_file_system_is_an_error_and_nothing_acknowledged_is_lost() {
    // The limit holds for a whole process: the posting is done by another one.
    const CHILD: &str = "RUN_AGENT_TEST_LIMITED";
    if let Ok(folder) = std::env::var(CHILD) {
        let store = FsStore::new(Layout::new(folder.into()), Options::default());
        let stream = store.open(&key()).unwrap();
        let mut posted = 0;
        let error = loop {
            let draft = Draft::new(Kind::FACT, key().project, key().task, "x".repeat(1000));
            match stream.append(vec![draft], Durability::None) {
                Ok(_) => posted += 1,
                Err(error) => break error,
            }
        };
        println!("\nposted {posted} then {error}");
        return;
    }
    let bus = Bus::with(&["one"]);
    let root = bus.file.ancestors().nth(3).unwrap();
    let test = "a_full_file_system_is_an_error_and_nothing_acknowledged_is_lost";
    let exe = std::env::current_exe().unwrap();
    let script = format!("trap '' XFSZ; ulimit -f 16; exec '{}' --exact {test} --nocapture", exe.display());
    let output = std::process::Command::new("sh").args(["-c", &script]).env(CHILD, root).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().find(|l| l.starts_with("posted ")).unwrap_or_else(|| panic!("{output:?}"));
    let posted: usize = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(posted >= 2 && said.contains("cannot append"), "{said}");
    assert_eq!(bus.bodies().len(), 1 + posted, "what was acknowledged is there, and nothing else");
    bus.post("after");
    assert_eq!((bus.bodies().len(), bus.torn()), (2 + posted, 0));
}
