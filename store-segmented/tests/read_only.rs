//! A stream that this process may only read: everything in it is read, and nothing is stored in its page.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{Bus, post, stream_at};
use run_agent_core::layout::Layout;
use run_agent_core::store::{AppendError, Options};
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Store};
use run_agent_store_shared::testkit::{denied, said};

const ROOT: &str = "READ_ONLY_ROOT";

fn read(root: &str) {
    let stream = stream_at(root, Options::default());
    let page = stream.read(Cursor::START, usize::MAX).unwrap();
    assert_eq!((page.entries.len(), page.damage.len()), (3, 0));
    assert_eq!(stream.end().unwrap(), page.next);
    assert_eq!(stream.find(&page.entries[0].message.id).unwrap(), page.entries[0].next);
    stream.wait(page.next, Duration::from_millis(20)).unwrap();
    assert_eq!(stream.verify().unwrap().entries, 3);
    let store = run_agent_store_segmented::SegmentedStore::new(Layout::new(root.into()), Options::default());
    assert!(store.version(stream.key()).unwrap().is_some());
    let refused = stream.append(vec![common::draft("x")], run_agent_core::Durability::None);
    assert!(matches!(refused, Err(AppendError::Io { .. })), "{refused:?}");
}

fn set_mode(bus: &Bus, of_folder: u32, of_files: u32) {
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for entry in std::fs::read_dir(&bus.files).unwrap() {
        mode(&entry.unwrap().path(), of_files);
    }
    for folder in bus.files.ancestors().take_while(|folder| folder.starts_with(bus.root())) {
        mode(folder, of_folder);
    }
}

#[test]
fn a_stream_that_may_only_be_read_is_read() {
    if let Ok(root) = std::env::var(ROOT) {
        return read(&root);
    }
    let bus = Bus::with(&["one", "two"]);
    let stream = bus.open();
    post(&*stream, "three");
    set_mode(&bus, 0o555, 0o444);
    let output =
        denied::as_nobody(&bus.again("a_stream_that_may_only_be_read_is_read", ROOT), &bus.root(), false);
    set_mode(&bus, 0o755, 0o644);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bus.bodies(), ["one", "two", "three"]);
}

#[test]
fn a_permission_that_is_lost_is_told_with_the_path_and_costs_nothing_acknowledged() {
    const CHILD: &str = "RUN_AGENT_TEST_PERMISSION";
    if let Ok(root) = std::env::var(CHILD) {
        let files = Layout::new(root.clone().into()).segments(&key());
        return denied::permission_is_lost(|| stream_at(&root, Options::default()), &files);
    }
    let bus = Bus::with(&["one"]);
    let name = "a_permission_that_is_lost_is_told_with_the_path_and_costs_nothing_acknowledged";
    let output = denied::as_nobody(&bus.again(name, CHILD), &bus.root(), true);
    assert_eq!(said(&String::from_utf8_lossy(&output.stdout)), ["done"], "{output:?}");
}
