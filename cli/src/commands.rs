//! One file a verb.

pub(crate) mod adopt;
pub(crate) mod ask;
pub(crate) mod batch;
pub(crate) mod bus;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod done;
pub(crate) mod internal;
pub(crate) mod job;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod output;
pub(crate) mod prompt;
pub(crate) mod reader;
pub(crate) mod replay;
pub(crate) mod resume;
pub(crate) mod shell_setup;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod store;
pub(crate) mod target;
pub(crate) mod task;
pub(crate) mod wait;
pub(crate) mod watch;
pub(crate) mod wrap;
