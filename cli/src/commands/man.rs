//! `man`: the manual pages, one a command, made from the same tree as the help.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::args::Cli;
use crate::error::{Exit, Failure, Outcome};
use crate::{find, render};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  run-agent man bus-post | man -l -\n  run-agent man --out ~/.local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// The command, such as `job` or `bus-post` [default: run-agent itself]
    #[arg(value_name = "COMMAND", num_args = 0.., conflicts_with = "out")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A page: its name, such as `run-agent-bus-post`, and its command.
type Page = (String, clap::Command);

pub(crate) fn run(args: &ManArgs) -> Outcome {
    let pages = pages();
    if let Some(folder) = &args.out {
        return write_all(folder, &pages);
    }
    // `bus-post`, `bus post` and `run-agent-bus-post` mean the same page.
    let words = args.command.join("-");
    let name = match words.strip_prefix("run-agent").unwrap_or(&words).trim_start_matches('-') {
        "" => "run-agent".to_owned(),
        name => format!("run-agent-{name}"),
    };
    let Some(page) = pages.iter().find(|(page, _)| *page == name) else {
        let short = |page: &Page| page.0.strip_prefix("run-agent-").unwrap_or(&page.0).to_owned();
        let known: Vec<String> = pages.iter().map(short).collect();
        let near = find::near(&words, known.iter().map(String::as_str));
        return Err(
            Failure::not_found(format!("no manual page for `{}`", render::value(&words))).suggest(near)
        );
    };
    render::bytes(&text(page)?)?;
    Ok(Exit::Done)
}

fn write_all(folder: &Path, pages: &[Page]) -> Outcome {
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::io(format!("cannot make the folder {}", folder.display()), &e))?;
    for page in pages {
        let path = folder.join(format!("{}.1", page.0));
        run_agent_runner::files::replace(&path, &text(page)?, false)
            .map_err(|e| Failure::io(format!("cannot write {}", path.display()), &e))?;
    }
    render::say(&format!("{} pages in {}", pages.len(), folder.display()));
    Ok(Exit::Done)
}

fn text((name, command): &Page) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .title(name.as_str())
        .manual("run-agent")
        .source(concat!("run-agent ", env!("CARGO_PKG_VERSION")))
        .date(env!("RUN_AGENT_DATE"))
        .render(&mut text)
        .map_err(|e| Failure::io("cannot make the manual page", &e))?;
    Ok(text)
}

/// Every command that people see.
fn pages() -> Vec<Page> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    collect("run-agent".to_owned(), &root, &mut pages);
    pages
}

fn collect(name: String, command: &clap::Command, pages: &mut Vec<Page>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        collect(format!("{name}-{}", below.get_name()), below, pages);
    }
    pages.push((name.clone(), command.clone().display_name(name)));
}
