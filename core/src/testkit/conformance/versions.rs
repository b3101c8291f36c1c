//! What a store tells from outside about whether a stream changed.

use std::time::{Duration, Instant};

use super::*;
use crate::store::StreamVersion;

/// The version, once the store can tell it.
fn settled(store: &dyn Store) -> StreamVersion {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(version) = store.version(&key()).expect("version") {
            return version;
        }
        assert!(Instant::now() < deadline, "the store never tells a version");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn a_version_stays_until_something_is_appended(backend: &dyn Backend) {
    let stream = open(backend);
    let store = backend.store();
    append(&*stream, "one");
    let before = settled(&*store);
    assert_eq!(settled(&*backend.store()), before, "every process sees the same");
    all(&*stream);
    assert_eq!(settled(&*store), before, "looking changes nothing");
    append(&*stream, "two");
    assert_ne!(store.version(&key()).expect("version"), Some(before.clone()), "an append is seen at once");
    let after = settled(&*store);
    assert_ne!(after, before, "and later");
    let (project, task) = (key().project, key().task.expect("a task's stream"));
    let absent = TaskId::parse("task-20261121-093000-absent").expect("a valid id");
    let many = store.versions(&project, &[&task, &absent, &task]);
    assert_eq!((many.len(), &many[0], &many[2]), (3, &Some(after.clone()), &Some(after)), "many at once");
}

pub fn a_repair_changes_nothing_where_nothing_is_damaged(backend: &dyn Backend) {
    let stream = open(backend);
    append(&*stream, "one");
    append(&*stream, "---\nnot an edge\n---");
    let (entries, incarnation) = (all(&*stream), stream.incarnation());
    let before = settled(&*backend.store());
    assert_eq!(stream.verify().expect("verify").damage, []);
    assert_eq!(stream.repair().expect("repair"), []);
    assert_eq!(settled(&*backend.store()), before, "nothing was written");
    assert_eq!((all(&*stream), stream.incarnation()), (entries, incarnation));
    append(&*stream, "three");
    assert_eq!(all(&*stream).len(), 3);
}

pub fn an_equal_version_says_that_nothing_was_appended(backend: &dyn Backend) {
    let stream = open(backend);
    let store = backend.store();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..2000 {
                append(&*stream, &n.to_string());
            }
        });
        let reader = backend.store().open(&key()).expect("open");
        let mut known: Option<(StreamVersion, Cursor)> = None;
        loop {
            let over = writer.is_finished();
            let version = store.version(&key()).expect("version");
            let end = reader.end().expect("end");
            if let (Some(version), Some((before, then))) = (&version, &known)
                && version == before
            {
                // Between the two looks at the version nothing was appended, so its end then was at most this one.
                assert!(*then <= end);
                if store.version(&key()).expect("version").as_ref() == Some(before) {
                    assert_eq!(*then, end, "{before:?}");
                }
            }
            known = version.map(|version| (version, end));
            if over {
                break;
            }
        }
    });
    let before = settled(&*store);
    assert_eq!(all(&*stream).len(), 2000);
    assert_eq!(settled(&*store), before);
}
