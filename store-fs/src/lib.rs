//! The markdown store: each stream is a file that a person can read, `grep` and `tail -f`
//! (`docs/formats/bus-file.md`).
//!
//! | question | file |
//! | --- | --- |
//! | how does an entry become text, and text an entry? | [`markdown`] (pure) |
//! | where in these bytes are entries, and where is damage? | [`scan`] (pure) |
//! | who may write, and how long does one wait? | `lock` |
//! | how is an entry appended? | `append` |
//! | how does a reader find its place? | `read` |
//! | how is a waiting reader woken? | `wake` |
//! | which file is this, and how long? | `os` |
//!
//! What is absent: readers never take the append lock to make progress, and nothing maps a file that is written to.
#![forbid(unsafe_code)]

mod append;
mod lock;
pub mod markdown;
mod os;
mod read;
pub mod scan;
mod store;
mod wake;

pub use store::{FsStore, Options};
