//! What every store must do, as one public set of cases. A backend passes them by one macro line, which expands to
//! one named test a case, so that none can be forgotten:
//!
//! ```text
//! run_agent_core::conformance!(MyBackend::new);
//! ```
//!
//! A case gets a [`Backend`] of its own. [`Backend::place`] is how the cases with several processes find the same
//! store again: they start the test program once more and post from there, and some are killed in the middle.

mod entries;
mod many;
mod moves;
mod processes;
mod versions;

use std::sync::Arc;

use crate::id::{ProjectId, TaskId};
use crate::message::{Draft, Kind};
use crate::store::{Cursor, Durability, Entry, Store, Stream, StreamKey};

pub use entries::*;
pub use many::*;
pub use moves::*;
pub use processes::*;
pub use versions::*;

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
            a_rotation_moves_no_cursor_and_no_id
            a_flush_covers_what_was_appended
            a_repair_changes_nothing_where_nothing_is_damaged
            a_condition_sees_what_came_since_and_decides
            of_many_who_look_exactly_one_appends
            many_handles_append_at_once
            streams_are_apart
            a_follower_sees_each_entry_once_and_in_order
            a_waiter_is_woken_by_another_handle
            a_version_stays_until_something_is_appended
            an_equal_version_says_that_nothing_was_appended
            what_is_restored_keeps_its_ids_and_times
            ids_come_behind_what_was_restored
            what_is_removed_is_gone_and_nothing_else
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
