//! What both stores need and neither may learn from the other: files that several processes lock, a page that they all
//! map, and syncs that appenders share (`docs/formats/segment.md`, "Sync").
//!
//! | question | file |
//! | --- | --- |
//! | what stands in the page that processes share? | [`page`] |
//! | how does it become a file, and is it still the one that its path names? | [`page_file`], `map` |
//! | who syncs, and for whom? | [`commit`] |
//! | how long does one wait for that? | [`wait`] |
//! | who holds a lock, and how long does one wait for it? | [`lock`], `alarm` |
//! | who tells a server of appends? | [`doorbell`] |
//! | what is asked of the system? | [`os`] |
//! | what does every store survive that uses this? | `testkit` (for tests) |
//! | what are processes, locks and death to a model checker? | `model` (for models) |
//!
//! It knows positions, which only increase, and files that can be synced. What a position counts, where the end is, and how
//! what could not be synced is written again is each store's own. Nothing here knows a message.

#[cfg(not(any(loom, shuttle)))]
mod alarm;
pub mod commit;
#[cfg(not(any(loom, shuttle)))]
pub mod doorbell;
#[cfg(not(any(loom, shuttle)))]
pub mod lock;
#[cfg(not(any(loom, shuttle)))]
mod map;
#[cfg(any(loom, shuttle))]
pub mod model;
#[cfg(not(any(loom, shuttle)))]
pub mod os;
pub mod page;
#[cfg(not(any(loom, shuttle)))]
pub mod page_file;
pub mod sync;
#[cfg(all(feature = "testkit", not(any(loom, shuttle))))]
pub mod testkit;
pub mod wait;
