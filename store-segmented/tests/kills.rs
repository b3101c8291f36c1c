//! Writers and leaders that are killed and stopped at random moments, while somebody deletes the shared page; and a writer
//! that is killed at each of its system calls.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{Bus, stream_at};
use run_agent_core::Stream;
use run_agent_core::store::Options;
use run_agent_store_shared::testkit::{Scene, kills, steps};

fn busy(root: &Path) -> Arc<dyn Stream> {
    let (rotate_bytes, sync_every) = (20_000, Duration::from_millis(1));
    let options = Options { rotate_bytes, sync_every, sync_messages: 5, ..Options::default() };
    stream_at(root.to_str().unwrap(), options)
}

fn small(root: &Path) -> Arc<dyn Stream> {
    stream_at(root.to_str().unwrap(), Options { rotate_bytes: 700, ..Options::default() })
}

fn kills(test: &str, variable: &str, loses_page: bool) {
    if let Some(root) = Scene::is_child(variable) {
        return kills::post_for_ever(&*busy(&root));
    }
    // One at a time: a stream goes when the next one comes.
    let kept = std::cell::RefCell::new(None);
    let scene = || {
        let bus = Bus::with(&[]);
        let (root, page) = (bus.root(), bus.files.join("ctl"));
        kept.replace(Some(bus));
        Scene { test, variable, root, page, open: busy }
    };
    kills::nothing_is_lost(scene, loses_page);
}

#[test]
fn nothing_acknowledged_is_lost_when_writers_are_killed_and_stopped() {
    let name = "nothing_acknowledged_is_lost_when_writers_are_killed_and_stopped";
    kills(name, "RUN_AGENT_TEST_KILLS", false);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_page_is_deleted_under_load() {
    kills(
        "nothing_acknowledged_is_lost_when_the_page_is_deleted_under_load",
        "RUN_AGENT_TEST_KILLS_PAGE",
        true,
    );
}

fn sweep(test: &str, variable: &str, calls: &[&str], fault: Option<&str>) {
    if let Some(root) = Scene::is_child(variable) {
        return steps::post_some(&*small(&root));
    }
    let buses = std::cell::RefCell::new(Vec::new());
    let scene = || {
        let bus = Bus::with(&[]);
        let root = bus.root();
        buses.borrow_mut().push(bus);
        Scene { test, variable, root, page: PathBuf::new(), open: small }
    };
    steps::sweep(scene, calls, fault);
}

/// What changes anything on the disk, or frees what others wait for.
const CALLS: [&str; 8] =
    ["mkdir", "pwrite64", "fallocate", "fdatasync", "fsync", "rename", "unlink", "flock"];

#[test]
fn a_writer_killed_at_any_step_loses_nothing_acknowledged() {
    sweep("a_writer_killed_at_any_step_loses_nothing_acknowledged", "RUN_AGENT_TEST_STEPS", &CALLS, None);
}

#[test]
fn a_writer_killed_at_any_step_after_a_failed_sync_loses_nothing_acknowledged() {
    let name = "a_writer_killed_at_any_step_after_a_failed_sync_loses_nothing_acknowledged";
    // One rule holds for a call.
    let calls = CALLS.into_iter().filter(|call| *call != "fdatasync").collect::<Vec<_>>();
    sweep(name, "RUN_AGENT_TEST_STEPS_EIO", &calls, Some("inject=fdatasync:error=EIO:when=2"));
}
