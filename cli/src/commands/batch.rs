//! `job batch`: many runs of one task, from a file that says what depends on what. Nothing of it is remembered but in
//! the stream: each item has a key made of its id and what it is to do, so that the same call made again joins what
//! runs, leaves out what is done, and runs again what failed.

mod locate;
mod mistakes;
mod node;
mod raw;
mod report;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use run_agent_core::decide::Refusal;
use run_agent_core::id::SLUG_MAX;
use run_agent_core::world::{Run, RunStatus, Task};
use run_agent_core::{Cause, RunId, text};
use run_agent_runner::TaskView;
use run_agent_runner::agent::Backend;
use run_agent_runner::link::Origin;
use run_agent_runner::supervise::start::{Request, StartError, StartOutcome, Started, start};
use run_agent_runner::supervise::{Streams, close, take_over};
use run_agent_runner::wake::Wake;

use self::report::Report;
use self::spec::{Item, Spec};
use super::sign_in;
use super::target::{self, New, Target};
use super::task::fleet::{self, LUCKY};
use crate::args::{self, Global, Verb};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Many runs from a file, in order of what depends on what; resumable
    Batch(Verb<BatchArgs>),
}

#[derive(Debug, Args)]
#[command(
    after_help = "The file is a list of tasks, or a mapping with `tasks` and defaults for all (agent, cwd, timeout). A task \
        has an id (or name), a prompt or a prompt_file and, where they are needed, agent, cwd, timeout and depends_on. \
        Paths are meant from the file's folder. All are runs of one task: the one that --task names, the caller's, else \
        one that is named after the file.\n\n\
        Call it again to go on: what is done is left out, what runs is joined, what failed is run again. An item whose \
        prompt, agent or own folder has changed is another one. --task with a new name runs everything afresh.\n\n\
        Exit codes: 0 all completed, 1 some failed or were not started, 2 wrong file, 130 interrupted (what runs goes on).\n\nExample:\n  run-agent job batch --spec work.yaml --max-parallel 8"
)]
pub(crate) struct BatchArgs {
    /// The file: YAML, or JSON when it ends in .json
    #[arg(long, value_name = "FILE")]
    spec: PathBuf,
    /// How many run at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    max_parallel: u16,
    /// When one fails, go on with what does not depend on it
    #[arg(long)]
    continue_on_fail: bool,
    /// Only print the order and what would be done
    #[arg(long)]
    dry_run: bool,
}

/// One item on its way.
#[derive(Debug)]
struct Work {
    item: Item,
    agent: String,
    cwd: PathBuf,
    key: String,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// `attempt` counts the runs that there are of it, this one included.
    Waiting {
        attempt: u32,
    },
    Running {
        run: RunId,
        joined: bool,
    },
    /// `before`: an earlier call did it.
    Completed {
        run: RunId,
        before: bool,
    },
    Failed {
        run: Option<RunId>,
        why: String,
    },
    NotStarted {
        why: String,
    },
}

/// `timeout` is the limit of one run where the file says none.
pub(crate) fn run(global: &Global, args: &BatchArgs, timeout: Option<Duration>) -> Outcome {
    let spec = Spec::read(&args.spec).map_err(Failure::usage)?;
    let file = whole_path(&args.spec)?;
    let context = Context::open_configured(global)?;
    let (parent, depth) = super::job::parent_and_depth(&context)?;
    let target = place(&context, &file)?;
    let (mut work, backends) = prepare(&context, &target, spec)?;
    if args.dry_run {
        if let Target::Existing(name) = &target {
            settle(&mut work, TaskView::open(&context.tree, name)?.task());
        }
        return report::dry_run(&context, &target, &work);
    }
    let (name, starting) = target.or_make(&context, &task_text(&file, &work))?;
    let origin = super::job::origin(&context, &name)?;
    let mut view = TaskView::open(&context.tree, &name)?;
    close::close_dead(&context.tree, &mut view)?;
    settle(&mut work, view.task());
    let mut looked_at = BTreeSet::new();
    for Work { agent, cwd, .. } in &work {
        if looked_at.insert(agent) {
            sign_in::warn(&context, [agent.as_str()], cwd)?;
        }
    }
    let report = Report::new(&context, &name, &file);
    let _blocked = context.blocks();
    let cause = context.cause();
    let mut batch = Batch {
        context: &context,
        backends,
        parent,
        origin,
        depth,
        timeout,
        cause: &cause,
        work,
        view,
        report,
    };
    let interrupted = batch.run(usize::from(args.max_parallel), args.continue_on_fail)?;
    // Whoever is told how the batch ended finds nothing on its way.
    drop(starting);
    batch.report.end(&batch.work, batch.view.task(), interrupted)
}

/// The task of a batch: the one that is named, the caller's, else one with the file's name, so that the same call finds
/// it again.
fn place(context: &Context, file: &Path) -> Result<Target, Failure> {
    match target::target(context, false)? {
        Target::New(New { project, home, id: None, slug: None }) => {
            let slug = slug_of(file);
            match find::task(&context.tree, Some(&project), &slug) {
                Ok(name) if name.task.slug() == slug => Ok(Target::Existing(name)),
                Err(failure) if failure.exit() == Exit::Usage => Err(failure),
                Ok(_) | Err(_) => Ok(Target::New(New { project, home, id: None, slug: Some(slug) })),
            }
        }
        other => Ok(other),
    }
}

/// The file wherever one calls from, and whichever link leads to it. A pipe, as `<(…)` gives one, has no place of its
/// own: the name by which it was reached stands for it.
fn whole_path(file: &Path) -> Result<PathBuf, Failure> {
    match std::fs::canonicalize(file) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) | Err(_) => std::path::absolute(file).map_err(|e| Failure::io(file.display(), &e)),
    }
}

/// The name of the file's task. Files of one name in two folders are two batches, so a part of it stands for the path.
fn slug_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let place = format!("{:032x}", hash(file.as_os_str().as_bytes()));
    let place = &place[..PLACE];
    let slug = text::slug(&format!("batch {stem}"), SLUG_MAX - PLACE - 1);
    format!("{slug}-{place}")
}

/// So many digits tell the folders of files that have the same name.
const PLACE: usize = 8;

fn task_text(file: &Path, work: &[Work]) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut out = format!("Batch {name}: {}\n\n", render::count(work.len() as u64, "run"));
    for work in work {
        let line = work.item.prompt.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        out.push_str(&format!("- {}: {}\n", work.item.id, text::head(line.trim(), 120)));
    }
    out
}

type Backends = BTreeMap<String, Box<dyn Backend>>;

/// Everything that can be known to be wrong is, before anything is made.
fn prepare(context: &Context, target: &Target, spec: Spec) -> Result<(Vec<Work>, Backends), Failure> {
    let config = context.config()?;
    let (project, home) = target::project_and_home(context, target);
    let root = match home {
        Some(home) => Some(home.to_owned()),
        None => context.project_root(project)?,
    };
    let mut backends = Backends::new();
    let (mut places, mut mistakes) = (Vec::new(), spec.mistakes());
    for item in &spec.items {
        let agent = match &item.agent {
            Some(name) => name.clone(),
            None => config.default_agent()?,
        };
        if agent == LUCKY {
            // Whose turn it is tells the task, when the item starts.
            config.default_agent()?;
        } else if !backends.contains_key(&agent) {
            let found = config.agent(&agent);
            match found.and_then(|backend| backend.is_there().map(|()| backend).map_err(Failure::from)) {
                Ok(backend) => drop(backends.insert(agent.clone(), backend)),
                Err(failure) => mistakes.of_item(item.entry, "agent", failure.text()),
            }
        }
        let own = item.cwd.as_deref().or(root.as_deref());
        let cwd = match target::folder_of(context, project, own) {
            Ok(cwd) => cwd,
            Err(failure) => {
                mistakes.of_item(item.entry, "cwd", failure.text());
                continue;
            }
        };
        // The folder itself counts, however the file comes to it. Where one calls from is no part of what is to be
        // done: from elsewhere the same batch is joined and gone on with.
        let counted = own.map(|_| std::fs::canonicalize(&cwd).unwrap_or_else(|_| cwd.clone()));
        places.push((agent, cwd, counted.unwrap_or_default()));
    }
    mistakes.end().map_err(Failure::usage)?;
    let work = spec.items.into_iter().zip(places).map(|(item, (agent, cwd, counted))| {
        let key = key(&item, &agent, &counted);
        Work { item, agent, cwd, key, state: State::Waiting { attempt: 1 } }
    });
    Ok((work.collect(), backends))
}

/// An item is its id and what it is to do, in which folder where that is said: a batch whose prompt was changed does
/// the changed item, not the old one.
fn key(item: &Item, agent: &str, cwd: &Path) -> String {
    let mut what = agent.as_bytes().to_vec();
    what.push(0);
    what.extend_from_slice(cwd.as_os_str().as_bytes());
    what.push(0);
    what.extend_from_slice(item.prompt.as_bytes());
    format!("{}@{:032x}", item.id, hash(&what))
}

/// FNV-1a with 128 bits: the same on every machine and in every version, and with no chance of two texts meeting in
/// one key. Nobody gains by making them meet: whoever writes the file starts what he likes anyway.
fn hash(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    bytes.iter().fold(start, |hash: u128, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// The key of an attempt: the first has the plain one.
fn key_of_attempt(key: &str, attempt: u32) -> String {
    if attempt == 1 { key.to_owned() } else { format!("{key}#{attempt}") }
}

/// The newest attempt at an item that the stream knows.
fn newest<'a>(task: &'a Task, key: &str) -> Option<(u32, &'a RunId, &'a Run)> {
    let attempt = |run: &Run| match run.key.as_deref()?.strip_prefix(key)? {
        "" => Some(1),
        rest => rest.strip_prefix('#')?.parse().ok(),
    };
    task.runs.iter().filter_map(|(id, run)| Some((attempt(run)?, id, run))).max_by_key(|(n, ..)| *n)
}

/// Takes over what earlier calls did, and what other ones are doing.
fn settle(work: &mut [Work], task: &Task) {
    for work in work {
        if let Some((attempt, id, run)) = newest(task, &work.key) {
            work.state = match run.status() {
                RunStatus::Completed => State::Completed { run: id.clone(), before: true },
                RunStatus::Queued | RunStatus::Running => State::Running { run: id.clone(), joined: true },
                RunStatus::Failed | RunStatus::Stopped => State::Waiting { attempt: attempt + 1 },
            };
        }
    }
}

struct Batch<'a> {
    context: &'a Context,
    backends: Backends,
    parent: Option<RunId>,
    /// The parent again, when it is a run of another task.
    origin: Option<Origin>,
    depth: u32,
    timeout: Option<Duration>,
    cause: &'a Cause,
    work: Vec<Work>,
    view: TaskView,
    report: Report<'a>,
}

impl Batch<'_> {
    /// Until nothing is left to wait for. True when it was interrupted before.
    fn run(&mut self, max_parallel: usize, continue_on_fail: bool) -> Result<bool, Failure> {
        let wake = Wake::new();
        wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
        wake.watch_stream(&self.context.tree, &self.view.name);
        for work in &self.work {
            self.report.found(work);
        }
        loop {
            self.view.refresh()?;
            take_over::look_after(&self.context.tree, &mut self.view, |_| true)?;
            self.take_ends();
            self.heed_stop();
            self.drop_hopeless(continue_on_fail);
            self.start_ready(max_parallel)?;
            self.report.live(&self.work);
            let running = self.work.iter().any(|work| matches!(work.state, State::Running { .. }));
            let waiting = self.work.iter().any(|work| matches!(work.state, State::Waiting { .. }));
            if !running && !waiting {
                return Ok(false);
            }
            if wake.interrupted() {
                return Ok(true);
            }
            wake.sleep(Duration::from_secs(1));
        }
    }

    fn take_ends(&mut self) {
        for work in &mut self.work {
            let State::Running { run: id, .. } = &work.state else { continue };
            let Some(run) = self.view.run(id) else {
                work.state = State::Failed { run: None, why: format!("run {id} was deleted") };
                self.report.changed(work, None);
                continue;
            };
            if run.is_active() {
                continue;
            }
            let why = run.end().map(|(end, _)| end.reason.clone()).unwrap_or_default();
            work.state = match run.status() {
                RunStatus::Completed => State::Completed { run: id.clone(), before: false },
                RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Stopped => {
                    State::Failed { run: Some(id.clone()), why }
                }
            };
            self.report.changed(work, Some(run));
        }
    }

    /// A stop of the task is one of the batch, also between two items. It stands until this process has seen it.
    fn heed_stop(&mut self) {
        let Some(stop) = &self.view.task().ralph.stopping else { return };
        let why = format!("the task is being stopped (asked by {})", stop.how.by);
        for work in self.work.iter_mut().filter(|work| matches!(work.state, State::Waiting { .. })) {
            work.state = State::NotStarted { why: why.clone() };
            self.report.changed(work, None);
        }
    }

    /// What cannot be started any more: its dependency failed, or anything did and nobody asked to go on.
    fn drop_hopeless(&mut self, continue_on_fail: bool) {
        let lost = |state: &State| matches!(state, State::Failed { .. } | State::NotStarted { .. });
        let failed = self.work.iter().find(|work| matches!(work.state, State::Failed { .. }));
        let failed = failed.map(|work| work.item.id.clone());
        // What an item depends on stands before it: one pass is enough.
        for n in 0..self.work.len() {
            if !matches!(self.work[n].state, State::Waiting { .. }) {
                continue;
            }
            let on = self.work[n].item.depends_on.iter().find(|on| lost(&self.work[**on].state));
            let why = match (on, &failed) {
                (Some(on), _) => format!("it depends on {}", self.work[*on].item.id),
                (None, Some(failed)) if !continue_on_fail => format!("{failed} failed"),
                (None, _) => continue,
            };
            self.work[n].state = State::NotStarted { why };
            self.report.changed(&self.work[n], None);
        }
    }

    fn start_ready(&mut self, max_parallel: usize) -> Result<(), Failure> {
        let is_running = |work: &Work| matches!(work.state, State::Running { .. });
        let mut running = self.work.iter().filter(|work| is_running(work)).count();
        for n in 0..self.work.len() {
            if running >= max_parallel {
                return Ok(());
            }
            let State::Waiting { attempt } = self.work[n].state else { continue };
            let done = |on: &usize| matches!(self.work[*on].state, State::Completed { .. });
            if !self.work[n].item.depends_on.iter().all(done) {
                continue;
            }
            self.work[n].state = self.start(n, attempt)?;
            running += usize::from(is_running(&self.work[n]));
            self.report.changed(&self.work[n], None);
        }
        Ok(())
    }

    fn start(&mut self, n: usize, attempt: u32) -> Result<State, Failure> {
        let work = &self.work[n];
        let config = self.context.config()?;
        let picked = match work.agent.as_str() {
            LUCKY => match fleet::next_of(config, &self.view).and_then(|name| config.agent(&name)) {
                Ok(agent) => Some(agent),
                Err(failure) => return Ok(State::Failed { run: None, why: failure.text().to_owned() }),
            },
            _ => None,
        };
        let named = self.backends.get(&work.agent);
        let Some(backend) = picked.as_deref().or(named.map(AsRef::as_ref)) else {
            return Err(Failure::not_found(format!("no agent `{}`", work.agent)));
        };
        let key = key_of_attempt(&work.key, attempt);
        let request = Request {
            backend,
            prompt: &work.item.prompt,
            streams: Streams::Prompt,
            cwd: &work.cwd,
            parent: self.parent.clone(),
            origin: self.origin.as_ref(),
            root: None,
            key: Some(&key),
            verify: None,
            depth: self.depth,
            max_depth: config.max_depth(),
            grace: config.grace(),
            timeout: args::time_limit([work.item.timeout, self.timeout, config.timeout_of(backend.name())]),
            watch: config.watch(),
            max_agents: config.max_agents(),
            budget: Some(config.budget()),
            cause: self.cause,
            // The batch itself is on its way from its first item to its last.
            starting: None,
        };
        Ok(match start(&self.context.tree, &mut self.view, request) {
            Ok(Started {
                run, outcome: StartOutcome::Running { .. } | StartOutcome::Parked { .. }, ..
            }) => State::Running { run, joined: false },
            Ok(Started {
                run,
                outcome: StartOutcome::Refused { why } | StartOutcome::Failed { why },
                ..
            }) => State::Failed { run: Some(run), why },
            // Another batch from the same file was first.
            Err(StartError::Refused(Refusal::KeyTaken(run))) => State::Running { run, joined: true },
            Err(error) => State::Failed { run: None, why: crate::error::chain(&error) },
        })
    }
}
