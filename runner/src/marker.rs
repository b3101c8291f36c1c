//! The DONE marker and what the stream tells of it: whoever looks and finds them apart says so, exactly once.
//!
//! `run-agent done` makes the file before its event, so whoever waits for the file may be first to post. The file
//! says who made it: the event names the same, whoever posts it.

use std::io::Read;

use run_agent_core::cause::Cause;
use run_agent_core::decide::{self, Refusal};
use run_agent_core::event::Event;
use run_agent_core::layout::DONE;
use run_agent_core::world::{Marker, Task};
use run_agent_core::{Draft, RunId};

use crate::tree::Tree;
use crate::view::{TaskView, ViewError};

/// How the line begins with which a DONE of `run-agent done` says who made it.
const BY_RUN: &str = "said by run ";
const BY_USER: &str = "said by user ";
/// More than a line about somebody: the rest of a file that a hand made is not read.
const LINE_MAX: u64 = 512;

/// Who says that the task is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sayer {
    Run(RunId),
    User(String),
    /// A file that says nothing about it: a hand, or another tool.
    File,
}

impl Sayer {
    /// What the marker's file says.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Run(run) => format!("{BY_RUN}{run}\n"),
            Self::User(name) => format!("{BY_USER}{}\n", name.replace(['\r', '\n'], " ")),
            Self::File => String::new(),
        }
    }

    fn read(tree: &Tree, view: &TaskView) -> Self {
        let mut text = String::new();
        let file = tree.open(&tree.task(&view.name).done());
        let read = file.and_then(|file| file.take(LINE_MAX).read_to_string(&mut text));
        let line = text.lines().next().filter(|_| read.is_ok()).unwrap_or_default();
        if let Some(name) = line.strip_prefix(BY_USER) {
            return Self::User(name.to_owned());
        }
        let run = line.strip_prefix(BY_RUN).and_then(|run| RunId::parse(run).ok());
        // Anybody may write a file: a run that the task does not know has said nothing.
        run.filter(|run| view.run(run).is_some()).map_or(Self::File, Self::Run)
    }

    /// As events name it.
    #[must_use]
    pub fn by(&self) -> &str {
        match self {
            Self::Run(run) => run.as_str(),
            Self::User(name) => name,
            Self::File => "file",
        }
    }

    fn cause(&self) -> Cause {
        match self {
            Self::Run(run) => Cause::Run(run.clone()),
            Self::User(name) => Cause::Person(name.clone()),
            Self::File => Cause::File(DONE.to_owned()),
        }
    }
}

/// Posts what marker and stream disagree about; the marker wins.
///
/// # Errors
/// When the stream cannot be read or written.
pub fn reconcile(tree: &Tree, view: &mut TaskView, marker: Marker) -> Result<(), ViewError> {
    if decide::marker_event(view.task(), marker, "file").is_none() {
        return Ok(());
    }
    let sayer = if marker == Marker::Absent { Sayer::File } else { Sayer::read(tree, view) };
    let due = |task: &Task| decide::marker_event(task, marker, sayer.by());
    let Some(event) = due(view.task()) else { return Ok(()) };
    let draft = draft(view, &sayer, &event);
    view.propose(vec![draft], |task| due(task).map(drop).ok_or(Refusal::Moot))?;
    Ok(())
}

/// The message of a DONE, or of its end.
#[must_use]
pub fn draft(view: &TaskView, sayer: &Sayer, event: &Event) -> Draft {
    let (run, line) = match (event, sayer) {
        (Event::Done(_), Sayer::Run(run)) => (Some(run.clone()), format!("DONE, says {run}")),
        (Event::Done(_), Sayer::User(name)) => (None, format!("DONE, says {name}")),
        (Event::Done(_), Sayer::File) => (None, "DONE was found".to_owned()),
        (_, _) => (None, "DONE is gone".to_owned()),
    };
    event.draft(&view.name.scope(run), &sayer.cause(), line)
}
