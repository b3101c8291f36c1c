//! `run-agent`: the command line. It is the only crate that names a concrete store, and the only one that looks at
//! the environment, the working folder and the terminal.
//!
//! | question | file |
//! | --- | --- |
//! | which commands and flags are there? | `args` |
//! | which project, task and run does a command mean? | `context`, `find` |
//! | which folder is the root, may it be used, and which storage settings hold in it? | `root`, `store_file` |
//! | what does a command do? | `commands/<verb>` |
//! | how is something shown? | `render` |
//! | what may stand in `config.hcl`? | `config` |
//! | which exit code is it? | `error` |

mod args;
mod commands;
mod config;
mod context;
mod error;
mod find;
mod render;
mod root;
mod store_file;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::error::Outcome;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return error::usage(&error),
    };
    match run(cli) {
        Ok(code) => code.into(),
        Err(failure) => failure.report(),
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
        Command::Stop(args) => commands::stop::run(&global, &args),
        Command::Done(args) => commands::done::run(&global, &args),
        Command::Ask(args) => commands::ask::run(&global, &args),
        Command::Bus(args) => commands::bus::run(&global, &args),
        Command::List(args) => commands::list::run(&global, &args),
        Command::Status(args) => commands::status::run(&global, &args),
        Command::Output(args) => commands::output::run(&global, &args),
        Command::Config(args) => commands::config::run(&global, &args),
        Command::Supervise => commands::internal::supervise(),
        Command::Shim(args) => commands::internal::shim(&args.argv),
    }
}
