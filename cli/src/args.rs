//! Every command and flag, and their help.

mod everywhere;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::ArgValueCompleter as Complete;
use run_agent_core::MsgId;

use crate::commands;
use crate::commands::batch::JobCommand;
use crate::commands::completion::{CompletionArgs, agents, runs, tasks, tasks_and_runs};
use crate::commands::man::ManArgs;
use crate::commands::replay::ReplayArgs;
use crate::commands::shell_setup::ShellSetupArgs;
use crate::commands::task::TaskCommand;
use crate::commands::watch::WatchArgs;
use crate::commands::wrap::WrapArgs;

use crate::context::variable;
use crate::error::Failure;
use crate::render;

pub(crate) use everywhere::{Global, Verb, When};
pub(crate) use server::ServerArgs;

#[derive(Debug, Parser)]
#[command(
    name = "run-agent",
    version = env!("RUN_AGENT_VERSION"),
    about = "Runs swarms of AI coding agents on one machine and keeps the whole story",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the loop gave up, 4 locked or\n\
                  already running, 5 not found, 124 time limit, 130 interrupted; `job` passes\n\
                  the agent's own code through.\n\n\
                  Example, which needs no agent, token or network:\n  run-agent demo"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What the command line says.
    ///
    /// The flags that mean the same everywhere stand at each level as its own, and not as clap's global ones: those
    /// are cloned into every command of the tree before the first word is read, which costs more than all the rest of
    /// a `bus post`. The innermost wins.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let mut matches = Self::command().try_get_matches()?;
        let mut inner = Global::default();
        let mut at = &matches;
        while let Some((name, below)) = at.subcommand() {
            // The hidden commands take none.
            if name.starts_with('_') {
                break;
            }
            inner = Global::from_arg_matches(below)?.over(inner);
            at = below;
        }
        let mut cli = Self::from_arg_matches_mut(&mut matches)?;
        cli.global = inner.over(cli.global);
        Ok(cli)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A scripted swarm that needs no agent, token or network
    Demo(Verb<DemoArgs>),
    /// Create or continue a task: its agent is restarted until DONE
    Task(Verb<TaskArgs>),
    /// Take a task up again that is done, gave up or was stopped
    Resume(Verb<ResumeArgs>),
    /// One run of one agent, in the caller's task or a new one
    Job(Verb<JobArgs>),
    /// Block until runs end; 124 while one still runs
    Wait(Verb<WaitArgs>),
    /// Take up the loops whose drivers died without saying so
    Adopt(Verb<commands::adopt::AdoptArgs>),
    /// Stop a run with its children, or a whole task
    Stop(Verb<StopArgs>),
    /// For agents: mark the task done
    Done(Verb<DoneArgs>),
    /// For agents: ask a question and block until its answer
    Ask(Verb<AskArgs>),
    /// Post, read, follow, search, export and edit messages
    Bus(Verb<commands::bus::BusArgs>),
    /// Check the streams of this root, or say how large they are
    Store(Verb<commands::store::StoreArgs>),
    /// Tasks of all projects, newest activity first
    List(Verb<commands::list::ListArgs>),
    /// A task's state, tree and last messages, or one run
    Status(Verb<StatusArgs>),
    /// Why a task or run is in its state, and what would change it
    Why(Verb<commands::why::WhyArgs>),
    /// What needs a person, over all projects, and answering it
    Inbox(Verb<commands::inbox::InboxArgs>),
    /// A run's answer, stdout, stderr or prompt
    Output(Verb<OutputArgs>),
    /// Block until tasks are done, showing how they go
    Watch(Verb<WatchArgs>),
    /// A task's story, or the task as it stood at a moment
    Replay(Verb<ReplayArgs>),
    /// Serve the root over HTTP: REST and live streams
    Serve(Verb<commands::serve::ServeArgs>),
    /// Run any command as a tracked run of a task
    Wrap(Verb<WrapArgs>),
    /// Have agents that are started by hand recorded
    ShellSetup(Verb<ShellSetupArgs>),
    /// A script that completes commands and names in a shell
    Completion(Verb<CompletionArgs>),
    /// The manual pages
    Man(Verb<ManArgs>),
    /// Find what disagrees in this root, and mend it without loss
    Doctor(Verb<commands::doctor::DoctorArgs>),
    /// Delete what ended long ago, and what is left over
    Gc(Verb<commands::gc::GcArgs>),
    /// Which agents can be started here: program, version, token
    Validate(Verb<commands::validate::ValidateArgs>),
    /// The configuration: make it, show it and why, check it
    Config(Verb<commands::config::ConfigArgs>),
    #[command(name = "_supervise", hide = true)]
    Supervise(SuperviseArgs),
    #[command(name = "_drive", hide = true)]
    Drive,
    #[command(name = "_version", hide = true)]
    Version(commands::internal::VersionArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent demo")]
pub(crate) struct DemoArgs {}

// Where a prompt comes from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PromptArgs {
    /// The prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_file", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// A file with the prompt; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent task --agent shell --prompt 'make test && run-agent done'")]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    pub(crate) other: Option<TaskCommand>,
    /// The agent of every root run; lucky: they take turns [default: those of agents.order take turns]
    #[arg(long, value_name = "NAME", add = Complete::new(agents))]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// Replace the prompt of an existing task
    #[arg(long)]
    pub(crate) update_prompt: bool,
    /// The agent's working folder [default: the project's root folder, else this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// How often the root agent is started again before the loop gives up
    #[arg(long, value_name = "N")]
    pub(crate) max_restarts: Option<u32>,
    /// Time limit of one run, such as 30m; 0 is none [default: $JRUN_AGENT_TIMEOUT, else the agent's in the config]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// A task of the same project that has to be completed first; may be given several times
    #[arg(long, value_name = "TASK", add = Complete::new(tasks))]
    pub(crate) depends_on: Vec<String>,
    /// A command that has to succeed before DONE counts, besides those of the config; may be given several times
    #[arg(long, value_name = "COMMAND")]
    pub(crate) verify: Vec<String>,
    /// The message that a new task is started from
    #[arg(long, value_name = "ID", value_parser = message)]
    pub(crate) thread_parent: Option<MsgId>,
    /// Return when the loop has started and print the task id; a process of its own drives on
    #[arg(long)]
    pub(crate) detach: bool,
    /// Start nothing: tell what the driver of the loop does, until the loop ends
    #[arg(long, conflicts_with_all = ["detach", "agent", "prompt", "prompt_file", "update_prompt", "cwd", "max_restarts", "timeout", "depends_on", "verify", "thread_parent"])]
    pub(crate) attach: bool,
    /// Print what the root agent prints as it comes
    #[arg(long, conflicts_with_all = ["detach", "json"])]
    pub(crate) follow: bool,
    /// With --follow: byte by byte, where an agent prints a form of its own, not as text
    #[arg(long, requires = "follow")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent resume --task fix-login")]
pub(crate) struct ResumeArgs {
    /// Only remove DONE and set the counters back
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Return when the loop has started and print the task id; a process of its own drives on
    #[arg(long, conflicts_with = "no_start")]
    pub(crate) detach: bool,
    /// Begin only when this task of the same project is completed; replaces what it depended on
    #[arg(long, value_name = "TASK", add = Complete::new(tasks))]
    pub(crate) depends_on: Vec<String>,
    /// Depend no more on this task
    #[arg(long, value_name = "TASK", conflicts_with = "depends_on", add = Complete::new(tasks))]
    pub(crate) no_depends_on: Vec<String>,
    /// A command that has to succeed before DONE counts [default: those that the loop before was given]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) verify: Vec<String>,
    /// The agent of every root run; lucky: they take turns [default: as the loop before]
    #[arg(long, value_name = "NAME", add = Complete::new(agents))]
    pub(crate) agent: Option<String>,
    /// The agent's working folder [default: the project's root folder, else this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// How often the root agent is started again before the loop gives up
    #[arg(long, value_name = "N")]
    pub(crate) max_restarts: Option<u32>,
    /// Time limit of one run, such as 30m; 0 is none [default: $JRUN_AGENT_TIMEOUT, else the agent's in the config]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent job --agent shell --prompt 'make test' --follow")]
pub(crate) struct JobArgs {
    #[command(subcommand)]
    pub(crate) many: Option<JobCommand>,
    /// The agent; lucky: the one whose turn it is [default: the first of agents.order that can be started]
    #[arg(long, value_name = "NAME", add = Complete::new(agents))]
    pub(crate) agent: Option<String>,
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// The agent's working folder [default: the project's root folder, else this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Return at once and print the run id
    #[arg(long, conflicts_with = "follow")]
    pub(crate) detach: bool,
    /// Print the agent's output as it comes
    #[arg(long, conflicts_with = "json")]
    pub(crate) follow: bool,
    /// With --follow: byte by byte, where the agent prints a form of its own, not as text
    #[arg(long, requires = "follow")]
    pub(crate) raw: bool,
    /// Start at most one run of this task with this key: a second call returns the first one's run
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) key: Option<String>,
    /// Time limit of the run, such as 30m; 0 is none [default: $JRUN_AGENT_TIMEOUT, else the agent's in the config]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  run-agent wait $(run-agent job --agent shell --prompt 'make test' --detach) --wait 10m"
)]
pub(crate) struct WaitArgs {
    /// The runs to wait for
    #[arg(required = true, value_name = "RUN", add = Complete::new(runs))]
    pub(crate) runs: Vec<String>,
    /// How long at most, such as 90s [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent stop --task fix-login")]
pub(crate) struct StopArgs {
    /// The run to stop, with its children; without it, --task names the task to stop
    #[arg(long, value_name = "RUN", add = Complete::new(runs))]
    pub(crate) run: Option<String>,
    /// Leave the run's children alone
    #[arg(long, requires = "run")]
    pub(crate) keep_children: bool,
    /// Skip the grace period
    #[arg(long)]
    pub(crate) force: bool,
    /// How long processes get after SIGTERM [default: stop.grace of the config, 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "force")]
    pub(crate) grace: Option<Duration>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent done --message 'the login works again; 12 tests added'")]
pub(crate) struct DoneArgs {
    /// What was achieved, for the bus
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "A question that begins with `-` stands behind `--`, and behind all flags.\n\n\
        Example:\n  run-agent ask 'may I drop the old table?' --wait 90s")]
pub(crate) struct AskArgs {
    /// The question
    #[arg(required_unless_present = "resume", conflicts_with = "resume", value_name = "QUESTION")]
    pub(crate) question: Option<String>,
    /// How long to wait, such as 90s [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    /// Wait on for the answer to a question that was asked before
    #[arg(long, value_name = "ID")]
    pub(crate) resume: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent status fix-login")]
pub(crate) struct StatusArgs {
    /// A task or run [default: --task, the caller's, the folder around the working folder]
    #[arg(value_name = "TASK|RUN", add = Complete::new(tasks_and_runs))]
    pub(crate) what: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent output --task fix-login --merged --tail 100")]
pub(crate) struct OutputArgs {
    /// The run [default: the newest of the task that no agent started]
    #[arg(value_name = "RUN", add = Complete::new(runs))]
    pub(crate) run: Option<String>,
    /// Raw stdout instead of output.md
    #[arg(long, group = "which")]
    pub(crate) stdout: bool,
    /// Raw stderr
    #[arg(long, group = "which")]
    pub(crate) stderr: bool,
    /// stdout and stderr merged in order of time
    #[arg(long, group = "which")]
    pub(crate) merged: bool,
    /// The prompt that the agent was given
    #[arg(long, group = "which")]
    pub(crate) prompt: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
    /// Go on until the run ends
    #[arg(long)]
    pub(crate) follow: bool,
    /// With --follow or --merged: byte by byte, where the agent prints a form of its own, not as text
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// Say on the report's descriptor that this process is there, before the order is read
    #[arg(long)]
    pub(crate) here: bool,
}

/// The most bytes of a key, and of an agent's name: both stand in every list.
const NAME_MAX: usize = 200;

/// What a caller calls a piece of work.
pub(crate) fn key(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > NAME_MAX {
        return Err(format!("it has {} bytes and may have {NAME_MAX}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err("it has control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A name under which runs are listed: a word or several, and nothing that reads as a path.
pub(crate) fn agent_name(text: &str) -> Result<String, String> {
    if text.starts_with('.') || text.contains(['/', '\\']) {
        return Err("a name has no slash in it and no dot at its start".to_owned());
    }
    key(text)
}

fn message(text: &str) -> Result<MsgId, String> {
    MsgId::parse(text).map_err(|error| error.to_string())
}

/// `90s`, `5m`, `1h30m`, `500ms`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{}` is not a duration; write it as 90s, 5m, 1h30m or 500ms", render::value(text));
    if text.is_empty() {
        return Err(wrong());
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let n: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let ms = match &rest[..letters] {
            "ms" => 1,
            "s" | "" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        sum =
            n.checked_mul(ms).and_then(|ms| sum.checked_add(Duration::from_millis(ms))).ok_or_else(wrong)?;
    }
    Ok(sum)
}

/// The time limit that a flag or else a variable sets. Zero is kept: it is no limit, whatever stands behind it.
pub(crate) fn given_limit(flag: Option<Duration>) -> Result<Option<Duration>, Failure> {
    let named = || variable("JRUN_AGENT_TIMEOUT").map(|text| duration(&text)).transpose();
    match flag {
        Some(limit) => Ok(Some(limit)),
        None => named().map_err(|what| Failure::usage(format!("JRUN_AGENT_TIMEOUT: {what}"))),
    }
}

/// The time limit of a run: the first that is given counts, and zero is none.
pub(crate) fn time_limit(limits: impl IntoIterator<Item = Option<Duration>>) -> Option<Duration> {
    limits.into_iter().flatten().next().filter(|limit| !limit.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_counts_and_zero_is_none() {
        let (zero, second) = (Some(Duration::ZERO), Some(Duration::from_secs(1)));
        assert_eq!(time_limit([None, second, zero]), second);
        assert_eq!((time_limit([zero, second]), time_limit([None])), (None, None));
    }

    #[test]
    fn durations_are_read() {
        for (text, ms) in
            [("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("500ms", 500), ("7", 7000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "s", "5x", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
