//! One run on its way to one client: its status, its lines, and its status again when all lines were told.

use std::time::Duration;

use run_agent_core::output::Source;
use run_agent_core::world::{Run, RunStatus};
use run_agent_core::{RunId, Timestamp};
use serde::Serialize;

use super::file::Fault;
use super::merged::{Came, Line, Merged, UNMARKED};
use super::place::At;
use super::told::Teller;
use super::{Name, PIECE_BYTES, Step};
use crate::live::Live;
use crate::sse;

/// A run that is not known at a moment may be known so soon.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is told of one run.
#[derive(Debug)]
pub(super) struct RunLog {
    name: Name,
    reader: Merged,
    /// The status that was told last.
    status: Option<RunStatus>,
}

/// How far telling came.
#[derive(Debug)]
pub(super) enum Went {
    /// There may be more at once.
    On,
    /// Everything was told that there is; there may be more after so much time.
    UpToNow(Option<Duration>),
    ToTheEnd,
    /// The run was deleted.
    Gone,
    /// Its output cannot be read.
    Failed,
}

/// What is known of the run now.
#[derive(Debug, Clone, Copy)]
struct Known {
    status: RunStatus,
    exit_code: i32,
    began: Timestamp,
    ended: Option<Timestamp>,
}

#[derive(Serialize)]
struct Log<'a> {
    run_id: &'a RunId,
    project_id: &'a str,
    task_id: &'a str,
    stream: &'static str,
    line: &'a str,
    timestamp: Timestamp,
    /// The line goes on in the next event of this stream of this run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

impl Known {
    fn new(run: &Run) -> Self {
        Self {
            status: run.status(),
            exit_code: run.end().and_then(|(end, _)| end.exit_code).unwrap_or(-1),
            began: run.started().unwrap_or(run.made),
            ended: run.end().map(|(_, at)| at),
        }
    }

    /// When a line was printed, as well as that is known.
    fn time(&self, ms: Option<u64>) -> Timestamp {
        let marked = ms.and_then(|ms| self.began.checked_add(Duration::from_millis(ms)).ok());
        marked.or(self.ended).unwrap_or_else(Timestamp::now)
    }
}

impl RunLog {
    pub(super) fn new(live: &Live, name: Name, from: At) -> Self {
        let reader = Merged::new(&name.paths(live), from);
        Self { name, reader, status: None }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn at(&self) -> At {
        self.reader.at()
    }

    /// Tells some of what there is. `id` makes an event's id of how far the run was told with it.
    pub(super) fn tell(&mut self, live: &Live, text: &mut String, id: &dyn Fn(At) -> String) -> Went {
        // Before its output is looked at: what it printed before its end is there then.
        let known = {
            let state = live.state();
            let task = state.task(&self.name.project, &self.name.task);
            task.and_then(|task| task.runs.get(&self.name.run)).map(Known::new)
        };
        let Some(known) = known else {
            // A stream that is folded anew does not know its runs for moments.
            let is_there = self.name.paths(live).folder().symlink_metadata().is_ok();
            return if is_there { Went::UpToNow(Some(LOOK_AGAIN)) } else { Went::Gone };
        };
        let ended = !known.status.is_active();
        // An end is told of behind the last line, and at the beginning.
        if self.status != Some(known.status) && (!ended || self.status.is_none()) {
            self.tell_status(text, &known, &id(self.at()));
        }
        let (name, mut json) = (&self.name, Vec::new());
        let read = self.reader.read(&*live.work, ended, |line| {
            tell_line(text, &mut json, name, &known, &id(line.at), &line);
            text.len() < PIECE_BYTES
        });
        match read {
            Ok(Came::NotFar) => Went::On,
            Ok(Came::UpToNow { waits }) => Went::UpToNow(waits.then_some(UNMARKED)),
            Ok(Came::ToTheEnd) => {
                self.tell_status(text, &known, &id(self.at()));
                Went::ToTheEnd
            }
            Err(Fault::Replaced) => {
                self.begin_anew(live, text, "the run's output is not what it was; all of it follows");
                Went::On
            }
            Err(Fault::Unread(error)) => {
                let message = format!("the output of run {} cannot be read: {error}", self.name.run);
                self.event(text, "error", None, serde_json::json!({ "message": message }));
                Went::Failed
            }
        }
    }

    /// What the client has may not be what is: it is told so, and gets everything.
    pub(super) fn begin_anew(&mut self, live: &Live, text: &mut String, why: &str) {
        self.event(text, "reset", None, serde_json::json!({ "why": why }));
        *self = Self::new(live, self.name.clone(), At::default());
    }

    fn tell_status(&mut self, text: &mut String, known: &Known, id: &str) {
        self.status = Some(known.status);
        let data = serde_json::json!({ "status": known.status, "exit_code": known.exit_code });
        self.event(text, "status", Some(id), data);
    }

    fn event(&self, text: &mut String, event: &str, id: Option<&str>, mut data: serde_json::Value) {
        data["run_id"] = self.name.run.as_str().into();
        data["project_id"] = self.name.project.as_str().into();
        data["task_id"] = self.name.task.as_str().into();
        sse::event(text, event, id, &data.to_string());
    }
}

fn tell_line(text: &mut String, json: &mut Vec<u8>, name: &Name, known: &Known, id: &str, line: &Line<'_>) {
    let log = Log {
        run_id: &name.run,
        project_id: name.project.as_str(),
        task_id: name.task.as_str(),
        stream: match line.source {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        },
        line: &String::from_utf8_lossy(line.text),
        timestamp: known.time(line.ms),
        continues: line.goes_on,
    };
    json.clear();
    // Nothing of it can fail to be written.
    let _ = serde_json::to_writer(&mut *json, &log);
    sse::event(text, "log", Some(id), std::str::from_utf8(json).unwrap_or_default());
}

/// A client that follows one run.
#[derive(Debug)]
pub(super) struct OneRun {
    log: RunLog,
    /// It named a place that is none.
    lost: bool,
}

impl OneRun {
    pub(super) fn new(live: &Live, name: Name, last: Option<&str>) -> Self {
        let at = last.map(At::parse);
        let lost = at == Some(None);
        Self { log: RunLog::new(live, name, at.flatten().unwrap_or_default()), lost }
    }
}

impl Teller for OneRun {
    fn next(&mut self, live: &Live) -> Step {
        let mut text = String::new();
        if std::mem::take(&mut self.lost) {
            self.log.begin_anew(live, &mut text, "the last id is not known; the whole output follows");
        }
        let went = self.log.tell(live, &mut text, &|at| at.to_string());
        match went {
            Went::On => Step::Text(text),
            Went::UpToNow(again) if text.is_empty() => Step::Wait(again),
            Went::UpToNow(_) => Step::Text(text),
            Went::ToTheEnd => {
                self.log.event(&mut text, "done", None, serde_json::json!({}));
                Step::Last(text)
            }
            Went::Gone => {
                let why = serde_json::json!({ "why": "it was deleted" });
                self.log.event(&mut text, "done", None, why);
                Step::Last(text)
            }
            Went::Failed => Step::Last(text),
        }
    }
}
