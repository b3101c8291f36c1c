use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use run_agent_core::ProjectId;
use run_agent_core::world::{RunStatus, Task};

use super::{Body, aside, project_id, start};
use crate::App;
use crate::error::{Code, Refused};
use crate::live;
use crate::shape::{HomeDirs, NewProject, Project, Projects, Stats};

/// The projects of the root, in order of name.
#[utoipa::path(get, path = "/api/projects", tag = "projects", responses((status = OK, body = Projects)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Projects> {
    app.live.ready().await;
    let state = app.live.state();
    let projects = state.world.projects.keys().map(|id| shape(&state, id)).collect();
    Json(Projects { projects })
}

/// Makes a project.
#[utoipa::path(post, path = "/api/projects", tag = "projects", request_body = NewProject,
    responses((status = CREATED, body = Project), (status = BAD_REQUEST, body = crate::error::ErrorBody),
        (status = CONFLICT, body = crate::error::ErrorBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Body(new): Body<NewProject>,
) -> Result<(StatusCode, Json<Project>), Refused> {
    let project = project_id(&new.project_id)?;
    app.live.ready().await;
    if !make(&app, &project, start::folder(&new.project_root, "project_root")?).await? {
        return Err(Refused::new(Code::Conflict, format!("project {project} is there already")));
    }
    let is_known = |state: &live::State| state.project(&project).is_some_and(|own| own.created.is_some());
    app.live.wait_until(SEEN_WITHIN, is_known).await;
    let state = app.live.state();
    must_be_there(&state, &project)?;
    Ok((StatusCode::CREATED, Json(shape(&state, &project))))
}

/// What was made here is known here so soon.
const SEEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// False where it was there.
pub(super) async fn make(app: &Arc<App>, project: &ProjectId, root: &str) -> Result<bool, Refused> {
    let (app, project, root) = (app.clone(), project.clone(), std::path::PathBuf::from(root));
    aside(move || Ok(app.live.work.make_project(&project, &root)?)).await
}

/// The folders that agents of other projects work in, the one of the newest activity first.
#[utoipa::path(get, path = "/api/projects/home-dirs", tag = "projects", responses((status = OK, body = HomeDirs)))]
pub(crate) async fn home_dirs(State(app): State<Arc<App>>) -> Json<HomeDirs> {
    app.live.ready().await;
    let state = app.live.state();
    let mut found: Vec<_> = state
        .world
        .projects
        .keys()
        .filter_map(|id| Some((state.last_activity(id), shape(&state, id).project_root?)))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    let mut dirs: Vec<String> = Vec::new();
    for (_, dir) in found {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    Json(HomeDirs { dirs })
}

/// One project.
#[utoipa::path(get, path = "/api/projects/{project}", tag = "projects", params(("project" = String, Path)),
    responses((status = OK, body = Project), (status = NOT_FOUND, body = crate::error::ErrorBody)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
) -> Result<Json<Project>, Refused> {
    let project = project_id(&project)?;
    app.live.ready().await;
    let state = app.live.state();
    must_be_there(&state, &project)?;
    Ok(Json(shape(&state, &project)))
}

/// What a project holds.
#[utoipa::path(get, path = "/api/projects/{project}/stats", tag = "projects", params(("project" = String, Path)),
    responses((status = OK, body = Stats), (status = NOT_FOUND, body = crate::error::ErrorBody)))]
pub(crate) async fn stats(
    State(app): State<Arc<App>>,
    Path(project): Path<String>,
) -> Result<Json<Stats>, Refused> {
    let project = project_id(&project)?;
    app.live.ready().await;
    aside(move || stats_of(&app.live, &project).map(Json)).await
}

fn stats_of(live: &live::Live, project: &ProjectId) -> Result<Stats, Refused> {
    let size = live.size(project);
    let state = live.state();
    must_be_there(&state, project)?;
    let mut stats = Stats {
        project_id: project.to_string(),
        total_tasks: state.count_tasks(project),
        total_runs: state.count_runs(project),
        message_bus_files: size.files,
        message_bus_total_bytes: size.bytes,
        ..Stats::default()
    };
    for task in tasks(&state, project) {
        let counts = task.run_counts();
        let has_failed = counts.contains_key(&RunStatus::Failed);
        for (status, count) in counts {
            let count = u64::from(count);
            match status {
                RunStatus::Queued => stats.queued_runs += count,
                RunStatus::Running => stats.running_runs += count,
                RunStatus::Completed => stats.completed_runs += count,
                RunStatus::Failed => stats.failed_runs += count,
                RunStatus::Stopped => stats.stopped_runs += count,
            }
        }
        let failed = task.runs.values().filter(|run| has_failed && run.status() == RunStatus::Failed);
        let ends = failed.filter_map(|run| run.end());
        stats.crashed_runs +=
            ends.filter(|(end, _)| end.signal.is_some() || end.exit_code.is_none()).count() as u64;
    }
    Ok(stats)
}

pub(crate) fn must_be_there(state: &live::State, project: &ProjectId) -> Result<(), Refused> {
    if state.project(project).is_some() {
        return Ok(());
    }
    Err(Refused::not_found(format!("there is no project {project}")))
}

/// Those of a project in the order in which they lie: that of lists costs a look-up for each.
fn tasks<'a>(state: &'a live::State, project: &ProjectId) -> impl Iterator<Item = &'a Task> {
    let all = state.world.project(project).into_iter().flat_map(|own| own.tasks.values());
    all.map(AsRef::as_ref).filter(|task| !task.deleted)
}

fn shape(state: &live::State, id: &ProjectId) -> Project {
    let own = state.world.project(id);
    let asked = |thread: &run_agent_core::world::Thread| thread.open_questions.len();
    let of_tasks: usize = tasks(state, id).map(|task| asked(&task.thread)).sum();
    Project {
        id: id.to_string(),
        last_activity: state.last_activity(id).map(|at| at.to_string()),
        task_count: state.count_tasks(id),
        project_root: own
            .and_then(|own| own.created.as_ref())
            .and_then(|created| created.project_root.clone()),
        active_task_count: state.active().filter(|(project, _)| *project == id).count(),
        open_questions: of_tasks + own.map_or(0, |own| asked(&own.thread)),
    }
}
