//! `shell-setup`: puts aliases into the shell's start-up file, so that agents that a person starts by hand are
//! recorded, and takes them out again. The file comes back byte for byte.

mod block;
mod rc;

use clap::{Args, Subcommand, ValueEnum};

use self::block::{Block, BlockError};
use self::rc::RcFile;
use crate::args::{Global, Verb};
use crate::error::{Exit, Failure, Outcome};
use crate::render;

#[derive(Debug, Args)]
#[command(
    after_help = "The aliases stand between two marker lines. They count in interactive shells alone, and only while \
        run-agent is found on PATH; `command claude` starts the program without them.\n\nExample:\n  run-agent shell-setup install --dry-run"
)]
pub(crate) struct ShellSetupArgs {
    #[command(subcommand)]
    command: SetupCommand,
}

#[derive(Debug, Subcommand)]
enum SetupCommand {
    /// Make claude, codex and gemini start through `run-agent wrap`
    Install(Verb<SetupArgs>),
    /// Remove what install wrote, and nothing else
    Uninstall(Verb<UninstallArgs>),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent shell-setup install --shell zsh")]
struct SetupArgs {
    /// The shell [default: the one that $SHELL names]
    #[arg(long, value_enum)]
    shell: Option<Shell>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  run-agent shell-setup uninstall --dry-run")]
struct UninstallArgs {
    #[command(flatten)]
    setup: SetupArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(global: &Global, args: &ShellSetupArgs) -> Outcome {
    let (args, install) = match &args.command {
        SetupCommand::Install(args) => (&**args, true),
        SetupCommand::Uninstall(args) => (&args.setup, false),
    };
    let shell = args.shell.map_or_else(shell_of_user, Ok)?;
    let rc = RcFile::of(shell)?;
    let text = rc.read()?;
    let found = Block::find(&text).map_err(|BlockError { line, what }| {
        Failure::usage(format!("{}:{line}: {what}; mend the file by hand first", rc.path().display()))
    })?;
    let wanted = block::text(shell);
    let new = match (install, found) {
        (true, Some(block)) => block.replaced(&text, &wanted),
        (true, None) => Some(block::appended(text.as_deref(), &wanted)),
        (false, Some(block)) => Some(block.removed(&text)),
        (false, None) => None,
    };
    // The same bytes again are no change.
    let new = new.filter(|new| new.as_deref() != text.as_deref());
    let path = rc.path().display().to_string();
    if let (Some(new), false) = (&new, args.dry_run) {
        rc.write(new.as_deref())?;
    }
    if global.json {
        render::json(&serde_json::json!({
            "shell": shell.name(), "path": path, "changed": new.is_some() && !args.dry_run, "dry_run": args.dry_run,
            "block": install.then_some(&wanted),
        }))?;
        return Ok(Exit::Done);
    }
    let would = |done: &str, would: &str| if args.dry_run { would.to_owned() } else { done.to_owned() };
    let line = match (install, new.is_some()) {
        (true, true) => format!("{} {path}:\n\n{wanted}", would("written to", "would be written to")),
        (true, false) => format!("{path} has the aliases already\n"),
        (false, true) => format!("{} {path}\n", would("removed from", "would be removed from")),
        (false, false) => format!("{path} has no aliases of run-agent\n"),
    };
    render::out(&line)?;
    if new.is_some() && !args.dry_run {
        render::say(&format!("open a new {} for it to count", shell.name()));
    }
    Ok(Exit::Done)
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

fn shell_of_user() -> Result<Shell, Failure> {
    let path = crate::context::variable("SHELL").unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    Shell::from_str(name, false).map_err(|_| {
        let what = if path.is_empty() { "SHELL is not set".to_owned() } else { format!("SHELL is {path}") };
        Failure::usage(format!("which shell? {what}; name one with --shell bash, zsh or fish"))
    })
}
