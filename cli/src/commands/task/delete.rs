//! `task delete`: a task with its runs and its whole history.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::decide::{self, Refusal};
use run_agent_runner::TaskView;
use run_agent_runner::delete::{self, Deleted, Why};
use run_agent_runner::ledger::Ledger;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;

use crate::args::Global;
use crate::commands::completion::tasks;
use crate::commands::gc::size;
use crate::context::Context;
use crate::error::{Code, Exit, Failure, Outcome};
use crate::render;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent task delete fix-login --yes")]
pub(crate) struct DeleteArgs {
    /// The task to delete, with its runs and messages
    #[arg(value_name = "TASK", required_unless_present = "task", add = Complete::new(tasks))]
    what: Option<String>,
    /// Do not ask; needed where nobody can be asked
    #[arg(long, short)]
    yes: bool,
}

/// What a supervisor or driver takes from posting the end to its own.
const LAST_FILE: Duration = Duration::from_secs(5);

pub(crate) fn run(global: &Global, args: &DeleteArgs) -> Outcome {
    let context = Context::open(global)?;
    context.caller()?;
    // What the surroundings suggest does not count: a task is deleted by its name alone.
    let named = args.what.as_ref().or(global.task.as_ref());
    let what = named.ok_or_else(|| Failure::usage("which task? name it: run-agent task delete TASK"))?;
    let name = context.task_named(what)?;
    let mut view = TaskView::open(&context.tree, &name)?;
    close::close_dead(&context.tree, &mut view)?;
    match decide::may_delete_task(view.task()) {
        // Somebody who deleted it did not live to finish.
        Ok(()) | Err(Refusal::Deleted) => {}
        Err(refusal) => return Err(active(&context, &name, &refusal)),
    }
    if !args.yes && !confirmed(&view)? {
        return Err(Failure::new(Exit::Failed, format!("{name} is left as it is")));
    }
    let mut ledger = Ledger::open(&context.tree, &name.project)?;
    let why = Why { by: context.by(), reason: "asked for".to_owned(), cause: context.cause() };
    let began = Instant::now();
    let deleted = loop {
        match delete::task(&context.tree, &mut view, &mut ledger, &why)? {
            // It has ended, or the stream would refuse: who posted that is at its last file.
            Deleted::Busy { .. } if began.elapsed() < LAST_FILE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other,
        }
    };
    let bytes = match deleted {
        Deleted::Gone { bytes } => bytes,
        Deleted::Refused(refusal) => return Err(active(&context, &name, &refusal)),
        Deleted::Busy { holder } => {
            return Err(Failure::new(Exit::Locked, format!("{name} is held by {holder}"))
                .hint(format!("stop it with {}", stop(&context, &name))));
        }
    };
    if context.json {
        render::json(&serde_json::json!({
            "project_id": name.project, "task_id": name.task, "deleted": true, "freed_bytes": bytes,
        }))?;
    } else {
        render::out(&format!("{name} is deleted ({})\n", size(bytes)))?;
    }
    Ok(Exit::Done)
}

fn stop(context: &Context, name: &TaskName) -> String {
    format!("`run-agent stop{}`", context.flags_for(name))
}

fn active(context: &Context, name: &TaskName, refusal: &Refusal) -> Failure {
    Failure::new(Exit::Locked, format!("{name} is active: {refusal}"))
        .code(Code::Refused)
        .hint(format!("stop it first with {}", stop(context, name)))
}

/// Asks a person.
fn confirmed(view: &TaskView) -> Result<bool, Failure> {
    let task = view.task();
    let what = format!(
        "{} with {} and {}",
        view.name,
        render::count(task.runs.len() as u64, "run"),
        render::count(task.thread.messages(), "message")
    );
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{what} would be gone for good; add --yes")));
    }
    let _ = write!(io::stderr(), "delete {what} for good (y/n)? ");
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|e| Failure::io("cannot read the answer", &e))?;
    Ok(matches!(line.trim(), "y" | "yes"))
}
