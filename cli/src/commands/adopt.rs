//! `adopt`: takes up loops whose driver died without saying so, each by a driver of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::Timestamp;
use run_agent_core::world::Task;
use run_agent_runner::TaskView;
use run_agent_runner::adopt::{DriverLife, Driverless, Found, driverless};
use run_agent_runner::link;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;
use serde::Serialize;

use super::completion::tasks;
use super::task::detach::{Kept, Order, Origin, Parcel};
use crate::args::{self, Global};
use crate::config::Adopt;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Cell, Hue};

/// So many drivers are started at once: each comes up in some milliseconds, and more would only wait for processors.
const AT_ONCE: usize = 8;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A driver that is killed, alone or with its machine, leaves its loop open. Taking it up spends \
        money, so it is asked for. `run-agent task` takes up one loop in the foreground.\n\n\
        Example:\n  run-agent adopt --since 24h --dry-run"
)]
pub(crate) struct AdoptArgs {
    /// Only these tasks [default: all of --project, else of all projects]
    #[arg(value_name = "TASK", add = Complete::new(tasks))]
    tasks: Vec<String>,
    /// Only loops in which something happened in the last so long, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    since: Option<Duration>,
    /// Show what would be taken up, and start nothing
    #[arg(long)]
    dry_run: bool,
    /// Do nothing unless loop.adopt is "auto" in the config: for a service that is started with the machine
    #[arg(long, conflicts_with = "dry_run")]
    if_auto: bool,
}

/// What became of one loop.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
enum State {
    /// A driver was started, and has it.
    Adopted {
        driver_pid: u32,
    },
    WouldAdopt,
    /// Somebody drives it, or was quicker.
    Driven,
    /// There is nothing to take up: the loop has ended, or never was.
    NotOpen {
        status: String,
        reason: String,
    },
    /// Of another machine or container: left alone.
    Foreign,
    Failed {
        error: String,
    },
}

#[derive(Debug, Serialize)]
struct Told {
    project_id: run_agent_core::ProjectId,
    task_id: run_agent_core::TaskId,
    title: String,
    last_activity: Option<Timestamp>,
    #[serde(flatten)]
    state: State,
}

pub(crate) fn run(global: &Global, args: &AdoptArgs) -> Outcome {
    let context = Context::open_to_steer(global)?;
    if args.if_auto {
        let adopt = context.config()?.adopt();
        if adopt != Adopt::Auto {
            render::say(&format!("loop.adopt is {}: nothing is taken up", adopt.as_str()));
            if context.json {
                render::json(&serde_json::json!({ "loops": [], "exit_code": Exit::Done.code() }))?;
            }
            return Ok(Exit::Done);
        }
    }
    let (lost, mut told) = find(&context, args)?;
    let lost: Vec<Driverless> = lost.into_iter().filter(|lost| is_recent(lost, args.since)).collect();
    // A level of depth at a time: a task whose run started a loop elsewhere finds that one driven.
    for level in lost.chunk_by(|a, b| a.depth() == b.depth()) {
        told.extend(take_all(&context, level, args.dry_run));
    }
    report(&context, args, told)
}

fn is_recent(lost: &Driverless, since: Option<Duration>) -> bool {
    let (Some(since), Some(last)) = (since, lost.last_activity) else { return true };
    let ago = Timestamp::now().duration_since(last);
    Duration::try_from(ago).map_or(true, |ago| ago <= since)
}

/// The loops to take up, in order, and what is known of the others that were named.
fn find(context: &Context, args: &AdoptArgs) -> Result<(Vec<Driverless>, Vec<Told>), Failure> {
    let mut names = Vec::new();
    for text in &args.tasks {
        names.push(context.task_named(text)?);
    }
    if context.task_flag().is_some() {
        names.push(context.required_task()?);
    }
    if !names.is_empty() {
        names.sort();
        names.dedup();
        return named(context, names);
    }
    let projects = match context.named_project()? {
        Some(project) => vec![project],
        None => {
            let root = context.tree.layout.root();
            context.tree.projects().map_err(|e| Failure::io(root.display(), &e))?
        }
    };
    let Found { loops, unreadable } = driverless(&context.tree, &projects)
        .map_err(|e| Failure::io("cannot look for loops without a driver", &e))?;
    let told = unreadable.into_iter().map(|(name, error)| {
        let state = State::Failed { error: Failure::from(error).to_string() };
        Told::new(name, String::new(), None, state)
    });
    Ok((loops, told.collect()))
}

fn named(context: &Context, names: Vec<TaskName>) -> Result<(Vec<Driverless>, Vec<Told>), Failure> {
    let (mut loops, mut told) = (Vec::new(), Vec::new());
    for name in names {
        let mut view = TaskView::open(&context.tree, &name)?;
        close::close_dead(&context.tree, &mut view)?;
        if let Some(lost) = Driverless::of(&context.tree, &view) {
            loops.push(lost);
            continue;
        }
        let state = match view.driver(&context.tree) {
            DriverLife::Alive => State::Driven,
            DriverLife::NotOpen | DriverLife::Lost | DriverLife::Foreign => not_open(view.task()),
        };
        let task = view.task();
        told.push(Told::new(name, task.title().to_owned(), task.thread.last_activity, state));
    }
    loops.sort_by_key(|lost| std::cmp::Reverse(lost.depth()));
    Ok((loops, told))
}

fn not_open(task: &Task) -> State {
    State::NotOpen { status: task.status().to_string(), reason: task.reason() }
}

/// Takes up loops of one depth, several at a time; what became of each, in their order.
fn take_all(context: &Context, lost: &[Driverless], dry_run: bool) -> Vec<Told> {
    let parcels: Vec<Option<Result<Parcel, Failure>>> =
        lost.iter().map(|lost| (!dry_run && !lost.foreign).then(|| pack(context, lost))).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(parcel) = parcels.get(at) else { return };
            if let Some(Ok(parcel)) = parcel {
                done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, parcel.send(None));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(parcels.len()) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut told = Vec::new();
    for (at, (lost, parcel)) in lost.iter().zip(parcels).enumerate() {
        let state = match (done.remove(&at), parcel) {
            (Some(Ok(driver_pid)), _) => State::Adopted { driver_pid },
            (Some(Err(failure)), _) | (None, Some(Err(failure))) => refused(context, &lost.name, &failure),
            (None, _) if lost.foreign => State::Foreign,
            (None, _) => State::WouldAdopt,
        };
        told.push(Told::new(lost.name.clone(), lost.title.clone(), lost.last_activity, state));
    }
    told
}

/// What a driver needs to go on with a loop as it was asked for.
fn pack(context: &Context, lost: &Driverless) -> Result<Parcel, Failure> {
    let driver = lost.driver.clone().unwrap_or_default();
    // Of a version that kept none, or by hand: what the configuration says.
    let kept = driver.settings.as_deref().and_then(|text| serde_json::from_str::<Kept>(text).ok());
    let Kept { mut settings, config } = kept.unwrap_or_default();
    if settings.cwd.is_none() {
        settings.cwd = folder_before(context, &lost.name);
    }
    let config = context.config_named().map(Path::to_owned).or(config.filter(|path| path.is_file()));
    let elsewhere = driver.parent_project_id.zip(driver.parent_task_id);
    let parent = elsewhere
        .zip(driver.parent_run_id)
        .map(|((project, task), run)| link::Origin { name: TaskName { project, task }, run });
    let origin = Origin { parent, depth: driver.depth, cause: context.cause().to_string() };
    let order = Order { settings, fresh: false, adopt: true, origin };
    Parcel::pack(context, &lost.name, config.as_deref(), &order)
}

/// Where the newest root run worked.
fn folder_before(context: &Context, name: &TaskName) -> Option<PathBuf> {
    let view = TaskView::open(&context.tree, name).ok()?;
    let last = view.task().ralph.last_root.as_ref()?;
    view.start_of(last).map(|start| PathBuf::from(start.cwd)).filter(|folder| folder.is_dir())
}

/// A driver that did not get the loop: somebody else may have it, or may have ended it, by now.
fn refused(context: &Context, name: &TaskName, failure: &Failure) -> State {
    let failed = || State::Failed { error: failure.text().to_owned() };
    let Ok(view) = TaskView::open(&context.tree, name) else { return failed() };
    match view.driver(&context.tree) {
        DriverLife::Alive => State::Driven,
        DriverLife::NotOpen => not_open(view.task()),
        DriverLife::Lost | DriverLife::Foreign => failed(),
    }
}

impl Told {
    fn new(name: TaskName, title: String, last_activity: Option<Timestamp>, state: State) -> Self {
        Self { project_id: name.project, task_id: name.task, title, last_activity, state }
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let (word, hue, more) = match &self.state {
            State::Adopted { driver_pid } => ("adopted", Hue::Good, format!("by process {driver_pid}")),
            State::WouldAdopt => ("lost", Hue::Busy, String::new()),
            State::Driven => ("driven", Hue::Busy, "by somebody else".to_owned()),
            State::NotOpen { status, reason } if reason.is_empty() => ("not open", Hue::Busy, status.clone()),
            State::NotOpen { status, reason } => {
                ("not open", Hue::Busy, format!("{status}{}", render::reason(status, reason)))
            }
            State::Foreign => {
                ("foreign", Hue::Busy, "driven on another machine or in another container".to_owned())
            }
            State::Failed { error } => ("failed", Hue::Bad, render::safe_line(error)),
        };
        let active = self.last_activity.map(|at| render::when(at, now)).unwrap_or_default();
        vec![
            Cell::new(word).hue(hue),
            Cell::new(format!("{}/{}", self.project_id, self.task_id)),
            Cell::new(active),
            Cell::new(if more.is_empty() { render::safe_line(&self.title) } else { more }),
        ]
    }
}

fn report(context: &Context, args: &AdoptArgs, told: Vec<Told>) -> Outcome {
    let failed = told.iter().any(|told| matches!(told.state, State::Failed { .. }));
    let exit = if failed { Exit::Failed } else { Exit::Done };
    if context.json {
        render::json(&serde_json::json!({ "loops": told, "exit_code": exit.code() }))?;
        return Ok(exit);
    }
    if told.is_empty() {
        render::say("no loop has lost its driver");
        return Ok(exit);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<Cell>> = told.iter().map(|told| told.cells(now)).collect();
    render::out(&render::table(&rows))?;
    if args.dry_run && told.iter().any(|told| matches!(told.state, State::WouldAdopt)) {
        render::say("nothing was started; without --dry-run they are taken up");
    }
    Ok(exit)
}
