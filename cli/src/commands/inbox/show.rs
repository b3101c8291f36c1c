//! The inbox as a table, or as JSON.

use std::io::IsTerminal;

use run_agent_core::Timestamp;
use run_agent_core::inbox::{Asker, Need};
use run_agent_core::plan::reason;
use run_agent_runner::tree::TaskName;
use serde_json::{Value, json};

use super::item::{Item, What};
use crate::context::Context;
use crate::error::Failure;
use crate::render::{self, Cell, Column, Hue};

/// So many are shown on a terminal where nothing is said.
const ON_A_TERMINAL: usize = 50;

/// The column of questions' ids: there only where something can be answered.
const ID: &str = "ID";

/// The columns, with what a narrow terminal does without first.
const COLUMNS: [Column; 5] = [
    Column::new("WHAT", 9).min(9).kept(),
    Column::new("TASK", 7).min(14).kept(),
    Column::new("SINCE", 3),
    Column::new(ID, 8).kept(),
    Column::new("TEXT", 6).min(16),
];

pub(super) fn show(context: &Context, items: &[Item], limit: Option<usize>) -> Result<(), Failure> {
    let shown = match limit {
        Some(0) => items.len(),
        Some(limit) => limit,
        None if context.json || !std::io::stdout().is_terminal() => items.len(),
        None => ON_A_TERMINAL,
    };
    let shown = &items[..shown.min(items.len())];
    if context.json {
        let items_json: Vec<Value> = shown.iter().map(|item| as_json(context, item)).collect();
        return render::json(&json!({ "items": items_json, "total": items.len() }));
    }
    if items.is_empty() {
        render::say("nothing needs you");
        return Ok(());
    }
    let now = Timestamp::now();
    let asks = shown.iter().any(|item| item.question().is_some());
    let columns: Vec<Column> = COLUMNS.into_iter().filter(|column| asks || column.title != ID).collect();
    let rows: Vec<Vec<Cell>> = shown.iter().map(|item| cells(item, items, asks, now)).collect();
    render::out(&render::columns(&columns, &rows))?;
    if items.len() > shown.len() {
        render::say(&format!("… and {} more; see them with --limit 0", items.len() - shown.len()));
    }
    if asks {
        render::say(&format!("answer a question: {}", render::command("inbox answer ID TEXT")));
    }
    if shown.iter().any(|item| item.question().is_none()) {
        render::say(&format!("see why, and what to do: {}", render::command("why TASK")));
    }
    Ok(())
}

fn cells(item: &Item, all: &[Item], asks: bool, now: Timestamp) -> Vec<Cell> {
    let (word, hue) = word(item);
    let task = match &item.task {
        Some(task) => format!("{}/{}", item.project, task.slug()),
        None => item.project.to_string(),
    };
    let mut cells = vec![
        Cell::new(word).hue(hue),
        Cell::new(task),
        Cell::new(item.since.map(|at| render::when(at, now)).unwrap_or_default()),
    ];
    if asks {
        cells.push(Cell::new(item.question().map(|id| short(id.as_str(), all)).unwrap_or_default()));
    }
    cells.push(Cell::new(render::safe_line(&text(item))));
    cells
}

fn word(item: &Item) -> (&'static str, Hue) {
    match &item.need {
        What::NoDriver => ("no driver", Hue::Bad),
        What::Need(Need::Question { blocking: true, .. }) => ("question, blocking", Hue::Bad),
        What::Need(Need::Question { .. }) => ("question", Hue::Mild),
        What::Need(Need::GaveUp { .. }) if item.kind() == "done_rejected" => ("DONE rejected", Hue::Bad),
        What::Need(Need::GaveUp { .. }) if item.kind() == "limit" => ("budget spent", Hue::Bad),
        What::Need(Need::GaveUp { .. }) => ("gave up", Hue::Bad),
        What::Need(Need::Agent { .. }) => ("agent refused", Hue::Bad),
        What::Need(Need::Blocked { .. }) => ("blocked", Hue::Bad),
        What::Need(Need::Silent { stuck: true, .. }) => ("stuck", Hue::Bad),
        What::Need(Need::Silent { stuck: false, .. }) => ("idle", Hue::Mild),
    }
}

/// A reason of the loop's end, for people.
fn gave_up(reason: &str) -> &str {
    match reason {
        reason::EXHAUSTED => "out of restarts or time",
        reason::BREAKER => "the agent keeps failing at once",
        reason::VERIFY => "DONE was rejected too often",
        reason::NO_AGENT => "no agent can be started",
        reason::DEPENDENCY => "what it depends on cannot be waited for",
        reason::CHILDREN => "DONE, but children have not ended",
        reason::BUDGET => "its budget is used up; resume goes on with as much again",
        reason::DONE_NOT_A_FILE => "DONE is no regular file",
        other => other,
    }
}

/// What it is about, in one line.
fn text(item: &Item) -> String {
    match &item.need {
        What::NoDriver => format!("the loop's driver is gone: {}", item.title),
        What::Need(Need::Question { text, asker, blocking, .. }) => {
            let line = text.lines().next().unwrap_or_default();
            match (asker, blocking) {
                (Asker::Ended, _) => format!("(its asker has ended) {line}"),
                (Asker::Loop, _) => format!("(the loop waits) {line}"),
                (Asker::Active, true) => format!("(a run waits) {line}"),
                (Asker::Active | Asker::Unknown, _) => line.to_owned(),
            }
        }
        What::Need(Need::GaveUp { reason, detail, .. }) => {
            let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            format!("{}{detail}: {}", gave_up(reason), item.title)
        }
        What::Need(Need::Agent { agent, error_class, .. }) => {
            format!(
                "{agent} is passed over ({error_class}); somebody has to sign it in or give it another token: {}",
                item.title
            )
        }
        What::Need(Need::Blocked { reason, .. }) => reason.clone(),
        What::Need(Need::Silent { run_id, .. }) => {
            format!("run {} gives no sign of life", render::short(run_id.as_str()))
        }
    }
}

/// The shortest end of an id, from a `-` on, that no other question of the inbox has.
pub(super) fn short<'a>(id: &'a str, all: &[Item]) -> &'a str {
    let others = || all.iter().filter_map(Item::question).filter(|other| other.as_str() != id);
    let ends = id.rmatch_indices('-').map(|(at, _)| &id[at + 1..]);
    // A counter alone is no name that anybody would type for long.
    ends.skip(1).find(|end| others().all(|other| !other.as_str().ends_with(end))).unwrap_or(id)
}

fn as_json(context: &Context, item: &Item) -> Value {
    let mut value = json!({
        "kind": item.kind(), "project_id": item.project, "task_id": item.task, "title": item.title,
        "msg_id": item.message(), "run_id": item.run(), "since": item.since, "text": text_alone(item),
    });
    match &item.need {
        What::Need(Need::Question { blocking, asker, .. }) => {
            value["blocking"] = json!(blocking);
            value["asker"] = json!(asker);
        }
        What::Need(Need::GaveUp { reason, .. } | Need::Blocked { reason, .. }) => {
            value["reason"] = json!(reason);
        }
        What::Need(Need::Agent { agent, error_class, .. }) => {
            value["agent"] = json!(agent);
            value["error_class"] = json!(error_class);
        }
        What::Need(Need::Silent { .. }) | What::NoDriver => {}
    }
    value["command"] = json!(command(context, item));
    value
}

/// As [`text`]; what has a field of its own is not said again.
fn text_alone(item: &Item) -> String {
    match &item.need {
        What::Need(Need::Question { text, .. }) => text.clone(),
        What::Need(Need::GaveUp { .. } | Need::Agent { .. } | Need::Blocked { .. } | Need::Silent { .. })
        | What::NoDriver => text(item),
    }
}

/// What a person would call next.
fn command(context: &Context, item: &Item) -> String {
    let flags = item.task.as_ref().map_or_else(String::new, |task| {
        context.flags_for(&TaskName { project: item.project.clone(), task: task.clone() })
    });
    match (&item.need, item.question()) {
        (_, Some(id)) => format!("run-agent inbox answer {id} TEXT{}", render::place()),
        (What::NoDriver, None) => format!("run-agent task{flags}"),
        (What::Need(Need::GaveUp { reason, .. }), None) if reason == reason::BUDGET => {
            format!("run-agent resume{flags}")
        }
        (What::Need(_), None) => format!("run-agent why{flags}"),
    }
}
