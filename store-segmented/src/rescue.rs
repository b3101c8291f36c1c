//! A failed sync is final: the system reports an error of writing back once to each open file and may then call the lost
//! pages clean, so that a second sync "succeeds" over lost data. What stands above the synced cursor is therefore
//! written again into a new segment, and the stream goes on there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use run_agent_core::store::AppendError;
use run_agent_store_shared::wait::ring;

use crate::control::Control;
use crate::frame::{self, Batch, Head};
use crate::os;
use crate::page::{Ends, Page, Tail};
use crate::rotate::new_header;
use crate::segment::{self, FIRST, Segment, WIDE, index_path, log_path, read_at};
use crate::store::SegmentedStream;

/// What becomes of messages that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holes {
    /// A sync failed: what cannot be read was lost with it, and nothing is to be promised over that.
    Refused,
    /// They were damaged before, and stay so.
    Kept,
}

/// What is written again.
enum Piece<'a> {
    Frame(Head, &'a [u8]),
    /// The bytes of messages that cannot be read.
    Hole(&'a [u8]),
}

impl SegmentedStream {
    /// Writes everything from `from` on again, with the append lock held. If that fails too, nothing more is taken.
    pub(crate) fn rescue_held(
        &self,
        control: &Arc<Control>,
        from: u64,
        why: &str,
    ) -> Result<(), AppendError> {
        let page = control.page();
        let tail = self.tail_held(page)?;
        self.write_again(page, &tail, from.min(tail.lsn)).map_err(|again| {
            // Nothing that is appended from here on could be promised anything.
            page.poison.store(1, SeqCst);
            ring(&page.syncs.bell);
            let what = format!("cannot be synced ({why}), and what was to be synced cannot be written again");
            self.append_error(&what, again)
        })
    }

    pub(crate) fn write_again(&self, page: &Page, tail: &Tail, from: u64) -> io::Result<()> {
        let clear = || {
            page.syncs.syncing.clear();
            page.syncs.lone.clear();
        };
        if from < tail.lsn {
            let made = self.made_again(tail, from, page.incarnation.load(Relaxed), Holes::Refused)?;
            let replace = || self.put_in_place(&made, from, tail);
            page.change_segments(replace, || {
                page.syncs.rescued(from, tail.lsn);
                self.forget_active();
                clear();
            })?;
        } else {
            clear();
        }
        Ok(())
    }

    /// What stands from `from` on, written again around what is damaged in it, with no page to tell anybody yet.
    pub(crate) fn write_around(&self, tail: &Tail, from: u64, incarnation: u64) -> io::Result<Tail> {
        let made = self.made_again(tail, from, incarnation, Holes::Kept)?;
        self.put_in_place(&made, from, tail)
    }

    /// A segment with all messages from `from` on, synced, without its name yet; and where it ends.
    fn made_again(
        &self,
        tail: &Tail,
        from: u64,
        incarnation: u64,
        holes: Holes,
    ) -> io::Result<(Segment, u64)> {
        let header = new_header(from, incarnation, tail)?;
        let mut frames = Vec::new();
        self.copy(tail, from, holes, |piece| match piece {
            Piece::Frame(head, payload) => {
                let offset = FIRST + frames.len() as u64;
                let batch = Batch { first: head.lsn, count: 1, nonce: head.batch.nonce };
                // Behind a hole only what says that it was synced is believed: by the time it has its name, all of it was.
                let durable = if holes == Holes::Kept { tail.lsn } else { head.durable.min(from) };
                let head = Head { offset, batch, durable, ..head };
                frame::encode(&mut frames, header.salt, &head, payload);
            }
            Piece::Hole(bytes) => frames.extend_from_slice(bytes),
        })?;
        let end = FIRST + frames.len() as u64;
        Ok((Segment::make(&self.folder, header, &frames)?, end))
    }

    fn put_in_place(&self, (made, end): &(Segment, u64), from: u64, tail: &Tail) -> io::Result<Tail> {
        made.link()?;
        // A power cut may keep any of the changes of a folder: what is removed has to stand elsewhere for good first.
        os::sync_folder(&self.folder)?;
        self.remove_behind(from)?;
        os::sync_folder(&self.folder)?;
        Ok(Tail { base: from, offset: *end, ..*tail })
    }

    /// Hands out every frame from `from` up to the end. Where holes are refused, each must verify.
    fn copy(&self, tail: &Tail, from: u64, holes: Holes, mut take: impl FnMut(Piece<'_>)) -> io::Result<()> {
        let bases = segment::list(&self.folder)?;
        let first = bases.partition_point(|base| *base <= from).saturating_sub(1);
        let mut lsn = from;
        for (index, base) in bases.iter().enumerate().skip(first).filter(|(_, base)| **base <= tail.base) {
            let until =
                if *base == tail.base { tail.lsn } else { bases.get(index + 1).copied().unwrap_or(tail.lsn) };
            let segment = Segment::open(&self.folder, *base, false)?.ok_or(io::ErrorKind::InvalidData)?;
            let mut walk = segment.walk(u64::MAX, WIDE);
            let (mut at, mut next) = (FIRST, *base);
            while next < until {
                let Some(frame) =
                    walk.frame_at(at)?.filter(|frame| frame.head.lsn >= next && !frame.head.seal)
                else {
                    // Damage that was synced is not this one's to mend; what is to be copied must be whole.
                    let behind = walk.next_frame(at + 1, next)?;
                    match behind.filter(|(_, found)| *found <= lsn.min(until) || holes == Holes::Kept) {
                        Some((offset, found)) if found > lsn && found < until => {
                            // Its bytes stay: nobody knows what they were, and the frames behind them need something between.
                            let mut bytes = vec![0; usize::try_from(offset - at).unwrap_or(0)];
                            let have = read_at(&segment.file, &mut bytes, at)?;
                            bytes.truncate(have);
                            take(Piece::Hole(&bytes));
                            (at, next, lsn) = (offset, found, found);
                        }
                        Some((offset, found)) if found <= lsn.min(until) => (at, next) = (offset, found),
                        Some(_) | None if next < from && until <= from => break,
                        Some(_) | None => {
                            let what = format!(
                                "message {next} cannot be read any more in {}",
                                segment.path.display()
                            );
                            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                        }
                    }
                    continue;
                };
                if frame.head.lsn >= from {
                    if frame.head.lsn != lsn {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("message {lsn} is missing"),
                        ));
                    }
                    take(Piece::Frame(frame.head, frame.payload));
                    lsn += 1;
                }
                (at, next) = (at + frame.len as u64, frame.head.lsn + 1);
            }
        }
        if lsn == tail.lsn {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "messages are missing"))
        }
    }

    /// Removes the segments behind `from`, whose messages stand in it, and the indices that tell nothing any more.
    fn remove_behind(&self, from: u64) -> io::Result<()> {
        let remove = |path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        remove(index_path(&self.folder, from))?;
        for base in segment::list(&self.folder)?.into_iter().filter(|base| *base > from) {
            remove(log_path(&self.folder, base))?;
            remove(index_path(&self.folder, base))?;
        }
        Ok(())
    }
}
