//! Where a segment ends, when no shared page tells: the search of recovery, which writes nothing. Readers that find no
//! page make it as well, and so come to the same end.

use std::io;

use jiff::Timestamp;

use crate::frame::{Batch, Frame};
use crate::os;
use crate::segment::{FIRST, Segment, WIDE, Walk};

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was written behind it.
    Clean,
    Sealed,
    /// Bytes that prove nothing stand there; the last of them that is not zero is in this place.
    Cut {
        last: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
    pub(crate) ts: Timestamp,
    /// Everything before this is known to have been synced.
    pub(crate) durable: u64,
    /// The machine was started since the last frame was written.
    pub(crate) rebooted: bool,
    pub(crate) end: End,
    /// The number behind the last damage that was passed over; 0 without any.
    pub(crate) holed: u64,
}

/// What all frames that verify say together, wherever they stand.
struct Known {
    durable: u64,
    boot: Option<u16>,
    /// Those behind the first damage were taken in.
    all: bool,
}

pub(crate) fn survey(segment: &Segment) -> io::Result<Survey> {
    let mut walk = segment.walk(u64::MAX, WIDE);
    let mut survey = Survey {
        offset: FIRST,
        lsn: segment.base(),
        ts: segment.header.ts,
        durable: 0,
        rebooted: true,
        end: End::Clean,
        holed: 0,
    };
    let mut known = Known { durable: 0, boot: None, all: false };
    let mut last_batch = None;
    // The last byte of the file that is not zero, once it was looked for.
    let mut written = None;
    loop {
        if let Some(frame) = walk.frame_at(survey.offset)?
            && follows(&frame, survey.lsn, last_batch)
        {
            known.take(&frame);
            last_batch = Some(frame.head.batch);
            survey.ts = survey.ts.max(frame.head.ts);
            if frame.head.seal {
                survey.end = End::Sealed;
                break;
            }
            survey.offset += frame.len as u64;
            survey.lsn += 1;
            continue;
        }
        let last = match written {
            Some(last) => last,
            None => *written.insert(walk.last_written(survey.offset)?),
        };
        let Some(last) = last.filter(|last| *last >= survey.offset) else { break };
        known.take_behind(&mut walk, survey.offset)?;
        // Behind a damaged frame that was synced, or that no power cut can have damaged, others count.
        let damage = survey.lsn < known.durable || !known.rebooted();
        let next = if damage { believable(&mut walk, survey.offset, survey.lsn)? } else { None };
        let Some((offset, lsn)) = next else {
            survey.end = End::Cut { last };
            break;
        };
        (survey.offset, survey.lsn, survey.holed) = (offset, lsn, lsn);
        last_batch = walk.frame_at(offset)?.map(|frame| frame.head.batch);
    }
    survey.durable = known.durable.min(survey.lsn);
    survey.rebooted = known.rebooted();
    Ok(survey)
}

impl Known {
    fn take(&mut self, frame: &Frame<'_>) {
        if self.all {
            return;
        }
        self.durable = self.durable.max(frame.head.durable);
        self.boot = Some(frame.head.boot);
    }

    /// Those behind the first damage, however many others follow.
    fn take_behind(&mut self, walk: &mut Walk<'_>, from: u64) -> io::Result<()> {
        if self.all {
            return Ok(());
        }
        let mut at = from;
        while let Some((place, _)) = walk.next_frame(at, 0)? {
            let Some(frame) = walk.frame_at(place)? else { break };
            self.take(&frame);
            at = place + frame.len as u64;
        }
        self.all = true;
        Ok(())
    }

    fn rebooted(&self) -> bool {
        self.boot != Some(os::boot_tag())
    }
}

/// The batch rule.
fn follows(frame: &Frame<'_>, lsn: u64, last: Option<Batch>) -> bool {
    frame.head.lsn == lsn && (frame.head.batch.first == lsn || last == Some(frame.head.batch))
}

/// The next frame behind damage that cannot be residue of a dead writer's batch: the first of a batch, or one of which
/// the batch goes on to its end, and something else follows there.
fn believable(walk: &mut Walk<'_>, from: u64, lsn: u64) -> io::Result<Option<(u64, u64)>> {
    let mut at = from + 1;
    while let Some((place, found)) = walk.next_frame(at, lsn)? {
        let Some(frame) = walk.frame_at(place)? else { break };
        let (batch, mut behind, mut next) = (frame.head.batch, place + frame.len as u64, found + 1);
        if batch.first == found {
            return Ok(Some((place, found)));
        }
        while let Some(frame) = walk.frame_at(behind)?
            && frame.head.lsn == next
        {
            if frame.head.batch.first == next {
                return Ok(Some((place, found)));
            }
            if frame.head.batch != batch {
                break;
            }
            (behind, next) = (behind + frame.len as u64, next + 1);
        }
        // What is true of this frame is true of those of its batch that were walked over.
        at = behind;
    }
    Ok(None)
}
