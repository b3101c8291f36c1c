//! `output`: a run's final answer, stdout, stderr, both merged; also as they come.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use run_agent_core::RunId;
use run_agent_core::layout::RunPaths;
use run_agent_runner::output::{Source, marks, merge_order, tail_of};
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::Waited;
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, Tree, files};

use super::reader;
use crate::args::{Global, OutputArgs};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render};

/// The most that `--tail` reads of a file.
const TAIL_MAX: u64 = 16 * 1024 * 1024;
/// What is read of a file at once.
const CHUNK: u64 = 1024 * 1024;

pub(crate) fn run(global: &Global, args: &OutputArgs) -> Outcome {
    let context = Context::open(global)?;
    let (name, id) = which(&context, args)?;
    let paths = context.tree.run(&name, &id);
    // Whatever is shown of a run lies in its folder: a link that an agent left may lead anywhere.
    for path in [
        paths.folder().to_owned(),
        paths.stdout(),
        paths.stderr(),
        paths.prompt(),
        paths.output(),
        paths.marks(),
    ] {
        context.no_way_out(&path)?;
    }
    let mut view = TaskView::open(&context.tree, &name)?;
    close::close_dead(&context.tree, &mut view)?;
    if context.json && (args.follow || args.merged) {
        return Err(Failure::usage("--json shows one whole file; leave out --follow and --merged"));
    }
    if args.follow && args.prompt {
        return Err(Failure::usage("--follow shows what an agent prints; leave out --prompt"));
    }
    if args.follow {
        return follow(&context, &name, &id, args, &mut view);
    }
    if context.json {
        return as_json(&name, &id, &paths, args);
    }
    if args.merged {
        let mut tail = Tail::merged(&paths);
        tail.skip_to_last(args.tail);
        tail.pump(true)?;
        return Ok(Exit::Done);
    }
    let (_, path) = file(&paths, args);
    if !path.exists() {
        let active = view.run(&id).is_some_and(run_agent_core::world::Run::is_active);
        let hint = if active && path == paths.output() {
            "the run has not ended; see --stdout, or --follow"
        } else {
            "the run left none"
        };
        return Err(Failure::not_found(format!("{} is not there: {hint}", path.display())));
    }
    // Anything else of that name, as an agent may make it, could be waited on for ever.
    if path.exists() && !path.is_file() {
        return Err(Failure::new(Exit::Failed, format!("{} is not a regular file", path.display())));
    }
    match args.tail {
        Some(lines) => {
            render::out(&tail_of(&path, lines, TAIL_MAX).map_err(|e| Failure::io(path.display(), &e))?)?;
        }
        None => {
            let mut tail = Tail::one(path);
            tail.pump(true)?;
        }
    }
    Ok(Exit::Done)
}

fn which(context: &Context, args: &OutputArgs) -> Result<(TaskName, RunId), Failure> {
    if let Some(text) = &args.run {
        return find::run(&context.tree, context.task()?.as_ref(), text);
    }
    let name = context.required_task()?;
    let view = TaskView::open(&context.tree, &name)?;
    // A task's answer is that of who was given it, not of a child that began later.
    let runs = &view.task().runs;
    match runs.iter().rfind(|(_, run)| run.parent.is_none()).or_else(|| runs.iter().next_back()) {
        Some((id, _)) => Ok((name, id.clone())),
        None => Err(Failure::not_found(format!("task {name} has no run yet"))),
    }
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

fn as_json(name: &TaskName, id: &RunId, paths: &RunPaths, args: &OutputArgs) -> Outcome {
    let (what, path) = file(paths, args);
    let meta =
        std::fs::metadata(&path).map_err(|e| Failure::not_found(format!("{}: {e}", path.display())))?;
    if !meta.is_file() {
        return Err(Failure::new(Exit::Failed, format!("{} is not a regular file", path.display())));
    }
    let size = meta.len();
    let content = match args.tail {
        Some(lines) => tail_of(&path, lines, TAIL_MAX),
        None => std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    };
    let content = content.map_err(|e| Failure::io(path.display(), &e))?;
    render::json(&serde_json::json!({
        "project_id": name.project, "task_id": name.task, "run_id": id, "name": what, "content": content, "size_bytes": size,
    }))?;
    Ok(Exit::Done)
}

fn follow(context: &Context, name: &TaskName, id: &RunId, args: &OutputArgs, view: &mut TaskView) -> Outcome {
    let paths = context.tree.run(name, id);
    let mut tail = match (args.stdout, args.stderr) {
        (true, _) => Tail::one(paths.stdout()),
        (_, true) => Tail::one(paths.stderr()),
        _ => Tail::merged(&paths),
    };
    tail.skip_to_last(args.tail);
    let mut wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    wake.watch_stream(&context.tree, name);
    wake.watch_files(paths.folder(), &["agent-stdout.txt", "agent-stderr.txt"]);
    Ok(match tail.follow(&context.tree, view, id, &wake)? {
        Waited::Interrupted => Exit::Interrupted,
        Waited::AllEnded | Waited::TimeUp => Exit::Done,
    })
}

/// Prints files as they grow, each byte once.
#[derive(Debug)]
pub(crate) struct Tail {
    stdout: Option<(PathBuf, u64)>,
    stderr: Option<(PathBuf, u64)>,
    marks_of: Option<RunPaths>,
}

impl Tail {
    /// Both streams, in the order that the run's marks tell.
    pub(crate) fn merged(paths: &RunPaths) -> Self {
        Self {
            stdout: Some((paths.stdout(), 0)),
            stderr: Some((paths.stderr(), 0)),
            marks_of: Some(paths.clone()),
        }
    }

    /// One file.
    pub(crate) fn one(path: PathBuf) -> Self {
        Self { stdout: Some((path, 0)), stderr: None, marks_of: None }
    }

    /// Begins with the last lines of each file.
    fn skip_to_last(&mut self, lines: Option<usize>) {
        let Some(lines) = lines else { return };
        for (path, at) in self.stdout.iter_mut().chain(self.stderr.iter_mut()) {
            let len = std::fs::metadata(&*path).map_or(0, |meta| meta.len());
            let kept = tail_of(path, lines, TAIL_MAX).map_or(0, |text| text.len() as u64);
            *at = len.saturating_sub(kept);
        }
    }

    /// Prints until the run has ended and everything is out.
    pub(crate) fn follow(
        &mut self,
        tree: &Tree,
        view: &mut TaskView,
        run: &RunId,
        wake: &Wake,
    ) -> Result<Waited, Failure> {
        loop {
            view.refresh()?;
            close::close_dead(tree, view)?;
            let ended = view.run(run).is_none_or(|run| !run.is_active());
            self.pump(ended)?;
            if ended {
                return Ok(Waited::AllEnded);
            }
            reader::still_there()?;
            if wake.interrupted() {
                return Ok(Waited::Interrupted);
            }
            wake.sleep(std::time::Duration::from_millis(250));
        }
    }

    /// Prints what has grown. Unless it is the end, only what the marks have put in order.
    pub(crate) fn pump(&mut self, to_end: bool) -> Result<(), Failure> {
        let len = |file: &Option<(PathBuf, u64)>| {
            file.as_ref().and_then(|(path, _)| std::fs::metadata(path).ok()).map_or(0, |meta| meta.len())
        };
        let (mut stdout_len, mut stderr_len) = (len(&self.stdout), len(&self.stderr));
        let marks = self.marks_of.as_ref().map(marks).unwrap_or_default();
        if let (true, false, Some(last)) = (self.marks_of.is_some(), to_end, marks.last()) {
            (stdout_len, stderr_len) = (last.stdout.min(stdout_len), last.stderr.min(stderr_len));
        }
        for (source, range) in merge_order(&marks, stdout_len, stderr_len) {
            let file = match source {
                Source::Stdout => &mut self.stdout,
                Source::Stderr => &mut self.stderr,
            };
            if let Some((path, at)) = file
                && range.end > *at
            {
                copy(path, range.start.max(*at), range.end)?;
                *at = range.end;
            }
        }
        Ok(())
    }
}

fn copy(path: &Path, from: u64, to: u64) -> Result<(), Failure> {
    let io_error = |e: io::Error| Failure::io(path.display(), &e);
    let mut file = files::open_regular(path).map_err(io_error)?;
    file.seek(SeekFrom::Start(from)).map_err(io_error)?;
    let mut left = to - from;
    while left > 0 {
        let mut chunk = Vec::new();
        let read = (&mut file).take(left.min(CHUNK)).read_to_end(&mut chunk).map_err(io_error)?;
        if read == 0 {
            break;
        }
        left -= read as u64;
        render::bytes(&chunk)?;
    }
    Ok(())
}
