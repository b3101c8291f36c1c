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
    let path = path_of(words);
    let near = near(error, &path);
    let help = format!("see `{path} --help`");
    // Another tip of clap's own says more than where the help is.
    let tip = paragraphs.find_map(|p| p.trim_start().strip_prefix("tip: ")).map(one_line);
    if let Some(word) = unexpected(error, words) {
        let takes_no_name =
            path == "run-agent stop" || path == "run-agent resume" || path.starts_with("run-agent bus ");
        if takes_no_name && !word.starts_with('-') {
            let name = render::quoted_word(&render::short_value(word));
            return Failure::usage(render::brief(&what)).hint(format!("a task is named with --task {name}"));
        }
        if matches!(path.as_str(), "run-agent ask" | "run-agent inbox answer") && !word.starts_with('-') {
            return Failure::usage(render::brief(&what)).hint(format!("put the text in quotes; {help}"));
        }
        if path == "run-agent wrap" && !word.starts_with('-') {
            return Failure::usage(render::brief(&what)).hint(with_dashes(words, word));
        }
        if tip.as_ref().is_some_and(|tip| tip.starts_with("to pass ")) {
            let word = render::short_value(word);
            let (shown, quoted) = (render::safe_line(&word), render::quoted_word(&word));
            return Failure::usage(format!("unexpected argument `{shown}` found"))
                .hint(format!("to pass `{shown}` as a value, use `-- {quoted}` behind all flags"));
        }
    }
    let failure = Failure::usage(render::brief(&what));
    match near.as_slice() {
        [] => failure.hint(tip.map_or(help, |tip| render::brief(&tip))),
        [one] => failure.hint(format!("did you mean `{one}`? {help}")).candidates(near),
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            failure.hint(format!("did you mean one of {}? {help}", names.join(", "))).candidates(near)
        }
    }
}

/// The word that clap had no place for. Of a word with one dash clap tells the first letter alone, as of a flag.
fn unexpected<'a>(error: &clap::Error, words: &'a [String]) -> Option<&'a str> {
    let Some(ContextValue::String(told)) = error.get(ContextKind::InvalidArg) else { return None };
    let unexpected = error.kind() == ErrorKind::UnknownArgument;
    let short = told.strip_prefix('-').filter(|letter| !letter.starts_with('-'));
    let means = |word: &&String| match short {
        Some(letter) => {
            word.strip_prefix('-').is_some_and(|rest| !rest.starts_with('-') && rest.contains(letter))
        }
        None => *word == told,
    };
    words.iter().find(means).map(String::as_str).filter(|_| unexpected)
}

/// The most words of a command that an error repeats.
const REPEATED: usize = 20;

/// A `wrap` as it was meant, whose command stands at `word`.
fn with_dashes(words: &[String], word: &str) -> String {
    let at = words.iter().position(|one| one == word).unwrap_or(words.len());
    let shown = |word: &String| render::quoted_word(&render::short_value(word));
    let mut line: Vec<String> = words[..at].iter().map(shown).collect();
    line.push("--".to_owned());
    line.extend(words[at..].iter().take(REPEATED).map(shown));
    let more = if words.len() - at > REPEATED { " …" } else { "" };
    format!("put `--` before the command: run-agent {}{more}", line.join(" "))
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
fn near(error: &clap::Error, path: &str) -> Vec<String> {
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
        if path == "run-agent"
            && let Some(own) = called_here(typed)
        {
            return vec![own.to_owned()];
        }
    }
    names
}

/// What other tools call by this word.
fn called_here(word: &str) -> Option<&'static str> {
    Some(match word {
        "ls" | "ps" | "tasks" | "jobs" | "runs" => "list",
        "log" | "logs" | "tail" | "cat" => "output",
        "kill" | "cancel" | "abort" | "terminate" => "stop",
        "run" | "start" | "new" | "create" => "task",
        "rm" | "del" | "delete" | "remove" => "task delete",
        "attach" => "task --attach",
        "restart" | "continue" | "retry" => "resume",
        "answer" | "reply" => "inbox answer",
        "questions" | "notifications" => "inbox",
        "show" | "info" | "inspect" | "tree" => "status",
        "explain" => "why",
        "post" | "send" => "bus post",
        "history" | "events" => "replay",
        "fsck" | "repair" | "check" => "doctor",
        "clean" | "cleanup" | "prune" => "gc",
        _ => return None,
    })
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
