//! The runner makes reality match the plan: it starts agents, watches them, restarts a root agent until it says DONE,
//! stops trees, and writes the events that say so (`docs/supervision.md`).
//!
//! | question | file |
//! | --- | --- |
//! | which root and store do we work on? | [`tree`] |
//! | what of a link below the root? | [`below`] |
//! | what does a task's stream say now, and may this be appended? | [`view`] |
//! | what of it need not be read again? | `checkpoint`, [`roster`], `sealed` |
//! | how do projects and tasks come to be? | [`make`] |
//! | what is the agent told? | [`prompt`], [`history`] |
//! | what is started for which agent? | [`agent`] |
//! | how does a run start, live and end? | [`supervise`] |
//! | do DONE and the stream agree? | [`marker`] |
//! | what does a look around a task find? | [`seen`] |
//! | what does the Ralph loop do? | [`drive`] |
//! | which loops have lost their driver? | [`adopt`] |
//! | how is a run or a tree stopped? | [`stop`], [`starting`] |
//! | what of children in other tasks? | [`link`], `circle`, `above` |
//! | how is a run or a task deleted? | [`delete`], [`ledger`], [`aside`] |
//! | what is old enough to go? | [`gc`] |
//! | what disagrees, and how is it mended? | [`doctor`] |
//! | how do events go over to another store? | [`migrate`] |
//! | who waits for what? | [`wait`], [`waits`], [`wake`], `folders` |
//! | how many agents may be at work, and who counts as waiting? | `slots`, [`blocked`] |
//! | how does a person give up what is waited for? | [`interrupt`] |
//! | who syncs what others appended? | [`sync_clock`] |
//! | how much time passed in which this process ran? | [`own_time`] |
//! | of which version is an agent's program? | [`versions`] |
//! | how are stdout and stderr merged? | [`output`] |
//! | how is something asked over HTTP? | [`http`] |
//! | where does a payload go that is too large for a message? | [`attach`], [`new_file`] |
//!
//! What is absent: no daemon, no shared memory between processes, no state besides the stream and what lies in the
//! run's folder. Everything that only Linux has is in `supervise/os/`, with a portable twin.

mod above;
pub mod adopt;
pub mod agent;
pub mod aside;
pub mod attach;
pub mod below;
pub mod blocked;
mod checkpoint;
mod circle;
pub mod delete;
pub mod doctor;
pub mod drive;
pub mod failpoint;
pub mod files;
mod folders;
pub mod gc;
mod hear;
pub mod history;
pub mod http;
pub mod interrupt;
pub mod ledger;
pub mod leftovers;
pub mod link;
pub mod make;
pub mod marker;
pub mod migrate;
pub mod new_file;
pub mod output;
pub mod own_time;
pub mod prompt;
pub mod roster;
mod sealed;
pub mod seen;
mod slots;
pub mod starting;
pub mod stop;
pub mod supervise;
pub mod sync_clock;
pub mod tree;
pub mod versions;
pub mod view;
pub mod wait;
pub mod waits;
pub mod wake;

pub use tree::Tree;
pub use view::{Proposed, TaskView, ViewError};

#[cfg(not(unix))]
compile_error!(
    "run-agent runs on Linux and macOS; on Windows use it inside WSL2 (see the platform table in the README)"
);
