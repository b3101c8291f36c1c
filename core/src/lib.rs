//! The vocabulary and the rules of run-agent.
//!
//! The log is the truth, the [`World`] is a fold of it, and [`plan`] says what ought to be true outside. Nothing in
//! this crate reads a clock, touches a file, starts a thread or writes to a terminal: every function here is a
//! function of its arguments, so that the same events give the same answer in the CLI, in the server, in a replay and
//! in the next process after a crash.
//!
//! | question | file |
//! | --- | --- |
//! | what is an id, and which are refused? | [`id`] |
//! | what is a message? | [`message`] |
//! | which events does the tool itself post, with which fields? | [`event`], [`cause`] |
//! | why did an agent fail? | [`error_class`] |
//! | what do the events amount to? | [`world`] |
//! | may this be done? | [`decide`] |
//! | what should the Ralph loop do next? | [`plan`], [`policy`] |
//! | why is it in this state? | [`mod@why`] |
//! | what of it needs a person? | [`inbox`] |
//! | what must a store promise? | [`store`], [`follow`] |
//! | where do the last entries begin that match? | [`window`] |
//! | where does a file lie? | [`layout`] |
//! | in which order do stdout and stderr belong? | [`output`] |
//! | what does `run-info.yaml` say? | [`run_info`] |
#![forbid(unsafe_code)]

pub mod cause;
pub mod decide;
pub mod error_class;
pub mod event;
pub mod follow;
pub mod id;
pub mod inbox;
pub mod layout;
pub mod message;
pub mod output;
pub mod plan;
pub mod policy;
pub mod run_info;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;
pub mod why;
pub mod window;
pub mod world;

pub use cause::Cause;
pub use error_class::ErrorClass;
pub use event::Event;
pub use id::{MsgId, ProjectId, RunId, TaskId};
pub use jiff::Timestamp;
pub use message::{Draft, Kind, Link, Message, Parent};
pub use store::{Cursor, Durability, Entry, Store, Stream, StreamKey};
pub use world::World;
