//! A stop on another machine: asked for there, and waited for here.

use run_agent_core::RunId;
use run_agent_core::world::{Run, Task, TaskStatus};
use run_agent_runner::stop::Stopped;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::LOOK_AGAIN;

use super::told;
use crate::args::{Global, StopArgs};
use crate::client::tasks::Tasks;
use crate::client::{Client, Place};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

pub(super) fn run(global: &Global, client: &Client, args: &StopArgs) -> Outcome {
    if args.keep_children {
        return Err(Failure::usage(
            "--keep-children has no meaning with --server: a stop there takes the children with it",
        ));
    }
    let (name, run) = match &args.run {
        Some(text) => {
            let (name, run) = client.run_named(text)?;
            (name, Some(run))
        }
        None => (client.required_task()?, None),
    };
    let what = run.as_ref().map_or_else(|| format!("task {name}"), |run| format!("run {run}"));
    let mut tasks = Tasks::open(client, vec![name.clone()])?;
    let runs = active(tasks.task(0).task(), run.as_ref());
    if !is_open(tasks.task(0).task(), run.as_ref()) {
        return told(
            global.json,
            &what,
            &name,
            &Stopped::HadEnded(status(tasks.task(0).task(), run.as_ref())),
        );
    }
    let grace = args.grace.map(|grace| format!("{}ms", grace.as_millis()));
    let how = serde_json::json!({ "force": args.force, "grace": grace });
    let asked: Result<serde_json::Value, Failure> = client.post(&place(&name, run.as_ref()), &how);
    match asked {
        Ok(_) => {}
        // It ended by itself in between.
        Err(failure) if failure.exit() == Exit::Locked => {}
        Err(failure) => return Err(failure),
    }
    client.on_interrupt()?;
    let _blocked = client.blocks();
    let _progress = render::progress(format!("waiting for {what} to end"));
    loop {
        let _ = tasks.look(0)?;
        if !is_open(tasks.task(0).task(), run.as_ref()) {
            return told(global.json, &what, &name, &Stopped::Done(runs));
        }
        if tasks.interrupted() {
            render::say(&format!("interrupted; {what} is being stopped there all the same"));
            return Ok(Exit::Interrupted);
        }
        tasks.sleep(LOOK_AGAIN)?;
    }
}

fn place(name: &TaskName, run: Option<&RunId>) -> Place {
    match run {
        Some(run) => Place::new(["v1", "runs", run.as_str(), "stop"]),
        None => Place::of_task(name, ["stop"]),
    }
}

/// What a stop of the task, or of one run with those below it, ends.
fn active(task: &Task, run: Option<&RunId>) -> Vec<RunId> {
    let is_active = |id: &RunId| task.runs.get(id).is_some_and(Run::is_active);
    match run {
        Some(run) => task.with_descendants(run).into_iter().filter(is_active).collect(),
        None => task.active().map(|(id, _)| id.clone()).collect(),
    }
}

fn is_open(task: &Task, run: Option<&RunId>) -> bool {
    !active(task, run).is_empty() || (run.is_none() && task.ralph.is_open())
}

fn status(task: &Task, run: Option<&RunId>) -> String {
    let of_run = run.and_then(|run| task.runs.get(run)).map(|run| run.status().to_string());
    of_run.unwrap_or_else(|| TaskStatus::as_str(task.status()).to_owned())
}
