//! `run-agent`: the command line. It is the only crate that names a concrete store, and the only one that looks at
//! the environment, the working folder and the terminal.
//!
//! | question | file |
//! | --- | --- |
//! | which commands and flags are there? | `args` |
//! | which project, task and run does a command mean? | `context`, `find` |
//! | which folder is the root, may it be used, and which storage settings hold in it? | `root`, `store_file` |
//! | how is the server of another machine asked? | `client` |
//! | what does an entry change of a task that is looked at? | `folded` |
//! | what does a command do? | `commands/<verb>` |
//! | how is something shown? | `render` |
//! | what may stand in `config.hcl`? | `config` |
//! | which exit code is it, and what is said about it? | `error`, `usage` |
//! | what is told on the way, when asked for? | `log` |
//!
//! It is a library of one function so that the fuzz targets can reach what they look at.

mod args;
mod client;
mod commands;
mod config;
mod context;
mod error;
mod find;
mod folded;
#[cfg(fuzzing)]
pub mod fuzzing;
mod log;
mod render;
mod ringing;
mod root;
mod store_file;
mod stores;
#[cfg(test)]
mod tree_tests;
mod usage;

use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::error::Outcome;

/// The whole program: what `main` calls and returns.
pub fn main() -> ExitCode {
    if let Some(code) = commands::completion::answer() {
        return code;
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    render::choose_colors(cli.global.color);
    render::choose_place(&cli.global);
    log::start(cli.global.verbose);
    let (json, verbose) = (cli.global.json, cli.global.verbose);
    tracing::debug!(command = ?cli.command, "command");
    let outcome = run(cli);
    tracing::debug!(?outcome, "ended");
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => failure.report(json, verbose),
    }
}

fn run(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(args) => commands::demo::run(&global, &args),
        Command::Task(args) => commands::task::run(&global, &args),
        Command::Resume(args) => commands::resume::run(&global, &args),
        Command::Job(args) => commands::job::run(&global, &args),
        Command::Wait(args) => commands::wait::run(&global, &args),
        Command::Adopt(args) => commands::adopt::run(&global, &args),
        Command::Stop(args) => commands::stop::run(&global, &args),
        Command::Done(args) => commands::done::run(&global, &args),
        Command::Ask(args) => commands::ask::run(&global, &args),
        Command::Bus(args) => commands::bus::run(&global, &args),
        Command::Store(args) => commands::store::run(&global, &args),
        Command::List(args) => commands::list::run(&global, &args),
        Command::Status(args) => commands::status::run(&global, &args),
        Command::Why(args) => commands::why::run(&global, &args),
        Command::Inbox(args) => commands::inbox::run(&global, &args),
        Command::Output(args) => commands::output::run(&global, &args),
        Command::Replay(args) => commands::replay::run(&global, &args),
        Command::Watch(args) => commands::watch::run(&global, &args),
        Command::Serve(args) => commands::serve::run(&global, &args),
        Command::Wrap(args) => commands::wrap::run(&global, &args),
        Command::ShellSetup(args) => commands::shell_setup::run(&global, &args),
        Command::Completion(args) => commands::completion::run(&args),
        Command::Man(args) => commands::man::run(&args),
        Command::Doctor(args) => commands::doctor::run(&global, &args),
        Command::Gc(args) => commands::gc::run(&global, &args),
        Command::Validate(args) => commands::validate::run(&global, &args),
        Command::Config(args) => commands::config::run(&global, &args),
        Command::Drive => commands::task::detach::drive(&global),
        Command::Version(args) => commands::internal::version(&args),
        Command::Supervise(args) => commands::internal::supervise(args.here),
    }
}
