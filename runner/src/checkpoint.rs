//! What a task's stream came to up to some entry, kept so that a look at a long stream reads only what came since
//! (`docs/formats/checkpoint.md`). Never the truth: what is doubtful is dropped, and the stream is folded anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use run_agent_core::layout::Layout;
use run_agent_core::store::Damage;
use run_agent_core::world::WORLD_VERSION;
use run_agent_core::{Cursor, Entry, Message, MsgId, Stream, World};
use serde::{Deserialize, Serialize};

use crate::sealed::{self, FORMAT};
use crate::tree::TaskName;

/// So many entries are folded again rather than written down.
const ENTRIES: u64 = 512;
/// What a checkpoint may cost for each entry that it spares: a large one is written less often.
const BYTES_PER_ENTRY: u64 = 512;

/// A fold and its place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) world: World,
    pub(crate) damage: Vec<Damage>,
    /// Where folding goes on.
    pub(crate) cursor: Cursor,
    /// The last entry that was folded in.
    pub(crate) last: Entry,
}

/// With the stream in which its last entry was checked.
pub(crate) type Loaded = (Checkpoint, Arc<dyn Stream>);

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    kind: String,
    format: u32,
    world: u32,
    incarnation: u64,
    cursor: Cursor,
    messages: u64,
    last_at: Cursor,
    last_id: MsgId,
    last_crc32: String,
    #[serde(default, skip_serializing)]
    bytes: u64,
}

const KIND: &str = "checkpoint";

#[derive(Serialize)]
struct ContentRef<'a> {
    world: &'a World,
    damage: &'a [Damage],
}

#[derive(Deserialize)]
struct Content {
    world: World,
    damage: Vec<Damage>,
}

/// The file of one task, and how far the newest checkpoint that this process knows of reaches.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    messages: u64,
    bytes: u64,
}

impl Keeper {
    pub(crate) fn new(layout: &Layout, name: &TaskName) -> Self {
        Self { path: layout.checkpoint(&name.project, &name.task), messages: 0, bytes: 0 }
    }

    /// The checkpoint, if there is one that holds. `open` is called only then.
    pub(crate) fn load<E>(
        &mut self,
        open: impl FnOnce() -> Result<Arc<dyn Stream>, E>,
    ) -> Result<Option<Loaded>, E> {
        let Ok(bytes) = std::fs::read(&self.path) else { return Ok(None) };
        let Some((header, content)) = sealed::unseal::<Header>(&bytes) else { return Ok(None) };
        let stream = open()?;
        let Some(checkpoint) = check(&header, content, stream.as_ref()) else { return Ok(None) };
        (self.messages, self.bytes) = (header.messages, bytes.len() as u64);
        Ok(Some((checkpoint, stream)))
    }

    /// The fold begins anew: what was known of a checkpoint is of another stream.
    pub(crate) fn forget(&mut self) {
        (self.messages, self.bytes) = (0, 0);
    }

    /// True when so much was folded beyond the last checkpoint that a new one pays.
    pub(crate) fn is_due(&self, messages: u64) -> bool {
        messages.saturating_sub(self.messages) >= ENTRIES + self.bytes / BYTES_PER_ENTRY
    }

    /// Writes a checkpoint, unless another process did. Failing costs time later, and nothing else.
    pub(crate) fn save(&mut self, incarnation: u64, messages: u64, of: &Checkpoint) {
        let there = sealed::peek::<Header>(&self.path).filter(|there| {
            (there.kind.as_str(), there.format, there.world, there.incarnation)
                == (KIND, FORMAT, WORLD_VERSION, incarnation)
        });
        if let Some(there) = there {
            (self.messages, self.bytes) = (there.messages, there.bytes);
            // One that reaches further than this fold is of a stream that was cut since.
            if there.messages <= messages && !self.is_due(messages) {
                return;
            }
        }
        (self.messages, self.bytes) = (messages, write(&self.path, incarnation, messages, of).unwrap_or(0));
    }
}

fn write(path: &Path, incarnation: u64, messages: u64, of: &Checkpoint) -> Option<u64> {
    let header = Header {
        kind: KIND.to_owned(),
        format: FORMAT,
        world: WORLD_VERSION,
        incarnation,
        cursor: of.cursor,
        messages,
        last_at: of.last.at,
        last_id: of.last.message.id.clone(),
        last_crc32: checksum(&of.last.message)?,
        bytes: 0,
    };
    let content = serde_json::to_vec(&ContentRef { world: &of.world, damage: &of.damage }).ok()?;
    sealed::write(path, &header, &content).ok().map(|bytes| bytes as u64)
}

/// The checkpoint, if it is of this program's form and its last entry stands in the stream as it did.
fn check(header: &Header, content: &[u8], stream: &dyn Stream) -> Option<Checkpoint> {
    if (header.kind.as_str(), header.format, header.world) != (KIND, FORMAT, WORLD_VERSION) {
        return None;
    }
    let last = stream.read(header.last_at, 1).ok()?.entries.into_iter().next()?;
    let same = stream.incarnation() == header.incarnation
        && last.at == header.last_at
        && last.next <= header.cursor
        && last.message.id == header.last_id
        && checksum(&last.message)? == header.last_crc32;
    if !same {
        return None;
    }
    let Content { world, damage } = serde_json::from_slice(content).ok()?;
    Some(Checkpoint { world, damage, cursor: header.cursor, last })
}

fn checksum(message: &Message) -> Option<String> {
    serde_json::to_vec(message).ok().map(|json| format!("{:08x}", crc32fast::hash(&json)))
}

#[cfg(test)]
mod tests;
