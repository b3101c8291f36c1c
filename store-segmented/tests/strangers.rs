//! What somebody put into the place of a stream's files: links that lead out of the root, pipes, more than belongs there.
#![allow(clippy::unwrap_used)]

mod common;

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use common::{Bus, draft};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_core::{Cursor, Durability, MsgId, Store, Timestamp};
use run_agent_store_segmented::SegmentedStore;

fn cause(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}

/// What reading and appending say, each by a handle of its own.
fn refused(bus: &Bus) -> [String; 2] {
    let append = bus.open().append(vec![draft("no")], Durability::None).unwrap_err();
    [cause(&bus.open().read(Cursor::START, 9).unwrap_err()), cause(&append)]
}

fn pipe(path: &Path) {
    mkfifo(path, Mode::S_IRWXU).unwrap();
}

#[test]
fn a_meta_that_is_a_link_or_a_pipe_is_refused_and_not_waited_for() {
    let bus = Bus::with(&["one"]);
    let (meta, outside) = (bus.files.join("META"), bus.root().join("outside"));
    std::fs::rename(&meta, &outside).unwrap();
    symlink(&outside, &meta).unwrap();
    for told in refused(&bus) {
        assert!(told.contains("symbolic link"), "{told}");
    }
    std::fs::remove_file(&meta).unwrap();
    pipe(&meta);
    for told in refused(&bus) {
        assert!(told.contains("regular file"), "{told}");
    }
    bus.lose_page();
    for told in refused(&bus) {
        assert!(told.contains("regular file"), "without a page: {told}");
    }
    std::fs::rename(&outside, &meta).unwrap();
    assert_eq!(bus.bodies(), ["one"]);
}

#[test]
fn of_a_meta_that_is_huge_no_more_is_read_than_one_has() {
    let bus = Bus::with(&["one"]);
    let meta = File::options().write(true).open(bus.files.join("META")).unwrap();
    meta.set_len(1 << 40).unwrap();
    assert_eq!(bus.bodies(), ["one"]);
    let empty = File::create(bus.files.join("META")).unwrap();
    empty.set_len(1 << 40).unwrap();
    bus.lose_page();
    assert_eq!(bus.bodies(), ["one"]);
    bus.post("two");
    assert_eq!(bus.bodies(), ["one", "two"]);
}

#[test]
fn an_index_that_is_a_pipe_is_none() {
    let bus = Bus::with(&["one", "two"]);
    pipe(&bus.logs()[0].with_extension("idx"));
    let page = bus.open().read(Cursor::new(1), 9).unwrap();
    assert_eq!((page.entries.len(), page.damage.len()), (1, 0));
    assert_eq!(bus.open().find(&page.entries[0].message.id).unwrap(), page.next);
    bus.open().append(vec![draft(&"x".repeat(60_000)); 3], Durability::None).unwrap();
    assert_eq!(bus.bodies().len(), 5);
}

#[test]
fn a_folder_that_is_a_link_is_not_followed_out_of_the_root() {
    let bus = Bus::with(&["one"]);
    let (before, outside) = (bus.open(), bus.root().join("outside"));
    let end = before.end().unwrap();
    std::fs::rename(&bus.files, &outside).unwrap();
    let files = || -> Vec<_> {
        let names = std::fs::read_dir(&outside).unwrap().map(|name| name.unwrap().path());
        let mut files: Vec<_> = names.map(|path| (std::fs::read(&path).unwrap(), path)).collect();
        files.sort();
        files
    };
    symlink(&outside, &bus.files).unwrap();
    let store = SegmentedStore::new(Layout::new(bus.root()), Options::default());
    for page in ["with a page", "without one"] {
        let was = files();
        let mut told = refused(&bus).to_vec();
        told.push(cause(&bus.open().verify().unwrap_err()));
        told.push(cause(&bus.open().last(9).unwrap_err()));
        told.push(cause(&bus.open().find(&MsgId::new(Timestamp::UNIX_EPOCH, 1, 1)).unwrap_err()));
        told.push(cause(&bus.open().wait(end, Duration::ZERO).unwrap_err()));
        told.push(cause(&bus.open().flush().unwrap_err()));
        told.push(cause(&bus.open().repair().unwrap_err()));
        told.push(cause(&bus.open().stats().unwrap_err()));
        told.push(cause(&store.version(&key()).unwrap_err()));
        for told in told {
            assert!(told.contains("symbolic link"), "{page}: {told}");
        }
        assert_eq!(files(), was, "{page}");
        let _ = std::fs::remove_file(outside.join("ctl"));
    }
    // A handle from before does not make its files there either.
    for name in std::fs::read_dir(&outside).unwrap() {
        std::fs::remove_file(name.unwrap().path()).unwrap();
    }
    let error = before.append(vec![draft("no")], Durability::None).unwrap_err();
    assert!(cause(&error).contains("symbolic link"), "{error}");
    assert_eq!(files(), []);
    assert!(store.remove(&key()).unwrap() && outside.exists(), "the link alone is removed");
    assert_eq!(bus.post("anew").at, Cursor::START);
}
