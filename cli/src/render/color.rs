//! The one palette, and when it is used: `--color`, else `NO_COLOR`, `CLICOLOR_FORCE` and `CLICOLOR`, else a terminal.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

use clap::builder::styling::{AnsiColor, Style};
use run_agent_core::world::{RunStatus, TaskStatus};

use crate::args::When;

/// What `--color` said: 0 nothing or `auto`, 1 `always`, 2 `never`. Set once, before anything is shown.
static CHOICE: AtomicU8 = AtomicU8::new(0);

pub(crate) fn choose_colors(when: Option<When>) {
    let choice = match when {
        None | Some(When::Auto) => 0,
        Some(When::Always) => 1,
        Some(When::Never) => 2,
    };
    CHOICE.store(choice, Ordering::Relaxed);
}

/// What a piece of text means; never a colour by name outside this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hue {
    /// It went well.
    Good,
    /// It failed, or a person must act.
    Bad,
    /// It is at work.
    Busy,
    /// It waits, or was stopped: look when you have time.
    Mild,
    /// Less important than what stands around it.
    Quiet,
    /// What the eye looks for first.
    Strong,
}

impl Hue {
    pub(crate) fn of_task(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Completed => Self::Good,
            TaskStatus::Failed => Self::Bad,
            TaskStatus::Running => Self::Busy,
            TaskStatus::Created
            | TaskStatus::Blocked
            | TaskStatus::Queued
            | TaskStatus::Waiting
            | TaskStatus::BackingOff
            | TaskStatus::Stopped => Self::Mild,
        }
    }

    pub(crate) fn of_run(status: RunStatus) -> Self {
        match status {
            RunStatus::Completed => Self::Good,
            RunStatus::Failed => Self::Bad,
            RunStatus::Running => Self::Busy,
            RunStatus::Queued | RunStatus::Stopped => Self::Mild,
        }
    }

    /// The hue of a message by its type, which is an open set.
    pub(crate) fn of_kind(kind: &str) -> Self {
        match kind {
            "ERROR" | "RUN_CRASH" | "DONE_REJECTED" | "LOOP_BREAKER" => Self::Bad,
            "WARNING" | "QUESTION" | "RUN_STUCK" | "LOOP_BACKOFF" | "LOOP_BLOCKED" | "RUN_PARKED" => {
                Self::Mild
            }
            "DONE" | "ANSWER" => Self::Good,
            "RUN_START" | "LOOP_START" | "LOOP_RESTART" => Self::Busy,
            kind if kind.starts_with("RUN_") || kind.starts_with("LOOP_") => Self::Quiet,
            _ => Self::Strong,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Busy => AnsiColor::Cyan.on_default(),
            Self::Mild => AnsiColor::Yellow.on_default(),
            Self::Quiet => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }
}

/// Whether a stream takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    pub(crate) const OFF: Self = Self { on: false };

    pub(crate) fn stdout() -> Self {
        Self { on: wanted(|| io::stdout().is_terminal()) }
    }

    pub(crate) fn stderr() -> Self {
        Self { on: wanted(|| io::stderr().is_terminal()) }
    }

    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    pub(crate) fn hue(self, hue: Hue, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let style = hue.style();
        format!("{style}{text}{style:#}")
    }
}

fn wanted(is_terminal: impl FnOnce() -> bool) -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        1 => true,
        2 => false,
        _ => by_environment(|name| std::env::var(name).ok(), is_terminal),
    }
}

/// `NO_COLOR` set to anything wins; then `CLICOLOR_FORCE`, then `CLICOLOR=0`, then whether it is a terminal.
fn by_environment(variable: impl Fn(&str) -> Option<String>, is_terminal: impl FnOnce() -> bool) -> bool {
    if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return false;
    }
    if variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    if variable("CLICOLOR").as_deref() == Some("0") || variable("TERM").as_deref() == Some("dumb") {
        return false;
    }
    is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(set: &[(&str, &str)], terminal: bool) -> bool {
        let find = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        by_environment(find, || terminal)
    }

    #[test]
    fn the_environment_decides_where_no_flag_does() {
        assert!(decided(&[], true));
        assert!(!decided(&[], false));
        assert!(!decided(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], true));
        assert!(decided(&[("NO_COLOR", "")], true), "an empty one counts as not set");
        assert!(decided(&[("CLICOLOR_FORCE", "1")], false));
        assert!(!decided(&[("CLICOLOR_FORCE", "0")], false));
        assert!(!decided(&[("CLICOLOR", "0")], true));
        assert!(!decided(&[("TERM", "dumb")], true));
    }

    #[test]
    fn without_colours_text_stays_as_it_is() {
        assert_eq!(Paint::OFF.hue(Hue::Bad, "x"), "x");
        assert_eq!(Paint { on: true }.hue(Hue::Good, "x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Paint { on: true }.hue(Hue::Good, ""), "");
    }
}
