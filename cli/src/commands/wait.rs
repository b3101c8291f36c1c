//! `wait`: block until runs end.

use std::collections::BTreeMap;
use std::time::Instant;

use run_agent_core::world::RunStatus;
use run_agent_core::{Entry, RunId, Timestamp};
use run_agent_runner::TaskView;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::{Waited, for_runs};
use run_agent_runner::waits::{self, WaitError, Waiting};
use run_agent_runner::wake::Wake;

use crate::args::{Global, WaitArgs};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::find;
use crate::render::{self, Cell, Hue};

pub(crate) fn run(global: &Global, args: &WaitArgs) -> Outcome {
    let context = Context::open(global)?;
    let own = context.task()?;
    let caller = context.caller().ok().flatten().map(|caller| caller.run.clone());
    let mut by_task: BTreeMap<TaskName, Vec<RunId>> = BTreeMap::new();
    let mut order = Vec::new();
    for text in &args.runs {
        let (name, run) = find::run(&context.tree, own.as_ref(), text)?;
        if caller.as_ref() == Some(&run) {
            return Err(Failure::usage(format!(
                "run {run} is the one that calls, and would wait for its own end"
            ))
            .hint("name the runs that it started"));
        }
        by_task.entry(name.clone()).or_default().push(run.clone());
        order.push((name, run));
    }
    let _waiting = match &caller {
        Some(caller) if args.wait.is_none() => {
            let runs: Vec<RunId> = order.iter().map(|(_, run)| run.clone()).collect();
            written_down(&context, caller, &runs)?
        }
        Some(_) | None => None,
    };
    let mut views = BTreeMap::new();
    for name in by_task.keys() {
        views.insert(name.clone(), TaskView::open(&context.tree, name)?);
    }
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    let _blocked = context.blocks();
    let progress = render::progress(waiting_for(&order, &views));
    let began = Instant::now();
    let mut waited = Waited::AllEnded;
    for (name, runs) in &by_task {
        let Some(view) = views.get_mut(name) else { continue };
        wake.watch_stream(&context.tree, name);
        let left = args.wait.map(|limit| limit.saturating_sub(began.elapsed()));
        let seen = |view: &TaskView, _: &[Entry]| progress.idle(idle_since(view, runs));
        match for_runs(&context.tree, view, runs, left, &wake, seen)? {
            Waited::AllEnded => {}
            other => waited = other,
        }
        if waited == Waited::Interrupted {
            break;
        }
        progress.set(waiting_for(&order, &views));
    }
    drop(progress);
    report(&context, &order, &views, waited)
}

/// A wait without a limit is known to those who would wait for the caller.
pub(super) fn written_down(
    context: &Context,
    caller: &RunId,
    on: &[RunId],
) -> Result<Option<Waiting>, Failure> {
    match waits::begin(&context.tree, caller, on) {
        Ok(waiting) => Ok(Some(waiting)),
        Err(circle @ WaitError::Circle(_)) => Err(Failure::usage(circle.to_string())
            .hint("wait with a limit, such as `run-agent wait RUN --wait 90s`, or go on without it")),
        // Whoever cannot be told of it waits all the same.
        Err(error @ WaitError::Io { .. }) => {
            tracing::warn!(%error, "this wait is not known to others");
            Ok(None)
        }
    }
}

fn row(id: &RunId, status: &str, hue: Hue, reason: &str) -> Vec<Cell> {
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    vec![Cell::new(id.as_str()), Cell::new(format!("{status}{reason}")).hue(hue)]
}

/// Which of the runs are active still, as far as they were looked at.
fn waiting_for(order: &[(TaskName, RunId)], views: &BTreeMap<TaskName, TaskView>) -> String {
    let is_active = |(name, id): &&(TaskName, RunId)| {
        views.get(name).and_then(|view| view.run(id)).is_some_and(run_agent_core::world::Run::is_active)
    };
    let active: Vec<&(TaskName, RunId)> = order.iter().filter(is_active).collect();
    match active.as_slice() {
        [(name, id)] => match views.get(name) {
            Some(view) => super::job::waiting_for(view, id),
            None => format!("waiting for run {id}"),
        },
        several => format!("waiting for {} of {} runs", several.len(), order.len()),
    }
}

/// Since when none of those that are active gives a sign of life.
fn idle_since(view: &TaskView, runs: &[RunId]) -> Option<Timestamp> {
    let active = runs.iter().filter_map(|id| view.run(id)).filter(|run| run.is_active());
    let last: Option<Vec<Timestamp>> = active.map(|run| run.idle_since).collect();
    last.and_then(|all| all.into_iter().max())
}

fn report(
    context: &Context,
    order: &[(TaskName, RunId)],
    views: &BTreeMap<TaskName, TaskView>,
    waited: Waited,
) -> Outcome {
    let mut all_completed = true;
    let mut rows = Vec::new();
    let mut table = Vec::new();
    for (name, id) in order {
        let run = views.get(name).and_then(|view| view.run(id));
        all_completed &= run.is_some_and(|run| run.status() == RunStatus::Completed);
        match run {
            Some(run) if context.json => rows.push(serde_json::json!(run.row(&name.task, id))),
            Some(run) if run.is_active() => {
                let idle = render::idle_for(run, Timestamp::now()).unwrap_or_default();
                table.push(row(id, "still running", Hue::Busy, &idle));
            }
            Some(run) => {
                let reason = run.end().map(|(end, _)| end.reason.clone()).unwrap_or_default();
                let status = run.status();
                table.push(row(id, &status.to_string(), Hue::of_run(status), &render::safe_line(&reason)));
            }
            None if context.json => {}
            None => {
                table.push(row(id, "never started", Hue::Bad, &format!("it is not in the stream of {name}")));
            }
        }
    }
    if context.json {
        render::json(&serde_json::json!({ "runs": rows, "still_running": waited != Waited::AllEnded }))?;
    } else {
        render::out(&render::table(&table))?;
    }
    Ok(match waited {
        Waited::AllEnded if all_completed => Exit::Done,
        Waited::AllEnded => Exit::Failed,
        Waited::TimeUp => Exit::TimeLimit,
        Waited::Interrupted => Exit::Interrupted,
    })
}
