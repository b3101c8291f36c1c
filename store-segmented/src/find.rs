//! Where the message with an id stands. Times increase within a stream, so they are searched for by halves: first the
//! segment, then its index; where that finds nothing, as among ids of other writers, everything is read.

use std::io;

use run_agent_core::store::ReadError;
use run_agent_core::{Cursor, MsgId, Timestamp};

use crate::index;
use crate::payload;
use crate::segment::WIDE;
use crate::store::SegmentedStream;
use crate::view::View;

/// Entries that are read at once where everything is: a bound on memory.
const PAGE_ENTRIES: usize = 1024;

impl SegmentedStream {
    pub(crate) fn find_id(&self, id: &MsgId) -> Result<Cursor, ReadError> {
        let unknown = || ReadError::UnknownId { key: self.key.clone(), id: id.clone() };
        let view = self.view()?.ok_or_else(unknown)?;
        if let Some(ts) = id.time() {
            let found = self.search(&view, id, ts).map_err(|e| self.read_error("cannot be searched", e))?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let mut from = Cursor::START;
        loop {
            let page = self.read_from(from, PAGE_ENTRIES)?;
            if let Some(entry) = page.entries.iter().find(|entry| entry.message.id == *id) {
                return Ok(entry.next);
            }
            if page.next == from {
                return Err(unknown());
            }
            from = page.next;
        }
    }

    fn search(&self, view: &View, id: &MsgId, ts: Timestamp) -> io::Result<Option<Cursor>> {
        let upto = view.bases.partition_point(|base| *base <= view.tail.base);
        let (mut low, mut high) = (0, upto);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let Some(segment) = self.open_segment(view.bases[middle])? else { return Ok(None) };
            if segment.first_time()? <= ts { low = middle } else { high = middle }
        }
        let Some(segment) = view.bases.get(low).map(|base| self.open_segment(*base)).transpose()?.flatten()
        else {
            return Ok(None);
        };
        let (until, end) = (view.limit(low), view.end_of(segment.base()));
        let anchors = index::read(&self.folder, &segment);
        let wanted = index::nanos(ts);
        let anchor = index::find(&anchors, &segment, |anchor| anchor.nanos <= wanted && anchor.offset < end)?;
        let (mut at, mut walk) = (anchor.offset, segment.walk(end, WIDE / 8));
        while let Some(frame) = walk.frame_at(at)?
            && frame.head.lsn < until
            && frame.head.ts <= ts
            && !frame.head.seal
        {
            if frame.head.ts == ts
                && payload::decode(frame.payload, &view.meta.key, ts).is_ok_and(|message| message.id == *id)
            {
                return Ok(Some(Cursor::new(frame.head.lsn + 1)));
            }
            at += frame.len as u64;
        }
        Ok(None)
    }
}
