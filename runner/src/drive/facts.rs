//! When a loop completes, what its task found out is told on the project's stream: one FACT, once, however often the
//! loop's end is tried.

use std::collections::BTreeMap;

use run_agent_core::store::{AppendError, Condition, OpenError, ReadError, Stream};
use run_agent_core::world::RunStatus;
use run_agent_core::{Draft, Entry, Kind, Message, StreamKey, Timestamp, text};

use crate::history;
use crate::tree::Tree;
use crate::view::TaskView;

/// The field by which the FACT of one DONE is found again.
const KEY: &str = "propagation_key";
/// So many facts are told, and so much of each.
const FACTS_MAX: usize = 50;
const FACT_BYTES: usize = 400;

#[derive(Debug, thiserror::Error)]
enum FactsError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Tells the facts. A project whose stream cannot be used does not keep a task from its end.
pub(super) fn propagate(tree: &Tree, view: &TaskView) {
    if let Err(error) = try_propagate(tree, view) {
        tracing::warn!(task = %view.name, %error, "cannot tell the task's facts to its project");
    }
}

fn try_propagate(tree: &Tree, view: &TaskView) -> Result<(), FactsError> {
    let task = view.task();
    let Some(done) = &task.done else { return Ok(()) };
    let key = format!("{}:{}", view.name.task, done.id);
    let facts = facts(tree, view)?;
    let project = tree.store.open(&StreamKey::project(view.name.project.clone()))?;
    // Everything from here on is shown to the condition.
    let end = project.end()?;
    let mut told = Told { key: &key, found: is_told(project.as_ref(), &key, done.at)? };
    let draft = draft(tree, view, &facts, &key);
    project.append_if(end, &mut told, vec![draft], tree.durability)?;
    Ok(())
}

/// The task's own FACT messages, the oldest first.
fn facts(tree: &Tree, view: &TaskView) -> Result<Vec<Message>, FactsError> {
    let counts = &view.task().thread.counts;
    let wanted = counts.get(&Kind::FACT).copied().unwrap_or(0).min(FACTS_MAX as u64);
    let wanted = usize::try_from(wanted).unwrap_or(FACTS_MAX);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let stream = tree.store.open(&view.name.key())?;
    let is_fact = |entry: &&Entry| entry.message.content.kind == Kind::FACT;
    let entries = history::back(stream.as_ref(), |entries| entries.iter().filter(is_fact).count() >= wanted)?;
    let mut facts: Vec<Message> = entries.iter().filter(is_fact).map(|entry| entry.message.clone()).collect();
    facts.drain(..facts.len().saturating_sub(wanted));
    Ok(facts)
}

fn is_told(project: &dyn Stream, key: &str, since: Timestamp) -> Result<bool, FactsError> {
    // What tells of a DONE was posted after it.
    Ok(history::since(project, since)?.iter().any(|entry| tells(entry, key)))
}

fn tells(entry: &Entry, key: &str) -> bool {
    entry.message.content.meta.get(KEY).is_some_and(|told| told == key)
}

struct Told<'a> {
    key: &'a str,
    found: bool,
}

impl Condition for Told<'_> {
    fn see(&mut self, entry: &Entry) {
        self.found |= tells(entry, self.key);
    }

    fn agrees(&mut self) -> bool {
        !self.found
    }
}

fn draft(tree: &Tree, view: &TaskView, facts: &[Message], key: &str) -> Draft {
    let (name, task) = (&view.name, view.task());
    let count = |status| task.run_counts().get(&status).copied().unwrap_or(0);
    let (completed, failed, stopped) =
        (count(RunStatus::Completed), count(RunStatus::Failed), count(RunStatus::Stopped));
    let mut body = format!(
        "Task {} is completed: {}\nRuns: {completed} completed, {failed} failed, {stopped} stopped.\n",
        name.task,
        task.title()
    );
    for fact in facts {
        let line = text::head(fact.content.body.trim(), FACT_BYTES).replace('\n', "\n  ");
        body.push_str(&format!("- {line}\n"));
    }
    let mut meta = BTreeMap::from([
        ("source".to_owned(), "run-agent".to_owned()),
        (KEY.to_owned(), key.to_owned()),
        ("source_task_id".to_owned(), name.task.to_string()),
        ("source_path".to_owned(), tree.task(name).folder().display().to_string()),
    ]);
    if let Some(root) = &task.ralph.last_root {
        meta.insert("output_path".to_owned(), tree.run(name, root).output().display().to_string());
    }
    if !facts.is_empty() {
        let ids: Vec<&str> = facts.iter().map(|fact| fact.id.as_str()).collect();
        meta.insert("source_ids".to_owned(), ids.join(" "));
    }
    let mut draft = Draft::new(Kind::FACT, name.project.clone(), None, body);
    draft.meta = meta;
    draft
}
