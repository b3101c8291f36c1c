//! Reading forward without a lock, by windows: what stands behind a cursor; the last N; waiting for more.

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use run_agent_core::store::{Damage, Page, ReadError};
use run_agent_core::{Cursor, Entry};

use crate::index;
use crate::os;
use crate::payload;
use crate::segment::{Segment, Walk, log_path};
use crate::store::SegmentedStream;
use crate::view::View;

/// The window of whoever wants many entries …
const WINDOW: usize = 256 * 1024;
/// … and of whoever wants few.
const SMALL_WINDOW: usize = 8 * 1024;
/// However quiet it is, a waiter looks again after so long: wake-ups may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How soon one looks for a stream that nobody has appended to, and how seldom while nothing happens.
const NAP: Duration = Duration::from_millis(5);
const NAP_MAX: Duration = Duration::from_millis(250);
/// A segment that is replaced while it is opened is looked for again.
pub(crate) const TRIES: u32 = 20;

impl SegmentedStream {
    pub(crate) fn read_from(&self, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        let Some(view) = self.view()? else { return Ok(Page { next: from, ..Page::default() }) };
        self.read_view(view, from, limit)
    }

    /// Reads what is in view; when a segment was replaced meanwhile, in the next view.
    fn read_view(&self, mut view: View, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        for _ in 0..TRIES {
            match self.read_within(&view, from, limit) {
                Err(ReadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    self.reader.lock().unwrap_or_else(PoisonError::into_inner).forget();
                    match self.view()? {
                        Some(next) => view = next,
                        None => return Ok(Page { next: from, ..Page::default() }),
                    }
                }
                other => return other,
            }
        }
        self.read_within(&view, from, limit)
    }

    pub(crate) fn read_within(&self, view: &View, from: Cursor, limit: usize) -> Result<Page, ReadError> {
        let mut page = Page { next: from, ..Page::default() };
        while page.entries.len() < limit && page.next.get() < view.tail.lsn {
            let lsn = page.next.get();
            let Some((index, until)) = view.segment_of(lsn) else {
                let first = view.bases.first().copied().unwrap_or(view.tail.lsn);
                page.skip(first, &self.folder.display().to_string(), "the segments that held it are gone");
                continue;
            };
            let base = view.bases[index];
            let place = log_path(&self.folder, base);
            let opened = self
                .open_segment(base)
                .map_err(|e| self.read_error("has a segment that cannot be opened", e))?;
            let Some(segment) = opened else {
                page.skip(
                    until,
                    &place.display().to_string(),
                    "both copies of the segment's header are damaged",
                );
                continue;
            };
            let stopped = self
                .read_segment(view, &segment, until, &mut page, limit)
                .map_err(|e| self.read_error(&format!("cannot be read in {}", place.display()), e))?;
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.stopped = stopped.map(|(lsn, offset)| (base, lsn, offset));
        }
        Ok(page)
    }

    /// Reads on in one segment, up to the message `until`. Returns where it stopped.
    fn read_segment(
        &self,
        view: &View,
        segment: &Segment,
        until: u64,
        page: &mut Page,
        limit: usize,
    ) -> io::Result<Option<(u64, u64)>> {
        let wanted = page.next.get();
        let end = view.end_of(segment.base());
        let (mut lsn, mut at) = self.begin_at(segment, wanted, end)?;
        let window = limit.saturating_mul(512).clamp(SMALL_WINDOW, WINDOW);
        let mut walk = segment.walk(end, window);
        while page.entries.len() < limit && lsn < until {
            match walk.frame_at(at)? {
                Some(frame) if frame.head.lsn == lsn && !frame.head.seal => {
                    let behind = at + frame.len as u64;
                    if lsn >= wanted {
                        let message = payload::decode(frame.payload, &view.meta.key, frame.head.ts);
                        page.take(lsn, message, || place(segment, at));
                    }
                    (lsn, at) = (lsn + 1, behind);
                }
                // A seal before its time, a frame of another place, or none.
                Some(_) | None => match next_frame(&mut walk, at, lsn, until)? {
                    Some((offset, next)) => {
                        page.skip_from(lsn.max(wanted), next, &place(segment, at), UNREADABLE);
                        (lsn, at) = (next, offset);
                    }
                    None => {
                        page.skip_from(lsn.max(wanted), until, &place(segment, at), UNREADABLE);
                        return Ok(None);
                    }
                },
            }
        }
        Ok((lsn < until || end != u64::MAX).then_some((lsn, at)))
    }

    /// Where to begin for a message: at it, or before.
    fn begin_at(&self, segment: &Segment, lsn: u64, end: u64) -> io::Result<(u64, u64)> {
        let stopped = self.reader.lock().unwrap_or_else(PoisonError::into_inner).stopped;
        if let Some((base, at_lsn, offset)) = stopped
            && base == segment.base()
            && at_lsn == lsn
            && offset <= end
        {
            return Ok((lsn, offset));
        }
        let anchors = if lsn == segment.base() { Vec::new() } else { index::read(&self.folder, segment) };
        let anchor = index::find(&anchors, segment, |anchor| anchor.lsn <= lsn && anchor.offset < end)?;
        Ok((anchor.lsn, anchor.offset))
    }

    pub(crate) fn read_last(&self, count: usize) -> Result<Page, ReadError> {
        let Some(view) = self.view()? else { return Ok(Page::default()) };
        let end = view.tail.lsn;
        let mut back = count as u64;
        loop {
            let from = end.saturating_sub(back);
            let mut page = self.read_view(view.clone(), Cursor::new(from), usize::MAX)?;
            if page.entries.len() >= count || from == 0 || back > count as u64 * 64 + 4096 {
                let surplus = page.entries.len().saturating_sub(count);
                page.entries.drain(..surplus);
                if surplus > 0 || count == 0 {
                    let first = page.entries.first().map_or(page.next, |entry| entry.at);
                    page.damage.retain(|stretch| stretch.at >= first);
                }
                return Ok(page);
            }
            // Some of them are damaged: as many are looked for before.
            back = back.saturating_mul(2);
        }
    }

    pub(crate) fn wait_for_growth(&self, cursor: Cursor, timeout: Duration) -> Result<(), ReadError> {
        let timeout = timeout.min(LOOK_AGAIN);
        let deadline = Instant::now() + timeout;
        let mut nap = NAP;
        loop {
            let control = self.control().map_err(|e| self.read_error("cannot be looked at", e))?;
            if let Some(control) = control.as_ref().filter(|control| control.is_writable()) {
                let bell = &control.page().tail_bell;
                return bell.sleep_unless(
                    || self.has_grown(cursor),
                    |epoch, seen| {
                        os::sleep_on(epoch, seen, deadline.saturating_duration_since(Instant::now()));
                    },
                );
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.has_grown(cursor)? {
                return Ok(());
            }
            // Nobody has appended since the machine was started, or the page may only be read: there is no word to sleep on.
            std::thread::sleep(nap.min(left));
            nap = (nap * 2).min(NAP_MAX);
        }
    }

    fn has_grown(&self, cursor: Cursor) -> Result<bool, ReadError> {
        Ok(self.view()?.is_some_and(|view| view.tail.lsn > cursor.get()))
    }
}

const UNREADABLE: &str = "no frame can be read here";

pub(crate) fn place(segment: &Segment, at: u64) -> String {
    format!("{} at byte {at}", segment.path.display())
}

/// The next frame behind damage that is one of the messages before `until`.
fn next_frame(walk: &mut Walk<'_>, at: u64, lsn: u64, until: u64) -> io::Result<Option<(u64, u64)>> {
    let mut from = at + 1;
    while let Some((offset, next)) = walk.next_frame(from, lsn)? {
        if next >= until {
            // A seal, or what a later segment holds.
            break;
        }
        if walk.frame_at(offset)?.is_some_and(|frame| !frame.head.seal) {
            return Ok(Some((offset, next)));
        }
        from = offset + 1;
    }
    Ok(None)
}

/// How a page is filled.
trait Fill {
    fn take(
        &mut self,
        lsn: u64,
        message: Result<run_agent_core::Message, payload::Bad>,
        place: impl FnOnce() -> String,
    );
    fn skip(&mut self, until: u64, place: &str, what: &str);
    fn skip_from(&mut self, from: u64, until: u64, place: &str, what: &str);
}

impl Fill for Page {
    fn take(
        &mut self,
        lsn: u64,
        message: Result<run_agent_core::Message, payload::Bad>,
        place: impl FnOnce() -> String,
    ) {
        let (at, next) = (Cursor::new(lsn), Cursor::new(lsn + 1));
        match message {
            Ok(message) => self.entries.push(Entry { at, next, message }),
            Err(bad) => {
                let damage = Damage { at, next, place: place(), what: bad.to_string(), shown: None };
                self.damage.push(damage);
            }
        }
        self.next = next;
    }

    fn skip(&mut self, until: u64, place: &str, what: &str) {
        self.skip_from(self.next.get(), until, place, what);
    }

    fn skip_from(&mut self, from: u64, until: u64, place: &str, what: &str) {
        if until > from {
            self.damage.push(Damage {
                at: Cursor::new(from),
                next: Cursor::new(until),
                place: place.to_owned(),
                what: what.to_owned(),
                shown: None,
            });
            self.next = Cursor::new(until);
        }
    }
}
