//! How a watch is shown: a table in place on a terminal, lines or JSON elsewhere.

use std::io::{self, IsTerminal};

use run_agent_core::Timestamp;
use run_agent_core::world::{Change, RunStatus};
use run_agent_runner::tree::TaskName;

use super::super::replay::{Words, change_json};
use super::Watched;
use super::screen::Screen;
use crate::error::Failure;
use crate::folded::{Folded, News};
use crate::render::{self, Cell, Hue};

/// In whole seconds: what is redrawn all the time should not flicker.
fn for_so_long(from: Timestamp, now: Timestamp) -> String {
    match now.as_second().saturating_sub(from.as_second()) {
        seconds @ ..60 => format!("{} s", seconds.max(0)),
        _ => render::lasted(from, now),
    }
}

/// How it is shown.
pub(super) struct Show {
    json: bool,
    /// A table in place, on a terminal.
    screen: Option<Screen>,
    /// Tasks whose lost driver was told.
    told: Vec<TaskName>,
    words: Words,
}

impl Show {
    pub(super) fn new(json: bool) -> Self {
        let live = !json && io::stdout().is_terminal();
        Self { json, screen: live.then(Screen::default), told: Vec::new(), words: Words::default() }
    }

    /// How a task stands when the watch begins.
    pub(super) fn first(&mut self, task: &Folded) -> Result<(), Failure> {
        let row = task.task().row(&task.name.task);
        self.news(task, &News { entry: None, changes: vec![Change::Task(Box::new(row))] })
    }

    pub(super) fn news(&mut self, task: &Folded, News { entry, changes }: &News) -> Result<(), Failure> {
        for change in changes {
            if self.screen.is_some() || matches!(change, Change::Counted { .. }) {
                continue;
            }
            if self.json {
                render::json(&change_json(&task.name, entry.as_ref(), change))?;
                continue;
            }
            let Some(words) = self.words.of(change) else { continue };
            let at = entry.as_ref().map_or_else(Timestamp::now, |entry| entry.message.ts);
            render::out(&format!("{at:.3} {} {words}\n", task.name))?;
        }
        Ok(())
    }

    /// What a person must know to end the wait.
    pub(super) fn note(&mut self, watched: &impl Watched, n: usize) {
        let name = &watched.task(n).name;
        if self.told.contains(name) || !watched.is_orphaned(n) {
            return;
        }
        self.told.push(name.clone());
        if self.screen.is_none() {
            render::say(&format!("{name}: {}", orphaned(watched, n)));
        }
    }

    pub(super) fn table(&mut self, watched: &impl Watched) -> Result<(), Failure> {
        if self.screen.is_none() {
            return Ok(());
        }
        let now = Timestamp::now();
        let rows: Vec<Vec<Cell>> = (0..watched.count()).map(|n| row(watched, n, now)).collect();
        let lines = render::table(&rows).lines().map(str::to_owned).collect();
        match self.screen.as_mut().map(|screen| screen.show(lines)) {
            Some(Err(error)) => Err(Failure::io("cannot write to the terminal", &error)),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

fn orphaned(watched: &impl Watched, n: usize) -> String {
    let flags = watched.flags_for(&watched.task(n).name);
    format!("the loop's driver is gone; go on with run-agent task{flags}")
}

fn row(watched: &impl Watched, n: usize, now: Timestamp) -> Vec<Cell> {
    let folded = watched.task(n);
    let task = folded.task();
    let counts: Vec<String> =
        task.run_counts().iter().map(|(status, n)| format!("{n} {}", status.as_str())).collect();
    let newest = task.active().last().or_else(|| task.runs.iter().next_back());
    let doing = match newest {
        _ if watched.is_orphaned(n) => orphaned(watched, n),
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
        _ if folded.gone => Cell::new("deleted").hue(Hue::Bad),
        status => Cell::new(status.as_str()).hue(Hue::of_task(status)),
    };
    vec![
        status,
        folded.name.task.slug().to_owned().into(),
        counts.join(", ").into(),
        doing.into(),
        task.usage.row().as_ref().map(render::usage_cell).unwrap_or_default().into(),
        render::safe_line(task.title()).into(),
    ]
}
