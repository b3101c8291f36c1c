//! `stop`: a run and its children, or a task's loop and its whole tree.

mod there;

use std::time::Duration;

use run_agent_core::RunId;
use run_agent_core::world::TaskStatus;
use run_agent_runner::TaskView;
use run_agent_runner::stop::{How, Stopped, run as stop_run, task as stop_task};
use run_agent_runner::tree::TaskName;

use crate::args::{Global, StopArgs};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Exit, Outcome};
use crate::{find, render};

pub(crate) fn run(global: &Global, args: &StopArgs) -> Outcome {
    if let Some(client) = Client::of(global, &args.server)? {
        return there::run(global, &client, args);
    }
    let context = Context::open_to_steer(global)?;
    context.caller()?;
    let grace = match (args.force, args.grace) {
        (true, _) => Duration::ZERO,
        (false, Some(grace)) => grace,
        (false, None) => context.grace(),
    };
    let how = How { by: context.by(), cause: context.cause(), grace, keep_children: args.keep_children };
    let (what, name, stopped) = match &args.run {
        Some(text) => {
            let own = context.task()?;
            let (name, id) = find::run(&context.tree, own.as_ref(), text)?;
            let mut view = TaskView::open(&context.tree, &name)?;
            let stopped = stop_run(&context.tree, &mut view, &id, &how)?;
            (format!("run {id}"), name, stopped)
        }
        None => {
            let name = context.required_task()?;
            let mut view = TaskView::open(&context.tree, &name)?;
            let stopped = stop_task(&context.tree, &mut view, &how)?;
            (format!("task {name}"), name, stopped)
        }
    };
    told(context.json, &what, &name, &stopped)
}

fn told(json: bool, what: &str, name: &TaskName, stopped: &Stopped) -> Outcome {
    let (text, runs, exit): (String, &[RunId], Exit) = match stopped {
        Stopped::Done(runs) => {
            (format!("{what} stopped ({})", render::count(runs.len() as u64, "run")), runs, Exit::Done)
        }
        Stopped::HadEnded(status) if status == TaskStatus::Created.as_str() => {
            (format!("{what} was never started: there is nothing to stop"), &[], Exit::Done)
        }
        Stopped::HadEnded(status) => (format!("{what} had ended already: {status}"), &[], Exit::Done),
        Stopped::DriverHangs(holder) => (
            format!(
                "{what}: nothing runs any more, but {holder} has not ended the loop\n  end that process, and ask again"
            ),
            &[],
            Exit::Failed,
        ),
        Stopped::Elsewhere(links) => (
            format!(
                "{what}: nothing of it runs any more, but what it started in other tasks has not ended: {}\n  stop those, and ask again",
                links.join(" ")
            ),
            &[],
            Exit::Failed,
        ),
        Stopped::Foreign(runs) => {
            let ids: Vec<&str> = runs.iter().map(RunId::as_str).collect();
            (
                format!(
                    "{what}: the stop is posted, but these runs are foreign: {}\n  they were started on another machine or in another container, and nothing was signalled from here;\n  what looks after them there ends them when it reads the stop, or run the same command there",
                    ids.join(" ")
                ),
                runs,
                Exit::Failed,
            )
        }
        Stopped::Left(runs) => {
            let ids: Vec<&str> = runs.iter().map(RunId::as_str).collect();
            (
                format!(
                    "{what}: these runs could not be stopped: {}\n  their processes hang in the kernel, or their supervisors do not answer;\n  see `run-agent why RUN`, and ask again",
                    ids.join(" ")
                ),
                runs,
                Exit::Failed,
            )
        }
    };
    if json {
        let key = if exit == Exit::Done { "stopped_runs" } else { "left_runs" };
        render::json(&serde_json::json!({
            "project_id": name.project, "task_id": name.task, key: runs,
            "had_ended": matches!(stopped, Stopped::HadEnded(_)),
        }))?;
    } else {
        render::out(&format!("{text}\n"))?;
    }
    Ok(exit)
}
