//! `doctor`: what of a root disagrees with itself, and mending it without losing anything (`docs/housekeeping.md`).
//!
//! | question | file |
//! | --- | --- |
//! | what can be wrong, and what is the way out? | [`finding`] (pure) |
//! | what of a run? | `run` (its judgement is pure) |
//! | what of a stream, a task, its loop and marker? | `task` |
//! | what of the root, its own folder, the system? | `root` |
//! | which files are nobody's any more? | `stray` |
//! | what does a repair do? | `mend` |
//!
//! Looking changes nothing on a root that is healthy: no checkpoint is written, no lock file made.

pub mod finding;
mod mend;
mod root;
mod run;
mod stray;
mod task;

use std::collections::BTreeMap;
use std::io;

use run_agent_core::{ProjectId, StreamKey};

pub use self::finding::{DamageKind, Finding, RunFinding, WayOut};
use crate::tree::{TaskName, Tree};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Everything, the root's own folder and the system included.
    Root,
    Project(ProjectId),
    Task(TaskName),
}

/// What was found, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub streams: u64,
    pub found: Vec<Found>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub finding: Finding,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It stands as it was found.
    Left,
    /// It is mended; what was said about it, if anything.
    Mended(String),
    /// Mending it failed.
    Failed(String),
}

impl Report {
    /// How many findings are left that count.
    #[must_use]
    pub fn left(&self) -> usize {
        self.found
            .iter()
            .filter(|found| !found.finding.is_note() && !matches!(found.state, State::Mended(_)))
            .count()
    }
}

/// Looks, and with `repair` mends. `by` asks for it; `seen` is told of each stream before it is looked at.
///
/// # Errors
/// When the root or a project's folder cannot be listed.
pub fn doctor(
    tree: &Tree,
    of: &Of,
    repair: Option<&str>,
    seen: &mut dyn FnMut(&StreamKey),
) -> io::Result<Report> {
    let mut visit = Visit { tree, repair, report: Report::default(), seen };
    match of {
        Of::Task(name) => visit.task(name),
        Of::Project(project) => visit.project(project)?,
        Of::Root => {
            visit.part(|| root::look_at_root(tree));
            for project in tree.projects()? {
                visit.project(&project)?;
            }
            visit.part(root::look_at_system);
        }
    }
    Ok(visit.report)
}

struct Visit<'a, 'b> {
    tree: &'a Tree,
    repair: Option<&'a str>,
    report: Report,
    seen: &'b mut dyn FnMut(&StreamKey),
}

impl Visit<'_, '_> {
    fn project(&mut self, project: &ProjectId) -> io::Result<()> {
        let tree = self.tree;
        self.part(|| root::look_at_project(tree, project));
        self.stream(&StreamKey::project(project.clone()));
        for task in tree.tasks(project)? {
            self.task(&TaskName { project: project.clone(), task });
        }
        Ok(())
    }

    fn task(&mut self, name: &TaskName) {
        let tree = self.tree;
        self.stream(&name.key());
        self.part(|| task::look_at_task(tree, name));
    }

    /// A stream is mended before what it says is held against anything.
    fn stream(&mut self, key: &StreamKey) {
        (self.seen)(key);
        self.report.streams += 1;
        let found = task::look_at_stream(self.tree, key);
        if found.is_empty() || self.repair.is_none() {
            return self.left(found);
        }
        let repaired = self.tree.store.open(key).map_err(|e| task::say(&e));
        let repaired = repaired.and_then(|stream| stream.repair().map_err(|e| task::say(&e)));
        let mut left = task::look_at_stream(self.tree, key);
        let (said, error) = match repaired {
            Ok(mended) => (mended.into_iter().map(|m| (m.place, m.what)).collect(), None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        for finding in found {
            // What stands further on after a repair stands at another place by the same name.
            let still = left.iter().position(|left| left.name() == finding.name());
            let told = said.get(&finding.place());
            let state = match (told, still) {
                (Some(said), _) => State::Mended(said.clone()),
                (None, Some(at)) => {
                    let finding = left.remove(at);
                    let state = error.clone().map_or(State::Left, State::Failed);
                    self.report.found.push(Found { finding, state });
                    continue;
                }
                (None, None) => State::Mended(String::new()),
            };
            self.report.found.push(Found { finding, state });
        }
        self.left(left);
    }

    /// Looks at one part, and mends what can be mended of it; what is found only then is mended too.
    fn part(&mut self, look: impl Fn() -> Vec<Finding>) {
        let Some(by) = self.repair else { return self.left(look()) };
        for _ in 0..ROUNDS {
            let found = look();
            let mendable = |finding: &Finding| matches!(finding.way_out(), WayOut::Repair(_));
            let known = |report: &Report, finding: &Finding| {
                report.found.iter().any(|found| found.finding == *finding)
            };
            let (mend, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(mendable);
            let mend: Vec<_> = mend.into_iter().filter(|finding| !known(&self.report, finding)).collect();
            if mend.is_empty() {
                return self.left(rest);
            }
            for finding in mend {
                let state = match mend::mend(self.tree, &finding, by) {
                    Ok(()) => State::Mended(String::new()),
                    Err(error) => State::Failed(error),
                };
                self.report.found.push(Found { finding, state });
            }
            // What is found again was not mended, whatever was said.
            let again = look();
            for found in &mut self.report.found {
                if matches!(found.state, State::Mended(_)) && again.contains(&found.finding) {
                    found.state = State::Left;
                }
            }
        }
        let rest =
            look().into_iter().filter(|finding| !self.report.found.iter().any(|f| f.finding == *finding));
        let rest = rest.collect();
        self.left(rest);
    }

    fn left(&mut self, found: Vec<Finding>) {
        self.report.found.extend(found.into_iter().map(|finding| Found { finding, state: State::Left }));
    }
}

/// Closing a run may bring to light that its loop has no driver, and so on; it never takes more turns than this.
const ROUNDS: usize = 4;
