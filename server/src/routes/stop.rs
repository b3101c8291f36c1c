//! Stops. They are asked for, and answered when they are under way: processes may take their grace period.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use run_agent_core::{ProjectId, RunId, TaskId};
use serde_json::Value;

use super::{MaybeBody, Query, act, project_id, task_id, tasks};
use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::shape::{Stop, Stopped, Stopping};

/// Whatever ends sooner is answered with what it came to.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// Stops a task: its loop and its whole tree.
#[utoipa::path(delete, path = "/api/v1/tasks/{task}", tag = "tasks", params(("task" = String, Path), tasks::Which),
    responses((status = ACCEPTED, body = Stopped), (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn v1_task(
    State(app): State<Arc<App>>,
    Path(task): Path<String>,
    Query(which): Query<tasks::Which>,
) -> Result<(StatusCode, Json<Stopped>), Refused> {
    let id = task_id(&task)?;
    app.live.ready().await;
    let project = tasks::project_of(&app.live.state(), &id, which.project_id.as_deref())?;
    stop_task(&app, &project, &id, Stop::default()).await
}

/// Stops a task: its loop and its whole tree.
#[utoipa::path(post, path = "/api/projects/{project}/tasks/{task}/stop", tag = "tasks",
    params(("project" = String, Path), ("task" = String, Path)), request_body = Stop,
    responses((status = ACCEPTED, body = Stopped), (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    MaybeBody(how): MaybeBody<Stop>,
) -> Result<(StatusCode, Json<Stopped>), Refused> {
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    tasks::known(&app.live.state(), &project, &id)?;
    stop_task(&app, &project, &id, how).await
}

/// Stops a run and the runs below it.
#[utoipa::path(post, path = "/api/v1/runs/{run}/stop", tag = "runs", params(("run" = String, Path)), request_body = Stop,
    responses((status = ACCEPTED, body = Stopping), (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn v1_run(
    State(app): State<Arc<App>>,
    Path(run): Path<String>,
    MaybeBody(how): MaybeBody<Stop>,
) -> Result<(StatusCode, Json<Stopping>), Refused> {
    let run = RunId::parse(&run)?;
    app.live.ready().await;
    let found = app.live.state().find_run(&run).map(|(project, task)| (project.clone(), task.clone()));
    let (project, task) = found.ok_or_else(|| super::runs::no_run(&run))?;
    stop_run(&app, &project, &task, &run, how).await
}

/// Stops a run and the runs below it.
#[utoipa::path(post, path = "/api/projects/{project}/tasks/{task}/runs/{run}/stop", tag = "runs",
    params(("project" = String, Path), ("task" = String, Path), ("run" = String, Path)), request_body = Stop,
    responses((status = ACCEPTED, body = Stopping), (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Path((project, task, run)): Path<(String, String, String)>,
    MaybeBody(how): MaybeBody<Stop>,
) -> Result<(StatusCode, Json<Stopping>), Refused> {
    let (project, task, run) = (project_id(&project)?, task_id(&task)?, RunId::parse(&run)?);
    app.live.ready().await;
    if !tasks::known(&app.live.state(), &project, &task)?.runs.contains_key(&run) {
        return Err(super::runs::no_run(&run));
    }
    stop_run(&app, &project, &task, &run, how).await
}

async fn stop_task(
    app: &Arc<App>,
    project: &ProjectId,
    task: &TaskId,
    how: Stop,
) -> Result<(StatusCode, Json<Stopped>), Refused> {
    let active: Vec<String> = {
        let state = app.live.state();
        tasks::known(&state, project, task)?.active().map(|(run, _)| run.to_string()).collect()
    };
    let runs = match ask(app, project, task, None, how).await? {
        None => active,
        Some(done) => {
            let ids = done["stopped_runs"].as_array().map(Vec::as_slice).unwrap_or_default();
            ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
        }
    };
    Ok((StatusCode::ACCEPTED, Json(Stopped { stopped_runs: runs.len(), runs })))
}

async fn stop_run(
    app: &Arc<App>,
    project: &ProjectId,
    task: &TaskId,
    run: &RunId,
    how: Stop,
) -> Result<(StatusCode, Json<Stopping>), Refused> {
    if let Some(done) = ask(app, project, task, Some(run), how).await?
        && done["had_ended"] == true
    {
        return Err(Refused::new(Code::Conflict, format!("run {run} had ended already")));
    }
    Ok((StatusCode::ACCEPTED, Json(Stopping { status: "stopping" })))
}

/// What it came to, where that is known at once.
async fn ask(
    app: &Arc<App>,
    project: &ProjectId,
    task: &TaskId,
    run: Option<&RunId>,
    how: Stop,
) -> Result<Option<Value>, Refused> {
    let mut words = vec![format!("--project={project}"), format!("--task={task}"), "stop".to_owned()];
    words.extend(run.map(|run| format!("--run={run}")));
    if how.force {
        words.push("--force".to_owned());
    }
    if let Some(grace) = &how.grace {
        words.push(format!("--grace={grace}"));
    }
    match tokio::time::timeout(AT_ONCE, act::begin(app, words, String::new()).await?).await {
        Ok(Ok(done)) => done.map(Some),
        Ok(Err(error)) => Err(Refused::internal(&error)),
        Err(_) => Ok(None),
    }
}
