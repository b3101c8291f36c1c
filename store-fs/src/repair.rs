//! Mending damage without losing anything: what the next append would mend, what a hand edited and did not seal, and
//! copies that nobody will use. Bytes that are taken away are kept beside the bus.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use run_agent_core::store::{AppendError, Damage, Mended, ReadError};
use run_agent_core::{MsgId, Store, Stream, Timestamp};

use crate::check::{CUT_SHORT, STRAY_RESCUE};
use crate::edit::{Edit, EditError, Mend};
use crate::files::{self, Bus};
use crate::os;
use crate::scan::{self, Ends, Found, Source};
use crate::store::{FsStore, FsStream};

impl FsStream {
    /// A stream without damage is not even locked.
    pub(crate) fn mend(&self) -> Result<Vec<Mended>, AppendError> {
        let before = self.check().map_err(|source| self.unreadable(source))?.damage;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        // As an append does: a torn tail is moved away, a rescue finished, a file that was cut taken as it is.
        self.with_lock(|lock, open| self.look_under_lock(lock, open).map(drop))?;
        let mut mended = self.of_the_tail(&before)?;
        mended.extend(self.seal_again()?);
        for (base, path) in files::rescues(&self.bus).map_err(|e| self.append_error("cannot be listed", e))? {
            mended.extend(self.put_rescue_away(base, &path)?);
        }
        Ok(mended)
    }

    /// What a look under the lock has mended of this damage.
    fn of_the_tail(&self, before: &[Damage]) -> Result<Vec<Mended>, AppendError> {
        let after = self.anew()?.verify().map_err(|source| self.unreadable(source))?.damage;
        let left: HashSet<(&str, &str)> = after.iter().map(|d| (d.place.as_str(), d.what.as_str())).collect();
        let gone = before.iter().filter(|d| !left.contains(&(d.place.as_str(), d.what.as_str())));
        let said = |damage: &Damage| {
            let what = if damage.what.starts_with(CUT_SHORT) {
                "goes on from where it ends"
            } else if damage.what == STRAY_RESCUE {
                "took its place in the stream"
            } else {
                "moved aside, to a file beside the bus whose name holds `.torn-`"
            };
            Mended { place: damage.place.clone(), what: what.to_owned() }
        };
        Ok(gone.map(said).collect())
    }

    /// Entries of ours in the active file that were edited by hand get their seals anew, and text that is no entry is
    /// moved aside; all bytes that are taken away are kept.
    fn seal_again(&self) -> Result<Vec<Mended>, AppendError> {
        let edit = match Edit::begin(&self.layout, &self.options, &self.key) {
            Ok(edit) => edit,
            Err(EditError::NotThere { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(self.not_edited(error)),
        };
        let Mend { bytes, sealed, stray } = edit.mend();
        if sealed.is_empty() && stray.is_empty() {
            return Ok(Vec::new());
        }
        let mut mended = Vec::new();
        let sealed =
            sealed.into_iter().map(|stretch| (stretch, "damaged", "sealed again; its old bytes are kept in"));
        let stray = stray.into_iter().map(|stretch| (stretch, "torn", "it is no entry; moved aside, to"));
        for (stretch, name, what) in sealed.chain(stray) {
            let at = stretch.start;
            let kept = self.beside(name, at as u64);
            self.keep(&kept, &edit.original()[stretch])?;
            let what = format!("{what} {}", kept.display());
            mended.push(Mended { place: format!("{} at byte {at}", self.bus.display()), what });
        }
        edit.finish(&bytes).map_err(|error| self.not_edited(error))?;
        Ok(mended)
    }

    /// A rescue file that belongs nowhere any more: one that holds nothing of its own is removed.
    fn put_rescue_away(&self, base: u64, path: &Path) -> Result<Option<Mended>, AppendError> {
        let own = |what: &str, e| self.append_error(&format!("has a rescue file that {what}"), e);
        let Ok(file) = os::open_to_read(path) else { return Ok(None) };
        let len = file.metadata().map_err(|e| own("cannot be looked at", e))?.len();
        let bus = Bus { file: Arc::new(file), path: path.to_owned(), len, base, ends: Ends::Sealed };
        let bytes = self.window(&bus, 0, usize::try_from(len).unwrap_or(usize::MAX));
        let bytes = bytes.map_err(|source| self.unreadable(source))?;
        let source = Source { key: &self.key, origin: base, ends: Ends::Sealed, legacy: None };
        let found = scan::forward(&bytes, source, usize::MAX).found;
        let stream = self.anew()?;
        let in_the_stream = |id: &MsgId| match stream.find(id) {
            Ok(_) => Ok(true),
            Err(ReadError::UnknownId { .. }) => Ok(false),
            Err(error) => Err(self.unreadable(error)),
        };
        let mut all = true;
        for found in &found {
            all &= match found {
                Found::Entry { message, .. } => in_the_stream(&message.id)?,
                Found::Damage { .. } => false,
            };
        }
        let place = path.display().to_string();
        if all {
            std::fs::remove_file(path).map_err(|e| own("cannot be removed", e))?;
            return Ok(Some(Mended { place, what: "removed: the stream holds all of it".to_owned() }));
        }
        let kept = self.beside("torn", base);
        std::fs::rename(path, &kept).map_err(|e| own("cannot be kept aside", e))?;
        Ok(Some(Mended { place, what: format!("kept aside as {}", kept.display()) }))
    }

    /// The stream as it is by now: of another incarnation, where something was mended.
    fn anew(&self) -> Result<Arc<dyn Stream>, AppendError> {
        let store = FsStore::new(self.layout.clone(), self.options.clone());
        store.open(&self.key).map_err(|e| self.append_error("is gone", io::Error::other(e)))
    }

    /// A name beside the bus for bytes that were taken from a place in it.
    fn beside(&self, what: &str, at: u64) -> PathBuf {
        let stamp = run_agent_core::text::stamp(Timestamp::now());
        self.bus.with_extension(format!("md.{what}-{stamp}-{at}"))
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), AppendError> {
        let kept = os::open(path, OpenOptions::new().write(true).create(true).truncate(true).mode(0o600));
        kept.and_then(|mut kept| kept.write_all(bytes).and_then(|()| kept.sync_data()))
            .map_err(|e| self.append_error("has a damaged entry that cannot be kept aside", e))
    }

    fn not_edited(&self, error: EditError) -> AppendError {
        let kind = match &error {
            EditError::Io { source, .. } => source.kind(),
            EditError::NotThere { .. } | EditError::Changed { .. } | EditError::LockTimeout { .. } => {
                io::ErrorKind::ResourceBusy
            }
        };
        self.append_error("cannot be sealed again", io::Error::new(kind, error.to_string()))
    }
}
