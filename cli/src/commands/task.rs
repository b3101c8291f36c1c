//! `task`: create or continue a task, and drive its Ralph loop.

pub(crate) mod attach;
mod delete;
pub(crate) mod dependencies;
pub(crate) mod detach;
pub(crate) mod fleet;
mod follow;
mod teller;
mod there;

use std::io;
use std::time::Duration;

use clap::Subcommand;
use run_agent_core::event::{LoopEnd, LoopOutcome};
use run_agent_core::plan::reason;
use run_agent_core::policy::agents::Pool;
use run_agent_core::world::{Marker, Task, TaskStatus};
use run_agent_core::{Cause, Timestamp};
use run_agent_runner::drive::{Loop, drive};
use run_agent_runner::make;
use run_agent_runner::starting::Starting;
use run_agent_runner::tree::TaskName;
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, files};
use serde::{Deserialize, Serialize};

use self::fleet::Fleet;
use self::teller::Teller;
use super::output::Shown;
use super::target::Origin;
use super::{prompt, sign_in, target};
use crate::args::{self, Global, TaskArgs, Verb};
use crate::client::Client;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Hue, Paint};

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Delete a task that is not active, with its runs and messages
    Delete(Verb<delete::DeleteArgs>),
}

pub(crate) fn run(global: &Global, args: &TaskArgs) -> Outcome {
    if let Some(TaskCommand::Delete(delete)) = &args.other {
        delete_alone(args)?;
        return delete::run(global, delete);
    }
    if let Some(client) = Client::of(global, &args.server)? {
        return there::run(global, client, args);
    }
    if args.attach {
        return attach::run(global, Shown::followed(args.follow, args.raw));
    }
    // Where `--json` stands before `task`, clap does not see the two together.
    follow::check(global, args.follow)?;
    let context = Context::open_configured(global)?;
    super::job::parent_and_depth(&context)?;
    let given = prompt::read(&args.prompt, false)?;
    let settings = Settings {
        agent: args.agent.clone(),
        cwd: args.cwd.clone(),
        max_restarts: args.max_restarts,
        timeout: args::given_limit(args.timeout)?,
        verify: args.verify.clone(),
        fresh: false,
    };
    let target = target::target(&context, given.is_some())?;
    let depends_on = dependencies::named(&context, &target, &args.depends_on)?;
    if args.cwd.is_some() || matches!(target, target::Target::New(_)) {
        target::working_folder(&context, &target, args.cwd.as_deref())?;
    }
    let (name, starting) = match target {
        target::Target::Existing(name) => {
            check_prompt(&context, &name, given.as_deref(), args.update_prompt)?;
            if !depends_on.is_empty() {
                dependencies::update(&context, &name, depends_on)?;
            }
            let starting = target::starting(&context, &name)?;
            (name, starting)
        }
        target::Target::New(new) => {
            // Known to be startable before anything is made.
            fleet::pool(&context, &settings, None, None)?;
            let text = match given {
                Some(text) => Some(text),
                None => prompt::read(&args.prompt, true)?,
            };
            let text = text.unwrap_or_default();
            let origin = Origin { depends_on, thread_parent: args.thread_parent.clone() };
            target::make(&context, &new, &text, origin)?
        }
    };
    let view = TaskView::open(&context.tree, &name)?;
    let marker = files::marker(&context.tree.task(&name).done()).unwrap_or(Marker::Absent);
    let done = view.task().done.is_some() && matches!(marker, Marker::Present { .. });
    if view.task().status() == TaskStatus::Completed && done {
        render::say(&format!(
            "{name} is completed; `run-agent resume{}` takes it up again",
            context.flags_for(&name)
        ));
        if args.detach {
            return detach::started(context.json, &name, None);
        }
        return finish(context.json, &context.flags_for(&name), &name, view.task(), None);
    }
    if args.detach {
        return detach::start(&context, &name, &settings, starting);
    }
    let _blocked = context.blocks();
    let driving = Driving {
        follow: Shown::followed(args.follow, args.raw),
        starting: Some(starting),
        ..Driving::default()
    };
    run_loop(&context, &name, &settings, driving)
}

/// What stands before `delete` on the command line would be passed over in silence.
fn delete_alone(args: &TaskArgs) -> Result<(), Failure> {
    let prompted = args.prompt.prompt.is_some() || args.prompt.prompt_file.is_some() || args.update_prompt;
    let limited = args.max_restarts.is_some() || args.timeout.is_some() || args.cwd.is_some();
    let listed = !args.depends_on.is_empty() || !args.verify.is_empty();
    let threaded = args.thread_parent.is_some();
    if args.agent.is_some()
        || threaded
        || prompted
        || limited
        || listed
        || args.detach
        || args.attach
        || args.follow
    {
        return Err(Failure::usage("options of a loop do not count for `task delete`; leave them out"));
    }
    Ok(())
}

/// An existing prompt is not overwritten by accident, and another one is never passed over in silence.
fn check_prompt(
    context: &Context,
    name: &TaskName,
    given: Option<&str>,
    update: bool,
) -> Result<(), Failure> {
    let Some(given) = given else { return target::prompt_of(context, name).map(drop) };
    let path = context.tree.task(name).prompt();
    let there = match context.tree.read_text(&path) {
        Ok(text) => text,
        Err(error) if update || error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Failure::unread(&path, &error).hint("replace it with --update-prompt"));
        }
    };
    if there == given {
        return Ok(());
    }
    if update || there.trim().is_empty() {
        let view = TaskView::open(&context.tree, name)?;
        let before = view.task().created.as_ref().map(|(text, _)| text.clone());
        make::update_prompt(&context.tree, name, given, before, &context.cause(), "cli")?;
        return Ok(());
    }
    Err(Failure::usage(format!(
        "task {name} has another prompt ({}); replace it with --update-prompt, or leave --prompt out to go on with it",
        path.display()
    )))
}

/// What a loop is asked for by flags. A detached driver is sent them, and `LOOP_START` keeps them for whoever adopts
/// the loop: what is not here is lost to both.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cwd: Option<std::path::PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_restarts: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) verify: Vec<String>,
    #[serde(rename = "timeout_ms", with = "detach::millis", skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Duration>,
    /// Once: whoever adopts the loop does not set its counters back again.
    #[serde(skip)]
    pub(crate) fresh: bool,
}

/// What is the driver's own, and not the loop's.
#[derive(Debug, Default)]
pub(crate) struct Driving<'a> {
    /// Who started the loop; without it, the caller.
    pub(crate) origin: Option<detach::Origin>,
    /// Take only a loop that is open.
    pub(crate) adopt: bool,
    /// Print what the root agents print.
    pub(crate) follow: Option<Shown>,
    /// Whoever started this driver is told when it has the loop.
    pub(crate) report: Option<&'a detach::Report>,
    /// What a stop finds until the loop is there.
    pub(crate) starting: Option<Starting>,
}

impl Settings {
    /// With the agent and the verify commands that the loop before was given, where none are given.
    fn going_on(mut self, view: &TaskView) -> Self {
        let before = view.task().ralph.driver.as_ref().and_then(|driver| driver.settings.as_deref());
        let kept = before.and_then(|text| serde_json::from_str::<Self>(text).ok()).unwrap_or_default();
        if self.verify.is_empty() {
            self.verify = kept.verify;
        }
        self.agent = self.agent.or(kept.agent);
        self
    }
}

/// All that a loop of an existing task needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    view: TaskView,
    settings: Settings,
    pool: Pool,
    prompt: String,
    cwd: std::path::PathBuf,
}

impl Prepared {
    pub(crate) fn new(context: &Context, name: &TaskName, settings: &Settings) -> Result<Self, Failure> {
        let prompt = target::prompt_of(context, name)?;
        let view = TaskView::open(&context.tree, name)?;
        let before =
            view.task().ralph.last_root.as_ref().and_then(|id| view.run(id)).map(|run| run.agent.clone());
        let settings = settings.clone().going_on(&view);
        let pool = fleet::pool(context, &settings, Some(name), before)?;
        let target = target::Target::Existing(name.clone());
        let cwd = target::working_folder(context, &target, settings.cwd.as_deref())?;
        Ok(Self { view, settings, pool, prompt, cwd })
    }

    /// Warns of agents that nothing was found to sign in with, and of those that cannot do what is asked of them.
    fn warn(&self, context: &Context) -> Result<(), Failure> {
        sign_in::warn(context, self.pool.names.iter().map(String::as_str), &self.cwd)?;
        fleet::warn(context.config()?, &self.pool);
        Ok(())
    }
}

/// Drives the loop of an existing task, telling on stderr what happens.
pub(crate) fn run_loop(
    context: &Context,
    name: &TaskName,
    settings: &Settings,
    driving: Driving<'_>,
) -> Outcome {
    let mut prepared = Prepared::new(context, name, settings)?;
    // A detached driver's starter has said it.
    if driving.report.is_none() {
        prepared.warn(context)?;
    }
    make::heal(&mut prepared.view, &prepared.prompt, &context.cause())?;
    let end = drive_loop(context, &mut prepared, driving)?;
    let outcome = finish(context.json, &context.flags_for(name), name, prepared.view.task(), Some(&end));
    super::gc::keep_newest(context, &mut prepared.view);
    outcome
}

fn drive_loop(context: &Context, prepared: &mut Prepared, driving: Driving<'_>) -> Result<LoopEnd, Failure> {
    let Prepared { view, settings, pool, prompt, cwd } = prepared;
    let Driving { origin, adopt, follow, report, starting } = driving;
    let config = context.config()?;
    let mut policy = config.policy(settings.max_restarts);
    policy.verify.extend(settings.verify.iter().cloned());
    let name = view.name.clone();
    let origin = match origin {
        Some(origin) => origin,
        None => detach::Origin::of_caller(context, &name)?,
    };
    let what = Loop {
        agents: &Fleet { config, timeout: settings.timeout },
        pool,
        prompt,
        cwd,
        policy: &policy,
        max_depth: config.max_depth(),
        max_tasks: config.max_tasks(),
        grace: config.grace(),
        watch: config.watch(),
        max_agents: config.max_agents(),
        flags: &context.flags_for(&name),
        fresh: settings.fresh,
        adopt,
        starting: starting.as_ref(),
        settings: &detach::kept(context, settings, cwd),
        cause: &Cause::parse(&origin.cause),
        origin: origin.parent.as_ref(),
        depth: origin.depth,
    };
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    let mut teller = Teller::new(format!("driving {name}"), report);
    if let Some(shown) = follow {
        teller.follower = Some(follow::Follower::begin(&context.tree, &name, shown)?);
    }
    let end = drive(&context.tree, view, &what, &wake, &mut |talk| teller.tell(&name, &talk))?;
    teller.end(end.reason != reason::INTERRUPTED);
    Ok(end)
}

/// Says how it ended, and with which exit code.
fn finish(json: bool, flags: &str, name: &TaskName, task: &Task, end: Option<&LoopEnd>) -> Outcome {
    let exit = match end {
        None => Exit::Done,
        Some(end) => match (end.outcome, end.reason.as_str()) {
            (LoopOutcome::Completed, _) => Exit::Done,
            (LoopOutcome::Failed, why) if reason::is_giving_up(why) => Exit::GaveUp,
            (LoopOutcome::Failed, _) => Exit::Failed,
            (LoopOutcome::Stopped, reason::INTERRUPTED) => Exit::Interrupted,
            (LoopOutcome::Stopped, _) => Exit::Failed,
        },
    };
    if exit == Exit::Interrupted {
        render::say(&format!(
            "interrupted; what runs goes on\n  join it again: run-agent task{flags}\n  stop it:       run-agent stop{flags}"
        ));
    }
    // An error that the loop posted was told as it came; on stdout stands what it came to.
    let reason = end.map_or_else(|| task.reason(), |end| end.reason.clone());
    let end_status = end.map_or_else(|| task.status().as_str().to_owned(), |end| end.outcome.to_string());
    if json {
        render::json(&serde_json::json!({
            "project_id": name.project, "task_id": name.task, "status": end_status, "reason": reason,
            "restarts": task.ralph.restarts, "run_counts": task.run_counts(), "exit_code": exit.code(),
        }))?;
    } else {
        let now = Timestamp::now();
        let hue = if exit == Exit::Done { Hue::Good } else { Hue::Bad };
        let status = Paint::stdout().hue(hue, &end_status);
        let reason = render::reason(&end_status, &reason);
        render::out(&format!("{name} {status}{reason}\n{}", render::tree_text(task, now)))?;
    }
    Ok(exit)
}
