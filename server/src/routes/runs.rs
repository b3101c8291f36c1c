use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use run_agent_core::world::Task;
use run_agent_core::{RunId, TaskId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Query, project_id, projects, task_id, tasks};
use crate::App;
use crate::error::{ErrorBody, Refused};
use crate::files;
use crate::routes::tasks::LIMIT_MAX;
use crate::shape::{FileText, Flat, FlatRun, Page, Run, V1Run, V1Runs};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Newest {
    /// At most so many, the newest [1000].
    limit: Option<usize>,
    /// Only runs whose id has this in it.
    q: Option<String>,
}

/// Runs of all projects, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(Newest), responses((status = OK, body = V1Runs)))]
pub(crate) async fn v1_list(
    State(app): State<Arc<App>>,
    Query(query): Query<Newest>,
) -> Result<Json<V1Runs>, Refused> {
    app.live.ready().await;
    let state = app.live.state();
    let projects: Vec<_> = state.world.projects.keys().collect();
    let limit = query.limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
    let words = query.q.as_deref().unwrap_or_default();
    let of = |project| {
        let fits = move |(run, _): &(&RunId, &TaskId)| run.as_str().contains(words);
        state.runs(project).filter(fits).take(limit).map(move |(run, task)| (run, project, task))
    };
    let mut newest: Vec<_> = projects.iter().flat_map(|project| of(*project)).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(limit);
    let shape =
        |(id, project, task)| Some(V1Run::new(project, task, id, state.task(project, task)?.runs.get(id)?));
    let runs = newest.into_iter().filter_map(shape).collect();
    Ok(Json(V1Runs { runs, total: projects.iter().map(|project| state.count_runs(project)).sum() }))
}

/// One run, by its id alone.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs", params(("run" = String, Path)),
    responses((status = OK, body = V1Run), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn v1_one(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
) -> Result<Json<V1Run>, Refused> {
    let id = RunId::parse(&run)?;
    app.live.ready().await;
    let state = app.live.state();
    let found = state.find_run(&id).and_then(|(project, task)| {
        Some(V1Run::new(project, task, &id, state.task(project, task)?.runs.get(&id)?))
    });
    found.map(Json).ok_or_else(|| no_run(&id))
}

/// A run's record as it lies on the disk.
#[utoipa::path(get, path = "/api/v1/runs/{run}/info", tag = "runs", params(("run" = String, Path)),
    responses((status = OK, content_type = "application/x-yaml", body = String), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn v1_info(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
) -> Result<Response, Refused> {
    let id = RunId::parse(&run)?;
    app.live.ready().await;
    let found =
        app.live.state().find_run(&id).map(|(project, task)| app.live.layout.task(project, task).run(&id));
    let path = found.ok_or_else(|| no_run(&id))?.info();
    let whole = files::Part { offset: Some(0), ..files::Part::default() };
    let text = files::read(&app.live, "run-info.yaml", &path, whole)?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/x-yaml")], text.content).into_response())
}

pub(super) fn no_run(id: &RunId) -> Refused {
    Refused::not_found(format!("there is no run {id}"))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FlatQuery {
    /// Only runs that have not ended.
    #[serde(default)]
    active_only: bool,
    /// The runs of this task, too, whatever their age.
    selected_task_id: Option<String>,
    /// At most so many of them.
    selected_task_limit: Option<usize>,
    /// At most so many others, the newest [1000].
    limit: Option<usize>,
}

/// The runs of a project in one list, newest first.
#[utoipa::path(get, path = "/api/projects/{project}/runs/flat", tag = "runs", params(("project" = String, Path), FlatQuery),
    responses((status = OK, body = Flat), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn flat(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    Query(query): Query<FlatQuery>,
) -> Result<Json<Flat>, Refused> {
    let project = project_id(&project)?;
    let selected = query.selected_task_id.as_deref().map(task_id).transpose()?;
    app.live.ready().await;
    let state = app.live.state();
    projects::must_be_there(&state, &project)?;
    let limit = query.limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
    let mut found = std::collections::BTreeMap::new();
    // Runs that have not ended are always among them, however old.
    for (of, id) in state.active().filter(|(of, _)| **of == project) {
        let task = state.task(of, id);
        found.extend(task.into_iter().flat_map(Task::active).map(|(run, _)| (run.clone(), id.clone())));
    }
    if !query.active_only {
        found.extend(state.runs(&project).take(limit).map(|(run, task)| (run.clone(), task.clone())));
    }
    if let Some((id, task)) = selected.as_ref().and_then(|id| Some((id, state.task(&project, id)?))) {
        let most = query.selected_task_limit.unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
        found.extend(task.runs.keys().rev().take(most).map(|run| (run.clone(), id.clone())));
    }
    let shape = |(run, task)| Some(FlatRun::new(task, run, state.task(&project, task)?.runs.get(run)?));
    let runs = found.iter().rev().filter_map(shape).collect();
    Ok(Json(Flat { runs, total: state.count_runs(&project) }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paged {
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

/// The runs of a task, newest first.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/runs", tag = "runs",
    params(("project" = String, Path), ("task" = String, Path), Paged),
    responses((status = OK, body = Page<Run>), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn of_task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    Query(query): Query<Paged>,
) -> Result<Json<Page<Run>>, Refused> {
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    let state = app.live.state();
    let task = tasks::known(&state, &project, &id)?;
    let limit = query.limit.unwrap_or(100).min(LIMIT_MAX);
    let paths = app.live.layout.task(&project, &id);
    let shown = task.runs.iter().rev().skip(query.offset).take(limit);
    let items =
        shown.map(|(run_id, run)| Run::new(&id, run_id, run, files::links(&paths.run(run_id)))).collect();
    Ok(Json(Page::new(items, task.runs.len(), limit, query.offset)))
}

/// One run of a task.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/runs/{run}", tag = "runs",
    params(("project" = String, Path), ("task" = String, Path), ("run" = String, Path)),
    responses((status = OK, body = Run), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path((project, task, run)): Path<(String, String, String)>,
) -> Result<Json<Run>, Refused> {
    let (project, id, run) = (project_id(&project)?, task_id(&task)?, RunId::parse(&run)?);
    app.live.ready().await;
    let state = app.live.state();
    let found = tasks::known(&state, &project, &id)?.runs.get(&run).ok_or_else(|| no_run(&run))?;
    let paths = app.live.layout.task(&project, &id).run(&run);
    Ok(Json(Run::new(&id, &run, found, files::links(&paths))))
}

/// output.md, stdout, stderr or prompt of a run, or a part of it.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/runs/{run}/file", tag = "runs",
    params(("project" = String, Path), ("task" = String, Path), ("run" = String, Path), tasks::File),
    responses((status = OK, body = FileText), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn file(
    State(app): State<Arc<App>>,
    Path((project, task, run)): Path<(String, String, String)>,
    Query(query): Query<tasks::File>,
) -> Result<Response, Refused> {
    let (project, id, run) = (project_id(&project)?, task_id(&task)?, RunId::parse(&run)?);
    app.live.ready().await;
    if !tasks::known(&app.live.state(), &project, &id)?.runs.contains_key(&run) {
        return Err(no_run(&run));
    }
    let path = files::named_of_run(&app.live.layout.task(&project, &id).run(&run), query.name())?;
    if query.raw {
        let part = files::read_raw(&app.live, query.name(), &path, query.part())?;
        return Ok(([("content-type", "application/octet-stream")], part.bytes).into_response());
    }
    files::read(&app.live, query.name(), &path, query.part()).map(|text| Json(text).into_response())
}
