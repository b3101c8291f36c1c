//! Deletions: refused to pages, unless the operator allows them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use run_agent_core::{RunId, StreamKey};

use super::{MaybeBody, act, aside, project_id, projects, task_id, tasks};
use crate::App;
use crate::error::{Code, ErrorBody, Refused};
use crate::guard;
use crate::shape::{Deleted, Gc, GcDone};

/// What was deleted here is gone from lists so soon.
const SEEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Deletes a task that is not active, with its runs and its whole history.
#[utoipa::path(delete, path = "/api/projects/{project}/tasks/{task}", tag = "tasks",
    params(("project" = String, Path), ("task" = String, Path)),
    responses((status = OK, body = Deleted), (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn task(
    State(app): State<Arc<App>>,
    Path((project, task)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Refused> {
    may_delete(&app, &headers)?;
    let (project, id) = (project_id(&project)?, task_id(&task)?);
    app.live.ready().await;
    tasks::known(&app.live.state(), &project, &id)?;
    let words =
        [format!("--project={project}"), "task".into(), "delete".into(), "--yes".into(), id.to_string()];
    let done = act::command(&app, words.to_vec(), String::new()).await?;
    app.live.look_at(StreamKey::task(project.clone(), id.clone()));
    app.live.wait_until(SEEN_WITHIN, |state| state.task(&project, &id).is_none()).await;
    Ok(Json(Deleted { freed_bytes: done["freed_bytes"].as_u64().unwrap_or_default() }))
}

/// Deletes the files of a run that has ended. Its messages stay.
#[utoipa::path(delete, path = "/api/projects/{project}/tasks/{task}/runs/{run}", tag = "runs",
    params(("project" = String, Path), ("task" = String, Path), ("run" = String, Path)),
    responses((status = OK, body = Deleted), (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Path((project, task, run)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Refused> {
    may_delete(&app, &headers)?;
    let (project, task, run) = (project_id(&project)?, task_id(&task)?, RunId::parse(&run)?);
    app.live.ready().await;
    if !tasks::known(&app.live.state(), &project, &task)?.runs.contains_key(&run) {
        return Err(super::runs::no_run(&run));
    }
    let freed_bytes = aside(move || Ok(app.live.work.delete_run(&project, &task, &run)?)).await?;
    Ok(Json(Deleted { freed_bytes }))
}

/// Deletes a project with all its tasks, none of which may be active. The folder that its agents work in stays.
#[utoipa::path(delete, path = "/api/projects/{project}", tag = "projects", params(("project" = String, Path)),
    responses((status = OK, body = Deleted), (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody), (status = CONFLICT, body = ErrorBody)))]
pub(crate) async fn project(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Deleted>, Refused> {
    may_delete(&app, &headers)?;
    let project = project_id(&project)?;
    app.live.ready().await;
    projects::must_be_there(&app.live.state(), &project)?;
    let (work, gone) = (app.live.work.clone(), project.clone());
    let freed_bytes = aside(move || Ok(work.delete_project(&gone)?)).await?;
    app.live.look_at(StreamKey::project(project.clone()));
    app.live.wait_until(SEEN_WITHIN, |state| state.project(&project).is_none()).await;
    Ok(Json(Deleted { freed_bytes }))
}

/// Deletes what ended long ago, and what is left over.
#[utoipa::path(post, path = "/api/projects/{project}/gc", tag = "projects", params(("project" = String, Path)), request_body = Gc,
    responses((status = OK, body = GcDone), (status = BAD_REQUEST, body = ErrorBody), (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody)))]
pub(crate) async fn gc(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    MaybeBody(how): MaybeBody<Gc>,
) -> Result<Json<GcDone>, Refused> {
    if !how.dry_run {
        may_delete(&app, &headers)?;
    }
    let project = project_id(&project)?;
    app.live.ready().await;
    projects::must_be_there(&app.live.state(), &project)?;
    let mut words = vec![format!("--project={project}"), "gc".to_owned()];
    words.extend(how.older_than.map(|age| format!("--older-than={age}")));
    for (is, flag) in [
        (how.dry_run, "--dry-run"),
        (how.keep_failed, "--keep-failed"),
        (how.delete_done_tasks, "--delete-done-tasks"),
    ] {
        words.extend(is.then(|| flag.to_owned()));
    }
    let done = act::command(&app, words, String::new()).await;
    let done = done.map_err(|refused| match refused.code {
        // Each setting by itself is right; what they come to here is not done.
        Code::BadRequest => Refused { code: Code::Conflict, ..refused },
        _ => refused,
    })?;
    let count = |what: &str| done["counts"][what].as_u64().unwrap_or_default();
    Ok(Json(GcDone {
        deleted_runs: count("run"),
        freed_bytes: done["freed_bytes"].as_u64().unwrap_or_default(),
        dry_run: how.dry_run,
        deleted_tasks: count("task"),
    }))
}

fn may_delete(app: &App, headers: &HeaderMap) -> Result<(), Refused> {
    if app.settings.allow_delete_from_ui || !guard::is_from_page(headers) {
        return Ok(());
    }
    let message = "pages may not delete here; server.allow_delete_from_ui lets them";
    Err(Refused::new(Code::Forbidden, message))
}
