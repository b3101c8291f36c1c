//! The power goes: on a disk that forgets any subset of what was not synced, and for real, on a file system that stops.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::stream_at;
use run_agent_core::Stream;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_store_shared::testkit::disk::{self, Kind, Lie, NameRule};
use run_agent_store_shared::testkit::{Scene, power};

fn open(root: &Path) -> Arc<dyn Stream> {
    stream_at(root.to_str().unwrap(), disk::options())
}

fn make(root: &Path) {
    let files = Layout::new(root.to_owned()).segments(&key());
    std::fs::create_dir_all(files.parent().unwrap()).unwrap();
}

/// `None` in a child, which has played its part then.
fn kind<'a>(test: &'a str, variable: &'a str) -> Option<Kind<'a>> {
    if let Some(root) = Scene::is_child(variable) {
        disk::play(&Scene { test, variable, root, page: Path::new("").into(), open });
        return None;
    }
    // Nothing in a segment depends on which file it is.
    let settle = |_: &Path, _: &[disk::Placed]| {};
    Some(Kind { test, variable, make, open, settle, holes: false, names: NameRule::Any })
}

#[test]
fn every_state_of_a_disk_keeps_what_was_promised() {
    let name = "every_state_of_a_disk_keeps_what_was_promised";
    if let Some(kind) = kind(name, "RUN_AGENT_TEST_DISK") {
        disk::every_state_keeps_what_was_promised(&kind, false);
    }
}

#[test]
fn every_state_of_a_disk_keeps_what_was_promised_after_a_failed_sync() {
    let name = "every_state_of_a_disk_keeps_what_was_promised_after_a_failed_sync";
    if let Some(kind) = kind(name, "RUN_AGENT_TEST_DISK_EIO") {
        disk::every_state_keeps_what_was_promised(&kind, true);
    }
}

#[test]
fn a_disk_that_only_acknowledges_syncs_is_caught() {
    if let Some(kind) = kind("a_disk_that_only_acknowledges_syncs_is_caught", "RUN_AGENT_TEST_DISK_LIES") {
        disk::a_lie_is_caught(&kind, Lie::Disk);
    }
}

#[test]
fn a_writer_that_acknowledges_what_it_never_synced_is_caught() {
    let name = "a_writer_that_acknowledges_what_it_never_synced_is_caught";
    if let Some(kind) = kind(name, "RUN_AGENT_TEST_DISK_LIAR") {
        disk::a_lie_is_caught(&kind, Lie::Writer);
    }
}

fn cuts(test: &str, variable: &str, lies: bool) {
    let open = |root: &Path| {
        stream_at(root.to_str().unwrap(), Options { rotate_bytes: 20_000, ..Options::default() })
    };
    power::cuts(&power::Kind { test, variable, make, open, holes: false, lies });
}

#[test]
fn a_file_system_that_stops_keeps_what_was_acknowledged() {
    cuts("a_file_system_that_stops_keeps_what_was_acknowledged", "RUN_AGENT_TEST_CUTS", false);
}

#[test]
fn a_file_system_that_stops_tells_who_acknowledged_without_a_sync() {
    cuts("a_file_system_that_stops_tells_who_acknowledged_without_a_sync", "RUN_AGENT_TEST_CUTS_LIES", true);
}
