//! Which segment holds a message, and how far it may be read: arithmetic over one moment of a stream.

use std::sync::Arc;

use crate::block::Meta;
use crate::page::Tail;

/// A stream at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) tail: Tail,
    /// Of all segments, in order.
    pub(crate) bases: Arc<[u64]>,
    pub(crate) meta: Arc<Meta>,
}

impl View {
    /// The segment that holds a message, by its place among the bases, and where the next one begins.
    pub(crate) fn segment_of(&self, lsn: u64) -> Option<(usize, u64)> {
        let index = self.bases.partition_point(|base| *base <= lsn).checked_sub(1)?;
        Some((index, self.limit(index)))
    }

    /// The number of the first message behind a segment.
    pub(crate) fn limit(&self, index: usize) -> u64 {
        let next = self.bases.get(index + 1).copied().unwrap_or(self.tail.lsn);
        if self.bases[index] >= self.tail.base { self.tail.lsn } else { next.min(self.tail.lsn) }
    }

    /// Where the frames of a segment end at the latest.
    pub(crate) fn end_of(&self, base: u64) -> u64 {
        if base == self.tail.base { self.tail.offset } else { u64::MAX }
    }
}
