//! Several processes: the test program starts itself once more and posts from there; some are killed in the middle.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Set in the environment of a process that a case started.
const CHILD: &str = "RUN_AGENT_CONFORMANCE_CHILD";

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
