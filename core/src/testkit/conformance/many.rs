//! Conditions, and many handles at once.

use std::time::{Duration, Instant};

use super::*;
use crate::follow::{Follow, From};
use crate::store::Condition;

/// Agrees until it has seen `max` entries.
struct AtMost {
    seen: Vec<String>,
    max: usize,
    asked: u32,
}

impl Condition for AtMost {
    fn see(&mut self, entry: &Entry) {
        assert_eq!(self.asked, 0, "entries come before the question");
        self.seen.push(entry.message.content.body.clone());
    }
    fn agrees(&mut self) -> bool {
        self.asked += 1;
        self.seen.len() <= self.max
    }
}

pub fn a_condition_sees_what_came_since_and_decides(backend: &dyn Backend) {
    let stream = open(backend);
    append(&*stream, "a");
    let seen = stream.end().expect("end");
    append(&*stream, "b");
    append(&*stream, "c");
    let mut refuses = AtMost { seen: Vec::new(), max: 1, asked: 0 };
    let result =
        stream.append_if(seen, &mut refuses, vec![draft("no")], Durability::None).expect("append_if");
    assert!(result.is_none());
    assert_eq!((refuses.seen, refuses.asked), (vec!["b".to_owned(), "c".to_owned()], 1));
    let mut agrees = AtMost { seen: Vec::new(), max: 2, asked: 0 };
    let entry = stream.append_if(seen, &mut agrees, vec![draft("d")], Durability::None).expect("append_if");
    assert_eq!(entry.map(|e| e.len()), Some(1));
    assert_eq!(agrees.asked, 1);
    let end = stream.end().expect("end");
    let mut nothing_new = AtMost { seen: Vec::new(), max: 0, asked: 0 };
    assert!(
        stream
            .append_if(end, &mut nothing_new, vec![draft("e")], Durability::None)
            .expect("append_if")
            .is_some()
    );
    assert_eq!(bodies(&all(&*stream)), ["a", "b", "c", "d", "e"]);
}

pub fn of_many_who_look_exactly_one_appends(backend: &dyn Backend) {
    open(backend);
    let stores: Vec<_> = (0..16).map(|_| backend.store()).collect();
    let won: usize = std::thread::scope(|scope| {
        let handles: Vec<_> = stores
            .iter()
            .map(|store| {
                scope.spawn(move || {
                    let stream = store.open(&key()).expect("open");
                    let mut first = AtMost { seen: Vec::new(), max: 0, asked: 0 };
                    let batch = vec![draft("the end")];
                    stream
                        .append_if(Cursor::START, &mut first, batch, Durability::None)
                        .expect("append_if")
                        .is_some()
                })
            })
            .collect();
        handles.into_iter().map(|h| usize::from(h.join().expect("no panic"))).sum()
    });
    assert_eq!(won, 1);
    assert_eq!(all(&*backend.store().open(&key()).expect("open")).len(), 1);
}

pub fn many_handles_append_at_once(backend: &dyn Backend) {
    open(backend);
    let stores: Vec<_> = (0..8).map(|_| backend.store()).collect();
    std::thread::scope(|scope| {
        for (who, store) in stores.iter().enumerate() {
            scope.spawn(move || {
                let stream = store.open(&key()).expect("open");
                for n in 0..100 {
                    append(&*stream, &format!("{who} {n}"));
                }
            });
        }
    });
    let entries = all(&*backend.store().open(&key()).expect("open"));
    assert_eq!(entries.len(), 800);
    assert_increasing(&entries);
    for who in 0..8 {
        let own: Vec<&str> =
            bodies(&entries).into_iter().filter(|b| b.starts_with(&format!("{who} "))).collect();
        assert_eq!(
            own,
            (0..100).map(|n| format!("{who} {n}")).collect::<Vec<_>>(),
            "each writer's order is kept"
        );
    }
}

pub fn streams_are_apart(backend: &dyn Backend) {
    let task = open(backend);
    let other = StreamKey::project(key().project);
    backend.make(&other);
    let project = backend.store().open(&other).expect("open");
    append(&*task, "task");
    project
        .append(vec![Draft::new(Kind::FACT, other.project.clone(), None, "project")], Durability::None)
        .expect("append");
    assert_eq!(bodies(&all(&*task)), ["task"]);
    assert_eq!(bodies(&all(&*project)), ["project"]);
}

pub fn a_follower_sees_each_entry_once_and_in_order(backend: &dyn Backend) {
    let stream = open(backend);
    for n in 0..10 {
        append(&*stream, &n.to_string());
    }
    let writer = backend.store();
    let mut follow = Follow::open(backend.store(), &key(), From::Last(3)).expect("follow");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let stream = writer.open(&key()).expect("open");
            for n in 10..300 {
                append(&*stream, &n.to_string());
            }
        });
        let mut seen = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while seen.len() < 293 {
            assert!(Instant::now() < deadline, "the follower saw only {} entries", seen.len());
            let page = follow.wait(Duration::from_secs(2)).expect("wait");
            seen.extend(page.entries.into_iter().map(|e| e.message.content.body));
        }
        assert_eq!(seen, (7..300).map(|n| n.to_string()).collect::<Vec<_>>());
    });
    let from_middle = all(&*stream)[99].message.id.clone();
    let mut again = Follow::open(backend.store(), &key(), From::After(from_middle)).expect("follow");
    assert_eq!(bodies(&again.ready().expect("ready").entries).first(), Some(&"100"));
    let mut live = Follow::open(backend.store(), &key(), From::End).expect("follow");
    assert!(live.ready().expect("ready").is_empty());
}

pub fn a_waiter_is_woken_by_another_handle(backend: &dyn Backend) {
    let stream = open(backend);
    let end = stream.end().expect("end");
    let writer = backend.store();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || append(&*writer.open(&key()).expect("open"), "wake up"));
        // A wake-up is a hint: look again until it is there.
        while stream.end().expect("end") == end {
            assert!(began.elapsed() < Duration::from_secs(60), "never woken");
            stream.wait(end, Duration::from_secs(60)).expect("wait");
        }
    });
}
