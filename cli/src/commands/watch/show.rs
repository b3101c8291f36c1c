//! How a watch is shown: a table in place on a terminal, lines or JSON elsewhere.

use std::io::{self, IsTerminal};

use run_agent_core::Timestamp;
use run_agent_core::world::{Change, RunStatus};
use run_agent_runner::tree::TaskName;

use super::super::replay::{Words, change_json};
use super::screen::Screen;
use super::watched::{Happened, Watched};
use crate::context::Context;
use crate::error::Failure;
use crate::render::{self, Cell, Hue};

/// In whole seconds: what is redrawn all the time should not flicker.
fn for_so_long(from: Timestamp, now: Timestamp) -> String {
    match now.as_second().saturating_sub(from.as_second()) {
        seconds @ ..60 => format!("{} s", seconds.max(0)),
        _ => render::lasted(from, now),
    }
}

/// How it is shown.
pub(super) struct Show<'a> {
    context: &'a Context,
    /// A table in place, on a terminal.
    screen: Option<Screen>,
    /// Tasks whose lost driver was told.
    told: Vec<TaskName>,
    words: Words,
}

impl<'a> Show<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        let live = !context.json && io::stdout().is_terminal();
        Self { context, screen: live.then(Screen::default), told: Vec::new(), words: Words::default() }
    }

    /// How a task stands when the watch begins.
    pub(super) fn first(&mut self, task: &Watched) -> Result<(), Failure> {
        let row = task.task().row(&task.name.task);
        self.change(&task.name, &Happened { entry: None, change: Change::Task(Box::new(row)) })
    }

    pub(super) fn change(&mut self, name: &TaskName, happened: &Happened) -> Result<(), Failure> {
        let Happened { entry, change } = happened;
        if self.screen.is_some() || matches!(change, Change::Counted { .. }) {
            return Ok(());
        }
        if self.context.json {
            return render::json(&change_json(name, entry.as_ref(), change));
        }
        let Some(words) = self.words.of(change) else { return Ok(()) };
        let at = entry.as_ref().map_or_else(Timestamp::now, |entry| entry.message.ts);
        render::out(&format!("{at:.3} {name} {words}\n"))
    }

    /// What a person must know to end the wait.
    pub(super) fn note(&mut self, task: &Watched) -> Result<(), Failure> {
        if self.told.contains(&task.name) || !task.is_orphaned(self.context) {
            return Ok(());
        }
        self.told.push(task.name.clone());
        if self.screen.is_none() {
            render::say(&format!("{}: {}", task.name, self.orphaned(task)));
        }
        Ok(())
    }

    fn orphaned(&self, task: &Watched) -> String {
        format!("the loop's driver is gone; go on with run-agent task{}", self.context.flags_for(&task.name))
    }

    pub(super) fn table(&mut self, watched: &[Watched]) -> Result<(), Failure> {
        if self.screen.is_none() {
            return Ok(());
        }
        let now = Timestamp::now();
        let rows: Vec<Vec<Cell>> = watched.iter().map(|task| self.row(task, now)).collect();
        let lines = render::table(&rows).lines().map(str::to_owned).collect();
        match self.screen.as_mut().map(|screen| screen.show(lines)) {
            Some(Err(error)) => Err(Failure::io("cannot write to the terminal", &error)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn row(&self, watched: &Watched, now: Timestamp) -> Vec<Cell> {
        let task = watched.task();
        let counts: Vec<String> =
            task.run_counts().iter().map(|(status, n)| format!("{n} {}", status.as_str())).collect();
        let newest = task.active().last().or_else(|| task.runs.iter().next_back());
        let doing = match newest {
            _ if watched.is_orphaned(self.context) => self.orphaned(watched),
            Some((_, run)) if run.idle_since.is_some() => {
                let since = run.idle_since.unwrap_or(run.made);
                format!("{} idle for {}", run.agent, for_so_long(since, now))
            }
            Some((_, run)) if run.retrying.is_some() => {
                format!("{} {}", run.agent, render::retrying(run).unwrap_or_default())
            }
            Some((_, run)) if run.status() == RunStatus::Running => {
                format!("{} for {}", run.agent, for_so_long(run.started().unwrap_or(run.made), now))
            }
            _ if !task.reason().is_empty() => render::safe_line(&render::reason_of(task, now)),
            Some((_, run)) => run.end().map(|(end, _)| render::safe_line(&end.reason)).unwrap_or_default(),
            None => String::new(),
        };
        let status = match task.status() {
            _ if watched.gone => Cell::new("deleted").hue(Hue::Bad),
            status => Cell::new(status.as_str()).hue(Hue::of_task(status)),
        };
        vec![
            status,
            watched.name.task.slug().to_owned().into(),
            counts.join(", ").into(),
            doing.into(),
            task.usage.row().as_ref().map(render::usage_cell).unwrap_or_default().into(),
            render::safe_line(task.title()).into(),
        ]
    }
}
