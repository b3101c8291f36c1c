//! What clap found wrong, as one line or one JSON object like every other error; help and version as they are.

use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::{Cli, When};
use crate::error::{Exit, Failure};
use crate::find;
use crate::render::{self, Paint};

/// Reports a command line that was not understood, or shows the help or version that was asked for.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    // What is no text is shown as near to it as can be.
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.take_while(|word| word != "--").collect();
    let asked = |flag: &str| words.iter().any(|word| word == flag);
    render::choose_colors(color_of(&words));
    let json = asked("--json");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let shown = match error.kind() {
                ErrorKind::DisplayVersion if json => render::json(&version()),
                _ => render::out(&text(error, Paint::stdout())),
            };
            return shown.map_or_else(|failure| failure.report(json, false), |()| Exit::Done.into());
        }
        // Who names no command reads which there are.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !json => {
            render::say(text(error, Paint::stderr()).trim_end());
            return Exit::Usage.into();
        }
        _ => {}
    }
    failure(error, &words).report(json, asked("--verbose") || asked("-v"))
}

fn text(error: &clap::Error, paint: Paint) -> String {
    let styled = error.render();
    if paint.is_on() { styled.ansi().to_string() } else { styled.to_string() }
}

fn version() -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "commit": env!("RUN_AGENT_COMMIT"), "date": env!("RUN_AGENT_DATE"),
        "target": env!("RUN_AGENT_TARGET"), "profile": env!("RUN_AGENT_PROFILE"),
    })
}

/// `--color` of a command line that could not be read as a whole.
fn color_of(words: &[String]) -> Option<When> {
    let at = words.iter().position(|word| word == "--color" || word.starts_with("--color="))?;
    let value =
        words[at].split_once('=').map(|(_, value)| value).or(words.get(at + 1).map(String::as_str))?;
    clap::ValueEnum::from_str(value, false).ok()
}

fn failure(error: &clap::Error, words: &[String]) -> Failure {
    let whole = text(error, Paint::OFF);
    let mut paragraphs = whole.split("\n\n");
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "which command?".to_owned(),
        _ => one_line(paragraphs.next().unwrap_or_default().trim_start_matches("error: ")),
    };
    let near = near(error);
    let help = format!("see `{} --help`", path_of(words));
    let failure = Failure::usage(what);
    match near.as_slice() {
        [] => {
            // Another tip of clap's own says more than where the help is.
            let tip = paragraphs.find_map(|p| p.trim_start().strip_prefix("tip: ")).map(one_line);
            failure.hint(tip.unwrap_or(help))
        }
        [one] => failure.hint(format!("did you mean `{one}`? {help}")).candidates(near),
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            failure.hint(format!("did you mean one of {}? {help}", names.join(", "))).candidates(near)
        }
    }
}

/// On one line, with names between backticks as everywhere.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let opened = line.replace(" '", " `");
    let closed =
        ["' ", "':", "',"].iter().fold(opened, |line, end| line.replace(end, &end.replace('\'', "`")));
    closed.strip_suffix('\'').map(|line| format!("{line}`")).unwrap_or(closed)
}

/// What clap takes to be meant.
fn near(error: &clap::Error) -> Vec<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let mut names = Vec::new();
    for kind in kinds {
        match error.get(kind) {
            Some(ContextValue::String(name)) => names.push(name.clone()),
            Some(ContextValue::Strings(several)) => names.extend(several.iter().cloned()),
            _ => {}
        }
    }
    // The nearest first.
    if let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) {
        names.sort_by_key(|name| find::distance(typed, name));
    }
    names
}

/// The command that was called, as far as its words are commands.
fn path_of(words: &[String]) -> String {
    let mut root = Cli::command();
    root.build();
    let mut at = &root;
    let mut path = "run-agent".to_owned();
    for word in words {
        if let Some(command) = at.find_subcommand(word) {
            path.push(' ');
            path.push_str(command.get_name());
            at = command;
        }
    }
    path
}
