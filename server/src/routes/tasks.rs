use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use run_agent_core::world::{Task, TaskStatus};
use run_agent_core::{ProjectId, StreamKey, TaskId, inbox};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Query, aside, project_id, projects, task_id};
use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::files::{self, Part};
use crate::live::State as Known;
use crate::shape::{Around, FileText, Page, Run, TaskDetail, TaskItem, V1Tasks, queue_position};
use crate::work::Processes;

/// The most that one answer lists.
pub(crate) const LIMIT_MAX: usize = 1000;
const LIMIT: usize = 100;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
    /// Only tasks of these statuses, with commas between them.
    status: Option<String>,
    /// Only tasks whose id or title has this in it.
    q: Option<String>,
    /// Also look at their processes: which runs are of another machine, whose driver died.
    #[serde(default)]
    processes: bool,
}

/// The tasks of a project, newest activity first.
#[utoipa::path(get, path = "/api/projects/{project}/tasks", tag = "tasks", params(("project" = String, Path), List),
    responses((status = OK, body = Page<TaskItem>), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    Query(query): Query<List>,
) -> Result<Json<Page<TaskItem>>, Refused> {
    let project = project_id(&project)?;
    app.live.ready().await;
    let mut page = page(&app, &project, &query)?;
    if query.processes {
        page = aside(move || Ok(with_processes(&app, &project, page))).await?;
    }
    Ok(Json(page))
}

fn page(app: &App, project: &ProjectId, query: &List) -> Result<Page<TaskItem>, Refused> {
    let wanted = statuses(query.status.as_deref())?;
    let limit = query.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let state = app.live.state();
    projects::must_be_there(&state, project)?;
    let words = query.q.as_deref().unwrap_or_default().to_lowercase();
    let fits = |id: &TaskId, task: &Task| {
        (wanted.is_empty() || wanted.contains(&task.status()))
            && (words.is_empty()
                || id.as_str().contains(&words)
                || task.title().to_lowercase().contains(&words))
    };
    let all = wanted.is_empty() && words.is_empty();
    let total = if all {
        state.count_tasks(project)
    } else {
        state.tasks(project).filter(|(id, task)| fits(id, task)).count()
    };
    let shown = state.tasks(project).filter(|(id, task)| all || fits(id, task));
    let items =
        shown.skip(query.offset).take(limit).map(|(id, task)| item(app, &state, project, id, task)).collect();
    Ok(Page::new(items, total, limit, query.offset))
}

fn with_processes(app: &App, project: &ProjectId, mut page: Page<TaskItem>) -> Page<TaskItem> {
    for item in &mut page.items {
        // Of what is at rest no process is left.
        let Processes { foreign_runs, no_driver } = match TaskId::parse(&item.id) {
            Ok(id) if item.active => app.live.work.processes(project, &id),
            Ok(_) | Err(_) => Processes::default(),
        };
        (item.foreign_runs, item.no_driver) = (Some(foreign_runs), Some(no_driver));
    }
    page
}

fn item(app: &App, state: &Known, project: &ProjectId, id: &TaskId, task: &Task) -> TaskItem {
    let run = task.runs.keys().next_back().map(|run| app.live.layout.task(project, id).run(run));
    let size = run.and_then(|run| run.output().symlink_metadata().ok()).map(|meta| meta.len());
    TaskItem::new(project, id, task, around(state, project, task), size)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Newest {
    /// At most so many [100, at most 1000].
    limit: Option<usize>,
    /// Only those with a loop or run that has not ended.
    #[serde(default)]
    active_only: bool,
}

/// Tasks of all projects, newest activity first.
#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", params(Newest), responses((status = OK, body = V1Tasks)))]
pub(crate) async fn v1_list(
    State(app): State<Arc<App>>,
    Query(query): Query<Newest>,
) -> Result<Json<V1Tasks>, Refused> {
    let limit = query.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    app.live.ready().await;
    let state = app.live.state();
    let projects: Vec<&ProjectId> = state.world.projects.keys().collect();
    let mut found: Vec<(&ProjectId, &TaskId, &Task)> = if query.active_only {
        state.active().filter_map(|(project, id)| Some((project, id, state.task(project, id)?))).collect()
    } else {
        let of = |project: &&'_ ProjectId| state.tasks(project).take(limit).collect::<Vec<_>>();
        projects
            .iter()
            .flat_map(|project| of(project).into_iter().map(move |(id, task)| (*project, id, task)))
            .collect()
    };
    found.sort_by_key(|(project, id, task)| (std::cmp::Reverse(task.thread.last_activity), *project, *id));
    let total = match query.active_only {
        true => found.len(),
        false => projects.iter().map(|project| state.count_tasks(project)).sum(),
    };
    let shown = found.into_iter().take(limit);
    let tasks = shown.map(|(project, id, task)| item(&app, &state, project, id, task)).collect();
    Ok(Json(V1Tasks { tasks, total }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Needed only where tasks of several projects have this id.
    pub(crate) project_id: Option<String>,
}

/// One task, by its id alone.
#[utoipa::path(get, path = "/api/v1/tasks/{task}", tag = "tasks", params(("task" = String, Path), Which),
    responses((status = OK, body = TaskDetail), (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn v1_one(
    State(app): State<Arc<App>>,
    Path(task): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<TaskDetail>, Refused> {
    let id = task_id(&task)?;
    app.live.ready().await;
    let project = project_of(&app.live.state(), &id, which.project_id.as_deref())?;
    detail(&app, &project, &id).map(Json)
}

/// Which project's task this is.
pub(crate) fn project_of(state: &Known, id: &TaskId, named: Option<&str>) -> Result<ProjectId, Refused> {
    if let Some(named) = named {
        let project = project_id(named)?;
        return known(state, &project, id).map(|_| project);
    }
    let mut found = state.world.projects.keys().filter(|project| state.task(project, id).is_some());
    match (found.next(), found.next()) {
        (None, _) => Err(Refused::not_found(format!("there is no task {id}"))),
        (Some(project), None) => Ok(project.clone()),
        (Some(one), Some(other)) => Err(Refused::new(
            Code::Conflict,
            format!("there is a task {id} in project {one} and in {other}: say which with `project_id`"),
        )),
    }
}

fn statuses(text: Option<&str>) -> Result<Vec<TaskStatus>, Refused> {
    let names = text.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    let status = |name: &str| {
        TaskStatus::ALL.into_iter().find(|status| status.as_str() == name).ok_or_else(|| {
            let known = TaskStatus::ALL.map(TaskStatus::as_str).join(", ");
            Refused::bad(format!("`status` must be of {known}"))
        })
    };
    names.map(status).collect()
}

fn around(state: &Known, project: &ProjectId, task: &Task) -> Around {
    Around::of(task, |other| state.task(project, other).map(Task::status))
}

/// One task with its runs.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}", tag = "tasks",
    params(("project" = String, Path), ("task" = String, Path)),
    responses((status = OK, body = TaskDetail), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
) -> Result<Json<TaskDetail>, Refused> {
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    detail(&app, &project, &id).map(Json)
}

fn detail(app: &App, project: &ProjectId, id: &TaskId) -> Result<TaskDetail, Refused> {
    let paths = app.live.layout.task(project, id);
    let text = files::read(&app.live, "TASK_STATE.md", &paths.state(), Part::default());
    let state = app.live.state();
    let task = known(&state, project, id)?;
    let around = around(&state, project, task);
    let place = state.place(&StreamKey::task(project.clone(), id.clone()));
    let runs = task.runs.iter().rev().take(LIMIT_MAX);
    Ok(TaskDetail {
        id: id.to_string(),
        project_id: project.to_string(),
        status: task.status().to_string(),
        queue_position: queue_position(task),
        last_activity: task.thread.last_activity.map(|at| at.to_string()),
        created_at: task.created.as_ref().map(|(_, at)| at.to_string()),
        done: task.done.is_some(),
        state: text.map(|text| text.content).unwrap_or_default(),
        depends_on: around.depends_on,
        blocked_by: around.blocked_by,
        thread_parent: around.thread_parent,
        runs: runs.map(|(run_id, run)| Run::new(id, run_id, run, files::links(&paths.run(run_id)))).collect(),
        row: task.row(id),
        needs: inbox::of_task(task),
        damage: place.map(|place| place.damage.clone()).unwrap_or_default(),
    })
}

pub(crate) fn known<'a>(state: &'a Known, project: &ProjectId, id: &TaskId) -> Result<&'a Task, Refused> {
    projects::must_be_there(state, project)?;
    state
        .task(project, id)
        .ok_or_else(|| Refused::not_found(format!("there is no task {id} in project {project}")))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct File {
    name: String,
    /// Where to begin, in bytes; else the end is shown.
    offset: Option<u64>,
    /// How many bytes at the most.
    limit: Option<u64>,
    /// Only the last so many lines.
    tail: Option<usize>,
    /// Of a run's file: its bytes as they are.
    #[serde(default)]
    pub(crate) raw: bool,
}

impl File {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn part(&self) -> Part {
        Part { offset: self.offset, limit: self.limit, tail: self.tail }
    }
}

/// TASK.md or TASK_STATE.md.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/file", tag = "tasks",
    params(("project" = String, Path), ("task" = String, Path), File),
    responses((status = OK, body = FileText), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    Query(query): Query<File>,
) -> Result<Json<FileText>, Refused> {
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    known(&app.live.state(), &project, &id)?;
    let path = files::named_of_task(&app.live.layout.task(&project, &id), query.name())?;
    files::read(&app.live, query.name(), &path, query.part()).map(Json)
}
