//! The markdown store: each stream is a file that a person can read, `grep` and `tail -f`
//! (`docs/formats/bus-file.md`).
//!
//! | question | file |
//! | --- | --- |
//! | how does an entry become text, and text an entry? | [`markdown`] (pure) |
//! | where in these bytes are entries, and where is damage? | [`scan`] (pure) |
//! | which files does a stream consist of? | `files`, `look` |
//! | who may write? | `lock` |
//! | how is an entry appended? | `append` |
//! | is the end of the file what it was, and what if not? | `tail` |
//! | how does a new file begin? | `rotate` |
//! | when is what synced? | `sync` |
//! | who syncs, and for whom? | `commit`, `page` (shared by all processes) |
//! | what if a sync fails, or who made it dies? | `rescue` |
//! | where do the bytes of one look lie? | `window` |
//! | how is read forward, from the end, by id, and all of it? | `read`, `last`, `find`, `check` |
//! | how is damage mended without losing anything? | `repair` |
//! | how is a waiting reader woken? | `wake` |
//! | how is a bus edited by hand while others append? | [`edit`] |
//! | did a stream change since an earlier look? | `version` |
//! | which file is this, and how long? | `os` |
//!
//! What is absent: readers never take the append lock to make progress, and nothing maps a file that is written to.

mod append;
mod check;
mod commit;
pub mod edit;
mod files;
mod find;
mod last;
mod lock;
mod look;
pub mod markdown;
mod os;
mod page;
mod read;
mod repair;
mod rescue;
mod rotate;
pub mod scan;
mod store;
mod sync;
mod tail;
mod version;
mod wake;
mod window;

pub use store::FsStore;
