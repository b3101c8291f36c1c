//! What agents print, as server-sent events.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use run_agent_core::RunId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Query, project_id, runs, task_id, tasks};
use crate::error::{ErrorBody, Refused};
use crate::logs::Name;
use crate::{App, files, logs, sse};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct After {
    /// An event's id: only what comes behind it. `Last-Event-ID` goes before it.
    after: Option<String>,
}

impl After {
    fn last<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        sse::last_id(headers).or(self.after.as_deref())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Tail {
    /// `output.md`, `stdout`, `stderr` or `prompt`.
    name: String,
    /// An event's id, or a number of bytes: only what comes behind it. `Last-Event-ID` goes before it.
    after: Option<String>,
}

/// The lines of a run's stdout and stderr in order of time, as they come: `log` events with the ids
/// `s=<stdout lines>;e=<stderr lines>`, `status` events, and `done` when the run has ended and all was told.
#[utoipa::path(get, path = "/api/v1/runs/{run}/stream", tag = "logs", params(("run" = String, Path), After),
    responses((status = OK, content_type = "text/event-stream", body = String), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn v1_run(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let run = RunId::parse(&run)?;
    app.live.ready().await;
    let found = app.live.state().find_run(&run).map(|(project, task)| (project.clone(), task.clone()));
    let Some((project, task)) = found else { return Err(runs::no_run(&run)) };
    Ok(logs::of_run(&app, Name { project, task, run }, after.last(&headers)))
}

/// The lines of all runs that are active or begin later, as they come: `log` and `status` events.
#[utoipa::path(get, path = "/api/v1/runs/stream/all", tag = "logs", params(After),
    responses((status = OK, content_type = "text/event-stream", body = String)))]
pub(crate) async fn v1_all(
    State(app): State<Arc<App>>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    app.live.ready().await;
    Ok(logs::of_several(&app, None, after.last(&headers)))
}

/// The lines of all runs of a task, as they come: `log` and `status` events.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/runs/stream", tag = "logs",
    params(("project" = String, Path), ("task" = String, Path), After),
    responses((status = OK, content_type = "text/event-stream", body = String), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn of_task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (project, task) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    tasks::known(&app.live.state(), &project, &task)?;
    Ok(logs::of_several(&app, Some((project, task)), after.last(&headers)))
}

/// The lines of one file of a run, as they come, with the ids `<offset>@<file>`; `done` when the run has ended and all was
/// told.
#[utoipa::path(get, path = "/api/projects/{project}/tasks/{task}/runs/{run}/stream", tag = "logs",
    params(("project" = String, Path), ("task" = String, Path), ("run" = String, Path), Tail),
    responses((status = OK, content_type = "text/event-stream", body = String), (status = BAD_REQUEST, body = ErrorBody), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn of_file(
    State(app): State<Arc<App>>,
    Path((project, task, run)): Path<(String, String, String)>,
    Query(query): Query<Tail>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (project, task, run) = (project_id(&project)?, task_id(&task)?, RunId::parse(&run)?);
    app.live.ready().await;
    if !tasks::known(&app.live.state(), &project, &task)?.runs.contains_key(&run) {
        return Err(runs::no_run(&run));
    }
    let name = Name { project, task, run };
    let path =
        files::named_of_run(&app.live.layout.task(&name.project, &name.task).run(&name.run), &query.name)?;
    let last = sse::last_id(&headers).or(query.after.as_deref());
    Ok(logs::of_file(&app, name, &query.name, path, last))
}
