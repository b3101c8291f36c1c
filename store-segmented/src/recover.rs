//! Recovery, under the append lock: finds where the stream ends when no page tells, keeps what proves nothing for people,
//! and puts a new page into place. Whatever step it is killed at, doing it again comes to the same.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use run_agent_core::store::AppendError;
use run_agent_core::{Timestamp, text};

use crate::block::Meta;
use crate::control::{self, Control};
use crate::frame;
use crate::look::read_meta;
use crate::os;
use crate::page::{Ends, Page, Tail};
use crate::rotate::{new_header, write_seal};
use crate::segment::{self, FIRST, Segment, log_path, read_at};
use crate::store::SegmentedStream;
use crate::survey::{End, Survey, survey};

/// Where a segment ends at the latest whose header says nothing any more, so that none of its messages can be read: their
/// numbers are not given again, and the time is not before theirs. `None` for one that was never synced.
pub(crate) fn lost(folder: &Path, base: u64) -> io::Result<Option<Tail>> {
    let file = os::open_to_read(&log_path(folder, base))?;
    let mut header = [0; FIRST as usize];
    read_at(&file, &mut header, 0)?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let most = os::len(&file)?.saturating_sub(FIRST) / frame::HEADER as u64;
    let written = file.metadata()?.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
    Ok(Some(Tail {
        base,
        offset: FIRST,
        lsn: base + most.max(1),
        ts: written.unwrap_or(Timestamp::UNIX_EPOCH),
    }))
}

impl SegmentedStream {
    /// `page`: one of this start of the machine whose set of segments was being changed.
    pub(crate) fn recover(&self, page: Option<&Control>) -> Result<Arc<Control>, AppendError> {
        let kind = os::unfit(&self.folder)
            .map_err(|e| self.append_error("has a file system that cannot be looked at", e))?;
        if let Some(kind) = kind {
            let what = format!(
                "lies on {kind}, where programs on several machines cannot share a stream; use a local disk, or `storage.backend = \"fs\"`"
            );
            return Err(self.append_error(&what, io::ErrorKind::Unsupported.into()));
        }
        let control = self
            .recover_held(page.map(Control::page))
            .map_err(|e| self.append_error("cannot be recovered", e))?;
        let control = Arc::new(control);
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).forget();
        self.forget_active();
        Ok(control)
    }

    fn recover_held(&self, page: Option<&Page>) -> io::Result<Control> {
        let bases = segment::list(&self.folder)?;
        let last = bases.last().map(|base| self.last_segment(&bases, *base)).transpose()?;
        let incarnation = self.recover_meta(last.as_ref().and_then(|(segment, _)| segment.as_ref()), page)?;
        // What the page says was appended is not given again, whatever became of its segment.
        let known = page.and_then(Page::tail);
        let (tail, found) = match last {
            None => {
                let ts = known.map_or(Timestamp::UNIX_EPOCH, |tail| tail.ts);
                let lsn = known.map_or(0, |tail| tail.lsn);
                (self.new_segment(&Tail { base: lsn, offset: FIRST, lsn, ts }, incarnation)?, None)
            }
            Some((segment, found)) => {
                // Where a segment cannot be read, the page alone knows how many messages it had.
                let found = match known {
                    Some(known) if segment.is_none() && found.end == End::Sealed => {
                        Survey { lsn: known.lsn, ..found }
                    }
                    Some(_) | None => found,
                };
                let tail = self.end_of_last(segment.as_ref(), &bases, &found, known, incarnation)?;
                (tail, Some(found))
            }
        };
        let (mut synced, mut doubt) = match found {
            // Everything that was read came from the disk, and was synced once more.
            Some(found) if !found.rebooted || page.is_some() => {
                let base = bases.last().copied().unwrap_or(0);
                let synced =
                    page.map_or(0, |page| page.syncs.synced()).max(found.durable).max(base).min(tail.lsn);
                (synced, synced < tail.lsn)
            }
            Some(_) | None => (tail.lsn, false),
        };
        let mut tail = tail;
        if doubt && found.is_some_and(|found| found.holed > synced) {
            // What is to be written again when somebody wants it synced cannot be: it is now, around the damage.
            tail = self.write_around(&tail, synced, incarnation)?;
            (synced, doubt) = (tail.lsn, false);
        }
        let poison = page.map_or(0, |page| page.poison.load(Relaxed));
        let generation = os::random()?;
        control::make(&self.folder, incarnation, &tail, synced, |new| {
            // What somebody opened by the page that was there before is never taken for what this one tells of.
            new.generation.store(generation, Relaxed);
            if doubt {
                // It is not known whether a sync of it failed: who wants it synced writes it again.
                new.syncs.set_syncing(synced, tail.lsn);
            }
            new.poison.store(poison, Relaxed);
        })
    }

    /// The last segment and where it ends. Without a header nothing in it can be told from what another one left.
    fn last_segment(&self, bases: &[u64], base: u64) -> io::Result<(Option<Segment>, Survey)> {
        if let Some(segment) = Segment::open(&self.folder, base, true)? {
            let found = survey(&segment)?;
            return Ok((Some(segment), found));
        }
        if let Some(lost) = lost(&self.folder, base)? {
            let Tail { offset, lsn, ts, .. } = lost;
            let end = End::Sealed;
            return Ok((None, Survey { offset, lsn, ts, durable: lsn, rebooted: true, end, holed: 0 }));
        }
        // It was made and never synced before the power went: nothing in it was.
        let file = os::open_to_read(&log_path(&self.folder, base))?;
        let before = bases.iter().rev().find(|earlier| **earlier < base);
        let ts = match before.map(|base| Segment::open(&self.folder, *base, false)).transpose()?.flatten() {
            Some(before) => survey(&before)?.ts,
            None => Timestamp::UNIX_EPOCH,
        };
        let last = os::len(&file)?.saturating_sub(1);
        let end = End::Cut { last };
        Ok((None, Survey { offset: FIRST, lsn: base, ts, durable: 0, rebooted: true, end, holed: 0 }))
    }

    /// `META` is written once; where it is lost, it is written again from what the segments say.
    fn recover_meta(&self, last: Option<&Segment>, page: Option<&Page>) -> io::Result<u64> {
        if let Some(meta) = read_meta(&self.folder)? {
            return Ok(meta.incarnation);
        }
        let known = last.map(|segment| segment.header.incarnation);
        let known = known.or_else(|| page.map(|page| page.incarnation.load(Relaxed)));
        let now = || u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(1).max(1);
        let meta = Meta { incarnation: known.unwrap_or_else(now), key: self.key.clone() };
        let new = self.folder.join("META.new");
        let file = os::create_new(&new)?;
        file.write_all_at(&meta.encode(), 0)?;
        file.sync_all()?;
        std::fs::rename(&new, self.folder.join("META"))?;
        os::sync_folder(&self.folder)?;
        self.folder.parent().map_or(Ok(()), os::sync_folder)?;
        Ok(meta.incarnation)
    }

    /// Where the stream goes on.
    fn end_of_last(
        &self,
        segment: Option<&Segment>,
        bases: &[u64],
        found: &Survey,
        known: Option<Tail>,
        incarnation: u64,
    ) -> io::Result<Tail> {
        let base = bases.last().copied().unwrap_or(0);
        let at = Tail { base, offset: found.offset, lsn: found.lsn, ts: found.ts };
        if let End::Cut { last } = found.end {
            self.preserve(base, found.offset, last)?;
        }
        let missing = known.filter(|known| known.lsn > at.lsn);
        let goes_on = found.end == End::Clean && missing.is_none();
        if let Some(segment) = segment {
            if !goes_on && found.end != End::Sealed && at.lsn > base {
                write_seal(segment, &at, found.durable)?;
            }
            if !goes_on || found.rebooted {
                segment.file.sync_data()?;
            }
        }
        if goes_on {
            return Ok(at);
        }
        let (lsn, ts) = missing.map_or((at.lsn, at.ts), |known| (known.lsn, known.ts.max(at.ts)));
        self.new_segment(&Tail { base: lsn, offset: FIRST, lsn, ts }, incarnation)
    }

    /// Begins an empty segment, in the place of one with the same base of which nothing is left.
    fn new_segment(&self, tail: &Tail, incarnation: u64) -> io::Result<Tail> {
        let made = Segment::make(&self.folder, new_header(tail.base, incarnation, tail)?, &[])?;
        made.link()?;
        match std::fs::remove_file(segment::index_path(&self.folder, tail.base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        os::sync_folder(&self.folder)?;
        Ok(*tail)
    }

    /// Keeps the bytes of a segment from `from` to `last`, for people.
    fn preserve(&self, base: u64, from: u64, last: u64) -> io::Result<()> {
        let path = log_path(&self.folder, base);
        let mut bytes = vec![0; usize::try_from(last + 1 - from.min(last + 1)).unwrap_or(0)];
        let have = read_at(&os::open_to_read(&path)?, &mut bytes, from)?;
        bytes.truncate(have);
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let name = format!("log.torn-{}-{from}", text::stamp(Timestamp::now()));
        let file = os::create_new(&path.with_extension(name))?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()
    }
}
