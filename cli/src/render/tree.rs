//! A task's delegation tree: the chain of root runs, each with its children below it.

use std::collections::BTreeMap;

use run_agent_core::world::{Run, Task};
use run_agent_core::{RunId, Timestamp};

use super::{Hue, Paint, lasted, safe_line};

/// The runs of a task as a tree.
pub(crate) fn tree_text(task: &Task, now: Timestamp) -> String {
    let mut children: BTreeMap<Option<&RunId>, Vec<&RunId>> = BTreeMap::new();
    for (id, run) in &task.runs {
        // A parent of another task, or one that was deleted, hangs nothing here: the run stands at the top.
        let parent = run.parent.as_ref().filter(|parent| task.runs.contains_key(*parent) && *parent != id);
        children.entry(parent).or_default().push(id);
    }
    let mut out = String::new();
    let mut shown = 0;
    push(&mut out, task, &children, None, "", now, &mut shown);
    if shown < task.runs.len() {
        out.push_str(&format!(
            "({} runs name each other as parents and are not shown)\n",
            task.runs.len() - shown
        ));
    }
    out
}

fn push(
    out: &mut String,
    task: &Task,
    children: &BTreeMap<Option<&RunId>, Vec<&RunId>>,
    parent: Option<&RunId>,
    indent: &str,
    now: Timestamp,
    shown: &mut usize,
) {
    let Some(ids) = children.get(&parent) else { return };
    for (n, id) in ids.iter().enumerate() {
        let last = n + 1 == ids.len();
        let (branch, below) = match (parent, last) {
            (None, _) => ("", ""),
            (Some(_), true) => ("└─ ", "   "),
            (Some(_), false) => ("├─ ", "│  "),
        };
        if let Some(run) = task.runs.get(*id) {
            *shown += 1;
            out.push_str(&format!("{indent}{branch}{}\n", line(id, run, now)));
        }
        push(out, task, children, Some(id), &format!("{indent}{below}"), now, shown);
    }
}

fn line(id: &RunId, run: &Run, now: Timestamp) -> String {
    let paint = Paint::stdout();
    let what = run.attempt.map_or_else(|| "job".to_owned(), |n| format!("root #{n}"));
    let key = run.key.as_ref().map(|key| format!(" ({})", safe_line(key))).unwrap_or_default();
    let from = run.started().unwrap_or(run.made);
    let end = run.end();
    let time = lasted(from, end.map_or(now, |(_, at)| at));
    let hue = Hue::of_run(run.status());
    let reason = match end {
        Some((end, _)) if end.reason != "exit code 0" => format!("  {}", safe_line(&end.reason)),
        Some(_) => String::new(),
        None if run.stopping.is_some() => "  stopping".to_owned(),
        None => String::new(),
    };
    format!(
        "{} {what}{key} {}  {}  {time}{}",
        paint.hue(hue, mark(run)),
        safe_line(&run.agent),
        paint.hue(Hue::Quiet, id.as_str()),
        paint.hue(hue, &reason)
    )
}

fn mark(run: &Run) -> &'static str {
    use run_agent_core::world::RunStatus;
    match run.status() {
        RunStatus::Queued => "◌",
        RunStatus::Running => "▶",
        RunStatus::Completed => "✔",
        RunStatus::Failed => "✘",
        RunStatus::Stopped => "■",
    }
}
