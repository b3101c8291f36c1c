//! How a run starts, lives and ends (`docs/supervision.md`).
//!
//! | question | file |
//! | --- | --- |
//! | what does `job` or the loop do to start a run? | [`start`] |
//! | what does the detached supervisor do? | [`supervisor`] |
//! | how does a supervisor come to be? | `hand_over` |
//! | what becomes of an agent whose supervisor was lost? | [`take_over`] |
//! | whose processes are these? | [`set`] (pure) |
//! | has the agent a process, and whose is it? | `ownership` |
//! | how is a set of processes ended? | [`ladder`] |
//! | what becomes of what an agent left running? | `left_overs` |
//! | what does a run's lock say? | [`record`] |
//! | how does a signal reach an agent of another session? | `pass_on` |
//! | who closes a run whose supervisor died? | [`close`] |
//! | what does only this system know? | [`os`] |

pub mod close;
mod doorbell;
mod hand_over;
pub mod ladder;
mod launch;
pub(crate) mod left_overs;
pub mod os;
mod ownership;
mod pass_on;
pub mod record;
pub mod set;
pub mod start;
pub mod supervisor;
pub mod take_over;

pub use doorbell::ring;
pub use launch::{Launch, Order, Streams};
pub use pass_on::signal_agent;
