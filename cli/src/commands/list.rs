//! `list`: tasks of all projects, newest activity first, with how many questions each asks.

use std::io::IsTerminal;

use run_agent_core::plan::reason;
use run_agent_core::policy::watch::IDLE;
use run_agent_core::world::{RunStatus, TaskStatus, UsageRow};
use run_agent_core::{ProjectId, TaskId, Timestamp};
use run_agent_runner::roster::{self, Row};
use run_agent_runner::tree::TaskName;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use crate::args::{Global, ServerArgs};
use crate::client::answer::{Status, Unreadable};
use crate::client::{Client, Place};
use crate::commands::inbox::is_left_alone;
use crate::context::Context;
use crate::error::{Exit, Failure, Outcome};
use crate::find;
use crate::render::{self, Cell, Column, Hue};

/// So many tasks are shown on a terminal where nothing is said.
const ON_A_TERMINAL: usize = 50;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  run-agent list --status running,waiting --limit 20")]
pub(crate) struct ListArgs {
    /// Only tasks with an active run or loop
    #[arg(long)]
    active: bool,
    /// Only tasks of this status; several with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status_parser())]
    status: Vec<TaskStatus>,
    /// The newest N tasks; 0 for all [default: 50 on a terminal, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    server: ServerArgs,
}

fn status_parser() -> impl clap::builder::TypedValueParser<Value = TaskStatus> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(TaskStatus::ALL.map(TaskStatus::as_str))
        .try_map(|name| TaskStatus::ALL.into_iter().find(|s| s.as_str() == name).ok_or("no status"))
}

pub(crate) fn run(global: &Global, args: &ListArgs) -> Outcome {
    match Client::of(global, &args.server)? {
        Some(client) => show(global, args, &there(&client)?),
        None => show(global, args, &here(&Context::open(global)?)?),
    }
}

/// The tasks of these projects, however they were asked for.
struct Found {
    projects: Vec<ProjectId>,
    items: Vec<Item>,
    all_read: bool,
}

fn here(context: &Context) -> Result<Found, Failure> {
    let projects = match context.named_project()? {
        Some(project) => vec![project],
        None => {
            let root = context.tree.layout.root();
            context.tree.projects().map_err(|e| Failure::io(root.display(), &e))?
        }
    };
    let mut items = Vec::new();
    let mut all_read = true;
    for project in &projects {
        match roster::list(&context.tree, project) {
            Ok(tasks) => items.extend(tasks.into_iter().map(|listed| Item::new(context, project, listed))),
            // One folder that cannot be read does not hide the others.
            Err(error) => {
                all_read = false;
                render::say(&format!("warning: project {project} cannot be read: {error}"));
            }
        }
    }
    Ok(Found { projects, items, all_read })
}

fn there(client: &Client) -> Result<Found, Failure> {
    let projects = client.named_projects()?;
    let mut items = Vec::new();
    for project in &projects {
        for task in client.tasks(project, None, true)? {
            let no_driver = task.no_driver;
            let (project_id, task_id) = (project.clone(), task.id.clone());
            items.push(Item { project_id, task_id, no_driver, what: What::Row(Box::new(task.into_row())) });
        }
    }
    let status: Status = client.get(&Place::new(["v1", "status"]))?;
    for Unreadable { stream, why } in status.unreadable {
        // Of a project's own stream nothing is listed.
        let Some((project_id, task)) = find::split(&stream) else { continue };
        let (true, Ok(id)) = (projects.contains(&project_id), TaskId::parse(task)) else { continue };
        items.retain(|item| item.name() != (&project_id, &id));
        let what = What::Unreadable { id: id.clone(), error: why };
        items.push(Item { project_id, task_id: id, no_driver: false, what });
    }
    Ok(Found { projects, items, all_read: true })
}

fn show(global: &Global, args: &ListArgs, found: &Found) -> Outcome {
    let Found { projects, items: found, all_read } = found;
    let mut shown: Vec<&Item> = found.iter().filter(|item| args.wants(item)).collect();
    shown.sort_unstable_by(|a, b| b.activity().cmp(&a.activity()).then_with(|| a.name().cmp(&b.name())));
    let total = shown.len();
    shown.truncate(args.limit(global.json).unwrap_or(total));
    if global.json {
        render::json(&Items { items: &shown, total, projects: &used_by_project(projects, found) })?;
        return Ok(if *all_read { Exit::Done } else { Exit::Failed });
    }
    if found.is_empty() {
        if !*all_read {
            return Ok(Exit::Failed);
        }
        let (task, demo) = (render::command("task --prompt …"), render::command("demo"));
        render::say(&format!("no tasks yet; start one with {task}, or see {demo}"));
        return Ok(Exit::Done);
    }
    if shown.is_empty() {
        render::say("no task is like that");
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let width = render::width().map_or(usize::MAX, width_of_names);
    let asks = shown.iter().any(|item| item.open_questions() > 0);
    let used = shown.iter().any(|item| item.usage().is_some());
    let leave_out = |n: &usize| (asks || *n != ASKS) && (used || *n != USED);
    let rows = shown
        .iter()
        .map(|item| item.cells(now, width))
        .map(|cells| (0..).zip(cells).filter(|(n, _)| leave_out(n)).map(|(_, cell)| cell).collect());
    let rows: Vec<Vec<Cell>> = rows.collect();
    let columns: Vec<Column> =
        (0..).zip(COLUMNS).filter(|(n, _)| leave_out(n)).map(|(_, column)| column).collect();
    render::out(&render::columns(&columns, &rows))?;
    if total > shown.len() {
        render::say(&format!("… and {} more; see them with --limit 0", total - shown.len()));
    }
    for used in used_by_project(projects, found) {
        render::say(&format!("project {} used {}", used.project_id, render::usage(&used.usage)));
    }
    Ok(Exit::Done)
}

/// What all tasks of a project reported together.
#[derive(Serialize)]
struct Used<'a> {
    project_id: &'a ProjectId,
    usage: UsageRow,
}

/// Of every task that could be read, shown or not; of the projects of which something was reported.
fn used_by_project<'a>(projects: &'a [ProjectId], found: &[Item]) -> Vec<Used<'a>> {
    let used = |project_id: &'a ProjectId| {
        let rows = found.iter().filter(|item| item.project_id == *project_id).filter_map(Item::usage);
        let usage = rows.copied().reduce(|sum, row| sum.plus(&row))?;
        Some(Used { project_id, usage })
    };
    projects.iter().filter_map(used).collect()
}

/// Of the reasons those are told that a person may have to see to, and those that pass by themselves with time.
fn status_cell(row: &Row, no_driver: bool, now: Timestamp) -> Cell {
    let active =
        [RunStatus::Queued, RunStatus::Running].iter().filter_map(|status| row.run_counts.get(status));
    // Nothing of it is at work here.
    if row.foreign_runs > 0 && row.foreign_runs == active.sum::<u32>() as usize {
        return Cell::new("foreign").hue(Hue::Mild);
    }
    if no_driver {
        return Cell::new(format!("{} (no driver)", row.status)).hue(Hue::Bad);
    }
    if row.reason == IDLE {
        return Cell::new(format!("{} ({IDLE})", row.status)).hue(Hue::Mild);
    }
    if row.reason == reason::RETRYING {
        return Cell::new(format!("{} ({})", row.status, reason::RETRYING)).hue(Hue::Mild);
    }
    if row.reason == reason::WAIT_USAGE_LIMIT {
        let reason = render::with_until(row.reason.clone(), row.until, now);
        return Cell::new(format!("{} ({reason})", row.status)).hue(Hue::Mild);
    }
    Cell::new(row.status.to_string()).hue(Hue::of_task(row.status))
}

/// What its runs used, and how much of its budget that is, from the warning on.
fn used_cell(row: &Row) -> Cell {
    let used = row.usage.as_ref().map(render::usage_cell).unwrap_or_default();
    match &row.budget {
        Some(budget) if budget.percent < 100 => Cell::new(format!("{used} (80 %)")).hue(Hue::Mild),
        Some(_) => Cell::new(format!("{used} (100 %)")).hue(Hue::Bad),
        None => Cell::new(used),
    }
}

/// How wide a task's name may be on a terminal so wide: half of it, so that a long one leaves room for the others.
fn width_of_names(terminal: usize) -> usize {
    let beside_the_status = terminal.saturating_sub(16);
    (terminal / 2).max(24).min(beside_the_status).max(8)
}

/// `project/task` in so many columns. The middle is cut: a project says where a task belongs, and the end of its id is
/// the slug, by which it can be named.
fn short_name(project: &str, task: &str, width: usize) -> String {
    let whole = format!("{project}/{task}");
    if whole.width() <= width {
        return whole;
    }
    // A task's id is ASCII.
    let project = render::cut(project, (width / 2).saturating_sub(1));
    let room = width.saturating_sub(project.width() + 2);
    let end = task.get(task.len().saturating_sub(room)..).unwrap_or(task);
    format!("{project}/…{end}")
}

/// The columns, with what a narrow terminal does without first: the title, then how many runs, then when.
const COLUMNS: [Column; 7] = [
    Column::new("STATUS", 9).min(12).kept(),
    Column::new("TASK", 10).min(16).kept(),
    Column::new("RUNS", 2).right().min(4),
    Column::new("ASKS", 4).right().min(4),
    Column::new("USED", 2).right().min(4),
    Column::new("ACTIVE", 3),
    Column::new("TITLE", 1).min(10),
];

/// The column of open questions, which is there only where one is open.
const ASKS: usize = 3;
/// The column of tokens and cost, which is there only where an agent reported some.
const USED: usize = 4;

impl ListArgs {
    fn limit(&self, json: bool) -> Option<usize> {
        match self.limit {
            Some(0) => None,
            Some(limit) => Some(limit),
            None if json || !std::io::stdout().is_terminal() => None,
            None => Some(ON_A_TERMINAL),
        }
    }

    /// A task that cannot be read is of no status, and is shown where none is asked for.
    fn wants(&self, item: &Item) -> bool {
        match &item.what {
            What::Row(row) => {
                (!self.active || row.active) && (self.status.is_empty() || self.status.contains(&row.status))
            }
            What::Unreadable { .. } => !self.active && self.status.is_empty(),
        }
    }
}

#[derive(Serialize)]
struct Items<'a> {
    items: &'a [&'a Item],
    total: usize,
    projects: &'a [Used<'a>],
}

#[derive(Serialize)]
struct Item {
    project_id: ProjectId,
    /// As everywhere else; `id` is its name in the API's lists.
    task_id: TaskId,
    /// Its loop is open, and its driver died: nothing moves until somebody takes it up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_driver: bool,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What {
    Row(Box<Row>),
    Unreadable { id: TaskId, error: String },
}

impl Item {
    fn new(context: &Context, project_id: &ProjectId, listed: roster::Listed) -> Self {
        let task_id = listed.task.clone();
        let name = TaskName { project: project_id.clone(), task: task_id.clone() };
        let no_driver =
            listed.row.as_ref().is_ok_and(|row| is_left_alone(&context.tree, &name, row.loop_open));
        let what = match listed.row {
            Ok(row) => What::Row(row),
            Err(error) => What::Unreadable { id: listed.task, error: crate::error::chain(&error) },
        };
        Self { project_id: name.project, task_id, no_driver, what }
    }

    fn name(&self) -> (&ProjectId, &TaskId) {
        (&self.project_id, &self.task_id)
    }

    fn activity(&self) -> Option<Timestamp> {
        match &self.what {
            What::Row(row) => row.last_activity,
            What::Unreadable { .. } => None,
        }
    }

    fn usage(&self) -> Option<&UsageRow> {
        match &self.what {
            What::Row(row) => row.usage.as_ref(),
            What::Unreadable { .. } => None,
        }
    }

    fn open_questions(&self) -> usize {
        match &self.what {
            What::Row(row) => row.open_questions,
            What::Unreadable { .. } => 0,
        }
    }

    fn cells(&self, now: Timestamp, width: usize) -> Vec<Cell> {
        let (project, id) = self.name();
        let name = Cell::new(short_name(project.as_str(), id.as_str(), width));
        match &self.what {
            What::Row(row) => vec![
                status_cell(row, self.no_driver, now),
                name,
                Cell::new(row.run_count.to_string()),
                Cell::new(some(row.open_questions)).hue(Hue::Mild),
                used_cell(row),
                Cell::new(row.last_activity.map(|at| render::when(at, now)).unwrap_or_default()),
                Cell::new(render::safe_line(&row.title)),
            ],
            What::Unreadable { error, .. } => vec![
                Cell::new("unreadable").hue(Hue::Bad),
                name,
                Cell::default(),
                Cell::default(),
                Cell::default(),
                Cell::default(),
                Cell::new(render::safe_line(error)),
            ],
        }
    }
}

/// A number where there is something to count.
fn some(n: usize) -> String {
    if n == 0 { String::new() } else { n.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_in_its_middle() {
        let task = "task-20261121-093000-mend-the-login-page";
        assert_eq!(short_name("web", task, 80), format!("web/{task}"));
        assert_eq!(short_name("web", task, 24), "web/…mend-the-login-page");
        assert_eq!(short_name("a-project-of-a-long-name", task, 24), "a-project-…/…-login-page");
        for width in 1..70 {
            for project in ["web", "a-project-of-a-long-name", "日本語日本語日本語"] {
                assert!(short_name(project, task, width).width() <= width.max(4), "{width}");
            }
        }
    }
}
