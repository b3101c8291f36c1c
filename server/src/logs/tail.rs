//! One file of a run on its way to one client. An id is `<offset>@<file>`: the byte behind what was told, and which file
//! that was.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::file::{Fault, Reading};
use super::told::Teller;
use super::{Name, PIECE_BYTES, Step};
use crate::live::Live;
use crate::sse;

#[derive(Debug)]
pub(super) struct Tail {
    name: Name,
    file: String,
    path: PathBuf,
    reading: Reading,
    /// The client named a place that is none.
    lost: bool,
}

/// Where a client was. Without a file it is some file of that name.
fn place(id: &str) -> Option<(u64, Option<u64>)> {
    let Some((at, which)) = id.split_once('@') else { return Some((id.parse().ok()?, None)) };
    Some((at.parse().ok()?, Some(u64::from_str_radix(which, 16).ok()?)))
}

impl Tail {
    pub(super) fn new(name: Name, file: &str, path: PathBuf, last: Option<&str>) -> Self {
        let at = last.map(place);
        let lost = at == Some(None);
        let mut reading = Reading::new(path.clone());
        (reading.at, reading.which) = at.flatten().unwrap_or_default();
        Self { name, file: file.to_owned(), path, reading, lost }
    }

    fn begin_anew(&mut self, text: &mut String) {
        self.reading = Reading::new(self.path.clone());
        sse::event(text, "reset", None, r#"{"why":"the file is not what it was; all of it follows"}"#);
    }

    /// True: there is no more of it. Nothing when it is not there.
    fn read(&mut self, live: &Live, ended: bool, text: &mut String) -> Result<Option<bool>, Fault> {
        let Some(file) = self.reading.open(&*live.work)? else { return Ok(None) };
        let which = self.reading.which.unwrap_or_default();
        let read = self.reading.read(&file, u64::MAX, ended, |reading, piece| {
            let line = String::from_utf8_lossy(piece.text);
            let _ = writeln!(text, "id: {}@{which:x}", reading.at);
            // A carriage return ends a line of an event as well as a line feed does.
            for part in line.split('\r') {
                let _ = writeln!(text, "data: {part}");
            }
            text.push('\n');
            text.len() < PIECE_BYTES
        });
        Ok(Some(read?))
    }

    fn failed(&self, text: &mut String, message: String) {
        let data = serde_json::json!({ "name": self.file, "message": message });
        sse::event(text, "error", None, &data.to_string());
    }
}

impl Teller for Tail {
    fn next(&mut self, live: &Live) -> Step {
        let mut text = String::new();
        if std::mem::take(&mut self.lost) {
            self.begin_anew(&mut text);
        }
        // Before the file is looked at: what was printed before the run's end is there then.
        let is_active = {
            let state = live.state();
            let task = state.task(&self.name.project, &self.name.task);
            task.and_then(|task| task.runs.get(&self.name.run)).map(run_agent_core::world::Run::is_active)
        };
        let Some(is_active) = is_active else {
            sse::event(&mut text, "done", None, r#"{"why":"it was deleted"}"#);
            return Step::Last(text);
        };
        match self.read(live, !is_active, &mut text) {
            Ok(Some(true)) if !is_active => {
                sse::event(&mut text, "done", None, "{}");
                Step::Last(text)
            }
            Ok(None) if !is_active => {
                self.failed(&mut text, format!("there is no {}", self.file));
                Step::Last(text)
            }
            Ok(_) if text.is_empty() => Step::Wait(None),
            Ok(_) => Step::Text(text),
            Err(Fault::Replaced) => {
                self.begin_anew(&mut text);
                Step::Text(text)
            }
            Err(Fault::Unread(error)) => {
                self.failed(&mut text, format!("{} cannot be read: {error}", self.file));
                Step::Last(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_file_is_an_offset_and_which_file_it_was() {
        assert_eq!(place("12"), Some((12, None)));
        assert_eq!(place("12@ff"), Some((12, Some(255))));
        for none in ["", "x", "-1", "1@", "1@x", "s=1;e=2"] {
            assert_eq!(place(none), None, "{none}");
        }
    }
}
