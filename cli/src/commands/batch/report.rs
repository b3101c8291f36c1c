//! What a batch tells: a line for each thing that happens and, on a terminal, a line that says how far it is; at the
//! end a table or one JSON object.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use run_agent_core::world::{Run, Task};
use run_agent_runner::tree::TaskName;

use super::{State, Work};
use crate::commands::target::Target;
use crate::context::Context;
use crate::error::{Exit, Outcome};
use crate::render;

pub(super) struct Report<'a> {
    context: &'a Context,
    name: &'a TaskName,
    file: &'a Path,
    terminal: bool,
    /// The live line stands on the screen.
    shown: Cell<bool>,
}

impl<'a> Report<'a> {
    pub(super) fn new(context: &'a Context, name: &'a TaskName, file: &'a Path) -> Self {
        Self { context, name, file, terminal: io::stderr().is_terminal(), shown: Cell::new(false) }
    }

    /// What an earlier call left.
    pub(super) fn found(&self, work: &Work) {
        match &work.state {
            State::Waiting { attempt: 1 } => {}
            State::Waiting { attempt } => {
                self.line(work, &format!("failed before; this is attempt {attempt}"));
            }
            State::Running { run, .. } => self.line(work, &format!("is running already: run {run}")),
            State::Completed { run, .. } => self.line(work, &format!("is done: run {run}")),
            State::Failed { .. } | State::NotStarted { .. } => self.changed(work, None),
        }
    }

    /// A new state. `run` is its run, when it has ended.
    pub(super) fn changed(&self, work: &Work, run: Option<&Run>) {
        let time = run.map(|run| format!(" after {}", time_of(run))).unwrap_or_default();
        match &work.state {
            State::Waiting { .. } => {}
            State::Running { run, joined: false } => self.line(work, &format!("started: run {run}")),
            State::Running { run, joined: true } => {
                self.line(work, &format!("was started elsewhere: run {run}"));
            }
            State::Completed { .. } => self.line(work, &format!("completed{time}")),
            State::Failed { run: Some(run), why } => {
                let root = render::place();
                self.line(work, &format!("failed{time}: {why}; see run-agent{root} output {run} --merged"));
            }
            State::Failed { run: None, why } => self.line(work, &format!("could not be started: {why}")),
            State::NotStarted { why } => self.line(work, &format!("is not started: {why}")),
        }
    }

    fn line(&self, work: &Work, what: &str) {
        self.clear();
        render::say(&format!("{}: {}", render::safe_line(&work.item.id), render::safe_line(what)));
    }

    fn clear(&self) {
        if self.shown.take() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    /// How far it is, in place.
    pub(super) fn live(&self, work: &[Work]) {
        if !self.terminal {
            return;
        }
        self.clear();
        let running: Vec<&str> = work
            .iter()
            .filter(|work| matches!(work.state, State::Running { .. }))
            .map(|work| work.item.id.as_str())
            .collect();
        let over = work
            .iter()
            .filter(|work| !matches!(work.state, State::Running { .. } | State::Waiting { .. }))
            .count();
        if running.is_empty() {
            return;
        }
        let text = render::safe_line(&format!("{over}/{} over, running: {}", work.len(), running.join(", ")));
        let text = render::cut(&text, render::width_of_stderr().unwrap_or(80).saturating_sub(1));
        // The terminal cuts what is wider than it looks.
        let _ = write!(io::stderr(), "\r\x1b[?7l{text}\x1b[?7h");
        self.shown.set(true);
    }

    pub(super) fn end(&self, work: &[Work], task: &Task, interrupted: bool) -> Outcome {
        self.clear();
        let all = work.iter().all(|work| matches!(work.state, State::Completed { .. }));
        let exit = match (interrupted, all) {
            (true, _) => Exit::Interrupted,
            (false, true) => Exit::Done,
            (false, false) => Exit::Failed,
        };
        if self.context.json {
            let items: Vec<serde_json::Value> = work.iter().map(|work| self.item(work, task)).collect();
            render::json(&serde_json::json!({
                "project_id": self.name.project, "task_id": self.name.task, "spec": self.file,
                "items": items, "total": items.len(), "counts": counts(work), "exit_code": exit.code(),
            }))?;
        } else {
            let rows: Vec<Vec<String>> = work.iter().map(|work| row(work, task)).collect();
            let counts: Vec<String> =
                counts(work).iter().map(|(status, n)| format!("{n} {}", status.replace('_', " "))).collect();
            render::out(&format!("{}{}: {}\n", render::table(&rows), self.name, counts.join(", ")))?;
        }
        if exit != Exit::Done {
            let verb = if interrupted { "interrupted; what runs goes on. Go on" } else { "go on" };
            render::say(&format!(
                "{verb} with the same command: run-agent job batch{} --spec {}",
                self.context.flags_for(self.name),
                render::quoted(self.file)
            ));
        }
        Ok(exit)
    }

    fn item(&self, work: &Work, task: &Task) -> serde_json::Value {
        let run = run_of(work).and_then(|id| Some((id, task.runs.get(id)?)));
        let mut value = serde_json::json!({
            "id": work.item.id, "agent": work.agent, "status": status(&work.state), "reason": reason(&work.state),
            "done_before": matches!(work.state, State::Completed { before: true, .. }),
        });
        if let Some((id, run)) = run {
            let row = run.row(&self.name.task, id);
            value["agent"] = serde_json::json!(run.agent);
            value["run_id"] = serde_json::json!(id);
            value["start_time"] = serde_json::json!(row.start_time);
            value["end_time"] = serde_json::json!(row.end_time);
            value["exit_code"] = serde_json::json!(row.exit_code);
            value["output_path"] =
                serde_json::json!(self.context.tree.run(self.name, id).output().to_string_lossy());
        }
        value
    }
}

/// The order, and what would be done.
pub(super) fn dry_run(context: &Context, target: &Target, work: &[Work]) -> Outcome {
    let what = |work: &Work| match &work.state {
        State::Waiting { attempt: 1 } => "run".to_owned(),
        State::Waiting { attempt } => format!("run again (attempt {attempt})"),
        State::Running { run, .. } => format!("join run {run}"),
        State::Completed { run, .. } => format!("nothing: done by run {run}"),
        State::Failed { .. } | State::NotStarted { .. } => "nothing".to_owned(),
    };
    let on = |n: &usize| work[*n].item.id.as_str();
    if context.json {
        let items: Vec<serde_json::Value> = work
            .iter()
            .map(|w| {
                let depends_on: Vec<&str> = w.item.depends_on.iter().map(on).collect();
                serde_json::json!({ "id": w.item.id, "agent": w.agent, "cwd": w.cwd, "depends_on": depends_on, "action": what(w) })
            })
            .collect();
        render::json(&serde_json::json!({ "items": items, "total": items.len() }))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = work
        .iter()
        .enumerate()
        .map(|(n, w)| {
            let depends_on: Vec<&str> = w.item.depends_on.iter().map(on).collect();
            let after = if depends_on.is_empty() {
                String::new()
            } else {
                format!("after {}", depends_on.join(", "))
            };
            vec![
                (n + 1).to_string(),
                render::safe_line(&w.item.id),
                w.agent.clone(),
                what(w),
                render::safe_line(&after),
            ]
        })
        .collect();
    let place = match target {
        Target::Existing(name) => format!("in task {name}"),
        Target::New(new) => format!("in a new task of project {}", new.project),
    };
    render::out(&format!("{}{place}\n", render::table(&rows)))?;
    Ok(Exit::Done)
}

fn status(state: &State) -> &'static str {
    match state {
        State::Waiting { .. } | State::NotStarted { .. } => "not_started",
        State::Running { .. } => "running",
        State::Completed { .. } => "completed",
        State::Failed { .. } => "failed",
    }
}

fn reason(state: &State) -> &str {
    match state {
        State::Failed { why, .. } | State::NotStarted { why } => why,
        State::Completed { before: true, .. } => "done before",
        State::Waiting { .. } | State::Running { .. } | State::Completed { before: false, .. } => "",
    }
}

fn run_of(work: &Work) -> Option<&run_agent_core::RunId> {
    match &work.state {
        State::Running { run, .. } | State::Completed { run, .. } => Some(run),
        State::Failed { run, .. } => run.as_ref(),
        State::Waiting { .. } | State::NotStarted { .. } => None,
    }
}

fn counts(work: &[Work]) -> std::collections::BTreeMap<&'static str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for work in work {
        *counts.entry(status(&work.state)).or_insert(0) += 1;
    }
    counts
}

fn row(work: &Work, task: &Task) -> Vec<String> {
    let id = run_of(work);
    let run = id.and_then(|id| task.runs.get(id));
    vec![
        status(&work.state).replace('_', " "),
        render::safe_line(&work.item.id),
        run.map_or(&work.agent, |run| &run.agent).clone(),
        run.map(time_of).unwrap_or_default(),
        id.map(ToString::to_string).unwrap_or_default(),
        render::safe_line(reason(&work.state)),
    ]
}

fn time_of(run: &Run) -> String {
    run.end().map(|(_, at)| render::lasted(run.started().unwrap_or(run.made), at)).unwrap_or_default()
}
