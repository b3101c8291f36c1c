//! The form of a transcript: prose in markdown, and `console` blocks of commands with what came of them.
//!
//! ````text
//! ```console
//! $ run-agent status nobody
//! ! error: no task `nobody` in [ROOT]
//! ? 5
//! ```
//! ````
//!
//! `$ ` begins a command for the shell and `> ` goes on with it. Behind it stands stdout as it is, stderr with `! `
//! before each line, and `? ` with an exit code other than 0. Everything else is kept as it stands.

const FENCE: &str = "```";
const OPENS: &str = "```console";

#[derive(Debug)]
pub(crate) enum Part {
    /// A line that is no part of a command: prose, headings, fences.
    Prose(String),
    Step(Step),
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Step {
    /// The shell's line or lines.
    pub(crate) command: String,
    pub(crate) outcome: Outcome,
}

/// What came of a command.
#[derive(Debug, Default, Clone)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

pub(crate) fn parse(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !inside || line.starts_with(FENCE) {
            inside = !inside && line == OPENS;
            parts.push(Part::Prose(line.to_owned()));
        } else if let Some(command) = line.strip_prefix("$ ") {
            parts.push(Part::Step(Step { command: command.to_owned(), ..Step::default() }));
        } else {
            let Some(Part::Step(step)) = parts.last_mut() else {
                panic!("a `console` block begins with `$ `, and not with: {line}");
            };
            step.take(line);
        }
    }
    parts
}

impl Step {
    fn take(&mut self, line: &str) {
        let Outcome { stdout, stderr, code } = &mut self.outcome;
        let begins = stdout.is_empty() && stderr.is_empty();
        if let Some(more) = line.strip_prefix("> ").filter(|_| begins) {
            self.command.push('\n');
            self.command.push_str(more);
        } else if let Some(line) = line.strip_prefix("! ") {
            stderr.push_str(line);
            stderr.push('\n');
        } else if let Some(text) = line.strip_prefix("? ") {
            *code = text.parse().unwrap_or_else(|e| panic!("exit code `{text}`: {e}"));
        } else {
            stdout.push_str(line);
            stdout.push('\n');
        }
    }

    fn render(&self) -> String {
        let Outcome { stdout, stderr, code } = &self.outcome;
        let mut text = format!("$ {}\n", self.command.replace('\n', "\n> "));
        for line in stdout.lines() {
            let mistaken = ["$ ", "> ", "! ", "? ", FENCE].iter().any(|mark| line.starts_with(mark));
            assert!(!mistaken, "`{}` prints a line that a transcript cannot hold: {line}", self.command);
            text.push_str(line);
            text.push('\n');
        }
        for line in stderr.lines() {
            text.push_str(format!("! {line}").trim_end());
            text.push('\n');
        }
        if *code != 0 {
            text.push_str(&format!("? {code}\n"));
        }
        text
    }
}

pub(crate) fn render(parts: &[Part]) -> String {
    let line = |part: &Part| match part {
        Part::Prose(line) => format!("{line}\n"),
        Part::Step(step) => step.render(),
    };
    parts.iter().map(line).collect()
}
