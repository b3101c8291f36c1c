//! `output`: a run's final answer, stdout, stderr, both merged; also as they come.

mod print;
mod tail;
mod text;
pub(crate) mod there;

use std::io::{self, Read};
use std::path::PathBuf;

use run_agent_core::RunId;
use run_agent_core::layout::RunPaths;
use run_agent_core::world::{Run, Task};
use run_agent_runner::TaskView;
use run_agent_runner::output::tail_of;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::Waited;
use run_agent_runner::wake::Wake;

pub(crate) use self::print::Shown;
pub(crate) use self::tail::Tail;
use crate::args::{Global, OutputArgs};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render};

/// The most that `--tail` reads of a file.
const TAIL_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn run(global: &Global, args: &OutputArgs) -> Outcome {
    if let Some(client) = Client::of(global, &args.server)? {
        return there::run(global, &client, args);
    }
    let context = Context::open(global)?;
    let (name, id) = which(&context, args)?;
    let paths = context.tree.run(&name, &id);
    let mut view = TaskView::open(&context.tree, &name)?;
    close::close_dead(&context.tree, &mut view)?;
    check(context.json, args)?;
    if args.follow {
        return follow(&context, &name, &id, args, &mut view);
    }
    if context.json {
        return as_json(&context, &name, &id, args);
    }
    if args.merged {
        let mut tail = Tail::merged(&context.tree, &paths, Shown::of(args.raw));
        tail.only_last(args.tail);
        tail.finish(view.run(&id))?;
        return Ok(Exit::Done);
    }
    let (_, path) = file(&paths, args);
    if let Err(error) = context.tree.open(&path) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(Failure::unread(&path, &error));
        }
        let why = why_none(view.run(&id), path == paths.output());
        return Err(Failure::not_found(format!("{} is not there: {why}", path.display())));
    }
    match args.tail {
        Some(lines) => {
            let text = tail_of(&context.tree, &path, lines, TAIL_MAX);
            render::out(&text.map_err(|e| Failure::unread(&path, &e))?)?;
        }
        None => Tail::one(&context.tree, path).finish(None)?,
    }
    Ok(Exit::Done)
}

fn check(json: bool, args: &OutputArgs) -> Result<(), Failure> {
    if json && (args.follow || args.merged) {
        return Err(Failure::usage("--json shows one whole file; leave out --follow and --merged"));
    }
    if args.follow && args.prompt {
        return Err(Failure::usage("--follow shows what an agent prints; leave out --prompt"));
    }
    if args.raw && !(args.follow || args.merged) {
        return Err(Failure::usage(
            "--raw belongs to --follow and --merged; --stdout shows one file as it is",
        ));
    }
    Ok(())
}

/// Why a file of a run is not there.
fn why_none(run: Option<&Run>, is_output: bool) -> &'static str {
    if is_output && run.is_some_and(Run::is_active) {
        "the run has not ended; see --stdout, or --follow"
    } else {
        "the run left none"
    }
}

fn which(context: &Context, args: &OutputArgs) -> Result<(TaskName, RunId), Failure> {
    if let Some(text) = &args.run {
        return find::run(&context.tree, context.task()?.as_ref(), text);
    }
    let name = context.required_task()?;
    let view = TaskView::open(&context.tree, &name)?;
    let id = newest(&name, view.task())?;
    Ok((name, id))
}

/// A task's answer is that of who was given it, not of a child that began later.
fn newest(name: &TaskName, task: &Task) -> Result<RunId, Failure> {
    let runs = &task.runs;
    let found = runs.iter().rfind(|(_, run)| run.parent.is_none()).or_else(|| runs.iter().next_back());
    found.map(|(id, _)| id.clone()).ok_or_else(|| Failure::not_found(format!("task {name} has no run yet")))
}

fn file(paths: &RunPaths, args: &OutputArgs) -> (&'static str, PathBuf) {
    if args.stdout {
        ("stdout", paths.stdout())
    } else if args.stderr {
        ("stderr", paths.stderr())
    } else if args.prompt {
        ("prompt", paths.prompt())
    } else {
        ("output.md", paths.output())
    }
}

fn as_json(context: &Context, name: &TaskName, id: &RunId, args: &OutputArgs) -> Outcome {
    let (what, path) = file(&context.tree.run(name, id), args);
    let unread = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Failure::not_found(format!("{}: {e}", path.display())),
        _ => Failure::unread(&path, &e),
    };
    let mut opened = context.tree.open(&path).map_err(unread)?;
    let size = opened.metadata().map_err(unread)?.len();
    let content = match args.tail {
        Some(lines) => tail_of(&context.tree, &path, lines, TAIL_MAX).map_err(unread)?,
        None => {
            let mut bytes = Vec::new();
            opened.read_to_end(&mut bytes).map_err(unread)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    one_file(name, id, what, &content, size)
}

fn one_file(name: &TaskName, id: &RunId, what: &str, content: &str, size: u64) -> Outcome {
    render::json(&serde_json::json!({
        "project_id": name.project, "task_id": name.task, "run_id": id, "name": what, "content": content, "size_bytes": size,
    }))?;
    Ok(Exit::Done)
}

fn follow(context: &Context, name: &TaskName, id: &RunId, args: &OutputArgs, view: &mut TaskView) -> Outcome {
    let paths = context.tree.run(name, id);
    let mut tail = match (args.stdout, args.stderr) {
        (true, _) => Tail::one(&context.tree, paths.stdout()),
        (_, true) => Tail::one(&context.tree, paths.stderr()),
        _ => Tail::merged(&context.tree, &paths, Shown::of(args.raw)),
    };
    tail.only_last(args.tail);
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    wake.watch_stream(&context.tree, name);
    let _blocked = context.blocks();
    wake.watch_files(paths.folder(), &["agent-stdout.txt", "agent-stderr.txt"]);
    Ok(match tail.follow(&context.tree, view, id, &wake)? {
        Waited::Interrupted => Exit::Interrupted,
        Waited::AllEnded | Waited::TimeUp => Exit::Done,
    })
}
