//! The atomics that processes share, through one name, so that a model checker can put its own in their place.

#[cfg(any(loom, shuttle))]
pub use crate::model::{AtomicU32, AtomicU64, fence};
#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub use std::sync::atomic::Ordering;
