//! `wrap`: any command as a tracked run of a task. On a terminal it keeps the terminal; elsewhere it is supervised as
//! a job is, and what it prints goes to the run's files and to the caller.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use clap::Args;
use run_agent_core::RunId;
use run_agent_core::event::RunStart;
use run_agent_core::layout::RunPaths;
use run_agent_core::plan::reason::TIME_LIMIT;
use run_agent_core::world::RunStatus;
use run_agent_runner::TaskView;
use run_agent_runner::agent::ByHand;
use run_agent_runner::supervise::start::{Request, StartOutcome, Started, make, start};
use run_agent_runner::supervise::{Streams, signal_agent, supervisor, take_over};
use run_agent_runner::wake::Wake;

use super::target;
use crate::args::{self, Global};
use crate::context::{Context, here};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

/// Signals that are meant for the command, wherever they arrive.
const PASSED_ON: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
const SIGHUP: i32 = nix::libc::SIGHUP;
const SIGINT: i32 = nix::libc::SIGINT;
const SIGQUIT: i32 = nix::libc::SIGQUIT;
const SIGTERM: i32 = nix::libc::SIGTERM;

#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is the command's own; 5 when there is no such program, 124 at the time limit. Ctrl-C reaches the command.\n\n\
        When stdout is a terminal, the command keeps it: it stays in the foreground, and what it prints is not recorded. \
        Then it survives neither its terminal being closed nor a `kill -9` of wrap itself, whose shell takes the terminal \
        back; the end of such a run is told by the next run-agent command that looks. What it leaves running is left.\n\n\
        Elsewhere the command has a supervisor of its own, as a job has: it survives wrap, its output is kept in the \
        run's folder and copied here, and what it leaves running is ended with it.\n\n\
        `run-agent shell-setup install` makes claude, codex and gemini start this way.\n\nExample:\n  run-agent wrap -- claude"
)]
pub(crate) struct WrapArgs {
    /// The name under which the run is listed [default: the program's]
    #[arg(long, value_name = "NAME", value_parser = args::agent_name)]
    agent: Option<String>,
    /// Time limit, such as 30m; 0 is none
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    argv: Vec<OsString>,
}

pub(crate) fn run(global: &Global, args: &WrapArgs) -> Outcome {
    if global.json {
        return Err(Failure::usage(
            "wrap passes the command's own output through; leave out --json, and see `run-agent status --json`",
        ));
    }
    let context = Context::open_configured(global)?;
    let (parent, depth) = super::job::parent_and_depth(&context)?;
    let config = context.config()?;
    let argv = texts(&args.argv)?;
    may_be_a_program(&argv)?;
    let backend = ByHand::new(args.agent.as_deref(), &argv)?;
    let cwd = here()?;
    target::can_be_handed_over(&context, &cwd, "the working folder", "call from another one")?;
    let text = format!("{}\n\nStarted by hand in {}\n", command_line(&argv), cwd.display());
    let (name, starting) = target::target(&context, false)?.or_make(&context, &text)?;
    let keeps_terminal = io::stdout().is_terminal();
    let cause = context.cause();
    let origin = super::job::origin(&context, &name)?;
    let mut view = TaskView::open(&context.tree, &name)?;
    let request = Request {
        backend: &backend,
        prompt: &text,
        streams: if keeps_terminal { Streams::Terminal } else { Streams::CallerInput },
        cwd: &cwd,
        parent,
        origin: origin.as_ref(),
        root: None,
        key: None,
        verify: None,
        depth,
        max_depth: config.max_depth(),
        grace: config.grace(),
        timeout: args::time_limit([args.timeout]),
        watch: config.watch(),
        // A person's own command waits for nobody.
        max_agents: 0,
        budget: None,
        cause: &cause,
        starting: Some(&starting),
    };
    if keeps_terminal {
        let made = make(&context.tree, &mut view, &request)?;
        let run = made.run().clone();
        supervisor::keep_terminal(&context.tree, TaskView::open(&context.tree, &name)?, made)?;
        view.fold()?;
        return Ok(code(&view, &run));
    }
    // Before the command is there, so that none that is meant for it ends wrap instead.
    let wake = Wake::new();
    let signals = wake.on_signals(&PASSED_ON).map_err(cannot_listen)?;
    match start(&context.tree, &mut view, request)? {
        Started { run, outcome: StartOutcome::Running { .. } | StartOutcome::Parked { .. }, .. } => {
            attend(&context, &mut view, &run, wake, signals)
        }
        Started { run, outcome: StartOutcome::Refused { why } | StartOutcome::Failed { why }, .. } => {
            Err(Failure::new(Exit::Failed, format!("run {run} did not start: {why}")))
        }
    }
}

/// The command as it is recorded: the run's files hold text.
fn texts(argv: &[OsString]) -> Result<Vec<String>, Failure> {
    let text = |(n, word): (usize, &OsString)| match word.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::usage(format!(
            "word {} of the command, {}, is not UTF-8, and a run is recorded as text; name the file in another way, such as through a link",
            n + 1,
            word.display()
        ))),
    };
    argv.iter().enumerate().map(text).collect()
}

/// A path that leads to something else than a program is not looked for among the programs.
fn may_be_a_program(argv: &[String]) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let Some(program) = argv.first().filter(|program| program.contains('/')) else { return Ok(()) };
    let why = match std::fs::metadata(program) {
        Ok(meta) if meta.is_dir() => "is a folder",
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => "may not be executed (see chmod +x)",
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there",
        Err(error) => return Err(Failure::io(format!("cannot look at {program}"), &error)),
    };
    Err(Failure::not_found(format!("{program} {why}, so it is no program to run")))
}

/// Copies what the command prints until it has ended, and passes signals on to it.
fn attend(
    context: &Context,
    view: &mut TaskView,
    run: &RunId,
    wake: Wake,
    signals: Receiver<i32>,
) -> Outcome {
    view.fold()?;
    let start = view.run(run).and_then(run_agent_core::world::Run::start).cloned();
    pass_signals_on(signals, start.clone())?;
    let paths = context.tree.run(&view.name, run);
    wake.watch_stream(&context.tree, &view.name);
    wake.watch_files(paths.folder(), &["agent-stdout.txt", "agent-stderr.txt"]);
    let mut streams = Copied::of(&paths);
    loop {
        view.refresh()?;
        take_over::look_after(&context.tree, view, |id| id == run)?;
        let ended = view.run(run).is_none_or(|run| !run.is_active());
        if let (false, false, Some(start)) = (streams.pump(), ended, &start) {
            // Its reader is gone: a command that wrote to it itself would be told in this way.
            signal_agent(start, nix::libc::SIGPIPE);
        }
        if ended {
            return Ok(code(view, run));
        }
        wake.sleep(Duration::from_secs(1));
    }
}

/// What a person sends goes to the command. In a thread of its own: a reader of stdout that is slow holds up no signal.
fn pass_signals_on(signals: Receiver<i32>, start: Option<RunStart>) -> Result<(), Failure> {
    let pass = move || {
        for signal in signals {
            if let Some(start) = &start {
                signal_agent(start, signal);
            }
        }
    };
    std::thread::Builder::new().name("pass on".to_owned()).spawn(pass).map(drop).map_err(cannot_listen)
}

fn cannot_listen(error: io::Error) -> Failure {
    Failure::io("cannot listen for signals", &error)
}

/// The command's own exit code, but never success for a run that did not complete.
fn code(view: &TaskView, id: &RunId) -> Exit {
    let Some(run) = view.run(id) else { return Exit::Failed };
    let end = run.end().map(|(end, _)| end.clone()).unwrap_or_default();
    match (run.status(), end.exit_code.and_then(|code| u8::try_from(code).ok())) {
        (RunStatus::Completed, _) => Exit::Done,
        _ if end.reason.starts_with(TIME_LIMIT) => {
            render::say(&format!("run {id} {}: {}", run.status(), render::safe(&end.reason)));
            Exit::TimeLimit
        }
        (_, Some(code)) if code != 0 => Exit::Agent(code),
        _ => {
            render::say(&format!("run {id} {}: {}", run.status(), render::safe(&end.reason)));
            Exit::Failed
        }
    }
}

/// The command as a person would type it again.
fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    let quoted = |arg: &String| {
        if !arg.is_empty() && arg.chars().all(plain) {
            return arg.clone();
        }
        format!("'{}'", arg.replace('\'', r"'\''"))
    };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The run's two files, copied to the caller's two streams as they grow.
struct Copied {
    stdout: (PathBuf, u64),
    stderr: (PathBuf, u64),
    /// The caller's stdout has no reader any more.
    closed: bool,
}

impl Copied {
    fn of(paths: &RunPaths) -> Self {
        Self { stdout: (paths.stdout(), 0), stderr: (paths.stderr(), 0), closed: false }
    }

    /// False when nobody reads the caller's stdout.
    fn pump(&mut self) -> bool {
        // What cannot be shown here still lies in the run's folder.
        let _ = copy(&mut self.stderr, &mut io::stderr().lock());
        if !self.closed {
            let copied = copy(&mut self.stdout, &mut io::stdout().lock());
            self.closed = copied.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        }
        !self.closed
    }
}

fn copy((path, at): &mut (PathBuf, u64), to: &mut impl Write) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(*at))?;
    let mut chunk = [0; 64 * 1024];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return to.flush();
        }
        to.write_all(&chunk[..read])?;
        *at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again() {
        let argv = ["claude", "-p", "it's on", "", "a=b"].map(str::to_owned);
        assert_eq!(command_line(&argv), r"claude -p 'it'\''s on' '' a=b");
    }
}
