//! What xAI streams: chunks of a chat completion, and nothing beside them.

use crate::agent::stream::{Account, Answer, Chunks, Heard, Json, RestReader};

/// Reads one answer.
pub(crate) type XaiReader = RestReader<Xai>;

#[derive(Debug, Default)]
pub(crate) struct Xai {
    chunks: Chunks,
}

impl Answer for Xai {
    fn event(&mut self, event: &Json, account: &mut Account, heard: &mut Vec<Heard>) {
        self.chunks.chunk(event, account, heard);
    }
}

#[cfg(test)]
mod tests;
