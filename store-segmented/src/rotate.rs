//! How a new segment begins, under the append lock: the old one is sealed and synced, and never written to again. Numbers
//! go on.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use run_agent_core::store::AppendError;

use crate::block::Header;
use crate::control::Control;
use crate::frame::{self, Batch, Head, Salt};
use crate::index;
use crate::os;
use crate::page::{Ends, Tail};
use crate::segment::{FIRST, Segment};
use crate::store::SegmentedStream;

impl SegmentedStream {
    /// Begins a new segment, whatever the size of the old one. An empty one is left alone.
    pub(crate) fn rotate_now(&self) -> Result<(), AppendError> {
        self.with_lock(|_, control| {
            let tail = self.tail_held(control.page())?;
            if tail.offset > FIRST {
                self.rotate_held(control, &tail)?;
            }
            Ok(())
        })
    }

    /// # Errors
    /// While `recover` is not set nothing has happened, and the old segment can be written to as before.
    pub(crate) fn rotate_held(&self, control: &Arc<Control>, tail: &Tail) -> Result<Tail, AppendError> {
        let page = control.page();
        let segment = self.active(control, tail.base)?;
        let cannot = |what: &'static str| move |e: io::Error| self.append_error(what, e);
        write_seal(&segment, tail, page.syncs.synced()).map_err(cannot("cannot be sealed"))?;
        // The last entries of the index: the segment is not looked at by a writer again.
        let _ = index::complete(&self.folder, &segment, &[], tail.offset, &mut None);
        if !self.sync_held(control, &segment, tail)? {
            // What could not be synced was written again, into a segment that is new.
            return self.tail_held(page);
        }
        let header = new_header(tail.lsn, page.incarnation.load(Relaxed), tail)
            .map_err(cannot("got no random number"))?;
        let next = Segment::make(&self.folder, header, &[]).map_err(cannot("cannot begin a new segment"))?;
        let link = || {
            next.link()?;
            os::sync_folder(&self.folder)?;
            Ok(Tail { base: tail.lsn, offset: FIRST, ..*tail })
        };
        page.change_segments(link, || {}).map_err(cannot("cannot begin a new segment"))
    }
}

pub(crate) fn new_header(base: u64, incarnation: u64, tail: &Tail) -> io::Result<Header> {
    Ok(Header { base, salt: Salt(os::random()?), incarnation, ts: tail.ts })
}

/// Writes the frame behind which nothing of a segment is read.
pub(crate) fn write_seal(segment: &Segment, tail: &Tail, durable: u64) -> io::Result<()> {
    let mut seal = Vec::with_capacity(frame::len_of(0));
    let batch = Batch { first: tail.lsn, count: 1, nonce: 0 };
    let (lsn, offset, ts, boot) = (tail.lsn, tail.offset, tail.ts, os::boot_tag());
    frame::encode(
        &mut seal,
        segment.salt(),
        &Head { seal: true, lsn, offset, batch, ts, durable, boot },
        &[],
    );
    segment.file.write_all_at(&seal, tail.offset)
}
