//! A task's delegation tree: the chain of root runs, each with its children below it.

use std::collections::BTreeMap;

use run_agent_core::world::{Run, Task};
use run_agent_core::{RunId, Timestamp};
use unicode_width::UnicodeWidthStr;

use super::{Hue, Paint, cut, lasted, retrying, safe_line, short, usage, width};

/// The longest line where no terminal says how wide it is.
const LINE_MAX: usize = 400;
/// What is left of a reason on the narrowest terminal.
const REASON_MIN: usize = 16;

/// The runs of a task as a tree.
pub(crate) fn tree_text(task: &Task, now: Timestamp) -> String {
    let mut children: BTreeMap<Option<&RunId>, Vec<&RunId>> = BTreeMap::new();
    for (id, run) in task.runs.iter() {
        // A parent of another task, or one that was deleted, hangs nothing here: the run stands at the top.
        let parent = run.parent.as_ref().filter(|parent| task.runs.contains_key(parent) && *parent != id);
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
        if let Some(run) = task.runs.get(id) {
            *shown += 1;
            let room = width().unwrap_or(LINE_MAX).saturating_sub(indent.width() + branch.width());
            out.push_str(&format!("{indent}{branch}{}\n", line(id, run, now, room)));
        }
        push(out, task, children, Some(id), &format!("{indent}{below}"), now, shown);
    }
}

fn line(id: &RunId, run: &Run, now: Timestamp, room: usize) -> String {
    let paint = Paint::stdout();
    let what = run.attempt.map_or_else(|| "job".to_owned(), |n| format!("root #{n}"));
    // Of a verify run the command says more than the key by which the loop finds it again.
    let named = run.verify.as_ref().or(run.key.as_ref());
    let key = named.map(|named| format!(" ({})", cut(&safe_line(named), KEY_MAX))).unwrap_or_default();
    let from = run.started().unwrap_or(run.made);
    let end = run.end();
    let time = lasted(from, end.map_or(now, |(_, at)| at));
    let hue = Hue::of_run(run.status());
    let mut reason_hue = hue;
    let reason = match end {
        Some((end, _)) if end.reason != "exit code 0" => format!("  {}", safe_line(&end.reason)),
        Some(_) => String::new(),
        None if run.stopping.is_some() => "  stopping".to_owned(),
        None => match (run.state.waits_for(), idle_for(run, now).or_else(|| retrying(run))) {
            (Some(what), _) => format!("  queued, {what}"),
            (None, Some(trouble)) => {
                reason_hue = Hue::Mild;
                format!("  {trouble}")
            }
            (None, None) => String::new(),
        },
    };
    let about = match run.verify {
        Some(_) => format!("verify{key}"),
        None => format!("{what}{key} {}", safe_line(&run.agent)),
    };
    // Where the line is too narrow for the whole id, its end is enough for people and for every command.
    let used = 2 + about.width() + 2 + 2 + time.len();
    let id = if used + id.as_str().len() + reason.width().min(REASON_MIN) > room {
        short(id.as_str())
    } else {
        id.as_str()
    };
    let left = room.saturating_sub(used + id.len());
    // What it used is what a narrow line does without first.
    let cost = run.usage.row().map(|row| format!("  {}", usage(&row))).unwrap_or_default();
    let cost = if cost.width() + reason.width() <= left { cost } else { String::new() };
    let reason = cut(&reason, left.max(REASON_MIN));
    format!(
        "{} {about}  {}  {time}{}{}",
        paint.hue(hue, mark(run)),
        paint.hue(Hue::Quiet, id),
        paint.hue(reason_hue, &reason),
        paint.hue(Hue::Quiet, &cost),
    )
}

/// How much of a key or command a line shows.
const KEY_MAX: usize = 60;

/// `idle for 6m12s`, of a run that is.
pub(crate) fn idle_for(run: &Run, now: Timestamp) -> Option<String> {
    run.idle_since.map(|since| format!("idle for {}", lasted(since, now)))
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
