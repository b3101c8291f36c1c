//! The server: what `run-agent serve` answers (spec, section 7).
//!
//! | question | file |
//! | --- | --- |
//! | which paths are there, and what answers them? | `routes/<resource>` |
//! | what do answers look like? | `shape/<resource>` |
//! | what is known of all streams, and how does it stay current? | [`live`] |
//! | who may ask? | `guard` |
//! | what was at a moment? | `past` |
//! | how do chosen events reach another program? | `webhook` |
//! | what is counted? | `metrics` |
//! | how are all paths described? | [`document()`] |
//! | who changed what? | `audit` |
//! | how do streams of events reach a client, and how does it go on after a break? | `sse` |
//! | what does a refusal look like? | [`error`] |
//! | what does the server have done by others? | [`work`] |
//! | how does what agents print reach a client, as it grows? | `logs` |
//! | which files below the root may be read? | `files` |
//!
//! What is absent: nothing is parsed anew for a client or a tick, no handler takes a path from a request but through ids
//! that were checked, and no agent is a child of this process.

mod app;
mod audit;
mod document;
pub mod error;
mod files;
mod guard;
pub mod live;
mod logs;
mod metrics;
mod past;
mod routes;
mod shape;
mod sse;
mod webhook;
pub mod work;

pub use app::{App, Settings, router, run, serve};
pub use document::document;
