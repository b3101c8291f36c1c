//! What of a stream there is at one moment: its end, its segments, and the ones that this handle has open. No lock of a
//! writer is taken for it.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use run_agent_core::store::ReadError;

use crate::block::Meta;
use crate::control::{self, Control};
use crate::os;
use crate::page::{Ends, Tail};
use crate::segment::{self, FIRST, Segment};
use crate::store::SegmentedStream;
use crate::survey;

/// Segments that a handle keeps open for reading.
const OPEN_MAX: usize = 4;
/// A set of segments that changes while it is looked at is looked at again.
const TRIES: u32 = 50;

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

/// What a handle keeps between two looks.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The incarnation and generation that the rest belongs to.
    of: (u64, u64),
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
        // Who changes the set of segments has stopped or died in it.
        self.view_by_search()
    }

    /// `None` while the set of segments changes.
    fn view_by(&self, control: &Control) -> Result<Option<View>, ReadError> {
        let page = control.page();
        let (incarnation, generation) = (page.incarnation.load(Relaxed), page.generation.load(Relaxed));
        let bases = self.bases((incarnation, generation))?;
        let Some(tail) = page.tail() else { return Ok(None) };
        if page.generation.load(Relaxed) != generation || bases.binary_search(&tail.base).is_err() {
            // What was listed may be older than the generation it was listed for.
            self.reader.lock().unwrap_or_else(PoisonError::into_inner).of = (0, 0);
            return Ok(None);
        }
        let meta = self.meta(incarnation)?;
        self.adopt(incarnation)?;
        Ok(Some(View { tail, bases, meta }))
    }

    fn bases(&self, of: (u64, u64)) -> Result<Arc<[u64]>, ReadError> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.of != of {
            let bases = segment::list(&self.folder).map_err(|e| self.read_error("cannot be listed", e))?;
            *reader = Reader { of, bases: bases.into(), ..Reader::default() };
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
            // Nothing in it can be read; recovery looks into that.
            None => {
                let meta = read_meta(&self.folder).map_err(cannot)?;
                let tail = Tail { base, offset: FIRST, lsn: base, ts: run_agent_core::Timestamp::UNIX_EPOCH };
                (tail, meta.map_or(1, |meta| meta.incarnation))
            }
        };
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).of = (0, 0);
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
        if reader.of != (0, 0) {
            if reader.open.len() >= OPEN_MAX {
                reader.open.remove(0);
            }
            reader.open.push(segment.clone());
        }
        Ok(Some(segment))
    }
}

pub(crate) fn read_meta(folder: &Path) -> io::Result<Option<Meta>> {
    match std::fs::read(folder.join("META")) {
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
