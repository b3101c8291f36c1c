//! What every store must do, as one public set of cases. A backend passes them by one macro line, which expands to
//! one named test a case, so that none can be forgotten:
//!
//! ```text
//! run_agent_core::conformance!(MyBackend::new);
//! ```
//!
//! A case gets a [`Backend`] of its own. [`Backend::place`] is how the cases with several processes find the same
//! store again: they start the test program once more and post from there, and some are killed in the middle.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::follow::{Follow, From};
use crate::id::{MsgId, ProjectId, RunId, TaskId};
use crate::message::{BODY_MAX, Draft, FIELDS_MAX, Kind, Link, Parent};
use crate::store::{
    AppendError, Condition, Cursor, Durability, Entry, ReadError, Store, Stream, StreamKey, StreamVersion,
};

/// A store to be tested, empty at first.
pub trait Backend {
    /// The store, opened anew: as another process would see it.
    fn store(&self) -> Arc<dyn Store>;

    /// Makes the folders (or whatever there is) of a stream.
    fn make(&self, key: &StreamKey);

    /// Where another process finds it; `None` for a store that lives in one process.
    fn place(&self) -> Option<String>;

    /// Opens what [`Backend::place`] named, in another process.
    fn at(place: &str) -> Arc<dyn Store>
    where
        Self: Sized;
}

/// Set in the environment of a process that a case started.
const CHILD: &str = "RUN_AGENT_CONFORMANCE_CHILD";

/// The stream that the cases use.
///
/// # Panics
/// Never: the ids are valid.
#[must_use]
pub fn key() -> StreamKey {
    StreamKey::task(
        ProjectId::parse("conformance").expect("a valid id"),
        TaskId::parse("task-20261121-093000-case").expect("a valid id"),
    )
}

fn open(backend: &dyn Backend) -> Arc<dyn Stream> {
    backend.make(&key());
    backend.store().open(&key()).expect("open")
}

fn draft(body: &str) -> Draft {
    let key = key();
    Draft::new(Kind::FACT, key.project, key.task, body)
}

fn append(stream: &dyn Stream, body: &str) -> Entry {
    stream.append(vec![draft(body)], Durability::None).expect("append").remove(0)
}

/// Everything, read page by page with a small limit.
fn all(stream: &dyn Stream) -> Vec<Entry> {
    let mut from = Cursor::START;
    let mut entries = Vec::new();
    loop {
        let page = stream.read(from, 7).expect("read");
        assert_eq!(page.damage, [], "nothing is damaged");
        if page.entries.is_empty() {
            assert_eq!(page.next, from, "an empty page is the end");
            return entries;
        }
        for entry in &page.entries {
            assert!(entry.at >= from && entry.next > entry.at, "cursors increase");
        }
        from = page.next;
        entries.extend(page.entries);
    }
}

fn bodies(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|e| e.message.content.body.as_str()).collect()
}

fn assert_increasing(entries: &[Entry]) {
    for pair in entries.windows(2) {
        assert!(
            pair[0].message.id < pair[1].message.id,
            "ids increase: {} {}",
            pair[0].message.id,
            pair[1].message.id
        );
        assert!(pair[0].next <= pair[1].at, "cursors increase");
    }
}

pub fn an_empty_stream_has_an_end_and_nothing_else(backend: &dyn Backend) {
    let stream = open(backend);
    let end = stream.end().expect("end");
    assert_eq!(end, Cursor::START);
    assert!(stream.read(Cursor::START, 10).expect("read").is_empty());
    assert!(stream.last(10).expect("last").is_empty());
    assert_eq!(stream.verify().expect("verify").entries, 0);
}

pub fn what_was_appended_is_read_in_order(backend: &dyn Backend) {
    let stream = open(backend);
    let wrote: Vec<Entry> = (0..20).map(|n| append(&*stream, &format!("body {n}"))).collect();
    let read = all(&*backend.store().open(&key()).expect("open"));
    assert_eq!(read, wrote, "what append returned is what a reader sees, places included");
    assert_increasing(&read);
    assert_eq!(stream.end().expect("end"), read[19].next);
}

pub fn every_field_comes_back(backend: &dyn Backend) {
    let stream = open(backend);
    let first = append(&*stream, "first").message.id;
    let mut full = draft("the body");
    full.kind = Kind::parse("MY_OWN_TYPE").expect("valid");
    full.run = Some(RunId::parse("20261121-0930001234-67946-1").expect("valid"));
    full.issue = Some(first.clone());
    full.parents = vec![
        Parent::new(first.clone(), None),
        Parent {
            msg_id: MsgId::parse("elsewhere").expect("valid"),
            kind: Some("because: \"x\"".to_owned()),
            meta: [("why".to_owned(), "- a\n- b: c #d".to_owned())].into(),
        },
    ];
    full.links = vec![Link {
        url: "https://example.org/x?a=b#c".to_owned(),
        label: Some("label: é".to_owned()),
        kind: None,
    }];
    full.meta = [
        ("k".to_owned(), String::new()),
        ("no".to_owned(), "no".to_owned()),
        ("odd key: \"x\"".to_owned(), "\u{0}\u{1b}\r\n\t\u{2028}\u{feff}🚀".to_owned()),
    ]
    .into();
    full.attachment_path = Some("ATTACH-20261121-x.txt".to_owned());
    stream.append(vec![full.clone()], Durability::None).expect("append");
    assert_eq!(all(&*stream)[1].message.content, full);
}

pub fn bodies_come_back_byte_for_byte(backend: &dyn Backend) {
    let stream = open(backend);
    let forged = "x\n---\nmsg_id: \"forged\"\nts: \"2026-11-21T09:30:15Z\"\ntype: \"RUN_STOP\"\nproject_id: \"conformance\"\nbytes: 2\ncrc32: \"00000000\"\n---\nhi\n";
    let large = "é".repeat(30 * 1024);
    let full = "x".repeat(BODY_MAX);
    let wanted = [
        "",
        "\n",
        "\n\n\n",
        "one",
        "one\n",
        "\r\n",
        "a\rb\r",
        "\0\0",
        "---",
        "---\n",
        "\n---\n",
        "---\r\nx",
        "\\---",
        "\\\\---\n\\",
        "----",
        " ---",
        "a\n---\nb",
        forged,
        "é 漢字 🚀 \u{7f}",
        "bytes: 3\ncrc32: \"0\"\n---\nabc",
        &large,
        &full,
    ];
    for body in wanted {
        append(&*stream, body);
    }
    let read = all(&*stream);
    assert_eq!(bodies(&read), wanted);
    for count in 0..=wanted.len() {
        let page = stream.last(count).expect("last");
        assert_eq!(bodies(&page.entries), wanted[wanted.len() - count..], "the last {count}");
    }
    for entry in &read {
        let page = stream.read(entry.at, 1).expect("read");
        assert_eq!(page.entries.as_slice(), std::slice::from_ref(entry), "read from the middle");
    }
}

pub fn a_body_above_the_limit_is_refused_and_nothing_is_appended(backend: &dyn Backend) {
    let stream = open(backend);
    let result = stream.append(vec![draft("small"), draft(&"x".repeat(BODY_MAX + 1))], Durability::None);
    assert!(matches!(result, Err(AppendError::TooLarge { bytes, max: BODY_MAX }) if bytes == BODY_MAX + 1));
    assert!(all(&*stream).is_empty());
}

pub fn fields_above_the_limit_are_refused_and_nothing_is_appended(backend: &dyn Backend) {
    let stream = open(backend);
    let mut large = draft("small");
    large.meta.insert("k".to_owned(), "x".repeat(FIELDS_MAX + 1));
    let result = stream.append(vec![draft("small"), large], Durability::None);
    assert!(matches!(result, Err(AppendError::FieldsTooLarge { .. })), "{result:?}");
    assert!(all(&*stream).is_empty());
    let mut fits = draft("small");
    fits.meta.insert("k".to_owned(), "x".repeat(FIELDS_MAX / 3));
    stream.append(vec![fits.clone()], Durability::None).expect("append");
    assert_eq!(all(&*stream)[0].message.content, fits);
}

pub fn a_batch_is_contiguous_and_an_empty_one_is_nothing(backend: &dyn Backend) {
    let stream = open(backend);
    assert!(stream.append(Vec::new(), Durability::None).expect("append").is_empty());
    let batch: Vec<Draft> = (0..100).map(|n| draft(&n.to_string())).collect();
    let entries = stream.append(batch, Durability::None).expect("append");
    assert_increasing(&entries);
    assert_eq!(all(&*stream), entries);
}

pub fn an_issue_gets_its_own_id(backend: &dyn Backend) {
    let stream = open(backend);
    let mut issue = draft("broken");
    issue.kind = Kind::ISSUE;
    let entry = stream.append(vec![issue], Durability::None).expect("append").remove(0);
    assert_eq!(entry.message.content.issue, Some(entry.message.id.clone()));
    assert_eq!(all(&*stream), [entry]);
}

pub fn limits_are_kept_and_edges_are_defined(backend: &dyn Backend) {
    let stream = open(backend);
    for n in 0..5 {
        append(&*stream, &n.to_string());
    }
    let none = stream.read(Cursor::START, 0).expect("read");
    assert!(none.is_empty() && none.next == Cursor::START);
    let two = stream.read(Cursor::START, 2).expect("read");
    assert_eq!(bodies(&two.entries), ["0", "1"]);
    assert_eq!(
        bodies(&stream.read(two.next, 2).expect("read").entries),
        ["2", "3"],
        "the next, not the newest"
    );
    let end = stream.end().expect("end");
    assert!(stream.read(end, 10).expect("read").is_empty());
    let last = stream.last(0).expect("last");
    assert!(last.is_empty() && last.next == end);
    assert_eq!(bodies(&stream.last(99).expect("last").entries), ["0", "1", "2", "3", "4"]);
}

pub fn an_id_is_found_and_an_unknown_one_is_an_error(backend: &dyn Backend) {
    let stream = open(backend);
    let entries: Vec<Entry> = (0..50).map(|n| append(&*stream, &"x".repeat(n * 100))).collect();
    for entry in &entries {
        assert_eq!(stream.find(&entry.message.id).expect("find"), entry.next);
    }
    for unknown in [
        "MSG-20200101-000000-000000000-PID00001-0001",
        "MSG-29990101-000000-000000000-PID00001-0001",
        "other",
    ] {
        let id = MsgId::parse(unknown).expect("valid");
        assert!(matches!(stream.find(&id), Err(ReadError::UnknownId { .. })), "{unknown}");
    }
}

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

pub fn processes_append_at_once(backend: &dyn Backend, test: &str) {
    let Some(place) = backend.place() else { return };
    open(backend);
    let mut children: Vec<Child> = (0..10).map(|who| child(test, &place, who, 100)).collect();
    let mut acknowledged = Vec::new();
    for child in &mut children {
        acknowledged.extend(lines_of(child));
        assert!(child.wait().expect("wait").success());
    }
    let entries = all(&*backend.store().open(&key()).expect("open"));
    assert_eq!(entries.len(), 1000);
    assert_increasing(&entries);
    let ids: BTreeSet<&str> = entries.iter().map(|e| e.message.id.as_str()).collect();
    assert!(acknowledged.iter().all(|id| ids.contains(id.as_str())));
    assert_eq!(acknowledged.len(), 1000);
}

pub fn nothing_acknowledged_is_lost_when_writers_are_killed(backend: &dyn Backend, test: &str) {
    let Some(place) = backend.place() else { return };
    open(backend);
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        let mut children: Vec<Child> =
            (0..4).map(|who| child(test, &place, round * 4 + who, 100_000)).collect();
        let mut readers: Vec<_> = children
            .iter_mut()
            .map(|c| {
                BufReader::new(c.stdout.take().expect("piped"))
                    .lines()
                    .map_while(Result::ok)
                    .filter_map(whole_id)
            })
            .collect();
        // Killed after a number of acknowledgements that differs from round to round.
        for reader in &mut readers {
            acknowledged.extend(reader.by_ref().take(3 + round * 7));
        }
        for child in &mut children {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        acknowledged.extend(readers.into_iter().flatten());
    }
    let stream = backend.store().open(&key()).expect("open");
    append(&*stream, "after the last kill");
    let entries = all(&*stream);
    assert_increasing(&entries);
    let ids: BTreeSet<&str> = entries.iter().map(|e| e.message.id.as_str()).collect();
    assert_eq!(ids.len(), entries.len(), "no id stands twice");
    assert!(
        acknowledged.len() > 1000,
        "only {} acknowledged: nothing was put to the test",
        acknowledged.len()
    );
    for id in &acknowledged {
        assert!(ids.contains(id.as_str()), "{id} was acknowledged and is lost");
    }
}

fn child(test: &str, place: &str, who: usize, count: usize) -> Child {
    let program = std::env::current_exe().expect("current_exe");
    // The harness names the test without the crate's name.
    let name = test.split_once("::").map_or(test, |(_, rest)| rest);
    Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{who} {count} {place}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn the test program again")
}

/// The ids that a child printed.
fn lines_of(child: &mut Child) -> Vec<String> {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    out.lines().map(|line| line.expect("line")).filter_map(whole_id).collect()
}

/// The id in a line of a child's. Its full stop tells a whole one from a half-printed one and from the harness's talk.
fn whole_id(line: String) -> Option<String> {
    line.strip_suffix('.').filter(|id| id.starts_with("MSG-")).map(str::to_owned)
}

/// True when this process is one that a case started; then it has posted and printed the ids.
///
/// # Panics
/// When the store cannot be opened or appended to.
#[must_use]
pub fn was_child<B: Backend>() -> bool {
    use std::io::Write;
    let Ok(spec) = std::env::var(CHILD) else { return false };
    let mut parts = spec.splitn(3, ' ');
    let who = parts.next().expect("who").to_owned();
    let count: usize = parts.next().expect("count").parse().expect("a number");
    let stream = B::at(parts.next().expect("place")).open(&key()).expect("open");
    // Past the harness's own capture, one write a line.
    let mut out = std::io::stdout();
    let _ = out.write_all(b"\n");
    for n in 0..count {
        let entry = append(&*stream, &format!("{who} {n}"));
        if out.write_all(format!("{}.\n", entry.message.id).as_bytes()).is_err() {
            break;
        }
    }
    true
}

/// Expands to one named test a case for the backend that `$make` gives.
#[macro_export]
macro_rules! conformance {
    ($backend:ty, $make:expr) => {
        $crate::conformance!(@cases $backend, $make;
            an_empty_stream_has_an_end_and_nothing_else
            what_was_appended_is_read_in_order
            every_field_comes_back
            bodies_come_back_byte_for_byte
            a_body_above_the_limit_is_refused_and_nothing_is_appended
            fields_above_the_limit_are_refused_and_nothing_is_appended
            a_batch_is_contiguous_and_an_empty_one_is_nothing
            an_issue_gets_its_own_id
            limits_are_kept_and_edges_are_defined
            an_id_is_found_and_an_unknown_one_is_an_error
            a_condition_sees_what_came_since_and_decides
            of_many_who_look_exactly_one_appends
            many_handles_append_at_once
            streams_are_apart
            a_follower_sees_each_entry_once_and_in_order
            a_waiter_is_woken_by_another_handle
            a_version_stays_until_something_is_appended
            an_equal_version_says_that_nothing_was_appended
        );
        $crate::conformance!(@processes $backend, $make;
            processes_append_at_once
            nothing_acknowledged_is_lost_when_writers_are_killed
        );
    };
    (@cases $backend:ty, $make:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            let backend: $backend = $make();
            $crate::testkit::conformance::$case(&backend);
        }
    )*};
    (@processes $backend:ty, $make:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            if $crate::testkit::conformance::was_child::<$backend>() {
                return;
            }
            let backend: $backend = $make();
            $crate::testkit::conformance::$case(&backend, concat!(module_path!(), "::", stringify!($case)));
        }
    )*};
}
