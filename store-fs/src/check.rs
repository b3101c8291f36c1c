//! Reading and checking everything: what `store verify` tells.

use run_agent_core::Cursor;
use run_agent_core::store::{Damage, ReadError, Report};

use crate::store::FsStream;

impl FsStream {
    pub(crate) fn check(&self) -> Result<Report, ReadError> {
        let mut report = Report::default();
        let mut from = Cursor::START;
        loop {
            let page = self.read_from(from, 4096)?;
            report.entries += page.entries.len() as u64;
            report.damage.extend(page.damage);
            if page.next == from {
                break;
            }
            from = page.next;
        }
        if let Some(bus) = self.open_active()?
            && bus.end() > from.get()
            // What was appended in the meantime is no damage.
            && self.read_from(from, 1)?.is_empty()
        {
            report.damage.push(Damage {
                at: from,
                next: Cursor::new(bus.end()),
                place: format!("{} at byte {}", bus.path.display(), from.get().saturating_sub(bus.base)),
                what: "an entry that is not complete".to_owned(),
                shown: None,
            });
        }
        if report.damage.is_empty()
            && self.peek()?.refused
            && let Err(error) = self.take_up_again()
        {
            report.damage.push(Damage {
                at: from,
                next: from,
                place: self.bus.display().to_string(),
                what: error.to_string(),
                shown: None,
            });
        }
        Ok(report)
    }
}
