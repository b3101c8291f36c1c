//! What of a stream there is at one moment: its end, its segments, and the ones that this handle has open. No lock of a
//! writer is taken for it.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use run_agent_core::store::ReadError;

use crate::block::{META_LEN, Meta};
use crate::control::{self, Control};
use crate::os;
use crate::page::{Ends, Set, Tail};
use crate::recover::lost;
use crate::segment::{self, FIRST, Segment};
use crate::store::SegmentedStream;
use crate::survey;
use crate::view::View;

/// Segments that a handle keeps open for reading.
const OPEN_MAX: usize = 4;
/// A set of segments that changes while it is looked at is looked at again.
const TRIES: u32 = 50;

/// What a handle keeps between two looks.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// What the rest belongs to.
    of: Option<Set>,
    bases: Arc<[u64]>,
    open: Vec<Arc<Segment>>,
    /// Where somebody stopped reading: segment, message and offset.
    pub(crate) stopped: Option<(u64, u64, u64)>,
    /// What a search found while there was no page; of the segment with this base, length and change time.
    searched: Option<((u64, u64, i128), Tail)>,
}

impl SegmentedStream {
    /// The page, if it holds and is in its place.
    pub(crate) fn control(&self) -> io::Result<Option<Arc<Control>>> {
        let mut known = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(control) = &*known
            && control.is_in_place()?
        {
            return Ok(Some(control.clone()));
        }
        os::no_link(&self.folder)?;
        *known = control::open(&self.folder)?.map(Arc::new);
        Ok(known.clone())
    }

    /// `None` for a stream that nobody has appended to.
    pub(crate) fn view(&self) -> Result<Option<View>, ReadError> {
        let cannot = |error| self.read_error("cannot be looked at", error);
        for _ in 0..TRIES {
            let found = match self.control().map_err(cannot)? {
                Some(control) => self.view_by(&control).map(|view| view.map(Some)).transpose(),
                None => Some(self.view_by_search()),
            };
            match found {
                // A segment was removed while it was looked at, since its messages stand in another one.
                Some(Err(ReadError::Io { source, .. })) if source.kind() == io::ErrorKind::NotFound => {}
                Some(Ok(view)) => return Ok(view),
                Some(Err(error)) => return Err(error),
                None => {}
            }
            std::thread::yield_now();
        }
        // Who changes the set of segments has stopped or died in it, and nobody appends. If it went on meanwhile, frames may
        // have been found that nobody published: then the page tells.
        let found = self.view_by_search()?;
        let control = self.control().map_err(cannot)?;
        let by_page = control.as_ref().map(|control| self.view_by(control)).transpose();
        let known = control.and_then(|control| control.page().tail());
        Ok(by_page.ok().flatten().flatten().or(found.map(|found| match known {
            // Messages that were appended are in no segment any more: they are damage, and not passed over.
            Some(tail) if tail.lsn > found.tail.lsn => View { tail, ..found },
            Some(_) | None => found,
        })))
    }

    /// `None` while the set of segments changes.
    fn view_by(&self, control: &Control) -> Result<Option<View>, ReadError> {
        let page = control.page();
        let incarnation = page.incarnation.load(Relaxed);
        let found = page.look(|set| self.bases(set))?;
        let Some((bases, tail)) = found else {
            // What was listed may be older than the generation it was listed for.
            self.reader.lock().unwrap_or_else(PoisonError::into_inner).of = None;
            return Ok(None);
        };
        let meta = self.meta(incarnation)?;
        self.adopt(incarnation)?;
        Ok(Some(View { tail, bases, meta }))
    }

    fn bases(&self, of: Set) -> Result<Arc<[u64]>, ReadError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.of != Some(of) {
            let bases = segment::list(&self.folder).map_err(|e| self.read_error("cannot be listed", e))?;
            *reader = Reader { of: Some(of), bases: bases.into(), ..Reader::default() };
        }
        Ok(reader.bases.clone())
    }

    /// A handle that was opened before the stream had an incarnation takes its first one.
    pub(crate) fn adopt(&self, incarnation: u64) -> Result<(), ReadError> {
        match self.incarnation.compare_exchange(0, incarnation, Relaxed, Relaxed) {
            Ok(_) => Ok(()),
            Err(had) if had == incarnation => Ok(()),
            Err(had) => Err(ReadError::Incarnation { key: self.key.clone(), had, now: incarnation }),
        }
    }

    /// What the stream is. Where `META` is lost, what its other files and its place say.
    pub(crate) fn meta(&self, incarnation: u64) -> Result<Arc<Meta>, ReadError> {
        let mut known = self.meta.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meta) = &*known
            && meta.incarnation == incarnation
        {
            return Ok(meta.clone());
        }
        let read =
            read_meta(&self.folder).map_err(|e| self.read_error("has a META that cannot be read", e))?;
        let meta = read.filter(|meta| meta.incarnation == incarnation);
        let meta = Arc::new(meta.unwrap_or_else(|| Meta { incarnation, key: self.key.clone() }));
        *known = Some(meta.clone());
        Ok(meta)
    }

    /// No page holds: after a start of the machine, or when somebody deleted it. The end is searched for.
    fn view_by_search(&self) -> Result<Option<View>, ReadError> {
        let cannot = |error| self.read_error("cannot be searched for its end", error);
        let bases: Arc<[u64]> = segment::list(&self.folder).map_err(cannot)?.into();
        let Some(base) = bases.last().copied() else {
            if !self.folder.parent().is_some_and(Path::is_dir) {
                let place = self.folder.parent().unwrap_or(&self.folder).display().to_string();
                return Err(ReadError::Gone { key: self.key.clone(), place });
            }
            return Ok(None);
        };
        let (tail, incarnation) = match Segment::open(&self.folder, base, false).map_err(cannot)? {
            Some(segment) => {
                let incarnation = segment.header.incarnation;
                (self.searched(&segment).map_err(cannot)?, incarnation)
            }
            // Nothing in it can be read. Recovery begins another one behind it.
            None => {
                let meta = read_meta(&self.folder).map_err(cannot)?;
                let never =
                    Tail { base, offset: FIRST, lsn: base, ts: run_agent_core::Timestamp::UNIX_EPOCH };
                let tail = lost(&self.folder, base).map_err(cannot)?.unwrap_or(never);
                (tail, meta.map_or(1, |meta| meta.incarnation))
            }
        };
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).of = None;
        self.adopt(incarnation)?;
        Ok(Some(View { tail, bases, meta: self.meta(incarnation)? }))
    }

    fn searched(&self, segment: &Segment) -> io::Result<Tail> {
        let state = (segment.base(), segment.len()?, os::changed(&segment.file)?);
        let known = self.reader.lock().unwrap_or_else(PoisonError::into_inner).searched;
        if let Some((of, tail)) = known
            && of == state
        {
            return Ok(tail);
        }
        let found = survey::survey(segment)?;
        let tail = Tail { base: segment.base(), offset: found.offset, lsn: found.lsn, ts: found.ts };
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).searched = Some((state, tail));
        Ok(tail)
    }

    /// A segment for reading. `None` when its header is damaged.
    pub(crate) fn open_segment(&self, base: u64) -> io::Result<Option<Arc<Segment>>> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = reader.open.iter().find(|segment| segment.base() == base) {
            return Ok(Some(known.clone()));
        }
        let Some(segment) = Segment::open(&self.folder, base, false)?.map(Arc::new) else { return Ok(None) };
        // Kept only for the set of segments that it was opened for.
        if reader.of.is_some() {
            if reader.open.len() >= OPEN_MAX {
                reader.open.remove(0);
            }
            reader.open.push(segment.clone());
        }
        Ok(Some(segment))
    }
}

pub(crate) fn read_meta(folder: &Path) -> io::Result<Option<Meta>> {
    match os::read(&folder.join("META"), META_LEN) {
        Ok(bytes) => Ok(Meta::decode(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Reader {
    /// Looks at everything anew.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}
