//! The segmented store: each stream is a rotating log of checked frames that many processes write to, and sync together
//! (`docs/formats/segment.md`).
//!
//! | question | file |
//! | --- | --- |
//! | how does a message become bytes, and bytes a message? | [`payload`], [`frame`] (pure) |
//! | what does a stream, and a segment, begin with? | [`block`] (pure) |
//! | where does the stream end? | `page` (shared by all processes), `control` |
//! | where do frames lie in a segment, and which verify? | `segment`, `index` |
//! | how is a message appended? | `append`, `ready` |
//! | how does a new segment begin? | `rotate` |
//! | who syncs, and for whom? | `commit` |
//! | what if a sync fails, or who made it dies? | `rescue` |
//! | where does the stream end if no page tells? | `survey`, `recover` |
//! | how is read forward, from the end, by id, and all of it? | `look`, `read`, `find`, `check` |
//! | did a stream change since an earlier look? | `version` |
//! | what is asked of the system? | `os` |
//!
//! Locks, the page as such and the protocol of syncs are those of all stores (`run-agent-store-shared`).
//!
//! What is absent: readers never take a writer's lock, no segment is mapped, nothing is written behind a cut, and no
//! sync is trusted of a file that may not have been told of a failure.

#[cfg(not(loom))]
mod append;
pub mod block;
#[cfg(not(loom))]
mod check;
#[cfg(not(loom))]
mod commit;
#[cfg(not(loom))]
mod control;
#[cfg(not(loom))]
mod find;
pub mod frame;
#[cfg(not(loom))]
mod index;
#[cfg(not(loom))]
mod look;
#[cfg(not(loom))]
mod os;
#[cfg_attr(loom, allow(dead_code))]
mod page;
pub mod payload;
#[cfg(not(loom))]
mod read;
#[cfg(not(loom))]
mod ready;
#[cfg(not(loom))]
mod recover;
#[cfg(not(loom))]
mod rescue;
#[cfg(not(loom))]
mod rotate;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod survey;
#[cfg(not(loom))]
mod version;

#[cfg(not(loom))]
pub use store::SegmentedStore;
