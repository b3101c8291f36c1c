//! `output`: a run's final answer, stdout, stderr, both merged; also as they come.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use run_agent_core::RunId;
use run_agent_core::layout::RunPaths;
use run_agent_runner::output::{Source, marks, merge_order, tail_of};
use run_agent_runner::supervise::{close, take_over};
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::Waited;
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, Tree};

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
        return as_json(&context, &name, &id, args);
    }
    if args.merged {
        let mut tail = Tail::merged(&context.tree, &paths);
        tail.skip_to_last(args.tail)?;
        tail.pump(true)?;
        return Ok(Exit::Done);
    }
    let (_, path) = file(&paths, args);
    if let Err(error) = context.tree.open(&path) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(Failure::unread(&path, &error));
        }
        let active = view.run(&id).is_some_and(run_agent_core::world::Run::is_active);
        let hint = if active && path == paths.output() {
            "the run has not ended; see --stdout, or --follow"
        } else {
            "the run left none"
        };
        return Err(Failure::not_found(format!("{} is not there: {hint}", path.display())));
    }
    match args.tail {
        Some(lines) => {
            let text = tail_of(&context.tree, &path, lines, TAIL_MAX);
            render::out(&text.map_err(|e| Failure::unread(&path, &e))?)?;
        }
        None => Tail::one(&context.tree, path).pump(true)?,
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
        _ => Tail::merged(&context.tree, &paths),
    };
    tail.skip_to_last(args.tail)?;
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

/// Prints files as they grow, each byte once.
#[derive(Debug)]
pub(crate) struct Tail {
    tree: Tree,
    stdout: Option<(PathBuf, u64)>,
    stderr: Option<(PathBuf, u64)>,
    marks_of: Option<RunPaths>,
}

impl Tail {
    /// Both streams, in the order that the run's marks tell.
    pub(crate) fn merged(tree: &Tree, paths: &RunPaths) -> Self {
        Self {
            tree: tree.clone(),
            stdout: Some((paths.stdout(), 0)),
            stderr: Some((paths.stderr(), 0)),
            marks_of: Some(paths.clone()),
        }
    }

    /// One file.
    pub(crate) fn one(tree: &Tree, path: PathBuf) -> Self {
        Self { tree: tree.clone(), stdout: Some((path, 0)), stderr: None, marks_of: None }
    }

    /// Begins with the last lines of each file.
    fn skip_to_last(&mut self, lines: Option<usize>) -> Result<(), Failure> {
        let Some(lines) = lines else { return Ok(()) };
        for (path, at) in self.stdout.iter_mut().chain(self.stderr.iter_mut()) {
            let len = len_of(&self.tree, path)?;
            let kept = tail_of(&self.tree, path, lines, TAIL_MAX).map_or(0, |text| text.len() as u64);
            *at = len.saturating_sub(kept);
        }
        Ok(())
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
            take_over::look_after(tree, view, |id| id == run)?;
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
        let len =
            |file: &Option<(PathBuf, u64)>| file.as_ref().map_or(Ok(0), |(path, _)| len_of(&self.tree, path));
        let (mut stdout_len, mut stderr_len) = (len(&self.stdout)?, len(&self.stderr)?);
        let marks = self.marks_of.as_ref().map(|run| marks(&self.tree, run)).unwrap_or_default();
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
                copy(&self.tree, path, range.start.max(*at), range.end)?;
                *at = range.end;
            }
        }
        Ok(())
    }
}

/// How long a file is; one that is not there (yet) is empty.
fn len_of(tree: &Tree, path: &Path) -> Result<u64, Failure> {
    match tree.open(path).and_then(|file| file.metadata()) {
        Ok(meta) => Ok(meta.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Failure::unread(path, &error)),
    }
}

fn copy(tree: &Tree, path: &Path, from: u64, to: u64) -> Result<(), Failure> {
    let io_error = |e: io::Error| Failure::unread(path, &e);
    let mut file = tree.open(path).map_err(io_error)?;
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
