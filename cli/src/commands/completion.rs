//! `completion`: a script that lets a shell complete commands, flags, and the names of projects, tasks, runs and
//! agents.
//!
//! The script asks this program for what fits, with `RUN_AGENT_COMPLETE` set to the shell's name, so that names are
//! those of the moment. Looking for a name makes no root and fails in silence: a shell's line is no place for an error. It
//! reads no stream, but for the ids of open questions.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate as Candidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Powershell, Zsh};
use run_agent_core::{RunId, TaskId};
use run_agent_runner::tree::TaskName;

use super::task::fleet::LUCKY;
use crate::args::{Cli, Global};
use crate::config::schema::AGENT_TYPES;
use crate::config::{Config, locate};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render, root};

/// What a shell sets when it asks.
const ASKED: &str = "RUN_AGENT_COMPLETE";
const NAME: &str = "run-agent";
/// The most runs that are offered, the newest first.
const RUNS_MAX: usize = 200;

#[derive(Debug, Args)]
#[command(after_help = "Example, in ~/.bashrc:\n  eval \"$(run-agent completion bash)\"")]
pub(crate) struct CompletionArgs {
    /// The shell: bash, zsh, fish or powershell
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs) -> Outcome {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Powershell => &Powershell,
    };
    let mut script = Vec::new();
    shell
        .write_registration(ASKED, NAME, NAME, NAME, &mut script)
        .map_err(|e| Failure::io("cannot write the script", &e))?;
    render::bytes(&script)?;
    Ok(Exit::Done)
}

/// Noted once, since clap removes the variable before it asks for names.
static IS_ASKED: OnceLock<()> = OnceLock::new();

/// Whether a shell asks what fits: it is told names and nothing else.
pub(crate) fn is_asked() -> bool {
    IS_ASKED.get().is_some()
}

/// Answers a shell that asks what fits, and nobody else.
pub(crate) fn answer() -> Option<ExitCode> {
    std::env::var_os(ASKED).filter(|shell| !shell.is_empty())?;
    let _ = IS_ASKED.set(());
    let here = std::env::current_dir().ok();
    let answered =
        CompleteEnv::with_factory(Cli::command).var(ASKED).try_complete(std::env::args_os(), here.as_deref());
    Some(match answered {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => Exit::Failed.into(),
    })
}

/// The context of the line that is completed, if its root is there.
pub(crate) fn context() -> Option<Context> {
    let flags = flags(std::env::args_os());
    let named = locate::named(&flags).ok()?;
    let (root, _) = root::choose(&flags, named.as_ref()).ok()?;
    Context::look(&Global { root: Some(root), ..flags }).ok()
}

/// The flags of the line that is completed which say where to look. The line stands behind a `--`.
fn flags(words: impl Iterator<Item = OsString>) -> Global {
    let words: Vec<String> =
        words.skip_while(|word| word != "--").filter_map(|word| word.into_string().ok()).collect();
    let value = |flag: &str| {
        let mut found = None;
        for (n, word) in words.iter().enumerate() {
            if word == flag {
                found = words.get(n + 1).cloned();
            } else if let Some(value) = word.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
                found = Some(value.to_owned());
            }
        }
        found.filter(|value| !value.is_empty())
    };
    Global {
        root: value("--root").map(PathBuf::from),
        config: value("--config").map(PathBuf::from),
        project: value("--project"),
        task: value("--task"),
        ..Global::default()
    }
}

fn fitting(current: &OsStr, names: impl IntoIterator<Item = (String, String)>) -> Vec<Candidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let fits = names.into_iter().filter(|(name, _)| name.starts_with(current));
    let mut said = HashSet::new();
    // What several have in common is offered once.
    let fits = fits.filter(|(name, _)| said.insert(name.clone()));
    fits.map(|(name, help)| Candidate::new(name).help((!help.is_empty()).then(|| help.into()))).collect()
}

pub(crate) fn projects(current: &OsStr) -> Vec<Candidate> {
    let projects = context().and_then(|context| context.tree.projects().ok()).unwrap_or_default();
    fitting(current, projects.into_iter().map(|project| (project.to_string(), String::new())))
}

/// Tasks by their ids; by their slugs where that is what was begun.
pub(crate) fn tasks(current: &OsStr) -> Vec<Candidate> {
    let Some(context) = context() else { return Vec::new() };
    let mut tasks = tasks_of(&context);
    tasks.sort_by(|a, b| b.task.cmp(&a.task));
    let slugs = !current.is_empty()
        && !current.to_str().is_some_and(|text| "task-".starts_with(text) || text.starts_with("task-"));
    let name = |task: &TaskId| if slugs { task.slug().to_owned() } else { task.to_string() };
    fitting(current, tasks.iter().map(|found| (name(&found.task), format!("project {}", found.project))))
}

fn tasks_of(context: &Context) -> Vec<TaskName> {
    let all = find::every_task(&context.tree).unwrap_or_default();
    match context.named_project() {
        Ok(Some(project)) => all.into_iter().filter(|name| name.project == project).collect(),
        Ok(None) => all,
        Err(_) => Vec::new(),
    }
}

/// The newest runs: of the task that is named, else of all.
pub(crate) fn runs(current: &OsStr) -> Vec<Candidate> {
    let Some(context) = context() else { return Vec::new() };
    let tasks = match context.task_flag().map(|_| context.task()) {
        Some(Ok(Some(name))) => vec![name],
        Some(Ok(None) | Err(_)) => Vec::new(),
        None => tasks_of(&context),
    };
    let mut runs: Vec<(RunId, TaskName)> = Vec::new();
    for name in tasks {
        runs.extend(find::runs_of(&context.tree, &name).into_iter().map(|run| (run, name.clone())));
    }
    runs.sort_by(|a, b| b.0.cmp(&a.0));
    runs.truncate(RUNS_MAX);
    fitting(
        current,
        runs.into_iter().map(|(run, name)| (run.to_string(), format!("task {}", name.task.slug()))),
    )
}

pub(crate) fn tasks_and_runs(current: &OsStr) -> Vec<Candidate> {
    let mut all = tasks(current);
    all.extend(runs(current));
    all
}

pub(crate) fn agents(current: &OsStr) -> Vec<Candidate> {
    let context = context();
    let config = context.as_ref().and_then(|context| context.config().ok());
    let names = config.map_or_else(|| vec!["shell"], Config::agent_names);
    let lucky = (LUCKY.to_owned(), "the one whose turn it is".to_owned());
    let names = names.into_iter().map(|name| (name.to_owned(), String::new()));
    fitting(current, names.chain([lucky]))
}

/// Agents that are or could be: those with a block, and the types that need none.
pub(crate) fn possible_agents(current: &OsStr) -> Vec<Candidate> {
    let context = context();
    let config = context.as_ref().and_then(|context| context.config().ok());
    let mut names = config.map_or_else(|| vec!["shell"], Config::agent_names);
    let known = |name: &&&str| config.is_some_and(|config| config.knows(name));
    names.extend(AGENT_TYPES.iter().filter(known));
    fitting(current, names.into_iter().map(|name| (name.to_owned(), String::new())))
}
