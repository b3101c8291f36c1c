//! What becomes of a stream's page when several processes act on it at once, and some of them die:
//! `cargo xtask models`, and `docs/testing.md`, "Interleavings".
//!
//! What locks and death are to them: `run_agent_store_shared::model`.

#[cfg(shuttle)]
mod many;
#[cfg(loom)]
mod publication;
#[cfg(loom)]
mod rotation;
#[cfg(loom)]
mod signal;

#[cfg(loom)]
use super::{Ends, MAGIC, Page, Tail};

#[cfg(loom)]
fn tail(lsn: u64) -> Tail {
    // All fields follow from one, so that a mixture of two records shows.
    Tail {
        base: lsn + 1,
        offset: lsn + 2,
        lsn,
        ts: jiff::Timestamp::from_nanosecond(i128::from(lsn)).unwrap(),
    }
}

#[cfg(loom)]
fn page() -> Page {
    let page = Page::default();
    page.begin(MAGIC, [1, 2], 3, 10);
    page.publish(&tail(10));
    page
}
