//! The power goes: on a disk that forgets any subset of what was not synced, and for real, on a file system that stops.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use common::stream_at;
use run_agent_core::Stream;
use run_agent_core::layout::Layout;
use run_agent_core::store::Options;
use run_agent_core::testkit::conformance::key;
use run_agent_store_shared::testkit::disk::{self, Kind, Lie, NameRule, Placed};
use run_agent_store_shared::testkit::{Scene, power};

fn open(root: &Path) -> Arc<dyn Stream> {
    stream_at(root.to_str().unwrap(), disk::options())
}

fn make(root: &Path) {
    let bus = Layout::new(root.to_owned()).bus_file(&key());
    std::fs::create_dir_all(bus.parent().unwrap()).unwrap();
}

/// How the line of the lock file names a file (`docs/formats/bus-file.md`).
fn number((inode, born): (u64, u64)) -> u64 {
    inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ born
}

/// The line tells of the file by inode and birth: it is to tell of the same one, where it is now.
fn settle(root: &Path, placed: &[Placed]) {
    let bus = Layout::new(root.to_owned()).bus_file(&key());
    let lock = bus.with_extension("lock");
    let Ok(line) = std::fs::read_to_string(&lock) else { return };
    let Some((text, crc)) = line.trim_end().rsplit_once(" crc=") else { return };
    if u32::from_str_radix(crc, 16).ok() != Some(crc32fast::hash(text.as_bytes())) {
        return;
    }
    let told: u64 = text.split(" file=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let Some(file) = placed.iter().find(|placed| number(placed.identity) == told) else { return };
    let meta = file.path.metadata().unwrap();
    let born = meta.created().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let now = number((meta.ino(), u64::try_from(born).unwrap()));
    let text = text.replace(&format!(" file={told} "), &format!(" file={now} "));
    let line = format!("{text} crc={:08x}", crc32fast::hash(text.as_bytes()));
    std::fs::write(lock, format!("{line:639}\n")).unwrap();
}

/// `None` in a child, which has played its part then.
fn kind<'a>(test: &'a str, variable: &'a str) -> Option<Kind<'a>> {
    if let Some(root) = Scene::is_child(variable) {
        disk::play(&Scene { test, variable, root, page: Path::new("").into(), open });
        return None;
    }
    Some(Kind { test, variable, make, open, settle, holes: true, names: NameRule::Folders })
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
    power::cuts(&power::Kind { test, variable, make, open, holes: true, lies });
}

#[test]
fn a_file_system_that_stops_keeps_what_was_acknowledged() {
    cuts("a_file_system_that_stops_keeps_what_was_acknowledged", "RUN_AGENT_TEST_CUTS", false);
}

#[test]
fn a_file_system_that_stops_tells_who_acknowledged_without_a_sync() {
    cuts("a_file_system_that_stops_tells_who_acknowledged_without_a_sync", "RUN_AGENT_TEST_CUTS_LIES", true);
}
