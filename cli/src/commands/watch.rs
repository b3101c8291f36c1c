//! `watch`: blocks until tasks are done. On a terminal a table that is redrawn in place, elsewhere a line for each
//! change.

mod screen;
mod show;
mod watched;

use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::ArgValueCompleter as Complete;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::Wake;

use self::show::Show;
use self::watched::Watched;
use super::completion::tasks;
use super::reader;
use crate::args::{self, Global};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render;

#[derive(Debug, Args)]
#[command(
    after_help = "A task is done when no run of it is active and no loop drives it. Which tasks are watched is decided \
        when the command is called.\n\n\
        Exit codes: 0 all completed (or nothing was active), 1 some failed or were stopped, 3 a loop gave up, \
        124 time limit, 130 interrupted.\n\nExample:\n  run-agent watch fix-login --timeout 10m"
)]
pub(crate) struct WatchArgs {
    /// The tasks [default: --task, the caller's, the folder's, else all that are active in the project or root]
    #[arg(value_name = "TASK", add = Complete::new(tasks))]
    tasks: Vec<String>,
    /// How long at most, such as 10m [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,
}

/// Hints come when a stream grows; a process that was killed says nothing, so that each task is looked at now and then.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn run(global: &Global, args: &WatchArgs) -> Outcome {
    let context = Context::open(global)?;
    let mut watched = Vec::new();
    let named = named(&context, &args.tasks)?;
    match &named {
        Some(names) => {
            for name in names {
                watched.push(Watched::open(&context, name.clone())?);
            }
        }
        None => watched = active(&context)?,
    }
    if watched.is_empty() {
        render::say("nothing is active; name a task to wait for it");
        return end(&context, &watched, Exit::Done);
    }
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    for task in &watched {
        wake.watch_stream(&context.tree, &task.name);
    }
    let _blocked = context.blocks();
    let mut show = Show::new(&context);
    for task in &watched {
        show.first(task)?;
    }
    let began = Instant::now();
    loop {
        for task in watched.iter_mut().filter(|task| !task.is_done()) {
            for happened in task.look(&context)? {
                show.change(&task.name, &happened)?;
            }
            show.note(task)?;
        }
        show.table(&watched)?;
        if watched.iter().all(Watched::is_done) {
            let exit = watched.iter().map(Watched::exit).max_by_key(|exit| exit.code()).unwrap_or(Exit::Done);
            return end(&context, &watched, exit);
        }
        reader::still_there()?;
        if wake.interrupted() {
            return end(&context, &watched, Exit::Interrupted);
        }
        let left = args.timeout.map_or(LOOK_AGAIN, |limit| limit.saturating_sub(began.elapsed()));
        if left.is_zero() {
            let open = watched.iter().filter(|task| !task.is_done()).count();
            render::say(&format!(
                "{} not done yet; call again to watch on",
                render::count(open as u64, "task")
            ));
            return end(&context, &watched, Exit::TimeLimit);
        }
        wake.sleep(left);
    }
}

/// The tasks that the caller names, or stands in.
fn named(context: &Context, texts: &[String]) -> Result<Option<Vec<TaskName>>, Failure> {
    if texts.is_empty() {
        return Ok(context.task()?.map(|name| vec![name]));
    }
    let mut names = Vec::new();
    for text in texts {
        let name = context.task_named(text)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(Some(names))
}

/// Every task of the project, or of the root, that is not done.
fn active(context: &Context) -> Result<Vec<Watched>, Failure> {
    let projects = match context.existing_project()? {
        Some(project) => vec![project],
        None => {
            let root = context.tree.layout.root();
            context.tree.projects().map_err(|e| Failure::io(root.display(), &e))?
        }
    };
    let mut found = Vec::new();
    for project in projects {
        let tasks = context.tree.tasks(&project).map_err(|e| {
            let folder = context.tree.layout.project(&project);
            Failure::io(format!("cannot read the project folder {}", folder.display()), &e)
        })?;
        for task in tasks {
            let name = TaskName { project: project.clone(), task };
            match Watched::open(context, name.clone()) {
                Ok(task) if task.task().ralph.is_open() || task.task().active().next().is_some() => {
                    found.push(task);
                }
                Ok(_) => {}
                // One that cannot be read does not hide the others.
                Err(failure) => render::say(&format!("warning: {name}: {}", failure.text())),
            }
        }
    }
    Ok(found)
}

/// The last line, for programs: how every task ended.
fn end(context: &Context, watched: &[Watched], exit: Exit) -> Outcome {
    if context.json {
        let tasks: Vec<serde_json::Value> = watched.iter().map(Watched::json).collect();
        render::json(&serde_json::json!({ "change": "end", "tasks": tasks, "exit_code": exit.code() }))?;
    }
    Ok(exit)
}
