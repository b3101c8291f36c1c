//! `job`: one run of one agent.

mod there;

use run_agent_core::decide::Refusal;
use run_agent_core::plan::reason::TIME_LIMIT;
use run_agent_core::world::{Run, RunStatus, Task};
use run_agent_core::{Kind, Message, RunId};
use run_agent_runner::below::IsLink;
use run_agent_runner::link::Origin;
use run_agent_runner::output::tail_of;
use run_agent_runner::supervise::start::{Request, StartError, StartOutcome, Started, start};
use run_agent_runner::supervise::{Streams, close};
use run_agent_runner::tree::TaskName;
use run_agent_runner::wait::{Waited, for_runs};
use run_agent_runner::wake::Wake;
use run_agent_runner::{TaskView, Tree};

use super::batch::{self, JobCommand};
use super::output::{Shown, Tail};
use super::task::fleet::{self, LUCKY};
use super::{prompt, sign_in, target};
use crate::args::{self, Global, JobArgs};
use crate::client::Client;
use crate::context::{Context, variable};
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Hue, Paint};

pub(crate) fn run(global: &Global, args: &JobArgs) -> Outcome {
    if let Some(JobCommand::Batch(batch)) = &args.many {
        batch_alone(args)?;
        return batch::run(global, batch, args::given_limit(args.timeout)?);
    }
    // Where `--json` stands before `job`, clap does not see the two together.
    if args.follow && global.json {
        return Err(Failure::usage(
            "--follow prints what the agent prints, which is no JSON; leave out one of --follow and --json",
        ));
    }
    if let Some(client) = Client::of(global, &args.server)? {
        return there::run(global, &client, args);
    }
    let context = Context::open_configured(global)?;
    context.caller()?;
    let config = context.config()?;
    let given = args::given_limit(args.timeout)?;
    // Known to be one that can be started before anything is made.
    let agent = match args.agent.as_deref() {
        Some(name) if name != LUCKY => name.to_owned(),
        Some(_) | None => config.default_agent()?,
    };
    let mut backend = config.agent(&agent)?;
    backend.is_there()?;
    let (parent, depth) = parent_and_depth(&context)?;
    let text = prompt::read(&args.prompt, true)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Err(run_agent_runner::make::MakeError::EmptyPrompt.into());
    }
    let target = target::target(&context, false)?;
    let cwd = target::working_folder(&context, &target, args.cwd.as_deref())?;
    let (name, starting) = target.or_make(&context, &text)?;
    let cause = context.cause();
    let origin = origin(&context, &name)?;
    let mut view = TaskView::open(&context.tree, &name)?;
    if args.agent.as_deref() == Some(LUCKY) {
        backend = config.agent(&fleet::next_of(config, &view)?)?;
    }
    sign_in::warn(&context, [backend.name()], &cwd)?;
    let timeout = args::time_limit([given, config.timeout_of(backend.name())]);
    let request = Request {
        backend: backend.as_ref(),
        prompt: &text,
        streams: Streams::Prompt,
        cwd: &cwd,
        parent,
        origin: origin.as_ref(),
        root: None,
        key: args.key.as_deref(),
        verify: None,
        depth,
        max_depth: config.max_depth(),
        grace: config.grace(),
        timeout,
        watch: config.watch(),
        max_agents: config.max_agents(),
        budget: Some(config.budget()),
        cause: &cause,
        starting: Some(&starting),
    };
    // Before the agent is there, so that whoever interrupts is always told how to come back to it.
    let wake = Wake::new();
    wake.on_interrupt().map_err(|e| Failure::io("cannot listen for signals", &e))?;
    // Before the run is there, which may need the very slot that its caller gives back.
    let _blocked = (!args.detach).then(|| context.blocks());
    let (run, supervisor) = match start(&context.tree, &mut view, request) {
        Ok(Started { run, outcome: StartOutcome::Running { .. }, supervisor }) => (run, supervisor),
        Ok(Started { run, outcome: StartOutcome::Parked { ahead }, supervisor }) => {
            render::say(&format!("Waiting for other agents to complete ({ahead} ahead)"));
            (run, supervisor)
        }
        Ok(Started {
            run, outcome: StartOutcome::Refused { why } | StartOutcome::Failed { why }, ..
        }) => {
            return Err(Failure::new(Exit::Failed, format!("run {run} did not start: {why}")));
        }
        // The key names a run that was started before: that one is meant.
        Err(StartError::Refused(Refusal::KeyTaken(run))) => (run, None),
        Err(error) => return Err(error.into()),
    };
    if args.detach {
        return detached(context.json, &name, &run);
    }
    let _waiting = match context.caller()? {
        Some(caller) => super::wait::written_down(&context, &caller.run, std::slice::from_ref(&run))?,
        None => None,
    };
    // What a person watches, or asks to see, changes before the end; of what a program waits for, the end counts.
    match supervisor.filter(|_| !args.follow && !render::is_watched()) {
        Some(supervisor) => wake.watch_end(supervisor),
        None => wake.watch_stream(&context.tree, &name),
    }
    wait_for(&context, &name, &mut view, &run, &wake, Shown::followed(args.follow, args.raw))
}

/// What stands before `batch` on the command line would be passed over in silence.
fn batch_alone(args: &JobArgs) -> Result<(), Failure> {
    let JobArgs { many: _, agent, prompt, cwd, detach, follow, raw: _, key, timeout: _, server } = args;
    if server.server.is_some() {
        return Err(Failure::usage("a batch runs where it is called; leave out --server"));
    }
    let prompted = prompt.prompt.is_some() || prompt.prompt_file.is_some();
    if agent.is_some() || prompted || cwd.is_some() || *detach || *follow || key.is_some() {
        return Err(Failure::usage(
            "options of one job do not count for a batch; write them into its file (agent, prompt, cwd, timeout)",
        ));
    }
    Ok(())
}

/// The calling run and the depth of a run that it starts. Too deep is known before anything is made.
pub(crate) fn parent_and_depth(context: &Context) -> Result<(Option<RunId>, u32), Failure> {
    // The stream knows how deep a run of this root is; of one of another root only the environment tells.
    let said = variable("JRUN_ID").and_then(|_| variable("JRUN_DEPTH")).and_then(|text| text.parse().ok());
    let caller = context.caller()?;
    let known = match caller {
        Some(caller) => TaskView::open(&context.tree, &caller.name)?.run(&caller.run).map(|run| run.depth),
        None => None,
    };
    let depth = match (known.max(said), caller) {
        (Some(depth), _) => u32::saturating_add(depth, 1),
        (None, Some(_)) => 1,
        (None, None) => 0,
    };
    let max = context.config()?.max_depth();
    if depth > 0 && max > 0 && depth > max {
        return Err(Refusal::TooDeep { depth, max }.into());
    }
    Ok((caller.map(|caller| caller.run.clone()), depth))
}

/// The run of another task that calls: what it starts here is linked there.
pub(crate) fn origin(context: &Context, name: &TaskName) -> Result<Option<Origin>, Failure> {
    let caller = context.caller()?.filter(|caller| caller.name != *name);
    Ok(caller.map(|caller| Origin { name: caller.name.clone(), run: caller.run.clone() }))
}

fn detached(json: bool, name: &TaskName, run: &RunId) -> Outcome {
    if json {
        render::json(
            &serde_json::json!({ "project_id": name.project, "task_id": name.task, "run_id": run }),
        )?;
    } else {
        render::out(&format!("{run}\n"))?;
    }
    Ok(Exit::Done)
}

fn wait_for(
    context: &Context,
    name: &TaskName,
    view: &mut TaskView,
    run: &RunId,
    wake: &Wake,
    follow: Option<Shown>,
) -> Outcome {
    let waited = if let Some(shown) = follow {
        let mut tail = Tail::merged(&context.tree, &context.tree.run(name, run), shown);
        tail.follow(&context.tree, view, run, wake)?
    } else {
        let progress = render::progress(format!("waiting for run {run}"));
        for_runs(&context.tree, view, std::slice::from_ref(run), None, wake, |view, new| {
            new.iter().for_each(|entry| warning(run, &entry.message));
            progress.stands(state_of(view.run(run)));
            progress.idle(view.run(run).and_then(|run| run.idle_since));
        })?
    };
    if waited == Waited::Interrupted {
        return Ok(interrupted(run, render::place()));
    }
    let left = Here { tree: &context.tree, name, run };
    finish(context.json, view.task(), run, follow.is_some(), &left)
}

fn interrupted(run: &RunId, place: &str) -> Exit {
    render::say(&format!(
        "interrupted; run {run} goes on\n  follow it: run-agent{place} output {run} --follow\n  stop it:   run-agent{place} stop --run {run}"
    ));
    Exit::Interrupted
}

/// Tells what a person must know of a run or of its whole task, when it is posted.
fn warning(run: &RunId, message: &Message) {
    let content = &message.content;
    if content.kind == Kind::WARNING && content.run.as_ref().is_none_or(|id| id == run) {
        render::say(&format!("warning: {}", render::safe_line(content.body.trim_end())));
    }
}

/// What a wait for a run waits for.
pub(super) fn waiting_for(view: &TaskView, id: &RunId) -> String {
    format!("waiting for run {id}{}", state_of(view.run(id)))
}

/// `, which is queued, …`, where there is something to say.
fn state_of(run: Option<&Run>) -> String {
    let parked = run.and_then(|run| run.state.waits_for());
    let parked = parked.map(|what| format!("queued, {what}"));
    let what = parked.or_else(|| run.and_then(render::retrying));
    what.map(|what| format!(", which is {what}")).unwrap_or_default()
}

/// What a run left behind, wherever that lies.
trait Left {
    fn name(&self) -> &TaskName;
    /// The flags by which a command finds it.
    fn place(&self) -> &str;
    /// The end of its stderr. What cannot be read says nothing here; `output` tells why.
    fn end_of_stderr(&self) -> String;
    /// Prints its answer. An agent that left none has none to show.
    fn print_answer(&self) -> Result<(), Failure>;
}

struct Here<'a> {
    tree: &'a Tree,
    name: &'a TaskName,
    run: &'a RunId,
}

impl Left for Here<'_> {
    fn name(&self) -> &TaskName {
        self.name
    }

    fn place(&self) -> &str {
        render::place()
    }

    fn end_of_stderr(&self) -> String {
        let stderr = self.tree.run(self.name, self.run).stderr();
        tail_of(self.tree, &stderr, LAST_LINES, LAST_BYTES).unwrap_or_default()
    }

    fn print_answer(&self) -> Result<(), Failure> {
        let output = self.tree.run(self.name, self.run).output();
        match self.tree.open(&output) {
            Ok(_) => Tail::one(self.tree, output).finish(None),
            Err(error) if IsLink::behind(&error).is_some() => Err(Failure::unread(&output, &error)),
            // None, or something else of that name.
            Err(_) => Ok(()),
        }
    }
}

/// What the agent said last on stderr, which is mostly why its program broke down.
fn last_words(left: &impl Left) -> Option<String> {
    let end = left.end_of_stderr();
    let last = end.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map(|line| render::cut(&render::safe_line(line), LAST_SHOWN))
}

/// Among so many lines the last that is not blank is looked for.
const LAST_LINES: usize = 20;
const LAST_BYTES: u64 = 64 * 1024;
const LAST_SHOWN: usize = 300;

fn finish(json: bool, task: &Task, id: &RunId, shown: bool, left: &impl Left) -> Outcome {
    let name = left.name();
    let Some(run) = task.runs.get(id) else {
        return Err(Failure::new(Exit::Failed, format!("run {id} is not in the stream of {name}")));
    };
    let (exit_code, reason) =
        run.end().map(|(end, _)| (end.exit_code, end.reason.clone())).unwrap_or_default();
    let exit = match (run.status(), exit_code.and_then(|code| u8::try_from(code).ok())) {
        (RunStatus::Completed, _) => Exit::Done,
        _ if reason.starts_with(TIME_LIMIT) => Exit::TimeLimit,
        // The agent's own code, but never success for a run that did not complete.
        (_, Some(code)) if code != 0 => Exit::Agent(code),
        _ => Exit::Failed,
    };
    if json {
        let mut row = serde_json::json!(run.row(&name.task, id));
        row["project_id"] = serde_json::json!(name.project);
        render::json(&row)?;
        return Ok(exit);
    }
    if run.status() != RunStatus::Completed {
        let status = Paint::stderr().hue(Hue::of_run(run.status()), &run.status().to_string());
        let mut text = format!("run {id} {status}: {}", render::safe_line(&reason));
        // On one line: where an agent called, its own last words are this.
        if !shown {
            let open = run.end().is_some_and(|(end, _)| !close::says_why(end));
            let words = open.then(|| last_words(left)).flatten();
            let words = words.map(|words| format!(": {words}")).unwrap_or_default();
            text = format!("{text}{words}; see run-agent{} output {id} --merged", left.place());
        }
        render::say(&text);
    }
    if !shown {
        left.print_answer()?;
    }
    Ok(exit)
}
