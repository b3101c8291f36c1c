//! No command without a transcript: its help, a success, a success with `--json`, an error.

use std::collections::BTreeSet;
use std::process::Command;

use run_agent_tests::binary;

use crate::console::{self, Part, Step};
use crate::{ALL, file};

/// Commands whose result is no data: a script, a page, an editor's session, what another program prints.
const WITHOUT_JSON: &[&str] =
    &["bus edit", "completion", "man", "replay", "shell-setup install", "shell-setup uninstall", "wrap"];

/// Every command that is shown, by the help of the one above it; those without commands below them are marked.
fn commands() -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        let output = Command::new(binary()).args(path.split_whitespace()).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let below =
            help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        // A line that goes on with the one before stands further in.
        let names = below.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        let names: Vec<&str> =
            names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
        open.extend(names.iter().map(|name| format!("{path} {name}").trim().to_owned()));
        found.push((path, names.is_empty()));
    }
    found
}

fn steps() -> Vec<Step> {
    let texts = ALL.iter().map(|name| std::fs::read_to_string(file(name)).unwrap());
    let parts = texts.flat_map(|text| console::parse(&text));
    parts
        .filter_map(|part| match part {
            Part::Step(step) => Some(step),
            Part::Prose(_) => None,
        })
        .collect()
}

/// The command stands in the line as words of its own.
fn calls(step: &Step, command: &str) -> bool {
    let called = format!("run-agent {command}");
    step.command.match_indices(called.trim_end()).any(|(at, called)| {
        let behind = &step.command[at + called.len()..];
        behind.is_empty() || behind.starts_with(|c: char| c.is_whitespace() || c == ')' || c == ';')
    })
}

#[test]
fn every_command_has_its_transcript() {
    let steps = steps();
    let mut missing = Vec::new();
    for (command, is_leaf) in commands() {
        let has =
            |wanted: &dyn Fn(&Step) -> bool| steps.iter().any(|step| calls(step, &command) && wanted(step));
        let asks_help = |step: &Step| step.command.contains("--help");
        let with_json = |step: &Step| step.command.contains("--json");
        let done = |step: &Step| step.outcome.code == 0 && !asks_help(step);
        let wanted: &[(&str, bool)] = &[
            (
                "its help",
                has(&|step| step.command == format!("run-agent {command} --help").replace("  ", " ")),
            ),
            ("a success", !is_leaf || has(&|step| done(step) && !with_json(step))),
            (
                "a success with --json",
                !is_leaf
                    || WITHOUT_JSON.contains(&command.as_str())
                    || has(&|step| done(step) && with_json(step)),
            ),
            ("an error", has(&|step| step.outcome.code != 0)),
        ];
        let lacks = wanted.iter().filter(|(_, there)| !there);
        missing.extend(lacks.map(|(what, _)| format!("`run-agent {command}`: {what}")));
    }
    assert!(missing.is_empty(), "tests/transcripts has not:\n  {}", missing.join("\n  "));
}

#[test]
fn every_transcript_is_played() {
    let folder = file("x").parent().unwrap().to_owned();
    let found: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let known: BTreeSet<String> = ALL.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, known, "the list in transcripts/main.rs is that of the folder");
}
