//! What holds for every command and flag of the tree.

use clap::{ArgAction, Command, CommandFactory};

use crate::args::Cli;

fn tree() -> Command {
    let mut root = Cli::command();
    root.build();
    root
}

/// Not hidden, and not clap's own `help`.
fn is_shown(command: &Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

/// Every command that people see, with its path.
fn all() -> Vec<(String, Command)> {
    fn collect(path: String, command: &Command, found: &mut Vec<(String, Command)>) {
        for below in command.get_subcommands().filter(|below| is_shown(below)) {
            collect(format!("{path} {}", below.get_name()), below, found);
        }
        found.push((path, command.clone()));
    }
    let mut found = Vec::new();
    collect("run-agent".to_owned(), &tree(), &mut found);
    found
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_is_about_and_gives_an_example() {
    for (path, command) in all() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.ends_with('.') && !about.contains('\n'), "`{path}`: {about:?}");
        assert!(path == "run-agent" || about.len() <= 66, "`{path}` fits a line of 80 columns: {about:?}");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(
            after.contains("Example") && after.contains("run-agent "),
            "`{path}` has an example: {after:?}"
        );
    }
}

#[test]
fn every_flag_has_help_and_names_its_value_in_capitals() {
    for (path, command) in all() {
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty() && !help.ends_with('.'), "`{path}` {}: {help:?}", arg.get_id());
            if matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
                let names = arg.get_value_names().unwrap_or_default();
                assert!(!names.is_empty(), "`{path}` {}", arg.get_id());
                assert!(
                    names.iter().all(|name| **name == name.to_uppercase()),
                    "`{path}` {}: {names:?}",
                    arg.get_id()
                );
            }
        }
    }
}

#[test]
fn the_flags_that_mean_the_same_everywhere_are_everywhere() {
    for (path, command) in all() {
        for flag in ["root", "config", "project", "task", "json", "color", "verbose"] {
            let found = command.get_arguments().any(|arg| arg.get_long() == Some(flag));
            assert!(found, "`{path}` takes --{flag}: its variant holds a `Verb<…>`");
        }
    }
}

#[test]
fn help_fits_a_page() {
    for (path, mut command) in all() {
        let lines = command.render_help().to_string().lines().count();
        assert!(lines <= 60, "`{path} --help` has {lines} lines");
    }
}

#[test]
fn only_the_command_that_is_called_is_built() {
    let root = Cli::command();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        assert_eq!(
            command.get_arguments().count(),
            0,
            "`{}` is deferred: its variant holds a `Verb<…>`",
            command.get_name()
        );
    }
}

/// What sleeps and waits for nobody else: an editor, the pace of a replay, a command of the caller's own, a driver in the
/// background, what follows output for those that wait; and what only people call.
const WAIT_FOR_NOBODY: [&str; 6] =
    ["bus/edit.rs", "demo.rs", "replay.rs", "task/detach.rs", "task/follow.rs", "wrap.rs"];

#[test]
fn every_command_that_waits_for_others_counts_its_run_as_waiting() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands");
    let mut folders = vec![folder.clone()];
    let mut waiting = Vec::new();
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            let name = entry.strip_prefix(&folder).unwrap().display().to_string();
            if ["Wake::new()", ".on_interrupt()", "follow.wait(", "run_loop(&"]
                .iter()
                .any(|word| text.contains(word))
            {
                assert_eq!(
                    text.contains(".blocks()"),
                    !WAIT_FOR_NOBODY.contains(&name.as_str()),
                    "{name}: a command that waits for others holds what `Context::blocks` gives (docs/slots.md)"
                );
                waiting.push(name);
            }
        }
    }
    assert!(waiting.len() >= 10, "{waiting:?}");
}
