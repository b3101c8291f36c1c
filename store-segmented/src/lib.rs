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
//! | how is read forward, from the end, by id, and all of it? | `view`, `look`, `read`, `find`, `check` |
//! | did a stream change since an earlier look? | `version` |
//! | what is asked of the system? | `os` |
//!
//! Locks, the page as such and the protocol of syncs are those of all stores (`run-agent-store-shared`).
//!
//! What is absent: readers never take a writer's lock, no segment is mapped, nothing is written behind a cut, and no
//! sync is trusted of a file that may not have been told of a failure.

#[cfg(not(any(loom, shuttle)))]
mod append;
pub mod block;
#[cfg(not(any(loom, shuttle)))]
mod check;
#[cfg(not(any(loom, shuttle)))]
mod commit;
#[cfg(not(any(loom, shuttle)))]
mod control;
#[cfg(not(any(loom, shuttle)))]
mod find;
pub mod frame;
#[cfg(not(any(loom, shuttle)))]
mod index;
#[cfg(not(any(loom, shuttle)))]
mod look;
#[cfg(not(any(loom, shuttle)))]
mod os;
#[cfg_attr(any(loom, shuttle), allow(dead_code))]
mod page;
pub mod payload;
#[cfg(not(any(loom, shuttle)))]
mod read;
#[cfg(not(any(loom, shuttle)))]
mod ready;
#[cfg(not(any(loom, shuttle)))]
mod recover;
#[cfg(not(any(loom, shuttle)))]
mod rescue;
#[cfg(not(any(loom, shuttle)))]
mod rotate;
#[cfg(not(any(loom, shuttle)))]
mod segment;
#[cfg(not(any(loom, shuttle)))]
mod store;
#[cfg(not(any(loom, shuttle)))]
mod survey;
#[cfg(not(any(loom, shuttle)))]
mod version;
#[cfg_attr(any(loom, shuttle), allow(dead_code))]
mod view;

#[cfg(not(any(loom, shuttle)))]
pub use store::SegmentedStore;
