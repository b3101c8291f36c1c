//! `why`: the chain of causes behind a task's or run's state, and what would change it.

use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::why::{self, Act, Because, Look, Seen, Why};
use run_agent_core::world::Run;
use run_agent_core::{RunId, TaskId, Timestamp};
use run_agent_runner::tree::TaskName;
use run_agent_runner::{TaskView, seen};

use super::completion::tasks_and_runs;
use super::status;
use crate::args::Global;
use crate::context::Context;
use crate::error::{Exit, Outcome};
use crate::render::{self, Hue, Paint};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  run-agent why fix-login")]
pub(crate) struct WhyArgs {
    /// A task or run [default: --task, the caller's, the folder around the working folder]
    #[arg(value_name = "TASK|RUN", add = Complete::new(tasks_and_runs))]
    what: Option<String>,
}

pub(crate) fn run(global: &Global, args: &WhyArgs) -> Outcome {
    let context = Context::open(global)?;
    let (name, run) = status::which(&context, args.what.as_deref())?;
    let view = status::look(&context.tree, &name)?;
    let why = match &run {
        None => of_task(&view, &seen::around(&context.tree, &view)),
        Some(id) => of_run(&context, &view, id).ok_or_else(|| status::unknown(&name, id))?,
    };
    if context.json {
        render::json(&as_json(&context, &name, run.as_ref(), &why))?;
    } else {
        let head = match run.as_ref().and_then(|id| Some((id, view.run(id)?))) {
            None => status::title_and_state(&name, view.task(), Timestamp::now()),
            Some((id, run)) => head_of_run(&name, id, run, &why),
        };
        render::out(&format!("{head}{}", as_text(&context, &name, &why)))?;
    }
    Ok(Exit::Done)
}

pub(super) fn of_task(view: &TaskView, seen: &Seen) -> Why {
    let look = Look { task: view.task(), seen };
    why::task(look, &|at| view.entry_at(at).map(|entry| entry.message))
}

fn of_run(context: &Context, view: &TaskView, id: &RunId) -> Option<Why> {
    let seen = seen::around(&context.tree, view);
    let look = Look { task: view.task(), seen: &seen };
    why::run(look, id, &|at| view.entry_at(at).map(|entry| entry.message))
}

/// The command that does it, as it can be called from anywhere.
pub(super) fn command(context: &Context, name: &TaskName, act: &Act) -> String {
    let place = render::place();
    let of_task = |verb: &str| format!("{verb}{}", context.flags_for(name));
    let words = match act {
        Act::Task => of_task("task"),
        Act::Adopt => format!("adopt{place}"),
        Act::Resume => of_task("resume"),
        Act::Stop => of_task("stop"),
        Act::StopForce => format!("{} --force", of_task("stop")),
        Act::StopRun(run) => format!("stop --run {run}{place}"),
        Act::Answer(id) => format!("inbox answer {id} TEXT{place}"),
        Act::Output(run) => format!("output {run} --merged{place}"),
        Act::WhyRun(run) => format!("why {run}{place}"),
        Act::WhyTask(task) => {
            let other = TaskName { project: name.project.clone(), task: task.clone() };
            format!("why{}", context.flags_for(&other))
        }
    };
    format!("run-agent {words}")
}

fn as_json(context: &Context, name: &TaskName, run: Option<&RunId>, why: &Why) -> serde_json::Value {
    let changes: Vec<_> = why
        .changes
        .iter()
        .map(|change| {
            let command = change.act.as_ref().map(|act| command(context, name, act));
            serde_json::json!({ "text": change.text, "command": command })
        })
        .collect();
    let task: &TaskId = &name.task;
    serde_json::json!({
        "project_id": name.project, "task_id": task, "run_id": run, "status": why.status, "reason": why.reason,
        "since": why.since, "causes": why.causes, "evidence": why.evidence().collect::<Vec<_>>(), "changes": changes,
    })
}

fn head_of_run(name: &TaskName, id: &RunId, run: &Run, why: &Why) -> String {
    let paint = Paint::stdout();
    let status = run.status();
    format!(
        "{}  run of {} in {name}\n{}{}\n",
        paint.hue(Hue::Strong, id.as_str()),
        render::safe_line(&run.agent),
        paint.hue(Hue::of_run(status), status.as_str()),
        status::reason_and_since(status.as_str(), &why.reason, why.since, Timestamp::now()),
    )
}

fn as_text(context: &Context, name: &TaskName, why: &Why) -> String {
    let paint = Paint::stdout();
    let now = Timestamp::now();
    let mut out = format!("\n{}\n", paint.hue(Hue::Quiet, "because"));
    for because in &why.causes {
        out.push_str(&format!("  {}\n", render::safe_line(&because.text)));
        let evidence = evidence(because, now);
        if !evidence.is_empty() {
            out.push_str(&format!("      {}\n", paint.hue(Hue::Quiet, &evidence)));
        }
    }
    if why.changes.is_empty() {
        return out;
    }
    out.push_str(&format!("\n{}\n", paint.hue(Hue::Quiet, "what would change it")));
    for change in &why.changes {
        match &change.act {
            None => out.push_str(&format!("  {}\n", render::safe_line(&change.text))),
            Some(act) => {
                let command = paint.hue(Hue::Strong, &command(context, name, act));
                out.push_str(&format!("  {}: {command}\n", render::safe_line(&change.text)));
            }
        }
    }
    out
}

/// Which message says so, and when it did.
fn evidence(because: &Because, now: Timestamp) -> String {
    let id = because.msg_id.as_ref().map(ToString::to_string);
    let kind = because.kind.as_ref().map(ToString::to_string);
    let when = because.timestamp.map(|at| render::when(at, now));
    [when, kind, id].into_iter().flatten().collect::<Vec<_>>().join("  ")
}
