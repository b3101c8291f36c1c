//! The strict in-memory store passes the suite that it is stricter than.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use run_agent_core::testkit::MemoryStore;
use run_agent_core::testkit::conformance::Backend;
use run_agent_core::{Store, StreamKey};

struct Memory(MemoryStore);

impl Memory {
    fn new() -> Self {
        Self(MemoryStore::new())
    }
}

impl Backend for Memory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
    fn make(&self, _: &StreamKey) {}
    fn place(&self) -> Option<String> {
        None
    }
    fn at(_: &str) -> Arc<dyn Store> {
        unreachable!("it lives in one process")
    }
}

run_agent_core::conformance!(Memory, Memory::new);
