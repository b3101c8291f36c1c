//! Reading and checking everything: what `store verify` tells.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use run_agent_core::Cursor;
use run_agent_core::store::{AppendError, Damage, ReadError, Report};

use crate::block::{HEADER_LEN, Header};
use crate::os;
use crate::page::{Ends, Tail};
use crate::read::TRIES;
use crate::segment::{Segment, log_path, read_at};
use crate::store::SegmentedStream;
use crate::survey::{End, survey};

/// Entries that are read at once: a bound on memory.
const PAGE_ENTRIES: usize = 1024;

impl SegmentedStream {
    pub(crate) fn check(&self) -> Result<Report, ReadError> {
        let mut report = Report::default();
        let mut from = Cursor::START;
        loop {
            let page = self.read_from(from, PAGE_ENTRIES)?;
            report.entries += page.entries.len() as u64;
            report.damage.extend(page.damage);
            if page.next == from {
                break;
            }
            from = page.next;
        }
        if let Err(error) = self.take_up_again() {
            let place = self.folder.display().to_string();
            let what = format!("it still takes no messages after a failed sync: {error}");
            report.damage.push(Damage { at: from, next: from, place, what, shown: None });
        }
        let found = self.check_files(from).map_err(|e| self.read_error("cannot be listed", e))?;
        report.damage.extend(found);
        Ok(report)
    }

    /// Looks at the files of what is in view; when a segment was replaced meanwhile, at those of the next view.
    fn check_files(&self, end: Cursor) -> io::Result<Vec<Damage>> {
        for _ in 0..TRIES {
            match self.check_in_view(end) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.reader.lock().unwrap_or_else(PoisonError::into_inner).forget();
                }
                other => return other,
            }
        }
        self.check_in_view(end)
    }

    /// What costs no message: damaged copies of headers, and what recovery cut off.
    fn check_in_view(&self, end: Cursor) -> io::Result<Vec<Damage>> {
        let mut found = Vec::new();
        let control = self.control()?;
        let Some(view) = self.view().map_err(io::Error::other)? else {
            let known = control.and_then(|control| control.page().tail()).filter(|tail| tail.lsn > 0);
            found.extend(known.map(|tail| Damage {
                at: Cursor::START,
                next: Cursor::new(tail.lsn),
                place: self.folder.display().to_string(),
                what: "all segments are gone, and with them what was appended".to_owned(),
                shown: None,
            }));
            return Ok(found);
        };
        let mut note = |cursor: u64, place: String, what: &str| {
            let at = Cursor::new(cursor);
            found.push(Damage { at, next: at, place, what: what.to_owned(), shown: None });
        };
        for base in view.bases.iter() {
            let path = log_path(&self.folder, *base);
            let mut bytes = [0; HEADER_LEN];
            let have = read_at(&os::open_to_read(&path)?, &mut bytes, 0)?;
            if Header::damaged_copies(&bytes[..have]) == 1 {
                note(*base, path.display().to_string(), "one of the two copies of its header is damaged");
            }
        }
        // What the next append sets aside is told before it does.
        if control.is_none()
            && let Some(segment) =
                view.bases.last().map(|base| Segment::open(&self.folder, *base, false)).transpose()?.flatten()
            && let End::Cut { .. } = survey(&segment)?.end
        {
            let place = format!("{} at byte {}", segment.path.display(), view.tail.offset);
            note(
                view.tail.lsn,
                place,
                "bytes behind the last message that belong to none as far as can be known; the next append sets them aside",
            );
        }
        for name in std::fs::read_dir(&self.folder)? {
            let path = name?.path();
            if path.to_string_lossy().contains(".log.torn-") {
                let what = "bytes that were cut off when the stream was recovered: not acknowledged as durable, as far as can be known";
                note(end.get(), path.display().to_string(), what);
            }
        }
        Ok(found)
    }

    /// Writes again what could not be, and takes messages again if that works now.
    fn take_up_again(&self) -> Result<(), AppendError> {
        let Ok(Some(control)) = self.control() else { return Ok(()) };
        if control.page().poison.load(Relaxed) == 0 || !control.is_writable() {
            return Ok(());
        }
        self.with_bare_lock(|_| {
            let page = control.page();
            if page.poison.load(Relaxed) == 0 {
                return Ok(());
            }
            let tail: Tail = self.tail_held(page)?;
            self.write_again(page, &tail, page.syncs.doubtful_from().min(tail.lsn))
                .map_err(|e| self.append_error("still cannot be written again", e))?;
            page.poison.store(0, SeqCst);
            Ok(())
        })
    }
}
