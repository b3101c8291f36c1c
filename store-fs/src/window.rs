//! The bytes of one look at a file. Their memory goes from look to look: a fresh quarter of a megabyte costs the system
//! more than filling it.

use std::cell::RefCell;
use std::ops::Deref;

/// What a thread keeps between two looks at the most.
const KEPT_MAX: usize = 256 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read.
#[derive(Debug)]
pub(crate) struct Window {
    memory: Vec<u8>,
    len: usize,
}

impl Window {
    /// Room for `len` bytes, whose content nobody may rely on.
    pub(crate) fn new(len: usize) -> Self {
        let mut memory = KEPT.with(|kept| std::mem::take(&mut *kept.borrow_mut()));
        if memory.len() < len {
            memory.resize(len, 0);
        }
        Self { memory, len }
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.memory.len() <= KEPT_MAX {
            let memory = std::mem::take(&mut self.memory);
            // At a thread's end there is nothing left to keep it in.
            let _ = KEPT.try_with(|kept| *kept.borrow_mut() = memory);
        }
    }
}
