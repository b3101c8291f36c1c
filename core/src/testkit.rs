//! For tests alone: the conformance suite that every store passes, and a store in memory that is stricter than the
//! real ones.

pub mod conformance;
mod memory;
pub mod simulation;

pub use memory::MemoryStore;
