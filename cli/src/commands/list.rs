//! `list`: tasks of all projects, newest activity first.

use run_agent_core::world::Task;
use run_agent_core::{ProjectId, Timestamp};
use run_agent_runner::TaskView;
use run_agent_runner::supervise::close;
use run_agent_runner::tree::TaskName;

use crate::args::{Global, ListArgs};
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::render::{self, Cell, Column, Hue};

pub(crate) fn run(global: &Global, args: &ListArgs) -> Outcome {
    let context = Context::open(global)?;
    let projects = match context.named_project()? {
        Some(project) => vec![project],
        None => {
            let root = context.tree.layout.root();
            context.tree.projects().map_err(|e| Failure::io(root.display(), &e))?
        }
    };
    let mut found = Vec::new();
    for project in projects {
        collect(&context, &project, args, &mut found)?;
    }
    found.sort_by(|a, b| b.activity().cmp(&a.activity()).then_with(|| a.name.cmp(&b.name)));
    if context.json {
        let items: Vec<serde_json::Value> = found.iter().map(Listed::json).collect();
        render::json(&serde_json::json!({ "items": items, "total": items.len() }))?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        render::say("no tasks yet; start one with `run-agent task --prompt …`, or see `run-agent demo`");
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<Cell>> = found.iter().map(|listed| listed.cells(now)).collect();
    render::out(&render::columns(&COLUMNS, &rows))?;
    Ok(Exit::Done)
}

/// The columns, with what a narrow terminal does without first: the title, then how many runs, then when.
const COLUMNS: [Column; 5] = [
    Column::new("STATUS", 9).min(12).kept(),
    Column::new("TASK", 10).min(16).kept().ends(),
    Column::new("RUNS", 2).right().min(4),
    Column::new("ACTIVE", 3),
    Column::new("TITLE", 1).min(10),
];

struct Listed {
    name: TaskName,
    /// What could not be read is listed too, with the reason.
    task: Result<Task, String>,
}

fn collect(
    context: &Context,
    project: &ProjectId,
    args: &ListArgs,
    found: &mut Vec<Listed>,
) -> Result<(), Failure> {
    let tasks = match context.tree.tasks(project) {
        Ok(tasks) => tasks,
        Err(error) => {
            // One folder that cannot be read does not hide the others.
            render::say(&format!("warning: project {project} cannot be read: {error}"));
            return Ok(());
        }
    };
    for task in tasks {
        let name = TaskName { project: project.clone(), task };
        let view = TaskView::open(&context.tree, &name).and_then(|mut view| {
            close::close_dead(&context.tree, &mut view)?;
            Ok(view)
        });
        let task = view.map(|view| view.task().clone()).map_err(|e| crate::error::chain(&e));
        let active = task.as_ref().is_ok_and(|task| task.ralph.is_open() || task.active().next().is_some());
        if active || !args.active {
            found.push(Listed { name, task });
        }
    }
    Ok(())
}

impl Listed {
    fn activity(&self) -> Option<Timestamp> {
        self.task.as_ref().ok().and_then(|task| task.thread.last_activity)
    }

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let name = Cell::new(self.name.to_string());
        match &self.task {
            Ok(task) => vec![
                Cell::new(task.status().to_string()).hue(Hue::of_task(task.status())),
                name,
                Cell::new(task.runs.len().to_string()),
                Cell::new(task.thread.last_activity.map(|at| render::when(at, now)).unwrap_or_default()),
                Cell::new(render::safe_line(task.title())),
            ],
            Err(error) => vec![
                Cell::new("unreadable").hue(Hue::Bad),
                name,
                Cell::default(),
                Cell::default(),
                Cell::new(render::safe_line(error)),
            ],
        }
    }

    fn json(&self) -> serde_json::Value {
        let TaskName { project, task: id } = &self.name;
        match &self.task {
            Ok(task) => {
                let last = task.runs.values().next_back();
                serde_json::json!({
                    "id": id, "project_id": project, "status": task.status(), "reason": task.reason(),
                    "title": task.title(), "last_activity": task.thread.last_activity,
                    "run_count": task.runs.len(), "run_counts": task.run_counts(), "done": task.done.is_some(),
                    "last_run_status": last.map(run_agent_core::world::Run::status),
                    "last_run_exit_code": last.and_then(|run| run.end()).and_then(|(end, _)| end.exit_code),
                    "open_questions": task.thread.open_questions.len(),
                })
            }
            Err(error) => serde_json::json!({ "id": id, "project_id": project, "error": error }),
        }
    }
}
